//! `tidegate audit`: who changed what by hand.

use serde_json::{Value, json};
use tidegate_sdk::Client;
use tidegate_sdk::http::{AuditEntry, AuditFilter};

use crate::arguments::Audit;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Shows a page of the audit trail, a line for each entry.
pub async fn audit(client: &Client, asked: Audit, output: Output) -> Result<Exit, Failure> {
    let filter = AuditFilter {
        what: asked.what,
        user: asked.user,
        from: asked.from,
        to: asked.to,
        limit: asked.limit,
        cursor: asked.cursor,
    };
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
        output.say(&format!("More: --cursor {}", tame(cursor)));
    }
    Ok(Exit::Succeeded)
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
