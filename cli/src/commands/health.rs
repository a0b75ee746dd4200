//! `tidegate health`: how the tenant is, and why.

use tidegate_sdk::Client;
use tidegate_sdk::http::{Health, HealthReason, UpstreamHealth};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Shows how the tenant is. Ends with 1 where it is not healthy.
pub async fn health(client: &Client, output: Output) -> Result<Exit, Failure> {
    let health = client.http().health().await?;
    if output.is_json() {
        output.event("health", &health);
    } else {
        for line in lines(&health) {
            output.print(&tame(&line));
        }
    }
    Ok(match health.status.as_str() {
        "healthy" => Exit::Succeeded,
        _ => Exit::Failed,
    })
}

fn lines(health: &Health) -> Vec<String> {
    let queue = &health.queue;
    let mut lines = vec![health.status.clone()];
    for HealthReason {
        code, name, message, ..
    } in &health.reasons
    {
        let name = if name.is_empty() { "-" } else { name };
        lines.push(format!("  {code:<18}  {name:<24}  {message}"));
    }
    if !health.upstreams.is_empty() {
        lines.push("upstreams".into());
    }
    for upstream in &health.upstreams {
        let UpstreamHealth {
            upstream,
            key,
            state,
            since,
            calls,
            failed_percent,
            ..
        } = upstream;
        let name = if key.is_empty() {
            upstream.clone()
        } else {
            format!("{upstream}/{key}")
        };
        let since = since.map(|since| format!("  since {since}")).unwrap_or_default();
        // A breaker that is not closed counts nothing.
        let calls = match calls {
            0 => String::new(),
            calls => format!("  {failed_percent} % of {calls} calls failed"),
        };
        lines.push(format!("  {name:<24}  {state:<9}{calls}{since}"));
    }
    let growing = queue
        .growing_to
        .map(|to| format!(", growing to {to}"))
        .unwrap_or_default();
    lines.push(format!(
        "queue  in {}{growing}",
        counted(queue.shards.into(), "object", "objects")
    ));
    let since = queue
        .oldest_waiting_at
        .map(|since| format!(", the first since {since}"));
    lines.push(format!(
        "  {} running, {} waiting{}, {}",
        queue.running,
        queue.waiting,
        since.unwrap_or_default(),
        counted(queue.dead_letters, "dead letter", "dead letters")
    ));
    lines
}

/// So many of something.
fn counted(count: u64, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {many}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_word_comes_first_then_the_reasons_and_what_they_are_about() {
        let health: Health = serde_json::from_value(json!({
            "status": "degraded",
            "reasons": [
                { "code": "breaker_open", "name": "bank.main", "message": "It fails." },
                { "code": "dead_letters", "message": "2 jobs failed for good." },
            ],
            "upstreams": [{
                "upstream": "bank.main", "state": "closed", "since": "2026-11-21T07:00:00.000Z", "calls": 9,
                "failed_percent": 22,
            }, { "upstream": "bank.main", "key": "eu", "state": "open", "calls": 0, "failed_percent": 0 }],
            "queue": { "running": 1, "waiting": 2, "dead_letters": 2, "shards": 1, "growing_to": 4,
                "oldest_waiting_at": "2026-11-21T07:00:00.000Z" },
        }))
        .unwrap();
        let expected = [
            "degraded",
            "  breaker_open        bank.main                 It fails.",
            "  dead_letters        -                         2 jobs failed for good.",
            "upstreams",
            "  bank.main                 closed     22 % of 9 calls failed  since 2026-11-21T07:00:00.000Z",
            "  bank.main/eu              open     ",
            "queue  in 1 object, growing to 4",
            "  1 running, 2 waiting, the first since 2026-11-21T07:00:00.000Z, 2 dead letters",
        ];
        assert_eq!(lines(&health), expected);
    }
}
