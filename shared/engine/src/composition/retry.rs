//! How often an action is tried and how long it waits between attempts: its field `retry`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value;
use tidegate_protocol::Fault;
use tidegate_protocol::calls::executor::{Backoff, Factor, Jitter};
use tidegate_protocol::time::format_duration;

use super::defaults::{
    ATTEMPTS, ATTEMPTS_RANGE, BACKOFF_CAP_MS, BACKOFF_INITIAL_MS, BACKOFF_MS_RANGE, BACKOFF_POWER, FACTOR_RANGE,
    JITTER_PERCENT_RANGE, POWER_RANGE, WAITS_MAX,
};
use super::object::{Object, child, describe, note, read_duration};

/// What `retry` says.
pub(super) struct Retry {
    pub attempts_max: u32,
    pub backoff: Backoff,
    pub jitter: Jitter,
}

/// The kinds of backoff, each with the fields of its own.
const KINDS: &[(&str, &[&str])] = &[
    ("exponential", &["initial", "factor", "cap"]),
    ("constant", &["initial"]),
    ("linear", &["initial", "increment", "cap"]),
    ("polynomial", &["unit", "power", "cap"]),
    ("table", &["waits"]),
];
const KIND_NAMES: &[&str] = &["exponential", "constant", "linear", "polynomial", "table"];
const _: () = assert!(KINDS.len() == KIND_NAMES.len());

impl Default for Retry {
    fn default() -> Self {
        let backoff = Backoff::Exponential {
            initial_ms: BACKOFF_INITIAL_MS,
            factor: Factor::default(),
            cap_ms: BACKOFF_CAP_MS,
        };
        Self {
            attempts_max: ATTEMPTS,
            jitter: backoff.own_jitter(),
            backoff,
        }
    }
}

/// Reads `retry`. What is wrong has been noted, and stands at its default.
pub(super) fn read_retry(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Retry {
    let Some(mut fields) = Object::read(value, pointer, faults) else {
        return Retry::default();
    };
    let attempts = fields.number("attempts", ATTEMPTS_RANGE);
    let attempts_max = attempts
        .and_then(|attempts| u32::try_from(attempts).ok())
        .unwrap_or(ATTEMPTS);
    let backoff = read_backoff(&mut fields);
    let jitter = read_jitter(&mut fields).unwrap_or(backoff.own_jitter());
    fields.finish();
    Retry {
        attempts_max,
        backoff,
        jitter,
    }
}

/// The fields of a backoff, of whatever kind it is.
struct Waits<'v, 'o, 'f> {
    fields: &'o mut Object<'v, 'f>,
    /// `None` where it is not known: then a field is wrong for its value alone.
    kind: Option<&'static str>,
}

impl<'v> Waits<'v, '_, '_> {
    /// Whether the field `name` is there and may be read. One that belongs to other kinds is a fault.
    fn has(&mut self, name: &'static str) -> bool {
        if self.fields.take(name).is_none() {
            return false;
        }
        let Some(kind) = self.kind else { return true };
        let owners: Vec<String> = KINDS
            .iter()
            .filter(|(_, fields)| fields.contains(&name))
            .map(|(owner, _)| format!("`{owner}`"))
            .collect();
        if owners.iter().any(|owner| owner.trim_matches('`') == kind) {
            return true;
        }
        let expected = format!("`{name}` only where the backoff is {}", owners.join(" or "));
        self.fields.fault(name, expected, &format!("`{kind}`"));
        false
    }

    fn duration(&mut self, name: &'static str) -> Option<u64> {
        self.has(name)
            .then(|| self.fields.duration(name, BACKOFF_MS_RANGE))
            .flatten()
    }

    fn factor(&mut self) -> Option<Factor> {
        if !self.has("factor") {
            return None;
        }
        let value: &'v Value = self.fields.take("factor")?;
        let factor = parse_factor(value);
        if factor.is_none() {
            let expected = "a number from 1 to 100 with at most six decimals";
            self.fields.fault("factor", expected, &describe(value));
        }
        factor
    }

    fn power(&mut self) -> Option<u32> {
        let power = self.has("power").then(|| self.fields.number("power", POWER_RANGE))??;
        u32::try_from(power).ok()
    }

    fn table(&mut self) -> Vec<u64> {
        let expected = format!("a list of 1 to {WAITS_MAX} durations");
        if !self.has("waits") {
            if self.kind == Some("table") {
                self.fields.fault("waits", expected, "nothing");
            }
            return Vec::new();
        }
        let Some(value) = self.fields.take("waits") else {
            return Vec::new();
        };
        let Some(items) = value.as_array().filter(|items| (1..=WAITS_MAX).contains(&items.len())) else {
            self.fields.fault("waits", expected, &describe(value));
            return Vec::new();
        };
        let pointer = self.fields.at("waits");
        let mut waits = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match read_duration(item, &BACKOFF_MS_RANGE) {
                Ok(ms) => waits.push(ms),
                Err(expected) => {
                    let pointer = child(&pointer, &index.to_string());
                    note(self.fields.faults, || Fault::new(pointer, expected, &describe(item)));
                }
            }
        }
        waits
    }
}

fn read_backoff(fields: &mut Object<'_, '_>) -> Backoff {
    let given = fields.one_of("backoff", KIND_NAMES);
    let kind = if given.is_none() && fields.take("backoff").is_some() {
        None
    } else {
        Some(given.unwrap_or("exponential"))
    };
    let mut waits = Waits { fields, kind };
    let (initial, unit) = (waits.duration("initial"), waits.duration("unit"));
    let increment = waits.duration("increment");
    let factor = waits.factor();
    let power = waits.power();
    let cap = waits.duration("cap");
    let waits_ms = waits.table();
    let (first_name, first) = if kind == Some("polynomial") {
        ("unit", unit)
    } else {
        ("initial", initial)
    };
    let first = first.unwrap_or(BACKOFF_INITIAL_MS);
    if let Some(cap_ms) = cap.filter(|cap_ms| kind.is_some() && *cap_ms < first) {
        let expected = format!("a cap not below `{first_name}`, {}", format_duration(first));
        waits.fields.fault("cap", expected, &format_duration(cap_ms));
    }
    // A first wait above the default cap raises the cap with it.
    let cap_ms = cap.unwrap_or(BACKOFF_CAP_MS.max(first));
    match kind {
        Some("constant") => Backoff::Constant { ms: first },
        Some("linear") => Backoff::Linear {
            initial_ms: first,
            increment_ms: increment.unwrap_or(first),
            cap_ms,
        },
        Some("polynomial") => Backoff::Polynomial {
            unit_ms: first,
            power: power.unwrap_or(BACKOFF_POWER),
            cap_ms,
        },
        Some("table") => Backoff::Table { waits_ms },
        _ => Backoff::Exponential {
            initial_ms: first,
            factor: factor.unwrap_or_default(),
            cap_ms,
        },
    }
}

/// `percent` belongs to `plus_minus`, which cannot be without it.
fn read_jitter(fields: &mut Object<'_, '_>) -> Option<Jitter> {
    let name = fields.one_of("jitter", &["none", "full", "equal", "plus_minus"]);
    let unknown = name.is_none() && fields.take("jitter").is_some();
    let has_percent = fields.take("percent").is_some();
    if has_percent && !unknown && name != Some("plus_minus") {
        let expected = "`percent` only where the jitter is `plus_minus`";
        fields.fault("percent", expected, name.unwrap_or("no jitter"));
        return None;
    }
    if name == Some("plus_minus") {
        fields.require("percent", "percent of a wait, from 1 to 100");
    }
    let percent = fields.number("percent", JITTER_PERCENT_RANGE);
    match name? {
        "none" => Some(Jitter::None),
        "full" => Some(Jitter::Full),
        "equal" => Some(Jitter::Equal),
        _ => Some(Jitter::PlusMinus {
            percent: percent.and_then(|percent| u8::try_from(percent).ok())?,
        }),
    }
}

/// Reads the digits themselves: a decimal number is not what a double makes of it.
fn parse_factor(value: &Value) -> Option<Factor> {
    let text = value.as_number()?.to_string();
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    if decimals.len() > 6 {
        return None;
    }
    let millionths = format!("{whole}{decimals:0<6}").parse().ok()?;
    FACTOR_RANGE.contains(&millionths).then_some(Factor(millionths))
}
