//! `cargo xtask test schemathesis`: requests that nobody thought of, made from the description of the API, against the
//! built Worker. None may end in a fault of ours, or in an answer that the description does not know.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::bundle::Kind;
use crate::demo;
use crate::process::{command, output, run, say};
use crate::project::Project;
use crate::secrets;
use crate::serve::{Options, Server};

/// The release from PyPI whose findings are known.
const VERSION: &str = "4.32.5";
/// How long each of the two long passes may take. With the start of a server and the last pass some three minutes in all.
const PASS_SECONDS: &str = "70";
/// How long the pass over a few operations may take.
const SHORT_PASS_SECONDS: &str = "10";
/// The longest wait that a request can ask for, and more.
const ANSWER_SECONDS: &str = "60";
/// The same choices in every run: what it finds tomorrow was changed in between.
const SEED: &str = "1";
/// What every answer is held to.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,ignored_auth";
/// The variable that the token comes in: a command line is shown where it fails.
const TOKEN: &str = "TIDEGATE_SCHEMATHESIS_TOKEN";
const SCOPES: &str = "admin jobs:read jobs:write jobs:work";
const NO_PYTHON: &str =
    "Install Python 3.10 or newer with venv (https://www.python.org), then run the same command again.";

/// Runs it. Errors: what it finds; and where it cannot be installed, because a check that is passed over silently is none.
pub fn check(project: &Project, kind: Kind) -> Result<String> {
    let program = install(project)?;
    secrets::ensure(project)?;
    demo::build_cli(project)?;
    let folder = project.target.join("schemathesis");
    // Its state is its own, and new each time: what an earlier run left must decide nothing.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let server = Server::start(
        project,
        &Options {
            port: 0,
            state: Some(folder.join("state")),
            control_port: None,
            vars: None,
            outlive_parent: false,
            kind,
            log: Some(fs::File::create(folder.join("server.log"))?),
        },
    )?;
    let of = |tenant: &str| demo::mint(project, &["--tenant", tenant, "--user", "ann", "--scope", SCOPES]);
    let (unknown, known) = (of("unknown")?, of("known")?);
    let pass = |about: &str, token: &str, seconds: &str, arguments: &[&str]| {
        say(format!("schemathesis: {about}"));
        let mut pass = command(project, &program);
        pass.current_dir(&folder)
            .arg("run")
            .arg(project.root.join("docs/reference/openapi.json"));
        pass.args(["--url", &server.url]).env(TOKEN, token);
        pass.args([
            "--checks",
            CHECKS,
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "20",
        ]);
        pass.args([
            "--max-time",
            seconds,
            "--request-timeout",
            ANSWER_SECONDS,
            "--seed",
            SEED,
        ]);
        pass.args([
            "--generation-database",
            "none",
            "--suppress-health-check",
            "all",
            "--warnings",
            "off",
        ]);
        pass.args(["--continue-on-failure", "--no-color"]).args(arguments);
        run(&mut pass, "").with_context(|| format!("{about}: see above, and {}", folder.join("server.log").display()))
    };
    // A socket is no answer, and the stream of a channel has no end; a token that everybody's revocation has caught would make all that
    // follows a 401.
    let others = ["connect", "followChannel", "revoke"].map(|operation| ["--exclude-operation-id", operation]);
    let others = others.concat();
    let config = folder.join("schemathesis.toml");
    let credential = format!("headers = {{ Authorization = \"Bearer ${{{TOKEN}}}\" }}\n\n");
    // Polls wait as long as they are told to, and nobody publishes.
    let patience = "[[operations]]\ninclude-operation-id = 'listMessages'\nparameters = { \"query.wait\" = 0 }\n\n";
    let credential = credential + patience;
    fs::write(&config, &credential)?;
    pass("things that are not there", &unknown, PASS_SECONDS, &others)?;
    fs::write(
        &config,
        format!("{credential}{}", things(project, &server.url, &known, &folder)?),
    )?;
    pass("things that are there", &known, PASS_SECONDS, &others)?;
    fs::write(&config, &credential)?;
    let revoke = ["--include-operation-id", "revoke"];
    pass("revocations", &known, SHORT_PASS_SECONDS, &revoke)?;
    Ok(format!("version {VERSION}, three passes"))
}

/// Its program, in a virtual environment of its own.
fn install(project: &Project) -> Result<PathBuf> {
    let folder = project.tools().join("schemathesis");
    let programs = folder.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let program = programs.join("schemathesis");
    let version = || output(command(project, &program).arg("--version"));
    if version().is_some_and(|printed| printed.contains(VERSION)) {
        return Ok(program);
    }
    say(format!("schemathesis {VERSION}: pip install"));
    let _ = fs::remove_dir_all(&folder);
    run(command(project, "python3").args(["-m", "venv"]).arg(&folder), NO_PYTHON)?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let mut pip_install = command(project, programs.join("python"));
    pip_install.args(pip).arg(format!("schemathesis=={VERSION}"));
    run(&mut pip_install, "")
        .context("schemathesis could not be installed from PyPI, and nothing of it was checked")?;
    match version() {
        Some(printed) if printed.contains(VERSION) => Ok(program),
        _ => bail!("schemathesis {VERSION} was installed and does not start"),
    }
}

/// Makes one of everything, and gives the configuration that fills it into paths.
fn things(project: &Project, url: &str, token: &str, folder: &Path) -> Result<String> {
    let tidegate = |arguments: &[&str]| -> Result<String> {
        let mut tidegate: Command = demo::tidegate(project, arguments);
        tidegate.env("TIDEGATE_URL", url).env("TIDEGATE_TOKEN", token);
        let printed = output(tidegate.stdout(Stdio::piped()));
        printed.with_context(|| format!("`tidegate {}` failed", arguments.join(" ")))
    };
    let main = json!({ "base_url": "https://upstream.example.com", "breaker": { "consecutive_failures": 3 } });
    let composition = json!({
        "tidegate": 1,
        "patterns": {
            "core": { "use": "core" },
            "gpu": { "use": "pull" },
            "up": { "use": "http", "config": { "upstreams": { "main": main } } },
        },
        "actions": {
            "core.echo": { "run": "core.echo", "mode": "sync" },
            "later": { "run": "core.echo", "mode": "async" },
        },
        "schedules": { "yearly": { "cron": "0 0 1 1 *", "action": "later" } },
    });
    let document = folder.join("composition.json");
    fs::write(&document, composition.to_string())?;
    tidegate(&["composition", "apply", &document.to_string_lossy()])?;
    let item = json!({ "action": "later", "delay_ms": 36_000_000 });
    let items = folder.join("batch.json");
    fs::write(&items, json!([item, item]).to_string())?;
    let batch = tidegate(&["batch", "send", &items.to_string_lossy()])?;
    let batch = batch.lines().last().context("no batch was named")?.trim().to_owned();
    let jobs = tidegate(&["--json", "job", "list", "--limit", "1"])?;
    let jobs: Value = serde_json::from_str(jobs.lines().next().unwrap_or_default()).context("a job that is no JSON")?;
    let job = jobs["job_id"].as_str().context("there is no job")?;
    tidegate(&["put", "notes.txt", &document.to_string_lossy()])?;
    let mut text = String::new();
    for (paths, name, value) in [
        ("^/v1/jobs/", "id", job),
        ("^/v1/batches/", "id", batch.as_str()),
        ("^/v1/schedules/", "name", "yearly"),
        ("^/v1/admin/upstreams/", "name", "up.main"),
        ("^/v1/workers/", "pool", "gpu"),
        ("^/v1/objects/", "key", "notes.txt"),
    ] {
        text += &format!(
            "[[operations]]\ninclude-path-regex = '{paths}'\nparameters = {{ \"path.{name}\" = \"{value}\" }}\n\n"
        );
    }
    Ok(text)
}
