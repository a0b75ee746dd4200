//! The section `policies` of a composition: who may do what, beyond the scopes of actions.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde_json::Value;
use tidegate_protocol::Fault;
use tidegate_protocol::ids::ActionName;

use super::compile::{SCOPE, is_instance, is_scope};
use super::defaults::{POLICIES_MAX, PRIORITY_RANGE};
use super::object::{Object, child, describe, note};
use super::queue::{check_patterns, mean, read_actions};
use crate::expression::{Expression, Type};
use crate::policies::{Effect, Policy, VARIABLES};

const NAME: &str = "a name of 1 to 48 characters of a-z, 0-9, '_' and '-', a letter first";

/// The policies of a composition, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Policies(Vec<Arc<Policy>>);

impl Policies {
    /// Reads the section. What is wrong is noted.
    pub fn read(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Self {
        let Some(fields) = Object::read(value, pointer, faults) else {
            return Self::default();
        };
        let mut policies = Vec::new();
        for (index, (name, value, pointer)) in fields.entries().enumerate() {
            if index == POLICIES_MAX {
                note(faults, || {
                    Fault::new(pointer, format!("at most {POLICIES_MAX} policies"), "more of them")
                });
                break;
            }
            if !is_instance(name) {
                note(faults, || Fault::new(pointer.as_str(), NAME, name));
            }
            let policy = Object::read(value, &pointer, faults).and_then(|fields| read_policy(name, fields));
            policies.extend(policy.map(Arc::new));
        }
        policies.sort_by(|one, other| one.order(other));
        Self(policies)
    }

    /// The policies about an action, in order.
    pub fn about(&self, action: &ActionName) -> Vec<Arc<Policy>> {
        let about = |policy: &&Arc<Policy>| mean(&policy.actions, action);
        self.0.iter().filter(about).cloned().collect()
    }

    /// Notes each policy that is about no action: a slip of the hand that would leave a door open.
    pub fn check_actions<'a>(
        &self,
        pointer: &str,
        actions: impl Iterator<Item = &'a ActionName> + Clone,
        faults: &mut Vec<Fault>,
    ) {
        for policy in &self.0 {
            check_patterns(&policy.actions, &child(pointer, &policy.name), actions.clone(), faults);
        }
    }
}

fn read_policy(name: &str, mut fields: Object<'_, '_>) -> Option<Policy> {
    fields.text("description", "a text", Some);
    let priority = match fields.has("priority") {
        true => fields.number("priority", PRIORITY_RANGE),
        false => {
            // Asked for all the same: so it is among the fields that may have been meant.
            fields.take("priority");
            Some(0)
        }
    };
    let actions = read_actions(&mut fields);
    let when = read_condition(&mut fields);
    let effect = read_effect(&mut fields);
    fields.finish();
    Some(Policy {
        name: name.to_owned(),
        priority: priority?,
        actions,
        when: when?,
        effect: effect?,
    })
}

fn read_condition(fields: &mut Object<'_, '_>) -> Option<Expression> {
    let value = fields.require("when", "a condition, an expression in CEL")?;
    let Some(text) = value.as_str() else {
        fields.fault("when", "a condition, an expression in CEL, as a text", &describe(value));
        return None;
    };
    match Expression::compile(text, VARIABLES, Type::Bool) {
        Ok(expression) => Some(expression),
        Err(flaws) => {
            let pointer = fields.at("when");
            for flaw in flaws {
                note(fields.faults, || flaw.fault(&pointer));
            }
            None
        }
    }
}

fn read_effect(fields: &mut Object<'_, '_>) -> Option<Effect> {
    const EXPECTED: &str = "`allow`, `deny` or {\"require_scope\": \"…\"}";
    let value = fields.require("effect", EXPECTED)?;
    match value {
        Value::Object(_) => {
            let pointer = fields.at("effect");
            let mut fields = Object::read(value, &pointer, fields.faults)?;
            fields.require("require_scope", SCOPE);
            let scope = fields.text("require_scope", SCOPE, |scope| {
                is_scope(scope).then(|| String::from(scope))
            });
            fields.finish();
            scope.map(Effect::RequireScope)
        }
        other => match other.as_str() {
            Some("allow") => Some(Effect::Allow),
            Some("deny") => Some(Effect::Deny),
            _ => {
                let given = other.as_str().unwrap_or_default();
                let pointer = fields.at("effect");
                note(fields.faults, || {
                    super::object::suggest(
                        Fault::new(pointer, EXPECTED, &describe(other)),
                        given,
                        ["allow", "deny", "require_scope"],
                    )
                });
                None
            }
        },
    }
}
