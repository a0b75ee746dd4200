//! How known senders sign. Each is what a configuration could say as well.

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use super::Text;
use super::scheme::{Algorithm, Encoding, Part, Place, Scheme, SecretForm};

/// The presets, by name.
pub const PRESETS: &[&str] = &["standard", "stripe", "github", "slack", "svix"];

const fn text(text: &'static str) -> Text {
    Cow::Borrowed(text)
}

fn header(name: &'static str) -> Place {
    Place::Header(text(name))
}

fn field(name: &'static [&'static str]) -> Place {
    Place::Field(name.iter().copied().map(text).collect())
}

impl Scheme {
    /// The scheme of a preset; `None` where there is none of this name.
    pub fn of_preset(name: &str) -> Option<Self> {
        match name {
            // https://github.com/standard-webhooks/standard-webhooks, the symmetric form.
            "standard" => Some(standard("webhook-id", "webhook-timestamp", "webhook-signature")),
            // https://docs.svix.com/receiving/verifying-payloads/how-manual: the same under other names.
            "svix" => Some(standard("svix-id", "svix-timestamp", "svix-signature")),
            // https://docs.stripe.com/webhooks/signature: `t=…,v1=…`. Other schemes than `v1` are not believed.
            "stripe" => Some(Scheme {
                header: text("stripe-signature"),
                separator: Some(','),
                prefix: text("v1="),
                timestamp: Some(Place::Item(text("t="))),
                content: vec![Part::Timestamp, Part::Text(text(".")), Part::Body],
                id: Some(field(&["id"])),
                kinds: vec![field(&["type"])],
                ..plain()
            }),
            // https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries: neither the delivery's id nor a
            // time is signed, so that the body alone says which event it is.
            "github" => Some(Scheme {
                header: text("x-hub-signature-256"),
                prefix: text("sha256="),
                kinds: vec![header("x-github-event")],
                pings: &["ping"],
                ..plain()
            }),
            // https://docs.slack.dev/authentication/verifying-requests-from-slack
            "slack" => Some(Scheme {
                header: text("x-slack-signature"),
                prefix: text("v0="),
                timestamp: Some(header("x-slack-request-timestamp")),
                content: slack(),
                id: Some(field(&["event_id"])),
                kinds: vec![field(&["event", "type"]), field(&["type"])],
                challenges: true,
                ..plain()
            }),
            _ => None,
        }
    }
}

fn slack() -> Vec<Part> {
    let colon = || Part::Text(text(":"));
    vec![Part::Text(text("v0")), colon(), Part::Timestamp, colon(), Part::Body]
}

/// HMAC-SHA256 over the body, as digits.
fn plain() -> Scheme {
    Scheme {
        algorithm: Algorithm::HmacSha256,
        encoding: Encoding::Hex,
        secret: SecretForm::Text,
        header: text(""),
        separator: None,
        prefix: text(""),
        content: vec![Part::Body],
        timestamp: None,
        id: None,
        kinds: Vec::new(),
        pings: &[],
        challenges: false,
    }
}

fn standard(id: &'static str, timestamp: &'static str, signature: &'static str) -> Scheme {
    let dot = || Part::Text(text("."));
    Scheme {
        encoding: Encoding::Base64,
        secret: SecretForm::Base64,
        header: text(signature),
        separator: Some(' '),
        prefix: text("v1,"),
        content: vec![Part::Id, dot(), Part::Timestamp, dot(), Part::Body],
        timestamp: Some(header(timestamp)),
        id: Some(header(id)),
        kinds: vec![field(&["type"])],
        ..plain()
    }
}
