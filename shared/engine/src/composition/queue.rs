//! The section `queue` of a composition, and what an action says of its place in it: shares, limits, bounds, priority.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use serde_json::Value;
use tidegate_protocol::calls::queueing::{ActionPattern, Bounds, Counted, Priority, Queueing, Rule, Share, WhenFull};
use tidegate_protocol::calls::spread::Place;
use tidegate_protocol::calls::tenant::Scale;
use tidegate_protocol::ids::{ActionName, ShardIndex};
use tidegate_protocol::{Error, Fault};

use super::defaults::{
    COST_RANGE, LIMIT_RANGE, LIMITS_MAX, SHARE_WEIGHT_RANGE, SHARE_WEIGHTS_MAX, THROTTLE_MS_RANGE, WAITING_BYTES_RANGE,
    WAITING_RANGE,
};
use super::object::{Object, child, describe, note, suggest};
use super::path::{self, Path};
use super::request::Input;
use tidegate_protocol::SortedMap;

/// What a limit's name looks like.
const LIMIT_NAME: &str = "a name of 1 to 48 characters of a-z, 0-9, '_' and '-', a letter first";
/// Paths of one key at most.
const KEY_PATHS_MAX: usize = 4;

/// A key that each request names by its own values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Key(Vec<Path>);

impl Key {
    /// The key at one path; `None` for what is no path.
    pub(super) fn at(path: &str) -> Option<Self> {
        Path::parse(path).map(|path| Self(vec![path]))
    }

    /// The key of a request; empty where the limit has no keys.
    pub(super) fn of(&self, input: &Input<'_>) -> String {
        match self.0.as_slice() {
            [] => String::new(),
            [path] => path.key(input),
            paths => {
                let parts: Vec<Value> = paths.iter().map(|path| Value::String(path.key(input))).collect();
                Value::Array(parts).to_string()
            }
        }
    }
}

/// What a job takes of a throttle, and a request of a limit on requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cost {
    /// Always so many units.
    Units(u32),
    /// As many as its request says.
    At(Path),
}

impl Cost {
    /// The units that a request takes of the limit `name`, which can have room for so many at most.
    ///
    /// Errors: the fault of a request that does not say how many.
    pub(super) fn of(&self, input: &Input<'_>, name: &str, units_max: Option<u64>) -> Result<u32, Fault> {
        let path = match self {
            Self::Units(units) => return Ok(*units),
            Self::At(path) => path,
        };
        let fits = |units: &u32| units_max.is_none_or(|max| u64::from(*units) <= max);
        path.number(input).filter(fits).ok_or_else(|| {
            let to = units_max.map(|max| format!(" to {max}")).unwrap_or_default();
            let expected = format!("a whole number from 1{to}: what the limit `{name}` counts");
            Fault::new(path.pointer(), expected, &path.key(input))
        })
    }
}

/// A limit of the composition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    name: String,
    actions: Vec<ActionPattern>,
    key: Key,
    rule: Rule,
    cost: Cost,
    when_full: WhenFull,
}

/// Who shares a tenant's places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shares {
    key: Key,
    weights: SortedMap<String, u32>,
}

/// The section `queue`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Queue {
    limits: Vec<Arc<Limit>>,
    shares: Option<Arc<Shares>>,
    bounds: Bounds,
}

/// How the jobs of an action wait.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueRules {
    /// How soon they are wanted, where the request does not say.
    pub priority: Priority,
    limits: Vec<Arc<Limit>>,
    shares: Option<Arc<Shares>>,
    waiting_max: Option<u32>,
    bounds: Bounds,
}

impl QueueRules {
    /// How the job of one request waits, in the object `shard` of so many.
    ///
    /// Errors: `VALIDATION_ERROR` where the request does not say what it costs.
    pub fn queueing(
        &self,
        input: &Input<'_>,
        priority: Option<Priority>,
        shard: ShardIndex,
        scale: Scale,
    ) -> Result<Queueing, Error> {
        let mut faults = Vec::new();
        let mut limits = Vec::with_capacity(self.limits.len());
        for limit in &self.limits {
            limits.push(Counted {
                limit: limit.name.clone(),
                key: limit.key.of(input),
                rule: limit.rule,
                cost: limit.cost.of(input, &limit.name, None).unwrap_or_else(|fault| {
                    faults.push(fault);
                    1
                }),
                when_full: limit.when_full,
            });
        }
        if !faults.is_empty() {
            return Err(Error::invalid("A limit cannot be applied to this request.", faults));
        }
        let share = self.shares.as_ref().map(|shares| {
            let key = shares.key.of(input);
            let weight = shares.weights.get(&key).copied().unwrap_or(1);
            Share { key, weight }
        });
        Ok(Queueing {
            priority: priority.unwrap_or(self.priority),
            share,
            limits,
            waiting_max: self.waiting_max,
            place: Place {
                shard,
                shards: scale.shards,
            },
            bounds: self.bounds,
        })
    }
}

impl Queue {
    /// Reads the section, for a tenant that is spread so. What is wrong is noted.
    pub fn read(value: &Value, pointer: &str, scale: Scale, faults: &mut Vec<Fault>) -> Self {
        let Some(mut fields) = Object::read(value, pointer, faults) else {
            return Self::default();
        };
        let limits = match fields.take("limits") {
            Some(value) => {
                let pointer = fields.at("limits");
                read_limits(value, &pointer, fields.faults, |name, fields| {
                    read_limit(name, fields, scale)
                })
            }
            None => Vec::new(),
        };
        let shares = fields.take("share").and_then(|value| {
            let pointer = fields.at("share");
            read_shares(value, &pointer, fields.faults)
        });
        let bounds = Bounds {
            tenant: read_waiting(&mut fields),
            tenant_bytes: fields.number("waiting_bytes", WAITING_BYTES_RANGE),
            ..Bounds::default()
        };
        fields.finish();
        Self {
            limits,
            shares: shares.map(Arc::new),
            bounds,
        }
    }

    /// What an action says of its place in the queue: `priority`, `waiting` and `waiting_bytes`, and the limits that mean it.
    pub(super) fn rules(&self, fields: &mut Object<'_, '_>, name: Option<&ActionName>) -> QueueRules {
        let priority = fields.one_of("priority", &["high", "normal", "low"]);
        QueueRules {
            priority: priority.and_then(Priority::parse).unwrap_or_default(),
            waiting_max: read_waiting(fields),
            bounds: Bounds {
                bytes: fields.number("waiting_bytes", WAITING_BYTES_RANGE),
                ..self.bounds
            },
            ..name.map(|name| self.rules_of(name)).unwrap_or_default()
        }
    }

    /// What the section says of an action.
    pub fn rules_of(&self, action: &ActionName) -> QueueRules {
        let means = |limit: &&Arc<Limit>| mean(&limit.actions, action);
        QueueRules {
            limits: self.limits.iter().filter(means).cloned().collect(),
            shares: self.shares.clone(),
            bounds: self.bounds,
            ..QueueRules::default()
        }
    }

    /// Notes each limit that means no action: a slip of the hand.
    pub(super) fn check_actions<'a>(
        &self,
        pointer: &str,
        actions: impl Iterator<Item = &'a ActionName> + Clone,
        faults: &mut Vec<Fault>,
    ) {
        for limit in &self.limits {
            let pointer = child(&child(pointer, "limits"), &limit.name);
            check_patterns(&limit.actions, &pointer, actions.clone(), faults);
        }
    }
}

/// Whether one of the patterns means the action.
pub(super) fn mean(patterns: &[ActionPattern], action: &ActionName) -> bool {
    patterns.iter().any(|pattern| pattern.matches(action))
}

/// Notes each pattern of the limit at `pointer` that means no action.
pub(super) fn check_patterns<'a>(
    patterns: &[ActionPattern],
    pointer: &str,
    actions: impl Iterator<Item = &'a ActionName> + Clone,
    faults: &mut Vec<Fault>,
) {
    for (index, pattern) in patterns.iter().enumerate() {
        if !actions.clone().any(|action| pattern.matches(action)) && pattern.as_str() != "*" {
            let pointer = child(&child(pointer, "actions"), &index.to_string());
            note(faults, || {
                let fault = Fault::new(pointer, "a pattern that means an action of `actions`", pattern.as_str());
                suggest(fault, pattern.as_str(), actions.clone().map(ActionName::as_str))
            });
        }
    }
}

/// How many jobs may wait.
fn read_waiting(fields: &mut Object<'_, '_>) -> Option<u32> {
    let waiting = fields.number("waiting", WAITING_RANGE);
    waiting.and_then(|waiting| u32::try_from(waiting).ok())
}

/// The limits of a section, in the order of their names. `read` reads one.
pub(super) fn read_limits<T>(
    value: &Value,
    pointer: &str,
    faults: &mut Vec<Fault>,
    read: impl Fn(&str, Object<'_, '_>) -> Option<T>,
) -> Vec<Arc<T>> {
    let mut limits = Vec::new();
    let Some(fields) = Object::read(value, pointer, faults) else {
        return limits;
    };
    for (index, (name, value, pointer)) in fields.entries().enumerate() {
        if index == LIMITS_MAX {
            note(faults, || {
                Fault::new(pointer, format!("at most {LIMITS_MAX} limits"), "more of them")
            });
            break;
        }
        if !super::compile::is_instance(name) {
            note(faults, || Fault::new(pointer.as_str(), LIMIT_NAME, name));
        }
        let limit = Object::read(value, &pointer, faults).and_then(|fields| read(name, fields));
        limits.extend(limit.map(Arc::new));
    }
    limits
}

fn read_limit(name: &str, mut fields: Object<'_, '_>, scale: Scale) -> Option<Limit> {
    let actions = read_actions(&mut fields);
    let key = read_key(&mut fields);
    let max = fields.number("concurrency", LIMIT_RANGE);
    let throttle = fields.take("throttle").and_then(|value| {
        let pointer = fields.at("throttle");
        read_throttle(value, &pointer, fields.faults)
    });
    fields.either("concurrency", "throttle");
    let throttled = fields.has("throttle");
    let max = max.and_then(|max| u32::try_from(max).ok());
    let rule = match (max, throttle) {
        (Some(max), None) => Some(Rule::Concurrency { max }),
        (None, throttle) => throttle,
        (Some(_), Some(_)) => None,
    };
    if let Some(Rule::Rate { units, .. }) = rule
        && units < scale.shards.into()
    {
        // Each object keeps its part of a rate, and a part of nothing would hold its jobs for ever.
        let expected = format!("at least the number of shards, {}", scale.shards);
        fields.fault("throttle", expected, &units.to_string());
    }
    let cost = read_cost(&mut fields, &COST_RANGE);
    if let Some(value) = fields.take("cost").filter(|_| cost.is_some() && !throttled) {
        fields.fault(
            "cost",
            "a cost only with `throttle`: a running job takes one place",
            &describe(value),
        );
    }
    let when_full = match fields.one_of("when_full", &["wait", "refuse", "replace"]) {
        Some("refuse") => WhenFull::Refuse,
        Some("replace") => WhenFull::Replace,
        _ => WhenFull::Wait,
    };
    if when_full == WhenFull::Replace && throttled {
        fields.fault(
            "when_full",
            "`replace` only with `concurrency`",
            "`replace` with a throttle",
        );
    }
    fields.finish();
    Some(Limit {
        name: name.to_owned(),
        actions,
        key,
        rule: rule?,
        cost: cost.unwrap_or(Cost::Units(1)),
        when_full,
    })
}

/// The field `actions`: a pattern, or several. Where it is absent, all actions are meant.
pub(super) fn read_actions(fields: &mut Object<'_, '_>) -> Vec<ActionPattern> {
    match fields.take("actions") {
        Some(value) => read_patterns(value, &fields.at("actions"), fields.faults),
        None => ActionPattern::parse("*").into_iter().collect(),
    }
}

pub(super) fn read_patterns(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Vec<ActionPattern> {
    let one;
    let (items, listed) = match value {
        Value::Array(items) => (items.as_slice(), true),
        other => {
            one = [other.clone()];
            (one.as_slice(), false)
        }
    };
    let mut patterns = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match item.as_str().and_then(ActionPattern::parse) {
            Some(pattern) => patterns.push(pattern),
            None => note(faults, || {
                let pointer = if listed {
                    child(pointer, &index.to_string())
                } else {
                    pointer.to_owned()
                };
                Fault::new(pointer, ActionPattern::EXPECTED, &describe(item))
            }),
        }
    }
    if items.is_empty() {
        note(faults, || Fault::new(pointer, "at least one pattern", "an empty list"));
    }
    patterns
}

/// The field `key`: a path, or several. Where it is absent, all requests have the same key.
pub(super) fn read_key(fields: &mut Object<'_, '_>) -> Key {
    let Some(value) = fields.take("key") else {
        return Key::default();
    };
    let paths: Option<Vec<Path>> = match value {
        Value::String(text) => Path::parse(text).map(|path| alloc::vec![path]),
        Value::Array(items) if (1..=KEY_PATHS_MAX).contains(&items.len()) => {
            items.iter().map(|item| item.as_str().and_then(Path::parse)).collect()
        }
        _ => None,
    };
    if paths.is_none() {
        let expected = format!("{}, or a list of up to {KEY_PATHS_MAX}", path::EXPECTED);
        fields.fault("key", expected, &describe(value));
    }
    Key(paths.unwrap_or_default())
}

fn read_throttle(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Rule> {
    let mut fields = Object::read(value, pointer, faults)?;
    fields.require("units", "how many units, a whole number");
    fields.require("per", "in which time, a duration");
    let units = fields.number("units", LIMIT_RANGE);
    let per_ms = fields.duration("per", THROTTLE_MS_RANGE);
    let burst = fields.number("burst", LIMIT_RANGE).unwrap_or(1);
    fields.finish();
    Some(Rule::Rate {
        units: u32::try_from(units?).ok()?,
        per_ms: per_ms?,
        burst: u32::try_from(burst).ok()?,
    })
}

/// The field `cost`: units inside `range`, or the path to them. `None` where it is absent or has been noted.
pub(super) fn read_cost(fields: &mut Object<'_, '_>, range: &RangeInclusive<u64>) -> Option<Cost> {
    let value = fields.take("cost")?;
    let cost = match value {
        Value::String(text) => Path::parse(text).map(Cost::At),
        other => other
            .as_u64()
            .filter(|units| range.contains(units))
            .and_then(|units| u32::try_from(units).ok())
            .map(Cost::Units),
    };
    if cost.is_none() {
        let (from, to) = (range.start(), range.end());
        let expected = format!("units, a whole number from {from} to {to}, or the path to one");
        fields.fault("cost", expected, &describe(value));
    }
    cost
}

fn read_shares(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Shares> {
    let mut fields = Object::read(value, pointer, faults)?;
    fields.require("key", "the path to whatever the places are divided between");
    let key = read_key(&mut fields);
    let weights = match fields.take("weights") {
        Some(value) => read_weights(value, &fields.at("weights"), fields.faults),
        None => SortedMap::new(),
    };
    fields.finish();
    Some(Shares { key, weights })
}

fn read_weights(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> SortedMap<String, u32> {
    let mut weights = SortedMap::new();
    let Some(fields) = Object::read(value, pointer, faults) else {
        return weights;
    };
    for (index, (key, value, pointer)) in fields.entries().enumerate() {
        if index == SHARE_WEIGHTS_MAX {
            note(faults, || {
                Fault::new(pointer, format!("at most {SHARE_WEIGHTS_MAX} weights"), "more of them")
            });
            break;
        }
        let weight = value.as_u64().filter(|weight| SHARE_WEIGHT_RANGE.contains(weight));
        match weight.and_then(|weight| u32::try_from(weight).ok()) {
            Some(weight) => {
                weights.insert(key.to_owned(), weight);
            }
            None => note(faults, || {
                let (from, to) = (SHARE_WEIGHT_RANGE.start(), SHARE_WEIGHT_RANGE.end());
                Fault::new(pointer, format!("a whole number from {from} to {to}"), &describe(value))
            }),
        }
    }
    weights
}
