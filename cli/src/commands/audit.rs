//! `tidegate audit`: who changed what by hand.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_protocol::chain::Head;
use tidegate_sdk::Client;
use tidegate_sdk::http::{AuditEntry, AuditFilter};

use crate::arguments::Audit;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// How often a follower asks for what is new.
const POLL: Duration = Duration::from_secs(2);

/// Shows a page of the audit trail, a line for each entry; or follows it.
pub async fn audit(client: &Client, asked: Audit, output: Output) -> Result<Exit, Failure> {
    let follow = asked.follow;
    let filter = AuditFilter {
        what: asked.what,
        user: asked.user,
        from: asked.from,
        to: asked.to,
        limit: asked.limit,
        cursor: asked.cursor,
        after: asked.after,
    };
    if follow {
        return tokio::select! {
            ended = show_what_comes(client, filter, output) => ended,
            _ = tokio::signal::ctrl_c() => Ok(Exit::Detached),
        };
    }
    let page = client.http().audit(&filter).await?;
    if output.is_json() {
        for entry in &page.entries {
            output.event("audit", entry);
        }
        if let Some(cursor) = &page.cursor {
            output.event("page", &json!({"cursor": cursor}));
        }
        return Ok(Exit::Succeeded);
    }
    if page.entries.is_empty() {
        output.say("Nothing was done by hand.");
    }
    for entry in &page.entries {
        output.print(&tame(&line(entry)));
    }
    if let Some(cursor) = &page.cursor {
        let option = if asked.after.is_some() { "--after" } else { "--cursor" };
        output.say(&format!("More: {option} {}", tame(cursor)));
    }
    Ok(Exit::Succeeded)
}

/// Asks for what is new again and again. Every entry is shown once, oldest first.
async fn show_what_comes(client: &Client, mut filter: AuditFilter, output: Output) -> Result<Exit, Failure> {
    let mut after = match filter.after {
        Some(after) => after,
        None => newest(client).await?,
    };
    loop {
        // What is filtered out is not looked at again: the head was read in the same turn as the page.
        filter.after = Some(after);
        let page = client.http().audit(&filter).await?;
        for entry in &page.entries {
            if output.is_json() {
                output.event("audit", entry);
            } else {
                output.print(&tame(&line(entry)));
            }
        }
        let last = page.entries.last().and_then(|entry| entry.seq);
        after = if page.cursor.is_some() {
            last.unwrap_or(after)
        } else {
            let head = page.head.as_deref().and_then(Head::parse);
            tokio::time::sleep(POLL).await;
            head.map(|head| head.seq).or(last).unwrap_or(after)
        };
    }
}

async fn newest(client: &Client) -> Result<u64, Failure> {
    let filter = AuditFilter {
        limit: Some(1),
        ..AuditFilter::default()
    };
    let page = client.http().audit(&filter).await?;
    let head = page.head.as_deref().and_then(Head::parse);
    let head = head.ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            "The server is too old to be followed: it tells of no head.",
        )
    })?;
    Ok(head.seq)
}

fn line(entry: &AuditEntry) -> String {
    let at = entry.at.map(|at| at.to_string()).unwrap_or_default();
    let user = entry.who.as_ref().map_or("", |who| who.user.as_str());
    let target: Vec<String> = entry
        .target
        .iter()
        .map(|(name, value)| format!("{name}={}", plain(value)))
        .collect();
    let counts = match entry.counts {
        Some(counts) if counts.refused > 0 => format!("  {} done, {} refused", counts.done, counts.refused),
        Some(counts) => format!("  {} done", counts.done),
        None => String::new(),
    };
    format!("{at:<24}  {user}  {}  {}{counts}", entry.what, target.join(" "))
}

/// A text as it is, a list of texts with commas, anything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_who_what_to_what_and_how_far() {
        let entry: AuditEntry = serde_json::from_value(json!({
            "id": "aud_1", "at": "2026-11-21T07:00:00.000Z", "who": { "user": "op", "via": "token" },
            "what": "dead_letters.redriven", "target": { "filter": { "action": "a" }, "jobs": ["job_1", "job_2"] },
            "outcome": "partly", "counts": { "done": 2, "refused": 1 },
        }))
        .unwrap();
        assert_eq!(
            line(&entry),
            "2026-11-21T07:00:00.000Z  op  dead_letters.redriven  filter={\"action\":\"a\"} jobs=job_1,job_2  \
             2 done, 1 refused"
        );
    }
}
