//! `tidegate tenant recover`.

use tidegate_protocol::time::UnixMs;
use tidegate_sdk::Client;
use tidegate_sdk::http::Recovery;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Takes a tenant back to a time.
pub async fn recover(client: &Client, tenant: &str, at: &str, output: Output) -> Result<Exit, Failure> {
    if UnixMs::parse(at).is_none() {
        let message = format!(
            "`--at {}` is no time: it takes one like 2026-11-23T14:05:00Z.",
            tame(at)
        );
        return Err(Failure::new(Exit::Invalid, message));
    }
    let recovery = client.http().recover_tenant(tenant, at).await?;
    if output.is_json() {
        output.event("recovery", &recovery);
        return Ok(Exit::Succeeded);
    }
    for line in lines(&recovery) {
        output.print(&tame(&line));
    }
    output.say("It stays suspended: look at it, then `tidegate tenant resume` it.");
    Ok(Exit::Succeeded)
}

fn lines(recovery: &Recovery) -> Vec<String> {
    let head = format!(
        "{}  back at {}  {} objects",
        recovery.tenant,
        recovery.at,
        recovery.objects.len()
    );
    let objects = recovery
        .objects
        .iter()
        .map(|object| format!("  {}  {}  undo {}", object.object, object.bookmark, object.undo));
    std::iter::once(head).chain(objects).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_has_its_bookmarks() {
        let recovery: Recovery = serde_json::from_value(serde_json::json!({
            "tenant": "acme", "at": "2026-11-23T14:05:00.000Z", "begun_at": "2026-11-23T15:00:00.000Z",
            "objects": [{ "object": "t:acme:gate", "bookmark": "1-2", "undo": "1-3" }],
        }))
        .unwrap();
        assert_eq!(
            lines(&recovery),
            [
                "acme  back at 2026-11-23T14:05:00.000Z  1 objects",
                "  t:acme:gate  1-2  undo 1-3"
            ]
        );
        assert!(recovery.more.contains_key("begun_at"));
    }
}
