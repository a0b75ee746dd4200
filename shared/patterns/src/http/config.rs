//! The configuration of the pattern `http`: the upstreams, and nothing else can be called.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use serde_json::Value;
use tidegate_engine::composition::{Object, child, describe, note, suggest};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::fault::shorten;
use tidegate_protocol::{Error, Fault};

use super::reliability::Reliability;
use super::{headers, secrets};
use tidegate_engine::outbound::{BaseUrl, OTHER_PROTOCOL};
use tidegate_protocol::SortedMap;

/// How long one call may take where nothing else is said: what a `sync` action may take as a whole. Milliseconds.
pub const TIMEOUT_MS: u64 = 10_000;
/// What `timeout` may be. Milliseconds.
pub const TIMEOUT_MS_RANGE: RangeInclusive<u64> = 1..=15 * 60_000;
/// Upstreams of one instance at most.
pub const UPSTREAMS_MAX: usize = 32;
/// Configured headers of one upstream at most.
pub const HEADERS_MAX: usize = 32;
const UPSTREAM_NAME_CHARS_MAX: usize = 48;

/// The configuration of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// The upstreams, by name.
    pub upstreams: SortedMap<String, Upstream>,
}

/// A host that may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The beginning of every URL.
    pub base: BaseUrl,
    /// How long one call may take. Milliseconds.
    pub timeout_ms: u64,
    /// Headers sent with every call, names in lower case; values as they are written, with references to secrets.
    pub headers: Vec<(String, String)>,
    /// What is done where calls fail.
    pub reliability: Reliability,
}

impl Config {
    /// Reads a configuration that has been checked before.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn parse(text: &JsonText) -> Result<Self, Error> {
        let mut faults = Vec::new();
        let value: Value = serde_json::from_str(text.as_str()).unwrap_or_default();
        let config = Self::read(&value, "", &mut faults);
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(Error::invalid(
                "The configuration of the upstreams is not right.",
                faults,
            ))
        }
    }

    /// Reads a configuration and notes every fault. What is faulty is left out.
    pub fn read(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Self {
        let mut config = Self::default();
        let Some(mut fields) = Object::read(value, pointer, faults) else {
            return config;
        };
        let expected = "1 to 32 upstreams, by name";
        if let Some(value) = fields.require("upstreams", expected) {
            let count = value.as_object().map_or(1, serde_json::Map::len);
            if !(1..=UPSTREAMS_MAX).contains(&count) {
                fields.fault("upstreams", expected, &count.to_string());
            } else if let Some(entries) = Object::read(value, &fields.at("upstreams"), fields.faults) {
                for (name, value, pointer) in entries.entries() {
                    if !is_upstream_name(name) {
                        note(fields.faults, || {
                            Fault::new(
                                pointer.as_str(),
                                "a name of 1 to 48 of A-Z, a-z, 0-9, '_' and '-'",
                                name,
                            )
                        });
                    }
                    let upstream = Upstream::read(value, &pointer, fields.faults);
                    config
                        .upstreams
                        .extend(upstream.map(|upstream| (name.to_string(), upstream)));
                }
                let pointer = fields.at("upstreams");
                check_fallbacks(value, &pointer, fields.faults);
            }
        }
        fields.finish();
        config
    }
}

/// A fallback is another upstream of the same configuration, whether that one is right in itself or not.
fn check_fallbacks(upstreams: &Value, pointer: &str, faults: &mut Vec<Fault>) {
    let Some(upstreams) = upstreams.as_object() else { return };
    for (name, upstream) in upstreams {
        let Some(other) = upstream
            .get("fallback")
            .and_then(|fallback| fallback.get("upstream")?.as_str())
        else {
            continue;
        };
        if other == name || !upstreams.contains_key(other) {
            note(faults, || {
                let pointer = alloc::format!("{}/fallback/upstream", child(pointer, name));
                let fault = Fault::new(pointer, "another upstream of the configuration", &shorten(other));
                let others = upstreams.keys().filter(|known| *known != name);
                suggest(fault, other, others.map(String::as_str))
            });
        }
    }
}

fn is_upstream_name(name: &str) -> bool {
    (1..=UPSTREAM_NAME_CHARS_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

impl Upstream {
    fn read(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        let mut fields = Object::read(value, pointer, faults)?;
        let allow_private = fields.flag("allow_private").unwrap_or(false);
        let timeout_ms = fields.duration("timeout", TIMEOUT_MS_RANGE).unwrap_or(TIMEOUT_MS);
        let headers = match fields.take("headers") {
            Some(value) => read_headers(value, &fields.at("headers"), fields.faults),
            None => Vec::new(),
        };
        let base = fields
            .require("base_url", "the URL that every call begins with")
            .and_then(|value| read_base(value, allow_private, &mut fields));
        let reliability = Reliability::read(&mut fields);
        fields.finish();
        Some(Self {
            base: base?,
            timeout_ms,
            headers,
            reliability,
        })
    }
}

fn read_base(value: &Value, allow_private: bool, fields: &mut Object<'_, '_>) -> Option<BaseUrl> {
    // A URL may hold a password where it should not: then it is not repeated.
    let got = match value {
        Value::String(text) if text.contains('@') => "a URL with a user".to_string(),
        other => describe(other),
    };
    let base = match BaseUrl::parse(value.as_str().unwrap_or_default()) {
        Ok(base) => base,
        Err(expected) => {
            fields.fault("base_url", expected, &got);
            return None;
        }
    };
    if allow_private {
        return Some(base);
    }
    if base.host.is_private() {
        fields.fault("base_url", "a public host, or `allow_private` set to true", &got);
        return None;
    }
    if base.is_for_another_protocol() {
        fields.fault("base_url", OTHER_PROTOCOL, &got);
        return None;
    }
    Some(base)
}

/// Reads the configured headers. Their values are not repeated in faults: they can be secrets.
fn read_headers(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    let count = value.as_object().map_or(0, serde_json::Map::len);
    if count > HEADERS_MAX {
        note(faults, || Fault::new(pointer, "at most 32 headers", &count.to_string()));
        return headers;
    }
    let Some(fields) = Object::read(value, pointer, faults) else {
        return headers;
    };
    for (name, value, pointer) in fields.entries() {
        let known = headers::authors_name(name);
        let value = value.as_str().filter(|value| headers::is_value(value));
        if known.is_none() {
            note(faults, || Fault::new(pointer.as_str(), headers::NAME, name));
        }
        if value.is_none() {
            note(faults, || Fault::new(pointer.as_str(), headers::VALUE, "another value"));
        }
        if value.is_some_and(|value| secrets::names(value).is_none()) {
            note(faults, || {
                Fault::new(pointer.as_str(), secrets::REFERENCE, "another one")
            });
        }
        let (Some(known), Some(value)) = (known, value) else {
            continue;
        };
        if headers.iter().any(|(earlier, _)| *earlier == known) {
            note(faults, || {
                Fault::new(pointer.as_str(), "each header once, in any case", name)
            });
        }
        headers.push((known, value.to_string()));
    }
    headers
}
