//! From a webhook that is signed to the request that it stands for.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};

use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::fields::{Fields, depth};
use tidegate_protocol::ids::WebhookSource;
use tidegate_protocol::limits::JSON_DEPTH_MAX;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::scheme::{ID_CHARS_MAX, Place, Signed};
use super::{PATTERN_BYTES_MAX, Webhook};
use crate::digest::short;
use tidegate_protocol::SortedMap;

/// Levels of JSON that stand around a body in the request that is made of it.
const AROUND: usize = 2;

/// What came, once its signature was found right.
#[derive(Clone, Copy)]
pub struct Came<'a> {
    /// From where.
    pub source: &'a WebhookSource,
    /// The tag of the address, which no user of the tenant knows: so no user can name the event's key before it comes.
    pub tag: &'a str,
    /// What is signed beside the body.
    pub signed: &'a Signed,
    /// The body.
    pub body: &'a [u8],
    /// When.
    pub now: UnixMs,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is a request.
    Request {
        /// The idempotency key: the same for the same event.
        key: String,
        /// The body of the request.
        body: String,
    },
    /// The source wants this answer: what it asks for, in JSON.
    Challenge(JsonText),
    /// Nothing: its type is none that is asked for.
    Ignored,
}

/// Decides what becomes of a webhook. `header` gives the value of a header, by its name in lower case.
///
/// Errors: `VALIDATION_ERROR` for a body that is no UTF-8, or nests too deep.
pub fn take(webhook: &Webhook, came: Came<'_>, header: impl Fn(&str) -> Option<String>) -> Result<Taken, Error> {
    let scheme = &webhook.scheme;
    let text = core::str::from_utf8(came.body).map_err(|_| {
        let message = "The body is not UTF-8.";
        Error::new(ErrorCode::ValidationError, message)
    })?;
    let json: Option<&RawValue> = serde_json::from_str(text).ok();
    let deep = depth(came.body) + AROUND;
    if json.is_some() && deep > JSON_DEPTH_MAX {
        let expected = format!("JSON nested at most {} deep", JSON_DEPTH_MAX - AROUND);
        let fault = Fault::new("", expected, &format!("{} levels", deep - AROUND));
        return Err(Error::invalid("The body nests too deep.", alloc::vec![fault]));
    }
    let read = |place: &Place| match place {
        Place::Header(name) => header(name).map(|value| value.trim().to_string()),
        Place::Field(names) => json.and_then(|json| field(json, names)),
        Place::Item(_) => None,
    };
    let kind = scheme.kinds.iter().find_map(read);
    let kind = kind.filter(|kind| (1..=PATTERN_BYTES_MAX).contains(&kind.len()) && !kind.chars().any(char::is_control));
    if scheme.challenges && kind.as_deref() == Some("url_verification") {
        let challenge = json.and_then(|json| field(json, &[Cow::Borrowed("challenge")]));
        let challenge = challenge.unwrap_or_default();
        return JsonText::of(&Challenge { challenge })
            .map(Taken::Challenge)
            .ok_or_else(unwritten);
    }
    let is_ping = webhook.events.is_empty() && kind.as_deref().is_some_and(|kind| scheme.pings.contains(&kind));
    if is_ping || !webhook.wants(kind.as_deref()) {
        return Ok(Taken::Ignored);
    }
    let id = match &came.signed.id {
        Some(id) => Some(id.clone()),
        None => scheme
            .id
            .as_ref()
            .and_then(read)
            .filter(|id| (1..=ID_CHARS_MAX).contains(&id.chars().count())),
    };
    let own;
    let body = match json {
        Some(json) => json,
        None => {
            own = JsonText::of(text).ok_or_else(unwritten)?;
            serde_json::from_str(own.as_str()).map_err(|_| unwritten())?
        }
    };
    let request = Request {
        action: webhook.action.as_str(),
        mode: "async",
        payload: Payload {
            source: came.source.as_str(),
            id: id.as_deref(),
            kind: kind.as_deref(),
            received_at: came.now,
            headers: webhook
                .headers
                .iter()
                .filter_map(|name| Some((name.as_str(), header(name)?)))
                .collect(),
            body,
        },
    };
    Ok(Taken::Request {
        key: key(came, id.as_deref()),
        body: serde_json::to_string(&request).map_err(|_| unwritten())?,
    })
}

/// The idempotency key of an event: by its id where that is signed, else by its body. A hash with the tag in it, because a key is
/// a name that every user of the tenant could give to a request of their own.
fn key(came: Came<'_>, id: Option<&str>) -> String {
    let hash = Sha256::new()
        .chain_update(came.tag)
        .chain_update([0, u8::from(id.is_some())]);
    let hash = match id {
        Some(id) => hash.chain_update(id),
        None => hash.chain_update(came.body),
    };
    format!("webhook:{}:{}", came.source, short(hash))
}

/// The request.
#[derive(Serialize)]
struct Request<'a> {
    action: &'a str,
    mode: &'static str,
    payload: Payload<'a>,
}

/// The input of the job.
#[derive(Serialize)]
struct Payload<'a> {
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    received_at: UnixMs,
    headers: SortedMap<&'a str, String>,
    body: &'a RawValue,
}

/// The answer to Slack's question.
#[derive(Serialize)]
struct Challenge {
    challenge: String,
}

fn unwritten() -> Error {
    Error::new(
        ErrorCode::InternalError,
        "The request of a webhook could not be written.",
    )
}

/// The text or the number in a field of a field of `json`.
fn field(json: &RawValue, names: &[super::Text]) -> Option<String> {
    let mut json = json;
    for name in names {
        json = Fields::split(json.get()).ok()?.raw(name)?;
    }
    match serde_json::from_str::<String>(json.get()) {
        Ok(text) => Some(text),
        Err(_) => Some(json.get().to_string()).filter(|number| {
            number
                .bytes()
                .next()
                .is_some_and(|byte| byte == b'-' || byte.is_ascii_digit())
        }),
    }
}
