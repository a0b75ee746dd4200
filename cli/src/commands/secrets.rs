//! `tidegate secret`: values that the composition refers to. A value comes from a file or from standard input, never from
//! the command line, which other processes of the machine can read and a shell remembers.

use std::io::{IsTerminal, Read};

use tidegate_sdk::Client;
use tidegate_sdk::http::SecretView;

use crate::arguments::Secret;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Runs one of the commands on secrets.
pub async fn secrets(client: &Client, command: Secret, output: Output) -> Result<Exit, Failure> {
    match command {
        Secret::Set {
            name,
            from_file,
            overlap,
        } => {
            let value = value(from_file.as_deref())?;
            let secret = client.http().set_secret(&name, &value, overlap).await?;
            show(&secret, output);
        }
        Secret::List => {
            let list = client.http().secrets().await?;
            if list.secrets.is_empty() {
                output.say("No secrets.");
            }
            for secret in &list.secrets {
                show(secret, output);
            }
        }
        Secret::Delete { name } => {
            client.http().delete_secret(&name).await?;
            output.say(&format!("Deleted {}.", tame(&name)));
        }
    }
    Ok(Exit::Succeeded)
}

/// The value, without one line's end behind it, which editors and `echo` put there.
///
/// Errors: it cannot be read, is no text, or a person would have to type it where everybody sees it.
fn value(file: Option<&std::path::Path>) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    let mut value = String::new();
    let (source, read) = match file {
        Some(path) => {
            let read = std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut value));
            (path.display().to_string(), read)
        }
        None if stdin.is_terminal() => {
            let failure = Failure::new(Exit::Invalid, "A secret is not typed where it can be read.");
            return Err(failure.remedy(
                "Pipe the value in, as in `pass show bank | tidegate secret set bank`, or name a file with --from-file.",
            ));
        }
        None => ("stdin".to_owned(), stdin.lock().read_to_string(&mut value)),
    };
    read.map_err(|error| Failure::of_io(&format!("The value of {source} cannot be read"), &error))?;
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    if value.is_empty() {
        return Err(Failure::new(Exit::Invalid, format!("{source} holds no value.")));
    }
    Ok(value)
}

fn show(secret: &SecretView, output: Output) {
    if output.is_json() {
        output.event("secret", secret);
    } else {
        output.print(&tame(&line(secret)));
    }
}

fn line(secret: &SecretView) -> String {
    let SecretView {
        name,
        version,
        created_at,
        rotated_at,
        old_value_until,
        old_deployment_key,
    } = secret;
    let set_at = rotated_at.unwrap_or(*created_at);
    let until = old_value_until.map(|at| format!("  the value before is good until {at}"));
    let old_key = if *old_deployment_key {
        "  set it again: it was set under an earlier deployment key"
    } else {
        ""
    };
    format!(
        "{name}  version {version} of {set_at}{}{old_key}",
        until.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_of_a_line_is_no_part_of_a_value() {
        let folder = std::env::temp_dir().join(format!("tidegate-secret-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("value");
        for (text, expected) in [
            ("a\n", Some("a")),
            ("a\r\n", Some("a")),
            ("a\n\n", Some("a\n")),
            (" a b ", Some(" a b ")),
            ("\n", None),
            ("", None),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(value(Some(&file)).ok().as_deref(), expected, "{text:?}");
        }
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(value(Some(&file)).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_line_says_what_is_to_be_done() {
        let mut secret: SecretView =
            serde_json::from_str(r#"{"name":"bank","version":1,"created_at":"2026-11-21T07:00:00.000Z"}"#).unwrap();
        assert_eq!(line(&secret), "bank  version 1 of 2026-11-21T07:00:00.000Z");
        secret.old_deployment_key = true;
        assert!(line(&secret).contains("set it again"));
    }
}
