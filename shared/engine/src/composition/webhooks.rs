//! The section `webhooks` of a composition: the sources whose events become jobs.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde_json::Value;
use tidegate_protocol::Fault;
use tidegate_protocol::ids::{ActionName, SecretName, UserId, WebhookSource};

use super::Plan;
use super::compile::Actions;
use super::defaults::{TOLERANCE_MS_RANGE, WEBHOOK_EVENTS_MAX, WEBHOOK_HEADERS_MAX, WEBHOOKS_MAX};
use super::object::{Object, child, describe, note, suggest};
use crate::inbound::{
    Algorithm, Encoding, PATTERN_BYTES_MAX, PRESETS, Part, Place, Scheme, SecretForm, TOLERANCE_MS, Text, Webhook,
    preset,
};
use tidegate_protocol::{SortedMap, SortedSet};

/// The sources, by name.
pub type Webhooks = SortedMap<WebhookSource, Arc<Webhook>>;

const HEADER: &str = "the name of a header: 1 to 64 of A-Z, a-z, 0-9, '-' and '_'";
const FIELD: &str = "a field of the JSON body, with those around it: `data.id`";
const PREFIX: &str = "1 to 32 printable ASCII characters without spaces";
const EVENT: &str = "a type of events, with `*` for any characters: 1 to 128 printable ASCII characters without spaces";
const CONTENT: &str = "what is signed: a text with `{body}`, and perhaps `{id}` and `{timestamp}`, each once";

/// What webhooks can name.
pub(super) struct Known<'a> {
    /// The actions that are right.
    pub actions: &'a Actions,
    /// All that stand in the document: one that is faulty has its fault already.
    pub names: SortedSet<&'a str>,
}

/// The secrets that a composition's webhooks are verified with, each with the pointer to where it is named.
pub fn webhook_secrets(plan: &Plan) -> impl Iterator<Item = (String, SecretName)> {
    let named = |(source, webhook): (&WebhookSource, &Arc<Webhook>)| {
        (
            child(&child("/webhooks", source.as_str()), "secret"),
            webhook.secret.clone(),
        )
    };
    plan.webhooks.iter().map(named)
}

/// How the sender of a preset signs; `None` where there is none of this name.
pub fn webhook_preset(name: &str) -> Option<Scheme> {
    let value = serde_json::from_str(preset(name)?).ok()?;
    let mut faults = Vec::new();
    let scheme = Object::read(&value, "", &mut faults).and_then(read_scheme)?;
    Some(match name {
        "github" => Scheme {
            pings: &["ping"],
            ..scheme
        },
        // What Slack wraps an event in has a type as well.
        "slack" => Scheme {
            kinds: [field("event.type").map(Place::Field)]
                .into_iter()
                .flatten()
                .chain(scheme.kinds)
                .collect(),
            challenges: true,
            ..scheme
        },
        _ => scheme,
    })
}

/// Reads the section. What is missing or wrong has been noted.
pub(super) fn read_webhooks(value: &Value, pointer: &str, known: &Known<'_>, faults: &mut Vec<Fault>) -> Webhooks {
    let mut webhooks = Webhooks::new();
    let Some(fields) = Object::read(value, pointer, faults) else {
        return webhooks;
    };
    for (index, (name, value, pointer)) in fields.entries().enumerate() {
        if index == WEBHOOKS_MAX {
            let expected = format!("at most {WEBHOOKS_MAX} sources");
            note(faults, || Fault::new(pointer, expected, "more of them"));
            break;
        }
        let source = WebhookSource::parse(name);
        if source.is_none() {
            note(faults, || Fault::new(pointer.as_str(), WebhookSource::EXPECTED, name));
        }
        let webhook = Object::read(value, &pointer, faults).and_then(|fields| read_webhook(name, fields, known));
        webhooks.extend(source.zip(webhook.map(Arc::new)));
    }
    webhooks
}

fn read_webhook(name: &str, mut fields: Object<'_, '_>, known: &Known<'_>) -> Option<Webhook> {
    fields.text("description", "a text", Some);
    let action = read_action(&mut fields, known);
    let scheme = match fields.either("preset", "verify") {
        Some("preset") => fields.one_of("preset", PRESETS).and_then(webhook_preset),
        Some(_) => {
            let (value, pointer) = (fields.take("verify"), fields.at("verify"));
            value.and_then(|value| Object::read(value, &pointer, fields.faults).and_then(read_scheme))
        }
        None => None,
    };
    fields.require("secret", "the name of a secret");
    let secret = fields.text("secret", SecretName::EXPECTED, SecretName::parse);
    let user = match fields.has("user") {
        true => fields.text("user", UserId::EXPECTED, UserId::parse),
        false => {
            fields.take("user");
            UserId::parse(&format!("webhook:{name}"))
        }
    };
    let tolerance_ms = fields.duration("tolerance", TOLERANCE_MS_RANGE);
    if fields.has("tolerance") && scheme.as_ref().is_some_and(|scheme| scheme.timestamp.is_none()) {
        let expected = "no `tolerance`: what is signed holds no time";
        fields.fault("tolerance", expected, "one");
    }
    let events = read_list(&mut fields, "events", WEBHOOK_EVENTS_MAX, EVENT, |text| {
        is_visible(text, PATTERN_BYTES_MAX).then(|| text.to_string())
    });
    let headers = read_list(&mut fields, "headers", WEBHOOK_HEADERS_MAX, HEADER, |text| {
        header_name(text).map(Cow::into_owned)
    });
    fields.finish();
    let action = known.actions.get(&action?)?;
    Some(Webhook {
        action: action.name.clone(),
        scopes: action.scopes.iter().cloned().collect(),
        user: user?,
        secret: secret?,
        scheme: scheme?,
        tolerance_ms: tolerance_ms.unwrap_or(TOLERANCE_MS),
        events,
        headers,
    })
}

fn read_action(fields: &mut Object<'_, '_>, known: &Known<'_>) -> Option<ActionName> {
    const EXPECTED: &str = "an action of the composition";
    fields.require("action", EXPECTED)?;
    let (text, action) = fields.text("action", ActionName::EXPECTED, |text| {
        ActionName::parse(text).map(|action| (text, action))
    })?;
    if !known.names.contains(text) {
        let pointer = fields.at("action");
        let names = known.names.iter().copied().take(256);
        note(fields.faults, || {
            suggest(Fault::new(pointer, EXPECTED, text), text, names)
        });
        return None;
    }
    Some(action)
}

fn read_scheme(mut fields: Object<'_, '_>) -> Option<Scheme> {
    fields.require("header", HEADER);
    let header = fields.text("header", HEADER, header_name);
    let algorithm = match fields.one_of("algorithm", &["hmac-sha256", "hmac-sha512"]) {
        Some("hmac-sha512") => Algorithm::HmacSha512,
        _ => Algorithm::HmacSha256,
    };
    let encoding = match fields.one_of("encoding", &["hex", "base64"]) {
        Some("base64") => Encoding::Base64,
        _ => Encoding::Hex,
    };
    let secret = match fields.one_of("secret_encoding", &["text", "base64"]) {
        Some("base64") => SecretForm::Base64,
        _ => SecretForm::Text,
    };
    let separator = fields.one_of("separator", &[",", ";", " "]);
    let prefix = fields.text("prefix", PREFIX, prefix).unwrap_or_default();
    let content = match fields.has("content") {
        true => fields.text("content", CONTENT, read_content),
        false => {
            fields.take("content");
            Some(alloc::vec![Part::Body])
        }
    };
    let timestamp = read_place(&mut fields, "timestamp", &["header", "item"]);
    let id = read_place(&mut fields, "id", &["header", "item", "field"]);
    let kind = read_place(&mut fields, "type", &["header", "field"]);
    if let Some(content) = &content {
        let is_field = matches!(id, Some(Place::Field(_)));
        for (name, part, is_read, at) in [
            ("timestamp", Part::Timestamp, timestamp.is_some(), "{timestamp}"),
            ("id", Part::Id, id.is_some() && !is_field, "{id}"),
        ] {
            // What is not signed says nothing: whoever has overheard a message could say another.
            if is_read && !content.contains(&part) {
                let expected = format!("a `content` with `{at}` where it is read beside the body");
                fields.fault(name, expected, "one without");
            } else if content.contains(&part) && !is_read && (name == "id" || !fields.has(name)) {
                fields.fault(
                    name,
                    format!("where `{at}` of `content` stands: a header, or an item"),
                    "nothing",
                );
            }
        }
    }
    fields.finish();
    Some(Scheme {
        algorithm,
        encoding,
        secret,
        header: header?,
        separator: separator.and_then(|text| text.chars().next()),
        prefix,
        content: content?,
        timestamp,
        id,
        kinds: kind.into_iter().collect(),
        pings: &[],
        challenges: false,
    })
}

/// Where something stands: exactly one of these.
fn read_place(fields: &mut Object<'_, '_>, name: &'static str, ways: &'static [&'static str]) -> Option<Place> {
    let (value, pointer) = (fields.take(name)?, fields.at(name));
    let mut fields = Object::read(value, &pointer, fields.faults)?;
    let given = ways.iter().filter(|way| fields.has(way)).count();
    if given != 1 {
        let expected = format!("one of `{}`", ways.join("`, `"));
        let got = if given == 0 { "none" } else { "several" };
        note(fields.faults, || Fault::new(pointer, expected, got));
    }
    let mut found = None;
    for way in ways.iter().copied() {
        let place = match way {
            "header" => fields.text(way, HEADER, header_name).map(Place::Header),
            "item" => fields.text(way, PREFIX, prefix).map(Place::Item),
            _ => fields.text(way, FIELD, field).map(Place::Field),
        };
        found = found.or(place);
    }
    fields.finish();
    found
}

fn read_list(
    fields: &mut Object<'_, '_>,
    name: &'static str,
    count_max: usize,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let Some(value) = fields.take(name) else {
        return Vec::new();
    };
    let Some(items) = value.as_array().filter(|items| (1..=count_max).contains(&items.len())) else {
        fields.fault(name, format!("a list of 1 to {count_max} texts"), &describe(value));
        return Vec::new();
    };
    let pointer = fields.at(name);
    let mut read: Vec<String> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match item.as_str().and_then(&parse) {
            Some(text) if !read.contains(&text) => read.push(text),
            Some(_) => {}
            None => note(fields.faults, || {
                Fault::new(child(&pointer, &index.to_string()), expected, &describe(item))
            }),
        }
    }
    read
}

/// Takes a template apart. `None` where it holds a brace that belongs to none of its parts, one of them twice, or no body.
fn read_content(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (before, after) = rest.split_at_checked(rest.find(['{', '}']).unwrap_or(rest.len()))?;
        if !before.is_empty() {
            parts.push(Part::Text(Cow::Owned(before.to_string())));
        }
        rest = after;
        for (name, part) in [
            ("{id}", Part::Id),
            ("{timestamp}", Part::Timestamp),
            ("{body}", Part::Body),
        ] {
            if let Some(after) = rest.strip_prefix(name) {
                if parts.contains(&part) {
                    return None;
                }
                parts.push(part);
                rest = after;
            }
        }
        if rest == after && !rest.is_empty() {
            return None;
        }
    }
    (parts.contains(&Part::Body) && text.len() <= PATTERN_BYTES_MAX).then_some(parts)
}

fn is_visible(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn prefix(text: &str) -> Option<Text> {
    is_visible(text, 32).then(|| Cow::Owned(text.to_string()))
}

fn header_name(text: &str) -> Option<Text> {
    let fits = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    fits.then(|| Cow::Owned(text.to_ascii_lowercase()))
}

fn field(text: &str) -> Option<Vec<Text>> {
    let names: Vec<Text> = text.split('.').map(|name| Cow::Owned(name.to_string())).collect();
    let fits = (1..=8).contains(&names.len())
        && names.iter().all(|name| {
            (1..=64).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        });
    fits.then_some(names)
}
