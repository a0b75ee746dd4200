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
use tidegate_protocol::calls::upstreams::BreakerRule;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::time::format_duration;

/// What `retry` of an upstream may be: beyond ten calls, waiting is the better part of an attempt.
const ATTEMPTS_RANGE: RangeInclusive<u64> = 1..=10;
/// What its waits may be: an attempt is waited for. What takes longer is for the retries of the job. Milliseconds.
const WAIT_MS_RANGE: RangeInclusive<u64> = 1..=5 * 60_000;
/// What a percentage may be that can be switched off.
const PERCENT_RANGE: RangeInclusive<u64> = 0..=100;
/// What `retry.budget_percent` may be.
const BUDGET_RANGE: RangeInclusive<u64> = 1..=100;
/// What `breaker.consecutive_failures` may be.
const CONSECUTIVE_RANGE: RangeInclusive<u64> = 0..=1000;
/// What `breaker.window_calls` may be: each call is a byte of the breaker's row.
const WINDOW_CALLS_RANGE: RangeInclusive<u64> = 1..=1000;
/// What `breaker.window` may be: in a shorter one nothing is seen, in a longer one everything is late. Milliseconds.
const WINDOW_MS_RANGE: RangeInclusive<u64> = 1000..=3_600_000;
/// What `breaker.minimum_calls` may be.
const MINIMUM_RANGE: RangeInclusive<u64> = 1..=100_000;
/// What `breaker.open` may be. Milliseconds.
const OPEN_MS_RANGE: RangeInclusive<u64> = 100..=24 * 3_600_000;
/// What `breaker.slow_after` and `hedge.after` may be: as a call's timeout. Milliseconds.
const AFTER_MS_RANGE: RangeInclusive<u64> = super::config::TIMEOUT_MS_RANGE;
/// What `breaker.probes` and `breaker.successes` may be.
const PROBES_RANGE: RangeInclusive<u64> = 1..=100;
/// What `bulkhead.calls` may be.
const BULKHEAD_RANGE: RangeInclusive<u64> = 1..=1000;
/// Entries of `retry.on` at most.
const ON_MAX: usize = 32;

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
        let retry = section(fields, "retry", read_retry);
        let breaker = section(fields, "breaker", read_breaker);
        let bulkhead = inside(fields, "bulkhead", |fields| {
            required_number(fields, "calls", BULKHEAD_RANGE, "calls under way at once")
        });
        let hedge_ms = inside(fields, "hedge", |fields| {
            fields.require("after", "how long the first call is waited for")?;
            fields.duration("after", AFTER_MS_RANGE)
        });
        let fallback = inside(fields, "fallback", read_fallback);
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

/// Reads a section that is an object.
fn inside<T>(
    fields: &mut Object<'_, '_>,
    name: &'static str,
    read: impl FnOnce(&mut Object<'_, '_>) -> Option<T>,
) -> Option<T> {
    let value = fields.take(name)?;
    let mut inner = Object::read(value, &fields.at(name), fields.faults)?;
    let read = read(&mut inner);
    inner.finish();
    read
}

/// Reads a section that is a preset's name or an object; `read` is told with which preset it begins.
fn section<T>(
    fields: &mut Object<'_, '_>,
    name: &'static str,
    read: fn(&str, Option<&mut Object<'_, '_>>) -> T,
) -> Option<T> {
    let value = fields.take(name)?;
    if !value.is_object() {
        let preset = PRESETS.iter().copied().find(|known| value.as_str() == Some(known));
        if preset.is_none() {
            let pointer = fields.at(name);
            note(fields.faults, || {
                let fault = Fault::new(pointer, "`off`, `standard`, `payments` or an object", &describe(value));
                suggest(fault, value.as_str().unwrap_or_default(), PRESETS.iter().copied())
            });
        }
        return preset
            .filter(|preset| *preset != "off")
            .map(|preset| read(preset, None));
    }
    inside(fields, name, |inner| {
        let preset = inner.one_of("preset", BASES).unwrap_or("standard");
        Some(read(preset, Some(inner)))
    })
}

fn small(fields: &mut Object<'_, '_>, name: &'static str, range: RangeInclusive<u64>) -> Option<u32> {
    fields.number(name, range).and_then(|number| u32::try_from(number).ok())
}

fn required_number(
    fields: &mut Object<'_, '_>,
    name: &'static str,
    range: RangeInclusive<u64>,
    expected: &'static str,
) -> Option<u32> {
    fields.require(name, expected)?;
    small(fields, name, range)
}

fn read_retry(preset: &str, fields: Option<&mut Object<'_, '_>>) -> Retry {
    let (calls, initial_ms, cap_ms, budget_percent) = match preset {
        "payments" => (4, 1_000, 4_000, 10),
        _ => (3, 200, 5_000, 20),
    };
    let mut retry = Retry {
        calls,
        initial_ms,
        cap_ms,
        full_jitter: true,
        budget_percent,
        on: ON.map(String::from).into(),
    };
    let Some(fields) = fields else { return retry };
    retry.calls = small(fields, "attempts", ATTEMPTS_RANGE).unwrap_or(retry.calls);
    retry.initial_ms = fields.duration("initial", WAIT_MS_RANGE).unwrap_or(retry.initial_ms);
    let cap_ms = fields.duration("cap", WAIT_MS_RANGE);
    if let Some(cap_ms) = cap_ms.filter(|cap_ms| *cap_ms < retry.initial_ms) {
        let expected = alloc::format!("a cap not below `initial`, {}", format_duration(retry.initial_ms));
        fields.fault("cap", expected, &format_duration(cap_ms));
    }
    retry.cap_ms = cap_ms.unwrap_or(retry.cap_ms.max(retry.initial_ms));
    retry.full_jitter = fields.one_of("jitter", &["full", "none"]) != Some("none");
    retry.budget_percent = small(fields, "budget_percent", BUDGET_RANGE).unwrap_or(retry.budget_percent);
    if let Some(value) = fields.take("on") {
        match read_on(value) {
            Some(on) => retry.on = on,
            None => fields.fault("on", ON_EXPECTED, &describe(value)),
        }
    }
    retry
}

fn read_on(value: &Value) -> Option<Vec<String>> {
    let items = value.as_array().filter(|items| (1..=ON_MAX).contains(&items.len()))?;
    let is_known = |text: &&str| {
        let status = text.len() == 3 && text.parse().is_ok_and(|status: u16| (400..600).contains(&status));
        status || matches!(*text, "4xx" | "5xx" | "timeout" | "unreachable")
    };
    let known = |item: &Value| item.as_str().filter(is_known).map(ToOwned::to_owned);
    items.iter().map(known).collect()
}

fn read_breaker(preset: &str, fields: Option<&mut Object<'_, '_>>) -> Breaker {
    let strict = preset == "payments";
    let mut rule = BreakerRule {
        consecutive: if strict { 3 } else { 5 },
        failure_percent: if strict { 25 } else { 50 },
        slow_percent: if strict { 50 } else { 0 },
        window_calls: 0,
        window_ms: if strict { 60_000 } else { 30_000 },
        calls_min: if strict { 10 } else { 20 },
        open_ms: if strict { 60_000 } else { 30_000 },
        probes: 1,
        successes: if strict { 3 } else { 2 },
    };
    let mut breaker = Breaker {
        slow_ms: 5_000,
        key: None,
        rule: rule.clone(),
    };
    let Some(fields) = fields else { return breaker };
    let mut set = |name, range, place: &mut u32| *place = small(fields, name, range).unwrap_or(*place);
    set("consecutive_failures", CONSECUTIVE_RANGE, &mut rule.consecutive);
    set("failure_percent", PERCENT_RANGE, &mut rule.failure_percent);
    set("slow_percent", PERCENT_RANGE, &mut rule.slow_percent);
    set("window_calls", WINDOW_CALLS_RANGE, &mut rule.window_calls);
    set("minimum_calls", MINIMUM_RANGE, &mut rule.calls_min);
    set("probes", PROBES_RANGE, &mut rule.probes);
    set("successes", PROBES_RANGE, &mut rule.successes);
    let window_ms = fields.duration("window", WINDOW_MS_RANGE);
    if fields.has("window") && fields.has("window_calls") {
        fields.fault("window", "either `window` or `window_calls`", "both");
    }
    rule.window_ms = window_ms.unwrap_or(rule.window_ms);
    rule.open_ms = fields.duration("open", OPEN_MS_RANGE).unwrap_or(rule.open_ms);
    if rule.window_calls > 0 && rule.calls_min > rule.window_calls {
        if fields.has("minimum_calls") {
            fields.fault(
                "minimum_calls",
                "no more calls than the window holds",
                &alloc::format!("{}", rule.calls_min),
            );
        }
        rule.calls_min = rule.window_calls;
    }
    breaker.slow_ms = fields.duration("slow_after", AFTER_MS_RANGE).unwrap_or(breaker.slow_ms);
    breaker.key = fields.text("key", PATH, Path::parse);
    breaker.rule = rule;
    breaker
}

fn read_fallback(fields: &mut Object<'_, '_>) -> Option<Fallback> {
    match fields.either("body", "upstream")? {
        "body" => fields.take("body").and_then(JsonText::of).map(Fallback::Body),
        _ => fields
            .text("upstream", "the name of another upstream", Some)
            .map(|name| Fallback::Upstream(name.to_owned())),
    }
}
