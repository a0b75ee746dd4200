//! What is written of requests: `TIDEGATE_REQUEST_LOG`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;
use tidegate_protocol::calls::queueing::ActionPattern;
use tidegate_protocol::ids::{ActionName, TenantId, fnv1a};
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::record::Record;
use crate::composition::{Object, child, describe, note, suggest};
use crate::redaction::{Emails, KEYS_MAX, Redactor};

/// Rules of a configuration. Each is looked at for each request.
pub const RULES_MAX: usize = 64;
/// The longest time that a rule can mean. Milliseconds.
const SLOW_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// What holds where nothing is configured: all that failed or took long, a hundredth of what a limit refused, which comes in
/// floods, and of everything else.
pub const DEFAULT: &str = r#"{"rules":[
    {"name":"limited","status":429,"rate":0.01},
    {"name":"failed","status":["4xx","5xx"],"rate":1},
    {"name":"slow","slower_than":"5s","rate":1},
    {"name":"rest","rate":0.01}
]}"#;

/// What a status is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    /// This one.
    One(u16),
    /// All of a hundred, such as `4xx`.
    Class(u16),
}

/// Which requests are written. Of what it says nothing about, all are meant.
#[derive(Debug, Clone)]
struct Rule {
    /// What lines say that it had them written.
    name: String,
    status: Vec<Status>,
    codes: Vec<ErrorCode>,
    action: Option<ActionPattern>,
    tenant: Option<TenantId>,
    route: Option<String>,
    slower_than_ms: Option<u64>,
    /// Which part of those that it means is written, 0 to 1.
    rate: f64,
}

/// What is written of requests.
#[derive(Debug, Clone)]
pub struct Config {
    rules: Vec<Rule>,
    /// Whether the payload of a request is written, without its secrets.
    pub shows_payload: bool,
    /// Whether the network of the caller is written.
    pub shows_network: bool,
    /// What is taken out.
    pub redactor: Redactor,
}

impl Default for Config {
    /// [`DEFAULT`].
    fn default() -> Self {
        Self::parse(DEFAULT).unwrap_or_else(|_| Self::off())
    }
}

impl Config {
    /// Nothing is written.
    fn off() -> Self {
        Self {
            rules: alloc::vec![Rule::any(0.0)],
            shows_payload: false,
            shows_network: false,
            redactor: Redactor::default(),
        }
    }

    /// Reads a configuration: `off`, `all`, or a JSON object.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = match text.trim() {
            "off" => return Ok(Self::off()),
            "all" => r#"{"rules":[{"name":"all","rate":1}]}"#,
            text => text,
        };
        let refusal = |faults| Error::invalid("TIDEGATE_REQUEST_LOG is not right.", faults);
        let Ok(value) = serde_json::from_str::<Value>(text) else {
            let fault = Fault::new("", "`off`, `all` or a JSON object", text);
            return Err(refusal(alloc::vec![fault]));
        };
        let mut faults = Vec::new();
        match read(&value, &mut faults) {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(refusal(faults)),
        }
    }

    /// Whether no request can be written, so that none has to be looked at.
    pub fn is_off(&self) -> bool {
        self.rules.first().is_some_and(|rule| rule.rate <= 0.0 && rule.is_any())
    }

    /// The rule by which `record` is written; `None` where it is not. What no rule means is written.
    pub fn sample(&self, record: &Record<'_>) -> Option<(&str, f64)> {
        let (name, rate) = self.rule(record);
        // The upper half of the hash, which every byte has gone into.
        let hash = u32::try_from(fnv1a(&[record.request_id.as_str().as_bytes()]) >> 32).unwrap_or(u32::MAX);
        (f64::from(hash) < rate * 4_294_967_296.0).then_some((name, rate))
    }

    /// The rule that decides about `record`, and which part of such requests it has written.
    pub(super) fn rule(&self, record: &Record<'_>) -> (&str, f64) {
        let rule = self.rules.iter().find(|rule| rule.means(record));
        rule.map_or(("unnamed", 1.0), |rule| (rule.name.as_str(), rule.rate))
    }
}

impl Rule {
    fn any(rate: f64) -> Self {
        Self {
            name: String::new(),
            status: Vec::new(),
            codes: Vec::new(),
            action: None,
            tenant: None,
            route: None,
            slower_than_ms: None,
            rate,
        }
    }

    fn is_any(&self) -> bool {
        let Self {
            name: _,
            rate: _,
            status,
            codes,
            action,
            tenant,
            route,
            slower_than_ms,
        } = self;
        status.is_empty()
            && codes.is_empty()
            && action.is_none()
            && tenant.is_none()
            && route.is_none()
            && slower_than_ms.is_none()
    }

    fn means(&self, record: &Record<'_>) -> bool {
        let is_status = |status: &Status| match *status {
            Status::One(status) => status == record.status,
            Status::Class(class) => class == record.status / 100,
        };
        let action = || record.action.and_then(ActionName::parse);
        (self.status.is_empty() || self.status.iter().any(is_status))
            && (self.codes.is_empty() || self.codes.iter().any(|code| Some(code.as_str()) == record.code))
            && self.tenant.as_ref().is_none_or(|tenant| Some(tenant) == record.tenant)
            && self.slower_than_ms.is_none_or(|ms| record.duration_ms > ms)
            && self.route.as_ref().is_none_or(|route| match route.strip_suffix('*') {
                Some(begin) => record.route.starts_with(begin),
                None => record.route == route,
            })
            && self
                .action
                .as_ref()
                .is_none_or(|pattern| action().is_some_and(|name| pattern.matches(&name)))
    }
}

fn read(value: &Value, faults: &mut Vec<Fault>) -> Option<Config> {
    let mut fields = Object::read(value, "", faults)?;
    let mut rules = Vec::new();
    if let Some(list) = fields.require("rules", "a list of rules") {
        let pointer = fields.at("rules");
        match list.as_array().filter(|list| list.len() <= RULES_MAX) {
            Some(list) => {
                for (place, value) in list.iter().enumerate() {
                    rules.extend(read_rule(
                        value,
                        place,
                        &child(&pointer, &format!("{place}")),
                        fields.faults,
                    ));
                }
            }
            None => fields.fault("rules", format!("a list of at most {RULES_MAX} rules"), &describe(list)),
        }
    }
    let payload = fields.one_of("payload", &["none", "redacted"]);
    let network = fields.flag("network");
    let redactor = match fields.take("redact") {
        Some(value) => read_redactor(value, &fields.at("redact"), fields.faults)?,
        None => Redactor::default(),
    };
    fields.finish();
    Some(Config {
        rules,
        shows_payload: payload == Some("redacted"),
        shows_network: network == Some(true),
        redactor,
    })
}

fn read_redactor(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Redactor> {
    let mut fields = Object::read(value, pointer, faults)?;
    let emails = match fields.flag("emails") {
        Some(true) => Emails::Redacted,
        _ => Emails::Shown,
    };
    let keys = match fields.take("keys") {
        Some(value) => texts(value).filter(|keys| keys.len() <= KEYS_MAX).unwrap_or_else(|| {
            fields.fault("keys", format!("a list of at most {KEYS_MAX} names"), &describe(value));
            Vec::new()
        }),
        None => Vec::new(),
    };
    fields.finish();
    Some(Redactor::new(keys, emails))
}

fn texts(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}

fn read_rule(value: &Value, place: usize, pointer: &str, faults: &mut Vec<Fault>) -> Option<Rule> {
    let mut fields = Object::read(value, pointer, faults)?;
    let is_name = |name: &&str| !name.is_empty() && name.len() <= 64;
    let name = fields.text("name", "1 to 64 bytes of text", |name| Some(name).filter(is_name));
    let mut rule = Rule {
        name: name.map_or_else(|| format!("rules/{place}"), String::from),
        ..Rule::any(1.0)
    };
    each(&mut fields, "status", &mut rule.status, &[], |value| match value {
        Value::Number(number) => {
            let status = number.as_u64().and_then(|status| u16::try_from(status).ok());
            status.filter(|status| (100..600).contains(status)).map(Status::One)
        }
        Value::String(class) => {
            let digit = class.strip_suffix("xx").filter(|class| class.len() == 1)?;
            let class = digit.parse().ok().filter(|class| (1..6).contains(class));
            class.map(Status::Class)
        }
        _ => None,
    });
    let names: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    each(&mut fields, "code", &mut rule.codes, &names, |value| {
        ErrorCode::ALL
            .iter()
            .copied()
            .find(|code| value.as_str() == Some(code.as_str()))
    });
    rule.action = fields.text("action", ActionPattern::EXPECTED, ActionPattern::parse);
    rule.tenant = fields.text("tenant", "the id of a tenant", TenantId::parse);
    rule.route = fields.text(
        "route",
        "the template of a path, such as /v1/jobs/{id}, perhaps with `*` at its end",
        |route| route.starts_with('/').then(|| route.into()),
    );
    rule.slower_than_ms = fields.duration("slower_than", 0..=SLOW_MS_MAX);
    let rate = fields.require("rate", "a number from 0 to 1");
    if let Some(value) = rate {
        match value.as_f64().filter(|rate| (0.0..=1.0).contains(rate)) {
            Some(rate) => rule.rate = rate,
            None => fields.fault("rate", "a number from 0 to 1", &describe(value)),
        }
    }
    fields.finish();
    Some(rule)
}

/// The field `name`: one thing, or a list of them.
fn each<T>(
    fields: &mut Object<'_, '_>,
    name: &'static str,
    into: &mut Vec<T>,
    known: &[&str],
    parse: impl Fn(&Value) -> Option<T>,
) {
    let Some(value) = fields.take(name) else { return };
    let items = match value {
        Value::Array(items) if !items.is_empty() => items.as_slice(),
        one => core::slice::from_ref(one),
    };
    for item in items {
        match parse(item) {
            Some(item) => into.push(item),
            None => {
                let pointer = fields.at(name);
                let expected = match known {
                    [] => "a status such as 404, a class of them such as \"5xx\", or a list of both",
                    _ => "the code of an error, or a list of them",
                };
                let got = describe(item);
                note(fields.faults, || {
                    let fault = Fault::new(pointer, expected, &got);
                    suggest(fault, item.as_str().unwrap_or_default(), known.iter().copied())
                });
            }
        }
    }
}
