//! References to secrets of the tenant: `${secret:NAME}` anywhere in the value of a configured header.
//!
//! A text, and not an object in its place, because a credential mostly stands behind a word (`Bearer ${secret:bank}`), and
//! because a value that is a text everywhere has one form to check. Only configured headers are filled in, once a request is
//! made: a reference in a payload is a text like any other, so that no caller chooses a secret.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;
use tidegate_engine::composition::{Plan, child};
use tidegate_protocol::Error;
use tidegate_protocol::ids::SecretName;

use super::headers;
use crate::operation::{Context, Incoming, SecretValue};

/// What a reference begins with. A dollar sign before anything else is itself.
const BEGINNING: &str = "${secret:";
/// What stands in an answer where a secret stood.
const MASK: &str = "[secret]";
/// Bytes of a value that is looked for in answers, at least.
const MASKED_BYTES_MIN: usize = 8;
/// What a reference has to look like.
pub const REFERENCE: &str = "references to secrets as `${secret:NAME}`, with a name of 1 to 64 characters of a-z, 0-9, '_' \
     and '-', a letter first";

/// What a header's value is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Secret(SecretName),
}

/// Takes `text` apart; `None` where a reference in it is broken.
fn parts(text: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGINNING) {
        let (name, after) = after.split_once('}')?;
        parts.push(Part::Text(before));
        parts.push(Part::Secret(SecretName::parse(name)?));
        rest = after;
    }
    parts.push(Part::Text(rest));
    Some(parts)
}

/// The secrets that `text` refers to; `None` where a reference is broken.
pub fn names(text: &str) -> Option<Vec<SecretName>> {
    let names = parts(text)?.into_iter().filter_map(|part| match part {
        Part::Text(_) => None,
        Part::Secret(name) => Some(name),
    });
    Some(names.collect())
}

/// The secrets that a composition refers to, each with the pointer to where it does.
pub fn referred(plan: &Plan) -> Vec<(String, SecretName)> {
    let mut found = Vec::new();
    let instances = plan.patterns.iter().filter(|(_, instance)| instance.pattern == "http");
    for (instance, config) in instances.filter_map(|(name, instance)| Some((name, read(&instance.config)?))) {
        let pointer = child(&child("/patterns", instance), "config");
        for (upstream, fields) in object(config.get("upstreams")) {
            let pointer = child(&child(&child(&pointer, "upstreams"), upstream), "headers");
            for (header, value) in object(fields.get("headers")) {
                let names = value.as_str().and_then(names).unwrap_or_default();
                found.extend(names.into_iter().map(|name| (child(&pointer, header), name)));
            }
        }
    }
    found
}

fn read(config: &tidegate_protocol::event::JsonText) -> Option<Value> {
    serde_json::from_str(config.as_str()).ok()
}

fn object(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

/// Puts the values of secrets where the first `configured` of `headers` refer to them, and gives the values that it put in.
///
/// Errors: `SECRET_UNUSABLE` for a secret that is not set, cannot be opened, or cannot stand in a header; `UNAVAILABLE` where
/// the gate cannot be asked.
pub async fn fill<C: Context>(
    context: &C,
    headers: &mut [(String, String)],
    configured: usize,
) -> Result<Vec<Rc<SecretValue>>, Error> {
    let mut wanted: Vec<SecretName> = Vec::new();
    for (_, text) in headers.iter().take(configured) {
        for name in names(text).unwrap_or_default() {
            if !wanted.contains(&name) {
                wanted.push(name);
            }
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let values = context.secrets(&wanted).await?;
    let known: Vec<(&SecretName, &Rc<SecretValue>)> = wanted.iter().zip(&values).collect();
    for (_, text) in headers.iter_mut().take(configured) {
        *text = filled(text, &known)?;
    }
    Ok(values)
}

/// Takes the values that an upstream was sent out of what it answers, where it repeats them as they are, or as JSON writes
/// them. Short ones are left: a text of a few characters stands anywhere by chance.
pub fn mask(answer: &mut Incoming, sent: &[Rc<SecretValue>]) {
    for value in sent.iter().filter(|value| value.text().len() >= MASKED_BYTES_MIN) {
        let written = serde_json::to_string(value.text()).unwrap_or_default();
        let in_json = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        for form in [Some(value.text()), in_json].into_iter().flatten() {
            let text = answer.body.as_deref().and_then(|body| core::str::from_utf8(body).ok());
            if let Some(text) = text.filter(|text| text.contains(form)) {
                answer.body = Some(text.replace(form, MASK).into_bytes());
            }
        }
    }
}

fn filled(text: &str, known: &[(&SecretName, &Rc<SecretValue>)]) -> Result<String, Error> {
    let mut whole = String::with_capacity(text.len());
    let mut last = None;
    for part in parts(text).unwrap_or_default() {
        match part {
            Part::Text(text) => whole.push_str(text),
            Part::Secret(name) => {
                let value = known.iter().find(|(known, _)| **known == name);
                let (_, value) = value.ok_or_else(|| Error::secret_unusable(&name, "is not set"))?;
                if !headers::is_value(value.text()) {
                    return Err(unsendable(&name));
                }
                whole.push_str(value.text());
                last = Some(name);
            }
        }
    }
    match last {
        Some(name) if !headers::is_value(&whole) => Err(unsendable(&name)),
        _ => Ok(whole),
    }
}

fn unsendable(name: &SecretName) -> Error {
    Error::secret_unusable(
        name,
        "cannot stand in a header, which takes at most 4096 printable ASCII characters",
    )
}
