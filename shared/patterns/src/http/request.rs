//! From a payload to a request that goes where the configuration says, and nowhere else.
//!
//! The payload of `http.call` is an object of what it wants to say:
//! `{"path"?: ["segment", …], "query"?: {"name": value, …}, "headers"?: {"name": "value", …}, "body"?: any JSON}`.
//! Each part is only taken where the action's settings accept it. Path segments are given one by one and escaped here,
//! so that none of them can be two, or a way up. A `body` of `null` is no body.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Map, Value};
use tidegate_protocol::fields::Fields;
use tidegate_protocol::ids::TraceParent;
use tidegate_protocol::{Error, ErrorCode};

use super::config::Config;
use super::headers;
use super::settings::Settings;
use crate::operation::Outgoing;
use tidegate_engine::outbound::{URL_BYTES_MAX, escape, is_segment};

/// Bytes of an answer that are read at most. An answer is held whole, and an isolate's memory is shared by many.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Segments that a payload may add to the path.
const SEGMENTS_MAX: usize = 16;

/// What stands around a call, beside its payload.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The same for every attempt of one job; sent as `Idempotency-Key`.
    pub effect_key: Option<&'a str>,
    /// The caller's trace; sent as it came.
    pub traceparent: Option<&'a TraceParent>,
    /// How long the run may take. Milliseconds.
    pub timeout_ms: u64,
}

/// The request that `payload` asks for.
///
/// Errors: `VALIDATION_ERROR` with every fault of the payload; `INTERNAL_ERROR` for settings that were never checked.
pub fn prepare(config: &Config, settings: &Settings, payload: &str, around: Around<'_>) -> Result<Outgoing, Error> {
    let upstream = config.upstreams.get(&settings.upstream);
    let upstream = upstream.ok_or_else(|| Error::new(ErrorCode::InternalError, "The upstream is not configured."))?;
    let mut payload = Fields::split(if payload.trim() == "null" { "{}" } else { payload }).map_err(inside_payload)?;
    payload.refuse_others(&["path", "query", "headers", "body"]);

    let mut url = upstream.base.prefix();
    url.push_str(&settings.path);
    push_segments(&mut url, &mut payload, settings.accepts.path);
    push_query(&mut url, &mut payload, &settings.accepts.query);
    if url.len() > URL_BYTES_MAX {
        payload.fault(
            "query",
            format!("a URL of at most {URL_BYTES_MAX} bytes in all"),
            &url.len().to_string(),
        );
    }
    let mut sent = upstream.headers.clone();
    push_headers(&mut sent, &mut payload, &settings.accepts.headers);
    let body = payload.raw("body").map(|raw| raw.get().to_string());
    if body.is_some() && !settings.accepts.body {
        payload.fault("body", "no body: the action accepts none", "one");
    }
    payload.finish("The payload cannot be sent.").map_err(inside_payload)?;

    let mut default = |name: &str, value: String| {
        if !sent.iter().any(|(taken, _)| taken == name) {
            sent.push((name.to_string(), value));
        }
    };
    default("accept", "application/json".into());
    if body.is_some() {
        default("content-type", "application/json".into());
    }
    if let Some(key) = around.effect_key {
        default("idempotency-key", header_key(key));
    }
    if let Some(trace) = around.traceparent {
        default("traceparent", trace.to_string());
    }
    Ok(Outgoing {
        method: settings.method.to_string(),
        url,
        headers: sent,
        body,
        answer_bytes_max: ANSWER_BYTES_MAX,
        timeout_ms: upstream.timeout_ms.min(around.timeout_ms),
    })
}

/// The error with its faults placed where the client wrote them: in the request's `payload`.
fn inside_payload(mut error: Error) -> Error {
    for fault in &mut error.details {
        fault.pointer.insert_str(0, "/payload");
    }
    error
}

fn push_segments(url: &mut String, payload: &mut Fields<'_>, accepted: bool) {
    let expected = "a list of at most 16 path segments";
    let Some(segments) = payload.optional::<Vec<String>>("path", expected) else {
        end_path(url);
        return;
    };
    if !accepted {
        payload.fault("path", "no path: the action accepts none", "one");
    }
    if segments.len() > SEGMENTS_MAX {
        payload.fault("path", expected, &segments.len().to_string());
    }
    for segment in segments.iter().take(SEGMENTS_MAX) {
        if !is_segment(segment) {
            let expected =
                "path segments without '/', '\\', '%' and control characters, none empty, `.` or with `..` in front";
            payload.fault("path", expected, segment);
        }
        if !url.ends_with('/') {
            url.push('/');
        }
        url.push_str(&escape(segment));
    }
    end_path(url);
}

/// A URL has a path, be it `/`. The only slashes so far in a URL without one are those behind the scheme.
fn end_path(url: &mut String) {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    if !authority.contains('/') {
        url.push('/');
    }
}

fn push_query(url: &mut String, payload: &mut Fields<'_>, accepted: &[String]) {
    let expected = "an object of texts, numbers, true, false, and lists of them";
    let Some(query) = payload.optional::<Map<String, Value>>("query", expected) else {
        return;
    };
    let mut mark = '?';
    for (name, value) in &query {
        if !accepted.contains(name) {
            payload.fault("query", named("parameters", accepted), name);
            continue;
        }
        let values = match value {
            Value::Array(values) => values.as_slice(),
            single => core::slice::from_ref(single),
        };
        for value in values {
            let text = match value {
                Value::String(text) => text.clone(),
                scalar @ (Value::Bool(_) | Value::Number(_)) => scalar.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    payload.fault("query", expected, name);
                    continue;
                }
            };
            url.push(mark);
            url.push_str(&format!("{}={}", escape(name), escape(&text)));
            mark = '&';
        }
    }
}

fn push_headers(sent: &mut Vec<(String, String)>, payload: &mut Fields<'_>, accepted: &[String]) {
    let expected = "an object of header values";
    let Some(given) = payload.optional::<Map<String, Value>>("headers", expected) else {
        return;
    };
    for (name, value) in &given {
        let known = headers::payload_name(name).filter(|name| accepted.contains(name));
        let Some(known) = known.filter(|name| !sent.iter().any(|(taken, _)| taken == name)) else {
            payload.fault("headers", named("headers, each once", accepted), name);
            continue;
        };
        match value.as_str().filter(|value| headers::is_value(value)) {
            Some(value) => sent.push((known, value.to_string())),
            None => payload.fault("headers", headers::VALUE, name),
        }
    }
}

fn named(kind: &str, accepted: &[String]) -> String {
    match accepted {
        [] => format!("no {kind}: the action accepts none"),
        names => format!("only the {kind} that the action accepts: {}", names.join(", ")),
    }
}

/// A key as a header's value: what is not printable ASCII is escaped, and so is '%', so that two keys stay two.
pub(crate) fn header_key(key: &str) -> String {
    let mut value = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            value.push(char::from(byte));
        } else {
            value.push_str(&format!("%{byte:02X}"));
        }
    }
    value
}
