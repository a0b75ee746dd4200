//! `cargo xtask example NAME`: a page of `examples/`, with a server behind it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::arguments::{Arguments, nearest};
use crate::bundle::{self, Kind};
use crate::process::{node, say};
use crate::project::Project;
use crate::serve::{Options, Server};
use crate::{data, secrets, toolchain};

/// The program that serves a page and mints the tokens for it.
const PAGES: &str = "examples/serve.mjs";

/// `cargo xtask example NAME [--port N] [--page-port N]`: builds what is missing, starts Tidegate and serves the page, until Ctrl-C.
pub fn example(project: &Project, mut arguments: Arguments) -> Result<()> {
    let port = arguments.value("--port")?.unwrap_or(8787);
    let page_port: u16 = arguments.value("--page-port")?.unwrap_or(8080);
    let name = arguments.word();
    arguments.end()?;
    let name = known(name.as_deref(), &names(&project.root.join("examples"))?)?;
    toolchain::ensure(project)?;
    bundle::build(project, Kind::Quick)?;
    secrets::ensure(project)?;
    data::copy(project)?;
    let folder = project.root.join(".tidegate");
    fs::create_dir_all(&folder)?;
    let options = Options {
        port,
        state: None,
        control_port: None,
        vars: None,
        outlive_parent: false,
        kind: Kind::Quick,
        log: Some(File::create(folder.join("server.log"))?),
    };
    let server = Server::start(project, &options).context("its log is .tidegate/server.log")?;
    say(format!(
        "Tidegate serves at {}; state in .tidegate/state, log in .tidegate/server.log",
        server.url
    ));
    let mut pages = node(project, PAGES);
    pages.args([&name, "--tidegate", &server.url, "--port", &page_port.to_string()]);
    let mut pages = pages
        .stdout(Stdio::piped())
        .spawn()
        .context("the page cannot be served")?;
    match address(&mut pages)? {
        Some(url) => say(format!("open {url} in two tabs; Ctrl-C ends it")),
        None => bail!("the page could not be served"),
    }
    pages.wait()?;
    bail!("the page is served no longer")
}

/// Where the page is, once it is served.
fn address(pages: &mut Child) -> Result<Option<String>> {
    let stdout = pages.stdout.take().context("what serves the page has no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let ready: Option<Value> = serde_json::from_str(&line).ok();
    Ok(ready.and_then(|ready| Some(ready.get("url")?.as_str()?.to_owned())))
}

/// The examples that have a page, in order.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("index.html").exists())
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// The example that was asked for. Errors: none was, or there is none of that name.
fn known(asked: Option<&str>, names: &[String]) -> Result<String> {
    let list = names.join(", ");
    let Some(asked) = asked else {
        bail!("which example? There are {list}: `cargo xtask example chat`");
    };
    if names.iter().any(|name| name == asked) {
        return Ok(asked.to_owned());
    }
    match nearest(asked, names.iter().map(String::as_str)) {
        Some(near) => bail!("there is no example {asked:?}; did you mean {near:?}?"),
        None => bail!("there is no example {asked:?}; there are {list}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_a_folder_with_a_page() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        assert_eq!(names(&examples).unwrap(), ["chat", "live-jobs"]);
    }

    #[test]
    fn who_asks_for_none_or_a_wrong_one_is_told_which_there_are() {
        let names = ["chat", "live-jobs"].map(str::to_owned);
        assert_eq!(known(Some("chat"), &names).unwrap(), "chat");
        for (asked, expected) in [
            (None, "chat, live-jobs"),
            (Some("chatt"), "did you mean \"chat\""),
            (Some("x"), "chat, live-jobs"),
        ] {
            let error = known(asked, &names).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
