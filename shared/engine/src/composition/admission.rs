//! The section `admission` of a composition: limits that a request has to pass before anything is done for it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use serde_json::Value;
use tidegate_protocol::calls::admission::{Bucket, Consults, Force, Need, Rule};
use tidegate_protocol::calls::queueing::ActionPattern;
use tidegate_protocol::ids::{ActionName, ChannelName};
use tidegate_protocol::{Error, Fault};

use super::channels::Channels;
use super::defaults::{
    CONNECTIONS_RANGE, LIMIT_RANGE, OVERRIDES_MAX, QUOTA_MS_RANGE, QUOTA_RANGE, REQUEST_COST_RANGE,
    TENANT_CONNECTIONS_RANGE, THROTTLE_MS_RANGE,
};
use super::deployment::prefixed;
use super::object::{Object, child, describe, note, suggest};
use super::queue::{Cost, Key, check_patterns, mean, read_actions, read_cost, read_key, read_limits, read_patterns};
use super::request::Input;
use crate::connections::Bounds;
use crate::usage;
use tidegate_protocol::SortedMap;

/// The section `admission`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admission {
    limits: Vec<Arc<RequestLimit>>,
    /// How many connections there may be at a time.
    pub(super) connections: Bounds,
}

/// Which limits the requests for an action have to pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AdmissionRules {
    limits: Vec<Arc<RequestLimit>>,
}

/// A limit on requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLimit {
    name: String,
    actions: Vec<ActionPattern>,
    /// The namespaces whose messages it counts.
    channels: Vec<ActionPattern>,
    key: Key,
    rule: Rule,
    overrides: SortedMap<String, Rule>,
    cost: Cost,
    consults: Consults,
    force: Force,
}

impl AdmissionRules {
    /// Whether every request passes.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// What a message needs that is to be published in `channel`: only the limits that mean its namespace count.
    ///
    /// Errors: as [`Self::needs`].
    pub fn needs_in(&self, channel: &ChannelName, input: &Input<'_>) -> Result<Vec<Need>, Error> {
        let means = |limit: &&Arc<RequestLimit>| limit.means_channel(channel);
        let limits = self.limits.iter().filter(means).cloned().collect();
        Self { limits }.needs(input)
    }

    /// What one request needs of each limit, in the order of their names.
    ///
    /// Errors: `VALIDATION_ERROR` where the request does not say what it costs, or costs more than a limit can ever have
    /// room for.
    pub fn needs(&self, input: &Input<'_>) -> Result<Vec<Need>, Error> {
        let mut needs = Vec::with_capacity(self.limits.len());
        let mut faults = Vec::new();
        for limit in &self.limits {
            match limit.need(input) {
                Ok(need) => needs.push(need),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(Error::invalid("A limit cannot be applied to this request.", faults));
        }
        Ok(needs)
    }
}

impl RequestLimit {
    fn means_channel(&self, channel: &ChannelName) -> bool {
        let namespace = ActionName::parse(channel.namespace());
        namespace.is_some_and(|namespace| mean(&self.channels, &namespace))
    }

    fn need(&self, input: &Input<'_>) -> Result<Need, Fault> {
        let key = self.key.of(input);
        let rule = *self.overrides.get(&key).unwrap_or(&self.rule);
        let cost = self.cost.of(input, &self.name, Some(rule.units_max()))?;
        Ok(Need {
            bucket: Bucket {
                limit: self.name.clone(),
                key,
            },
            rule,
            cost: cost.into(),
            consults: self.consults,
            force: self.force,
        })
    }
}

impl Admission {
    /// Reads the section. What is wrong is noted.
    pub fn read(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Self {
        let Some(mut fields) = Object::read(value, pointer, faults) else {
            return Self::default();
        };
        let limits = match fields.take("limits") {
            Some(value) => read_limits(value, &fields.at("limits"), fields.faults, read_limit),
            None => Vec::new(),
        };
        if let Some(value) = fields.take("budgets") {
            // The gate reads them from the document, once that is active: no hub and no plan has to know them.
            usage::read_budgets(value, &fields.at("budgets"), fields.faults);
        }
        let connections = read_connections(&mut fields);
        fields.finish();
        Self { limits, connections }
    }

    /// Reads the section of a deployment's limits: those names are others, and budgets are set elsewhere. What is wrong is noted.
    pub(super) fn read_of_deployment(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Self {
        let Some(mut fields) = Object::read(value, pointer, faults) else {
            return Self::default();
        };
        let limits = match fields.take("limits") {
            Some(value) => read_limits(value, &fields.at("limits"), fields.faults, |name, fields| {
                let limit = read_limit(name, fields)?;
                let name = prefixed(name);
                Some(RequestLimit { name, ..limit })
            }),
            None => Vec::new(),
        };
        let connections = read_connections(&mut fields);
        fields.finish();
        Self { limits, connections }
    }

    /// What the section says of an action.
    pub fn rules_of(&self, action: &ActionName) -> AdmissionRules {
        let means = |limit: &&Arc<RequestLimit>| mean(&limit.actions, action);
        AdmissionRules {
            limits: self.limits.iter().filter(means).cloned().collect(),
        }
    }

    /// The limits that messages of channels have to pass.
    pub fn of_channels(&self) -> AdmissionRules {
        let means = |limit: &&Arc<RequestLimit>| !limit.channels.is_empty();
        AdmissionRules {
            limits: self.limits.iter().filter(means).cloned().collect(),
        }
    }

    /// Notes each limit that means no namespace of channels: a slip of the hand.
    pub(super) fn check_channels(&self, pointer: &str, channels: &Channels, faults: &mut Vec<Fault>) {
        let all_others = channels.has_all_others();
        let named: Vec<ActionName> = channels.names().filter_map(ActionName::parse).collect();
        for limit in &self.limits {
            let pointer = child(&child(&child(pointer, "limits"), &limit.name), "channels");
            for pattern in &limit.channels {
                if !all_others && !named.iter().any(|name| pattern.matches(name)) {
                    let expected = "a pattern that means a namespace of `channels`";
                    note(faults, || {
                        let text = pattern.as_str();
                        suggest(Fault::new(pointer.as_str(), expected, text), text, channels.names())
                    });
                }
            }
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

/// The field `connections`.
fn read_connections(fields: &mut Object<'_, '_>) -> Bounds {
    let (value, pointer) = (fields.take("connections"), fields.at("connections"));
    let Some(mut connections) = value.and_then(|value| Object::read(value, &pointer, fields.faults)) else {
        return Bounds::default();
    };
    if connections
        .take("per_user")
        .or(connections.take("per_tenant"))
        .is_none()
    {
        let expected = "`per_tenant`, or how many connections a user may have at a time";
        connections.require("per_user", expected);
    }
    let number = |number: u64| NonZeroU32::new(u32::try_from(number).ok()?);
    let per_user = connections.number("per_user", CONNECTIONS_RANGE).and_then(number);
    let per_tenant = connections
        .number("per_tenant", TENANT_CONNECTIONS_RANGE)
        .and_then(number);
    connections.finish();
    Bounds { per_user, per_tenant }
}

/// How a limit counts.
#[derive(Clone, Copy)]
enum Kind {
    Rate,
    Quota,
}

fn read_limit(name: &str, mut fields: Object<'_, '_>) -> Option<RequestLimit> {
    let channels = match fields.take("channels") {
        Some(value) => read_patterns(value, &fields.at("channels"), fields.faults),
        None => Vec::new(),
    };
    let actions = match fields.has("actions") || channels.is_empty() {
        true => read_actions(&mut fields),
        false => {
            // Asked for all the same: so it is among the fields that may have been meant.
            fields.take("actions");
            Vec::new()
        }
    };
    let key = read_key(&mut fields);
    let rate = read_rule(&mut fields, "rate", Kind::Rate);
    let quota = read_rule(&mut fields, "quota", Kind::Quota);
    let rule = rate.or(quota);
    let kind = fields.either("rate", "quota").map(|given| match given {
        "rate" => Kind::Rate,
        _ => Kind::Quota,
    });
    let overrides = read_overrides(&mut fields, kind, rule);
    let cost = read_cost(&mut fields, &REQUEST_COST_RANGE).unwrap_or(Cost::Units(1));
    if let Cost::Units(units) = cost {
        check_cost(&mut fields, units.into(), rule.filter(|_| kind.is_some()), &overrides);
    }
    let consults = match fields.flag("exact") {
        Some(true) => Consults::Always,
        _ => Consults::Leased,
    };
    let force = match fields.flag("shadow") {
        Some(true) => Force::Counts,
        _ => Force::Refuses,
    };
    fields.finish();
    Some(RequestLimit {
        name: name.to_owned(),
        actions,
        channels,
        key,
        rule: rule?,
        overrides,
        cost,
        consults,
        force,
    })
}

fn read_rule(fields: &mut Object<'_, '_>, name: &'static str, kind: Kind) -> Option<Rule> {
    let value = fields.take(name)?;
    let pointer = fields.at(name);
    let mut fields = Object::read(value, &pointer, fields.faults)?;
    fields.require("per", "in which time, a duration");
    let range = match kind {
        Kind::Rate => THROTTLE_MS_RANGE,
        Kind::Quota => QUOTA_MS_RANGE,
    };
    let per_ms = fields.duration("per", range);
    read_units(fields, kind, per_ms)
}

/// The other fields of a rule, and all of an override's, which counts in the time of its rule.
fn read_units(mut fields: Object<'_, '_>, kind: Kind, per_ms: Option<u64>) -> Option<Rule> {
    fields.require("units", "how many units, a whole number");
    let range = match kind {
        Kind::Rate => LIMIT_RANGE,
        Kind::Quota => QUOTA_RANGE,
    };
    let units = fields.number("units", range);
    let burst = match kind {
        Kind::Rate if fields.has("burst") => fields.number("burst", LIMIT_RANGE),
        Kind::Rate => {
            // Asked for all the same: so it is among the fields that may have been meant.
            fields.take("burst");
            units
        }
        Kind::Quota => None,
    };
    fields.finish();
    let (units, per_ms) = (units?, per_ms?);
    Some(match kind {
        Kind::Rate => Rule::Rate {
            units,
            per_ms,
            burst: burst?,
        },
        Kind::Quota => Rule::Quota { units, per_ms },
    })
}

/// The field `overrides`. What stands in it is read only where it is known how the limit counts.
fn read_overrides(fields: &mut Object<'_, '_>, kind: Option<Kind>, rule: Option<Rule>) -> SortedMap<String, Rule> {
    let mut overrides = SortedMap::new();
    let Some(value) = fields.take("overrides") else {
        return overrides;
    };
    if !fields.has("key") {
        fields.fault("overrides", "`overrides` only with `key`", &describe(value));
    }
    let pointer = fields.at("overrides");
    let faults = &mut *fields.faults;
    let (Some(listed), Some(kind)) = (Object::read(value, &pointer, faults), kind) else {
        return overrides;
    };
    for (index, (key, value, pointer)) in listed.entries().enumerate() {
        if index == OVERRIDES_MAX {
            note(faults, || {
                Fault::new(pointer, format!("at most {OVERRIDES_MAX} overrides"), "more of them")
            });
            break;
        }
        let own = Object::read(value, &pointer, faults)
            .and_then(|fields| read_units(fields, kind, rule.as_ref().map(Rule::per_ms)));
        overrides.extend(own.map(|own| (key.to_owned(), own)));
    }
    overrides
}

/// Notes where there can never be room for what every request costs.
fn check_cost(fields: &mut Object<'_, '_>, cost: u64, rule: Option<Rule>, overrides: &SortedMap<String, Rule>) {
    if let Some(max) = rule.map(|rule| rule.units_max()).filter(|max| cost > *max) {
        let expected = format!("at most {max}: there is never room for more");
        fields.fault("cost", expected, &cost.to_string());
    }
    for (key, rule) in overrides {
        let max = rule.units_max();
        if cost > max {
            let pointer = child(&fields.at("overrides"), key);
            note(fields.faults, || {
                let expected = format!("room for the cost of a request, {cost}");
                Fault::new(pointer, expected, &max.to_string())
            });
        }
    }
}
