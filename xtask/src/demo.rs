//! `cargo xtask demo`: from a fresh clone to a report over real data, and then a system to play with.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::bundle::{self, Kind};
use crate::process::{cargo, command, output, run, say};
use crate::project::Project;
use crate::serve::{Options, Server};
use crate::{data, secrets, toolchain};

/// Whom the development token is for.
const TENANT: &str = "demo";
/// The user of the development token.
const USER: &str = "you";
/// The object that the demo stores, and reports on.
const OBJECT: &str = "zips.csv";
const ACTION: &str = "report.summarize";

/// `cargo xtask demo [--port N]`.
pub fn demo(project: &Project, mut arguments: Arguments) -> Result<()> {
    let port = arguments.value("--port")?.unwrap_or(8787);
    arguments.end()?;
    say("1/5 tools: installing what is missing");
    toolchain::ensure(project)?;
    say("2/5 building the Worker (wasm) and the `tidegate` command");
    bundle::build(project, Kind::Quick)?;
    build_cli(project)?;
    say("3/5 starting Tidegate on workerd; state in .tidegate/state, log in .tidegate/server.log");
    secrets::ensure(project)?;
    fs::create_dir_all(project.root.join(".tidegate"))?;
    let log = File::create(project.root.join(".tidegate/server.log"))?;
    let options = Options {
        port,
        state: None,
        control_port: None,
        vars: None,
        outlive_parent: false,
        kind: Kind::Quick,
        log: Some(log),
    };
    let server = Server::start(project, &options).context("its log is .tidegate/server.log")?;
    let token = configure_cli(project, &server.url)?;
    let file = data::copy(project)?;
    let file = project.relative(&file).display().to_string();
    say(format!("4/5 tenant {TENANT:?}: storing {file} as {OBJECT}"));
    let put = tidegate(project, &["put", OBJECT, &file]).status()?;
    if !put.success() {
        bail!("the file could not be stored ({put})");
    }
    let payload = json!({ "object": OBJECT }).to_string();
    say(format!(
        "5/5 a job over a WebSocket: tidegate call {ACTION} --payload '{payload}' --follow"
    ));
    let printed = call(project, &payload)?;
    if let Err(error) = show_report(project, &server.url, &printed) {
        say(format!("no report to show: {error:#}"));
    }
    print_next(project, &server.url, &token)?;
    server.wait()
}

/// Runs the job. Its progress bar goes to the terminal, its result through here to the terminal.
fn call(project: &Project, payload: &str) -> Result<String> {
    let mut call = tidegate(project, &["call", ACTION, "--payload", payload, "--follow"]);
    let output = call.stdout(Stdio::piped()).stderr(Stdio::inherit()).output()?;
    io::stdout().write_all(&output.stdout)?;
    if !output.status.success() {
        bail!("the job did not complete ({})", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Fetches the HTML report that the job wrote, and says where it is.
fn show_report(project: &Project, url: &str, printed: &str) -> Result<()> {
    let result = printed.find('{').and_then(|at| {
        let mut values = serde_json::Deserializer::from_str(printed.get(at..)?).into_iter::<Value>();
        values.next()?.ok()
    });
    let key = result
        .as_ref()
        .and_then(html_key)
        .context("the result names no HTML report")?;
    let page = project.root.join(".tidegate/report.html");
    let page_argument = project.relative(&page).display().to_string();
    let got = tidegate(project, &["get", &key, &page_argument]).status()?;
    if !got.success() {
        bail!("the report could not be fetched ({got})");
    }
    say(format!(
        "the report: {url}/v1/objects/{key} (with the token), and as a file to open: file://{}",
        page.display()
    ));
    Ok(())
}

/// The first text in `value` that looks like the key of a page.
fn html_key(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.ends_with(".html").then(|| text.clone()),
        Value::Array(items) => items.iter().find_map(html_key),
        Value::Object(fields) => fields.values().find_map(html_key),
        _ => None,
    }
}

/// Builds the `tidegate` command and tells people how to use what runs at `url`.
pub fn introduce(project: &Project, url: &str) -> Result<()> {
    say("building the `tidegate` command");
    build_cli(project)?;
    let token = configure_cli(project, url)?;
    say(format!("serving at {url}"));
    say(format!("development token (tenant {TENANT:?}, user {USER:?}): {token}"));
    say(format!(
        "`{} --help` finds the address and the token in .tidegate/cli.json",
        tidegate_program(project).display()
    ));
    Ok(())
}

/// Builds the `tidegate` command.
pub fn build_cli(project: &Project) -> Result<()> {
    run(cargo(project).args(["build", "--package", "tidegate-cli"]), "")
        .context("the `tidegate` command does not build")
}

/// Writes `.tidegate/cli.json`, so that `tidegate` needs no flags here, and returns the token in it.
fn configure_cli(project: &Project, url: &str) -> Result<String> {
    let token = mint(project, &["--tenant", TENANT, "--user", USER])?;
    fs::create_dir_all(project.root.join(".tidegate"))?;
    let config = json!({ "url": url, "token": token });
    secrets::write_private(&project.root.join(".tidegate/cli.json"), &format!("{config:#}\n"))?;
    Ok(token)
}

/// A development token for whom `arguments` say.
pub fn mint(project: &Project, arguments: &[&str]) -> Result<String> {
    let minted = output(tidegate(project, &["token"]).args(arguments));
    minted.context("`tidegate token` failed; delete .dev.vars to get a fresh key to sign with")
}

fn tidegate_program(project: &Project) -> PathBuf {
    project
        .target
        .join(format!("debug/tidegate{}", std::env::consts::EXE_SUFFIX))
}

/// The `tidegate` command, meaning nobody's deployment.
pub fn tidegate(project: &Project, arguments: &[&str]) -> Command {
    let mut tidegate = command(project, tidegate_program(project));
    // What the demo has just written to .tidegate/cli.json is meant, not a deployment of the person who runs it.
    tidegate
        .args(arguments)
        .env_remove("TIDEGATE_URL")
        .env_remove("TIDEGATE_TOKEN");
    tidegate
}

fn print_next(project: &Project, url: &str, token: &str) -> Result<()> {
    let folder = tidegate_program(project)
        .parent()
        .map(|folder| folder.display().to_string())
        .unwrap_or_default();
    writeln!(
        io::stdout(),
        "
Tidegate is serving at {url} until Ctrl-C.
Development token (tenant \"{TENANT}\", user \"{USER}\"):
{token}

In a second terminal, in this folder:
  export PATH=\"{folder}:$PATH\"
  tidegate put zips.csv examples/data/zips.csv
  tidegate call report.summarize --payload '{{\"object\":\"zips.csv\"}}' --follow
  tidegate job list
  curl -H \"Authorization: Bearer $(tidegate token)\" {url}/v1/objects/zips.csv | head -3
"
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_found_wherever_the_result_names_it() {
        let result = json!({ "rows": 3, "output": [{ "json": "a/report.json", "html": "a/report.html" }] });
        assert_eq!(html_key(&result).as_deref(), Some("a/report.html"));
        assert_eq!(html_key(&json!({ "rows": 3 })), None);
    }
}
