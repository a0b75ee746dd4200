//! `tidegate key` and `revoke`: who may come in.

use tidegate_sdk::Client;
use tidegate_sdk::http::{KeyMade, KeyView, NewKey, Revocation};

use crate::arguments::{Key, Revoke};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Runs one of the commands on API keys.
pub async fn keys(client: &Client, command: Key, output: Output) -> Result<Exit, Failure> {
    let http = client.http();
    match command {
        Key::Create {
            name,
            user,
            scopes,
            expires_at,
        } => {
            let key = NewKey {
                name,
                user,
                scopes,
                expires_at,
            };
            made(&http.create_key(&key).await?, output);
        }
        Key::Rotate { id, overlap } => made(&http.rotate_key(&id, overlap).await?, output),
        Key::List => {
            let list = http.keys().await?;
            if list.keys.is_empty() {
                output.say("No API keys.");
            }
            for key in &list.keys {
                if output.is_json() {
                    output.event("key", key);
                } else {
                    output.print(&tame(&line(key)));
                }
            }
        }
        Key::Delete { id } => {
            http.delete_key(&id).await?;
            output.say(&format!("Deleted {}.", tame(&id)));
        }
    }
    Ok(Exit::Succeeded)
}

/// The text alone goes to stdout, for whatever keeps it.
fn made(made: &KeyMade, output: Output) {
    if output.is_json() {
        return output.event("key", made);
    }
    output.print(&tame(&made.api_key));
    let id = made.key.as_str();
    let id = serde_json::from_str::<KeyView>(id).map(|key| format!(" It is the key {}.", key.key_id));
    output.say(&format!(
        "Keep it now: it is not shown again.{}",
        id.unwrap_or_default()
    ));
}

fn line(key: &KeyView) -> String {
    let KeyView {
        key_id,
        name,
        user,
        scopes,
        expires_at,
        old_text_until,
        used_at,
        ..
    } = key;
    let mut line = format!("{key_id}  {name}  {user}  {}", scopes.join(","));
    for (what, at) in [
        ("used", used_at),
        ("expires", expires_at),
        ("its old text is good until", old_text_until),
    ] {
        if let Some(at) = at {
            line.push_str(&format!("  {what} {at}"));
        }
    }
    line
}

/// Revokes credentials.
pub async fn revoke(client: &Client, revoke: Revoke, output: Output) -> Result<Exit, Failure> {
    let whom = revoke.of;
    let revocation = Revocation {
        token: whom.token_id,
        user: whom.user,
        everyone: whom.everyone.then_some(true),
        for_ms: revoke.remembered,
    };
    let done = client.http().revoke(&revocation).await?;
    if output.is_json() {
        output.event("revocation", &done);
    } else {
        output.print(&format!(
            "Revoked at {}. It is remembered until {}.",
            done.at, done.until
        ));
    }
    Ok(Exit::Succeeded)
}
