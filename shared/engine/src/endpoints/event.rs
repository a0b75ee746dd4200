//! What the filter of an endpoint can speak of.

use serde_json::Value as Json;
use tidegate_protocol::event::JsonText;

use crate::expression::{Expression, Failure, Type, Value, Variables};

/// The variables of a filter: the event as it is sent, and its `data`.
pub const VARIABLES: &[(&str, Type)] = &[("event", Type::Map), ("data", Type::Map)];

/// An event, for filters.
#[derive(Debug, Clone, PartialEq)]
pub struct Told(Json);

impl Told {
    /// The event that is sent as `text`.
    pub fn of(text: &JsonText) -> Self {
        Self(serde_json::from_str(text.as_str()).unwrap_or_default())
    }

    /// Whether `filter` lets the event pass. One that gives no value does not: no field that is missing, or is of another
    /// form, lets anybody hear of what is not theirs.
    pub fn passes(&self, filter: &Expression) -> bool {
        filter.holds(&self).unwrap_or(false)
    }
}

impl<'v> Variables<'v> for &'v Told {
    fn value(&self, name: &str) -> Result<Value<'v>, Failure> {
        let told: &'v Told = self;
        let value = match name {
            "event" => Some(&told.0),
            "data" => told.0.get("data"),
            _ => None,
        };
        value
            .map(Value::of_json)
            .ok_or_else(|| Failure::new("there is no such variable"))
    }
}
