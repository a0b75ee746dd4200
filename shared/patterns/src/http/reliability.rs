//! What an upstream's configuration says of calls that fail: `retry`, `breaker`, `bulkhead`, `fallback`, `hedge`.
//!
//! All of them are off where nothing is said: one call is one call. A preset is a starting point, whose fields can be
//! given one by one.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use serde_json::Value;
use tidegate_engine::composition::{Object, PATH, Path, describe, note, suggest};
use tidegate_engine::upstreams::Retry;
use tidegate_protocol::Fault;
use tidegate_protocol::calls::upstreams::{BreakerRule, Numbers};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::time::{format_duration, parse_duration};

/// What `bulkhead.calls` may be.
const BULKHEAD_RANGE: RangeInclusive<u64> = 1..=1000;
/// What `hedge.after` may be: as a call's timeout. Milliseconds.
const AFTER_MS_RANGE: RangeInclusive<u64> = super::config::TIMEOUT_MS_RANGE;
/// Entries of `retry.on` at most.
const ON_MAX: usize = 32;

/// What a field is: a whole number, or a duration in milliseconds.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Duration,
}
use Kind::{Duration, Number};

/// The fields of a section that are numbers: name, kind, and what they may be. A table, so that the code that reads one
/// reads all.
type Table<const N: usize> = [(&'static str, Kind, u64, u64); N];

/// Of `retry`. Beyond ten calls, waiting is the better part of an attempt, which is waited for: what takes longer is for
/// the retries of the job.
const RETRY: Table<4> = [
    ("attempts", Number, 1, 10),
    ("budget_percent", Number, 1, 100),
    ("initial", Duration, 1, 5 * 60_000),
    ("cap", Duration, 1, 5 * 60_000),
];
/// Where `retry` begins: with `standard`, and with `payments`.
const RETRY_PRESETS: [[u64; 4]; 2] = [[3, 20, 200, 5_000], [4, 10, 1_000, 4_000]];

/// Of `breaker`, in the order of a rule's numbers, and `slow_after`. 0 switches a criterion off. Each call of a window is a
/// byte of the breakers' row; in a shorter time nothing is seen, in a longer one everything is late.
const BREAKER: Table<10> = [
    ("consecutive_failures", Number, 0, 1000),
    ("failure_percent", Number, 0, 100),
    ("slow_percent", Number, 0, 100),
    ("window_calls", Number, 1, 1000),
    ("window", Duration, 1000, 3_600_000),
    ("minimum_calls", Number, 1, 100_000),
    ("open", Duration, 100, 24 * 3_600_000),
    ("probes", Number, 1, 100),
    ("successes", Number, 1, 100),
    ("slow_after", Duration, *AFTER_MS_RANGE.start(), *AFTER_MS_RANGE.end()),
];
/// Where `breaker` begins: with `standard`, and with `payments`.
const BREAKER_PRESETS: [[u64; 10]; 2] = [
    [5, 50, 0, 0, 30_000, 20, 30_000, 1, 2, 5_000],
    [3, 25, 50, 0, 60_000, 10, 60_000, 1, 3, 5_000],
];

/// The names of presets. Each of `retry` and `breaker` has its own of each name.
const PRESETS: &[&str] = &["off", "standard", "payments"];
/// The presets that a section can begin with.
const BASES: &[&str] = &["standard", "payments"];
/// What is tried again where `retry.on` says nothing: what may pass.
const ON: [&str; 6] = ["408", "425", "429", "5xx", "timeout", "unreachable"];
const ON_EXPECTED: &str =
    "a list of 1 to 32 of statuses from \"400\" to \"599\", \"4xx\", \"5xx\", \"timeout\" and \"unreachable\"";

/// What an upstream's configuration says of calls that fail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reliability {
    /// Whether the upstream honours `Idempotency-Key`, so that whatever carries one may be made twice.
    pub idempotent: bool,
    /// How calls are made again.
    pub retry: Option<Retry>,
    /// The breaker.
    pub breaker: Option<Breaker>,
    /// Calls under way at once in one isolate, at most.
    pub bulkhead: Option<u32>,
    /// What is answered where the upstream fails.
    pub fallback: Option<Fallback>,
    /// After so many milliseconds without an answer, a second call is made beside the first.
    pub hedge_ms: Option<u64>,
}

/// The breaker of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// When it opens and closes.
    pub rule: BreakerRule,
    /// From when on a call is slow. Milliseconds.
    pub slow_ms: u64,
    /// Where the value stands for each of which there is a breaker.
    pub key: Option<Path>,
}

/// What is answered where an upstream fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// This, as the body.
    Body(JsonText),
    /// What another upstream answers.
    Upstream(String),
}

impl Reliability {
    /// Reads the sections of an upstream and notes every fault.
    pub fn read(fields: &mut Object<'_, '_>) -> Self {
        let idempotent = fields.flag("idempotent").unwrap_or(false);
        let retry = read_retry(fields);
        let breaker = read_breaker(fields);
        let calls = ("calls", Number, BULKHEAD_RANGE);
        let bulkhead = read_one(fields, "bulkhead", calls, "calls under way at once").map(small);
        let after = ("after", Duration, AFTER_MS_RANGE);
        let hedge_ms = read_one(fields, "hedge", after, "how long the first call is waited for");
        let fallback = read_fallback(fields);
        Self {
            idempotent,
            retry,
            breaker,
            bulkhead,
            fallback,
            hedge_ms,
        }
    }
}

/// The section `name`, which is an object. To be finished.
fn inside<'v, 'o>(fields: &'o mut Object<'v, '_>, name: &'static str) -> Option<Object<'v, 'o>> {
    let value = fields.take(name)?;
    Object::read(value, &fields.at(name), fields.faults)
}

/// The section `name`, which is a preset's name or an object that may name one: the preset, and the object. `None` where it
/// is off.
fn section<'v, 'o>(
    fields: &'o mut Object<'v, '_>,
    name: &'static str,
) -> Option<(&'static str, Option<Object<'v, 'o>>)> {
    let value = fields.take(name)?;
    if value.is_object() {
        let mut inner = inside(fields, name)?;
        let preset = inner.one_of("preset", BASES).unwrap_or("standard");
        return Some((preset, Some(inner)));
    }
    let preset = PRESETS.iter().copied().find(|known| value.as_str() == Some(known));
    if preset.is_none() {
        let pointer = fields.at(name);
        note(fields.faults, || {
            let fault = Fault::new(pointer, "`off`, `standard`, `payments` or an object", &describe(value));
            suggest(fault, value.as_str().unwrap_or_default(), PRESETS.iter().copied())
        });
    }
    preset.filter(|preset| *preset != "off").map(|preset| (preset, None))
}

fn begin<const N: usize>([standard, payments]: [[u64; N]; 2], preset: &str) -> [u64; N] {
    if preset == "payments" { payments } else { standard }
}

/// Reads the fields of a table over what stands in `values`.
fn read_numbers(fields: &mut Object<'_, '_>, table: &[(&'static str, Kind, u64, u64)], values: &mut [u64]) {
    for ((name, kind, from, to), value) in table.iter().zip(values) {
        let read = match kind {
            Number => fields.number(name, *from..=*to),
            Duration => fields.duration(name, *from..=*to),
        };
        *value = read.unwrap_or(*value);
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn read_retry(fields: &mut Object<'_, '_>) -> Option<Retry> {
    let (preset, section) = section(fields, "retry")?;
    let mut values = begin(RETRY_PRESETS, preset);
    let mut on = None;
    let mut full_jitter = true;
    if let Some(mut fields) = section {
        read_numbers(&mut fields, &RETRY, &mut values);
        let [.., initial_ms, cap_ms] = &mut values;
        if *cap_ms < *initial_ms {
            let given = fields.take("cap").and_then(Value::as_str).and_then(parse_duration);
            if given == Some(*cap_ms) {
                let expected = alloc::format!("a cap not below `initial`, {}", format_duration(*initial_ms));
                fields.fault("cap", expected, &format_duration(*cap_ms));
            }
            // A first wait above the preset's cap raises the cap with it.
            *cap_ms = *initial_ms;
        }
        full_jitter = fields.one_of("jitter", &["full", "none"]) != Some("none");
        if let Some(value) = fields.take("on") {
            on = read_on(value);
            if on.is_none() {
                fields.fault("on", ON_EXPECTED, &describe(value));
            }
        }
        fields.finish();
    }
    let [calls, budget_percent, initial_ms, cap_ms] = values;
    Some(Retry {
        calls: small(calls),
        initial_ms,
        cap_ms,
        full_jitter,
        budget_percent: small(budget_percent),
        on: on.unwrap_or_else(|| ON.map(String::from).into()),
    })
}

fn read_on(value: &Value) -> Option<Vec<String>> {
    let items = value.as_array().filter(|items| (1..=ON_MAX).contains(&items.len()))?;
    let mut on = Vec::with_capacity(items.len());
    for item in items {
        let text = item.as_str()?;
        let status = text.len() == 3 && text.parse().is_ok_and(|status: u16| (400..600).contains(&status));
        if !status && !matches!(text, "4xx" | "5xx" | "timeout" | "unreachable") {
            return None;
        }
        on.push(text.to_owned());
    }
    Some(on)
}

fn read_breaker(fields: &mut Object<'_, '_>) -> Option<Breaker> {
    let (preset, section) = section(fields, "breaker")?;
    let mut values = begin(BREAKER_PRESETS, preset);
    let mut key = None;
    if let Some(mut fields) = section {
        read_numbers(&mut fields, &BREAKER, &mut values);
        if fields.has("window") && fields.has("window_calls") {
            fields.fault("window", "either `window` or `window_calls`", "both");
        }
        let [_, _, _, window_calls, _, minimum_calls, ..] = &mut values;
        if *window_calls > 0 && *minimum_calls > *window_calls {
            let given = fields.take("minimum_calls").and_then(Value::as_u64);
            if given == Some(*minimum_calls) {
                let got = alloc::format!("{minimum_calls}");
                fields.fault("minimum_calls", "no more calls than the window holds", &got);
            }
            *minimum_calls = *window_calls;
        }
        key = fields.text("key", PATH, Path::parse);
        fields.finish();
    }
    let [.., slow_ms] = values;
    Some(Breaker {
        rule: BreakerRule::read(&mut Numbers::new(values.into())),
        slow_ms,
        key,
    })
}

/// A section that is one number of this name.
fn read_one(
    fields: &mut Object<'_, '_>,
    section: &'static str,
    (name, kind, range): (&'static str, Kind, RangeInclusive<u64>),
    expected: &'static str,
) -> Option<u64> {
    let mut inner = inside(fields, section)?;
    let mut read = None;
    if inner.require(name, expected).is_some() {
        read = match kind {
            Number => inner.number(name, range),
            Duration => inner.duration(name, range),
        };
    }
    inner.finish();
    read
}

fn read_fallback(fields: &mut Object<'_, '_>) -> Option<Fallback> {
    let mut fields = inside(fields, "fallback")?;
    let fallback = match fields.either("body", "upstream") {
        Some("body") => fields.take("body").and_then(JsonText::of).map(Fallback::Body),
        Some(_) => fields
            .text("upstream", "the name of another upstream", Some)
            .map(|name| Fallback::Upstream(name.to_owned())),
        None => None,
    };
    fields.finish();
    fallback
}
