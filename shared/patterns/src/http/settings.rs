//! The settings of an action that runs `http.call`: which upstream, what is asked, and what a payload may add.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value;
use tidegate_engine::composition::{Object, child, describe, note, suggest};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::{Error, Fault};

use super::config::Config;
use super::headers;
use tidegate_engine::outbound::check_path;

/// Query parameters that an action accepts at most.
pub const QUERY_NAMES_MAX: usize = 64;
/// Headers that an action accepts at most.
pub const HEADER_NAMES_MAX: usize = 32;
/// Characters of a query parameter's name at most.
pub const QUERY_NAME_CHARS_MAX: usize = 128;

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
const DEFAULT_METHOD: &str = "POST";

/// The settings of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The upstream's name in the configuration.
    pub upstream: String,
    /// The method.
    pub method: &'static str,
    /// What follows the upstream's own path: empty, or with a slash in front.
    pub path: String,
    /// What a payload may say.
    pub accepts: Accepts,
}

/// What the payload of a request may say. Nothing is accepted that is not named, but for a body where the method has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepts {
    /// Whether it may add segments to the path.
    pub path: bool,
    /// The query parameters that it may give.
    pub query: Vec<String>,
    /// The headers that it may give, in lower case.
    pub headers: Vec<String>,
    /// Whether it may give a body.
    pub body: bool,
}

impl Settings {
    /// Reads settings that have been checked before.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn parse(text: &JsonText, config: &Config) -> Result<Self, Error> {
        let mut faults = Vec::new();
        let value: Value = serde_json::from_str(text.as_str()).unwrap_or_default();
        match Self::read(&value, config, "", &mut faults) {
            Some(settings) if faults.is_empty() => Ok(settings),
            _ => Err(Error::invalid("The settings of the call are not right.", faults)),
        }
    }

    /// Reads settings and notes every fault, beside those of the configuration itself.
    pub fn read(value: &Value, config: &Config, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        let mut fields = Object::read(value, pointer, faults)?;
        let upstream = read_upstream(&mut fields, config);
        let method = fields.one_of("method", METHODS).unwrap_or(DEFAULT_METHOD);
        let path = match fields.take("path") {
            Some(value) => {
                let path = value.as_str().ok_or("a path");
                if let Err(expected) = path.and_then(check_path) {
                    fields.fault("path", expected, &describe(value));
                }
                path.unwrap_or_default().to_string()
            }
            None => String::new(),
        };
        let configured = upstream.and_then(|name| config.upstreams.get(name));
        let configured = configured.map_or(&[][..], |upstream| &upstream.headers);
        let accepts = match fields.take("accepts") {
            Some(value) => {
                let pointer = fields.at("accepts");
                Accepts::read(value, method, configured, &pointer, fields.faults)
            }
            None => Accepts::by_default(method),
        };
        fields.finish();
        Some(Self {
            upstream: upstream?.to_string(),
            method,
            path,
            accepts,
        })
    }
}

/// The upstream's name, which the configuration must have. Where the configuration has none that is right, its own faults
/// say enough.
fn read_upstream<'v>(fields: &mut Object<'v, '_>, config: &Config) -> Option<&'v str> {
    let expected = "an upstream of the configuration";
    let value = fields.require("upstream", expected)?;
    let name = value.as_str();
    let known = name.is_some_and(|name| config.upstreams.contains_key(name));
    if name.is_none() || (!known && !config.upstreams.is_empty()) {
        let pointer = fields.at("upstream");
        note(fields.faults, || {
            let fault = Fault::new(pointer, expected, &describe(value));
            suggest(
                fault,
                name.unwrap_or_default(),
                config.upstreams.keys().map(String::as_str),
            )
        });
    }
    name
}

impl Accepts {
    fn by_default(method: &str) -> Self {
        Self {
            path: false,
            query: Vec::new(),
            headers: Vec::new(),
            body: matches!(method, "POST" | "PUT" | "PATCH"),
        }
    }

    fn read(
        value: &Value,
        method: &str,
        configured: &[(String, String)],
        pointer: &str,
        faults: &mut Vec<Fault>,
    ) -> Self {
        let mut accepts = Self::by_default(method);
        let Some(mut fields) = Object::read(value, pointer, faults) else {
            return accepts;
        };
        accepts.path = fields.flag("path").unwrap_or(accepts.path);
        accepts.body = fields.flag("body").unwrap_or(accepts.body);
        if accepts.body && matches!(method, "GET" | "HEAD") {
            fields.fault("body", "no body where the method is GET or HEAD", "true");
        }
        accepts.query = read_names(
            &mut fields,
            "query",
            QUERY_NAMES_MAX,
            "a query parameter's name",
            |name| {
                let length = name.chars().count();
                (1..=QUERY_NAME_CHARS_MAX).contains(&length).then(|| name.to_string())
            },
        );
        accepts.headers = read_names(
            &mut fields,
            "headers",
            HEADER_NAMES_MAX,
            headers::PAYLOAD_NAME,
            |name| {
                let name = headers::payload_name(name)?;
                (!configured.iter().any(|(taken, _)| *taken == name)).then_some(name)
            },
        );
        fields.finish();
        accepts
    }
}

/// A list of names, each once.
fn read_names(
    fields: &mut Object<'_, '_>,
    field: &'static str,
    count_max: usize,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut names = Vec::new();
    let Some(value) = fields.take(field) else {
        return names;
    };
    let Some(items) = value.as_array().filter(|items| items.len() <= count_max) else {
        fields.fault(field, format!("a list of at most {count_max} names"), &describe(value));
        return names;
    };
    let pointer = fields.at(field);
    for (index, item) in items.iter().enumerate() {
        let expected = match item.as_str().and_then(&parse) {
            Some(name) if names.contains(&name) => "each name once",
            Some(name) => {
                names.push(name);
                continue;
            }
            None => expected,
        };
        note(fields.faults, || {
            Fault::new(child(&pointer, &index.to_string()), expected, &describe(item))
        });
    }
    names
}
