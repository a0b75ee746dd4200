//! Where the server is and who asks: from the command line, the environment, or `.tidegate/cli.json`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tidegate_sdk::client::Patience;
use tidegate_sdk::{Client, Settings};

use crate::arguments::Connection;
use crate::exit::Exit;
use crate::failure::Failure;

/// Where `cargo xtask dev` and `demo` serve.
const URL_DEFAULT: &str = "http://127.0.0.1:8787";
const FILE: &str = ".tidegate/cli.json";
/// How long to try until the first connection: a wrong address should be told soon. Milliseconds.
const FIRST_CONNECT_MS: u64 = 10_000;

#[derive(Debug, Default, Deserialize)]
struct Kept {
    url: Option<String>,
    token: Option<String>,
}

/// The client that the settings describe.
///
/// Errors: no token, or a file, address or token that cannot be used.
pub fn client(connection: &Connection) -> Result<Client, Failure> {
    let folder = std::env::current_dir().map_err(|error| Failure::of_io("This folder cannot be read", &error))?;
    let kept = match find_above(&folder, FILE) {
        Some(path) => read(&path)?,
        None => Kept::default(),
    };
    let (url, token) = choose(connection, kept)?;
    let patience = Patience {
        first_ms: Some(FIRST_CONNECT_MS),
        again_ms: None,
    };
    Client::with_settings(&url, &token, Settings { patience }).map_err(Failure::of)
}

/// The nearest file of this name in `folder` or above it.
pub fn find_above(folder: &Path, name: &str) -> Option<PathBuf> {
    folder
        .ancestors()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn read(path: &Path) -> Result<Kept, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::of_io(&format!("{} cannot be read", path.display()), &error))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(Exit::Invalid, format!("{} cannot be used: {error}.", path.display()))
            .remedy("It has to be {\"url\": \"http://…\", \"token\": \"…\"}.")
    })
}

/// The address and the token. The file's token is shown only to the file's own server.
fn choose(connection: &Connection, kept: Kept) -> Result<(String, String), Failure> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let url = given(&connection.url);
    let own = match (&url, &kept.url) {
        (None, _) => true,
        (Some(url), Some(kept)) => url.trim_end_matches('/') == kept.trim_end_matches('/'),
        (Some(_), None) => false,
    };
    let token = given(&connection.token).or_else(|| given(&kept.token).filter(|_| own));
    let url = url
        .or_else(|| given(&kept.url))
        .unwrap_or_else(|| URL_DEFAULT.to_owned());
    match token {
        Some(token) => Ok((url, token)),
        None => Err(
            Failure::new(Exit::Unauthorized, format!("There is no token for {url}.")).remedy(
                "Give one with --token or TIDEGATE_TOKEN (for development: export TIDEGATE_TOKEN=$(tidegate token)), \
                 or run `cargo xtask demo` or `dev`, which write .tidegate/cli.json.",
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: Option<&str>) -> Option<String> {
        text.map(str::to_owned)
    }

    #[test]
    fn the_command_line_wins_and_the_files_token_goes_to_no_other_server() {
        let a = "http://a";
        let b = "http://b";
        for (url, token, kept_url, kept_token, expected) in [
            (None, None, Some(a), Some("k"), Some((a, "k"))),
            (Some("http://a/"), None, Some(a), Some("k"), Some(("http://a/", "k"))),
            (Some(b), None, Some(a), Some("k"), None),
            (Some(b), Some("t"), Some(a), Some("k"), Some((b, "t"))),
            (None, Some("t"), None, None, Some((URL_DEFAULT, "t"))),
            (Some(b), None, None, Some("k"), None),
            (Some(""), Some(" "), Some(a), Some("k"), Some((a, "k"))),
            (None, None, None, None, None),
        ] {
            let connection = Connection {
                url: text(url),
                token: text(token),
            };
            let kept = Kept {
                url: text(kept_url),
                token: text(kept_token),
            };
            let chosen = choose(&connection, kept).ok();
            let expected = expected.map(|(url, token)| (url.to_owned(), token.to_owned()));
            assert_eq!(chosen, expected, "{url:?} {token:?}");
        }
    }
}
