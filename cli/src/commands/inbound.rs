//! `tidegate webhook`: the sources whose webhooks become jobs.

use tidegate_sdk::Client;
use tidegate_sdk::http::WebhookView;

use crate::arguments::Webhook;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Runs one of the commands on webhooks.
pub async fn webhooks(client: &Client, command: Webhook, output: Output) -> Result<Exit, Failure> {
    match command {
        Webhook::List => {
            let list = client.http().webhooks().await?;
            if list.webhooks.is_empty() {
                output.say("No webhooks: the composition has no section `webhooks`, or an empty one.");
            }
            for webhook in &list.webhooks {
                if output.is_json() {
                    output.event("webhook", webhook);
                } else {
                    output.print(&tame(&line(webhook)));
                }
            }
        }
    }
    Ok(Exit::Succeeded)
}

fn line(webhook: &WebhookView) -> String {
    let WebhookView {
        source,
        url,
        action,
        secret,
        problem,
        ..
    } = webhook;
    let problem = problem
        .as_deref()
        .map(|problem| format!("  cannot be verified: {problem}"));
    format!(
        "{source}  {url}  asks for {action}, signed with {secret}{}",
        problem.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_says_where_to_send_and_what_is_wrong() {
        let mut webhook = json!({
            "source": "stripe", "url": "https://edge.example.com/v1/webhooks/acme/stripe/x", "action": "bill",
            "user": "webhook:stripe", "secret": "signing",
        });
        let read = |webhook: &serde_json::Value| serde_json::from_value(webhook.clone()).unwrap();
        let expected = "stripe  https://edge.example.com/v1/webhooks/acme/stripe/x  asks for bill, signed with signing";
        assert_eq!(line(&read(&webhook)), expected);
        webhook["problem"] = json!("The secret `signing` is not set.");
        assert!(line(&read(&webhook)).ends_with("cannot be verified: The secret `signing` is not set."));
    }
}
