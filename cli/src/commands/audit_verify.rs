//! `tidegate audit verify`: whether the audit trail is the one that was written. What that means is decided in
//! [`tidegate_protocol::chain`]; here entries are only fetched, in order, from files or from the archive and the live trail.

use std::path::PathBuf;

use serde_json::{Value, json};
use tidegate_protocol::chain::{Broken, Hash, Head, Walk};
use tidegate_sdk::Client;

use crate::arguments::Verify;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Walks the trail of the server, and stops at the first bad entry.
pub async fn verify(client: &Client, asked: Verify, output: Output) -> Result<Exit, Failure> {
    let start = if asked.live {
        let page = client.http().audit_trail(0).await?;
        page.checkpoint.as_deref().map(head).transpose()?
    } else {
        None
    };
    let mut walk = Walk::new(start.unwrap_or(Head::unchained(0)), asked.heads).map_err(bad)?;
    loop {
        let before = walk.head().seq;
        if !asked.live {
            walk_archive(client, &mut walk).await?;
        }
        let went_on = walk.head().seq > before;
        if walk_live(client, &mut walk, went_on && !asked.live).await? {
            break;
        }
    }
    whole(&walk, output)
}

/// Walks files of entries, a line each, as the archive has them. Says nothing of what lies before the first line.
pub fn verify_files(asked: Verify, output: Output) -> Result<Exit, Failure> {
    let mut walk: Option<Walk> = None;
    let mut noted = asked.heads;
    for path in &asked.files {
        for line in read(path)?.lines() {
            let walk = match &mut walk {
                Some(walk) => walk,
                None => walk.insert(Walk::new(start_of(line), std::mem::take(&mut noted)).map_err(bad)?),
            };
            walk.take(line).map_err(bad)?;
        }
    }
    let walk = match walk {
        Some(walk) => walk,
        None => Walk::new(Head::unchained(0), noted).map_err(bad)?,
    };
    whole(&walk, output)
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    let what = format!("{} cannot be read", path.display());
    std::fs::read_to_string(path).map_err(|error| Failure::of_io(&what, &error))
}

/// What a file's first entry says that it follows. Its hash covers that, and the entry is checked.
fn start_of(line: &str) -> Head {
    let entry: Value = serde_json::from_str(line).unwrap_or_default();
    let before = entry
        .get("seq")
        .and_then(Value::as_u64)
        .and_then(|seq| seq.checked_sub(1));
    let previous = entry.get("previous_hash").and_then(Value::as_str).and_then(Hash::parse);
    match (before, previous) {
        (Some(seq), Some(hash)) => Head { seq, hash },
        _ => Head::unchained(before.unwrap_or(0)),
    }
}

async fn walk_archive(client: &Client, walk: &mut Walk) -> Result<(), Failure> {
    let mut cursor = None;
    loop {
        let page = client.http().audit_archive(cursor.as_deref()).await?;
        for segment in page.segments {
            // Segments overlap where an answer was lost: what has been walked already is not walked again.
            let from = walk.head().seq;
            if segment.last <= from {
                continue;
            }
            for line in client.http().audit_segment(&segment.name).await?.lines() {
                if number(line).is_none_or(|seq| seq > from) {
                    walk.take(line).map_err(bad)?;
                }
            }
        }
        if page.cursor.is_none() {
            return Ok(());
        }
        cursor = page.cursor;
    }
}

fn number(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?.get("seq")?.as_u64()
}

/// Says whether it got to the end: `false` where entries were archived meanwhile, and the archive is worth another look.
async fn walk_live(client: &Client, walk: &mut Walk, look_again: bool) -> Result<bool, Failure> {
    loop {
        let page = client.http().audit_trail(walk.head().seq).await?;
        let archived = page.checkpoint.as_deref().map(head).transpose()?;
        if look_again && archived.is_some_and(|last| last.seq > walk.head().seq) {
            return Ok(false);
        }
        for entry in &page.entries {
            walk.take(entry.as_str()).map_err(bad)?;
        }
        if page.cursor.is_none() {
            return Ok(true);
        }
    }
}

fn head(text: &str) -> Result<Head, Failure> {
    Head::parse(text).ok_or_else(|| Failure::new(Exit::Failed, format!("The server tells of no head: {text}.")))
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn bad(broken: Broken) -> Failure {
    Failure::new(Exit::Failed, broken.to_string())
}

fn whole(walk: &Walk, output: Output) -> Result<Exit, Failure> {
    walk.finish().map_err(bad)?;
    let (entries, chained) = walk.counts();
    let head = walk.head().to_string();
    if output.is_json() {
        let found = json!({ "entries": entries, "chained": chained, "head": head });
        output.event("verified", &found);
        return Ok(Exit::Succeeded);
    }
    output.say(&match entries - chained {
        0 => format!("{entries} entries, and each follows the one before."),
        before => format!(
            "{entries} entries; the last {chained} each follow the one before, {before} are of before the chain."
        ),
    });
    output.say("The head, to note elsewhere, and to check by later with --head:");
    output.print(&head);
    Ok(Exit::Succeeded)
}
