//! `cargo xtask load`: the scenarios of `k6/` against a deployment, or against a server that it starts.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::arguments::{self, Arguments};
use crate::bundle::{self, Kind};
use crate::process::{command, say};
use crate::project::Project;
use crate::serve::{Options, Server};
use crate::{demo, go, secrets};

/// The scenarios, in the order in which `all` runs them. Each is a file in `k6/`.
const SCENARIOS: &[&str] = &["connect_storm", "requests", "jobs", "fan_out", "presence"];
/// How long each of them makes load, unless it is told otherwise.
const SECONDS_DEFAULT: u32 = 10;
/// Longer than an hour is a mistake. Seconds.
const SECONDS_MAX: u32 = 3_600;
/// Whom the load is for, on a server that is started for it.
const TENANT: &str = "load";
const USER: &str = "k6";
/// What k6 ends with where a threshold is crossed.
const CROSSED: i32 = 99;
/// The variable that holds a deployment's token, and is taken where none is given.
const TOKEN: &str = "TIDEGATE_TOKEN";

/// What the command line asks for.
#[derive(Debug, PartialEq)]
struct Wanted {
    scenarios: Vec<&'static str>,
    url: Option<String>,
    token: Option<String>,
    seconds: u32,
    /// Variables for the scenarios: `NAME=VALUE`.
    variables: Vec<String>,
}

impl Wanted {
    fn take(mut arguments: Arguments) -> Result<Self> {
        let seconds = arguments.value("--seconds")?.unwrap_or(SECONDS_DEFAULT);
        let (url, token) = (arguments.value::<String>("--url")?, arguments.value("--token")?);
        let mut variables = Vec::new();
        while let Some(variable) = arguments.value::<String>("--set")? {
            variables.push(variable);
        }
        let mut scenarios = Vec::new();
        while let Some(word) = arguments.word() {
            match SCENARIOS.iter().find(|name| **name == word) {
                Some(name) => scenarios.push(*name),
                None if word == "all" => scenarios.extend(SCENARIOS),
                None => bail!("there is no scenario {word:?}; {}", hint(&word)),
            }
        }
        arguments.end()?;
        if scenarios.is_empty() {
            scenarios.extend(SCENARIOS);
        }
        if !(1..=SECONDS_MAX).contains(&seconds) {
            bail!("--seconds is from 1 to {SECONDS_MAX}, and not {seconds}");
        }
        if let Some(url) = &url
            && !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme))
        {
            bail!("--url is an address like https://tidegate.example.com, and not {url:?}");
        }
        if url.is_none() && token.is_some() {
            bail!("--token belongs to the deployment that --url names; a server that is started here mints its own");
        }
        if let Some(variable) = variables.iter().find(|variable| !variable.contains('=')) {
            bail!("--set takes NAME=VALUE, and not {variable:?}");
        }
        Ok(Self {
            scenarios,
            url,
            token,
            seconds,
            variables,
        })
    }
}

fn hint(word: &str) -> String {
    match arguments::nearest(word, SCENARIOS.iter().copied()) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("there are {}, and all", SCENARIOS.join(", ")),
    }
}

/// `cargo xtask load [SCENARIO…|all] [--url URL --token TOKEN] [--seconds N] [--set NAME=VALUE]`.
/// Errors: a threshold is crossed.
pub fn load(project: &Project, arguments: Arguments) -> Result<()> {
    let mut wanted = Wanted::take(arguments)?;
    let token = wanted.token.take().or_else(|| std::env::var(TOKEN).ok());
    // Held to the end of this process, with which it ends.
    let (url, token, _server) = match (wanted.url.take(), token) {
        (Some(url), Some(token)) => (url, token, None),
        (Some(_), None) => bail!("the deployment's tenant has to know who asks: give --token, or set {TOKEN}"),
        (None, _) => {
            let server = start(project)?;
            let token = demo::mint(project, &["--tenant", TENANT, "--user", USER])?;
            (server.url.clone(), token, Some(server))
        }
    };
    let k6 = go::k6(project)?;
    let mut crossed = Vec::new();
    for name in &wanted.scenarios {
        say(format!("{name}: {} s of load on {url}", wanted.seconds));
        if let Err(error) = scenario(project, &k6, name, &url, &token, &wanted) {
            say(format!("{name}: {error:#}"));
            crossed.push(*name);
        }
    }
    if !crossed.is_empty() {
        bail!("not as it should be: {}", crossed.join(", "));
    }
    Ok(())
}

fn scenario(project: &Project, k6: &Path, name: &str, url: &str, token: &str, wanted: &Wanted) -> Result<()> {
    let mut k6 = command(project, k6);
    // It keeps no server of its own, and tells nobody that it was used.
    k6.args(["run", "--quiet", "--no-usage-report", "--address", ""]);
    for variable in &wanted.variables {
        k6.args(["--env", variable]);
    }
    // By the environment, where no list of processes shows it.
    k6.env("TIDEGATE_URL", url)
        .env(TOKEN, token)
        .env("SECONDS", wanted.seconds.to_string());
    let status = k6.arg(project.root.join("k6").join(format!("{name}.js"))).status()?;
    match status.code() {
        Some(0) => Ok(()),
        Some(CROSSED) => bail!("a threshold is crossed: ✗ marks it above"),
        _ => bail!("k6 failed ({status})"),
    }
}

/// A server of the release bundle with a state of its own. It ends with this process.
fn start(project: &Project) -> Result<Server> {
    bundle::build(project, Kind::Release)?;
    demo::build_cli(project)?;
    secrets::ensure(project)?;
    let folder = project.target.join("load");
    // What an earlier load has left is none of this one's.
    let _absent = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let log = folder.join("server.log");
    say(format!(
        "a server for it; its log is {}",
        project.relative(&log).display()
    ));
    let options = Options {
        port: 0,
        state: Some(folder.join("state")),
        control_port: None,
        vars: None,
        outlive_parent: false,
        kind: Kind::Release,
        log: Some(File::create(&log)?),
    };
    Server::start(project, &options).with_context(|| format!("its log is {}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(line: &str) -> Result<Wanted> {
        Wanted::take(Arguments::new(line.split_whitespace().map(str::to_owned)))
    }

    #[test]
    fn every_scenario_is_a_file_and_every_file_but_the_library_a_scenario() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../k6");
        let mut files: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix(".js")?.to_owned()))
            .filter(|name| name != "lib")
            .collect();
        let mut names = SCENARIOS.to_vec();
        files.sort_unstable();
        names.sort_unstable();
        assert_eq!(files, names);
    }

    #[test]
    fn without_a_word_all_scenarios_run() {
        let all = taken("").unwrap();
        assert_eq!((all.scenarios.as_slice(), all.seconds), (SCENARIOS, SECONDS_DEFAULT));
        assert_eq!(taken("all").unwrap(), all);
    }

    #[test]
    fn a_deployment_is_taken_with_its_token_and_variables() {
        let wanted = taken("jobs --url https://a.example --token t --set RATE=5 --set MS=10 --seconds 3").unwrap();
        assert_eq!(wanted.scenarios, ["jobs"]);
        assert_eq!(wanted.url.as_deref(), Some("https://a.example"));
        assert_eq!(wanted.variables, ["RATE=5", "MS=10"]);
        assert_eq!(wanted.seconds, 3);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_hint() {
        for (line, part) in [
            ("fanout", "did you mean fan_out?"),
            ("everything", "connect_storm, requests"),
            ("--seconds 0", "from 1 to 3600"),
            ("--url a.example --token t", "https://"),
            ("--token t", "--url"),
            ("--set RATE", "NAME=VALUE"),
            ("--users", "--users"),
        ] {
            let error = taken(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
