//! How known senders sign, as a configuration of `verify` says it.

/// The presets, by name.
pub const PRESETS: &[&str] = &["standard", "stripe", "github", "slack", "svix"];

/// What `verify` would say of a preset; `None` where there is none of this name.
pub fn preset(name: &str) -> Option<&'static str> {
    Some(match name {
        // https://github.com/standard-webhooks/standard-webhooks, the symmetric form.
        "standard" => {
            r#"{"header":"webhook-signature","encoding":"base64","secret_encoding":"base64","separator":" ","prefix":"v1,",
            "content":"{id}.{timestamp}.{body}","id":{"header":"webhook-id"},"timestamp":{"header":"webhook-timestamp"},
            "type":{"field":"type"}}"#
        }
        // https://docs.svix.com/receiving/verifying-payloads/how-manual: the same under other names.
        "svix" => {
            r#"{"header":"svix-signature","encoding":"base64","secret_encoding":"base64","separator":" ","prefix":"v1,",
            "content":"{id}.{timestamp}.{body}","id":{"header":"svix-id"},"timestamp":{"header":"svix-timestamp"},
            "type":{"field":"type"}}"#
        }
        // https://docs.stripe.com/webhooks/signature: `t=…,v1=…`. Other schemes than `v1` are not believed.
        "stripe" => {
            r#"{"header":"stripe-signature","separator":",","prefix":"v1=","content":"{timestamp}.{body}",
            "timestamp":{"item":"t="},"id":{"field":"id"},"type":{"field":"type"}}"#
        }
        // https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries: neither the delivery's id nor a time
        // is signed, so that the body alone says which event it is.
        "github" => r#"{"header":"x-hub-signature-256","prefix":"sha256=","type":{"header":"x-github-event"}}"#,
        // https://docs.slack.dev/authentication/verifying-requests-from-slack
        "slack" => {
            r#"{"header":"x-slack-signature","prefix":"v0=","content":"v0:{timestamp}:{body}",
            "timestamp":{"header":"x-slack-request-timestamp"},"id":{"field":"event_id"},"type":{"field":"type"}}"#
        }
        _ => return None,
    })
}
