//! Values, and what is equal to or below what.

use alloc::borrow::Cow;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cmp::Ordering;

use serde_json::Value as Json;

use super::Failure;

/// A value of an expression. What it borrows lives as long as the expression and the values that it speaks of.
#[derive(Debug, Clone)]
pub enum Value<'v> {
    /// `null`.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A double.
    Double(f64),
    /// A text.
    Text(Cow<'v, str>),
    /// A moment: milliseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
    /// A length of time. Milliseconds.
    Duration(i64),
    /// A list.
    List(Rc<Vec<Self>>),
    /// A map. Each key once, a text, whole number or truth value.
    Map(Rc<Vec<(Self, Self)>>),
    /// A list of JSON, taken apart only where it is looked at.
    JsonList(&'v Vec<Json>),
    /// An object of JSON, taken apart only where it is looked at.
    JsonMap(&'v serde_json::Map<alloc::string::String, Json>),
}

/// Steps that are left.
pub(super) struct Steps(pub u32);

impl Steps {
    /// Takes so many.
    pub fn take(&mut self, count: usize) -> Result<(), Failure> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match self.0.checked_sub(count) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => {
                self.0 = 0;
                let message = format!("it takes more than {} steps", super::STEPS_MAX);
                Err(Failure::new(message))
            }
        }
    }

    /// Takes what it costs to look through so many bytes of text.
    pub fn take_text(&mut self, bytes: usize) -> Result<(), Failure> {
        self.take(bytes / 16)
    }
}

impl<'v> Value<'v> {
    /// The value that a value of JSON is. A number is a whole one where it is written as one and fits, else a double.
    pub fn of_json(json: &'v Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Self::Int(number),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::Text(Cow::Borrowed(text)),
            Json::Array(items) => Self::JsonList(items),
            Json::Object(fields) => Self::JsonMap(fields),
        }
    }

    /// The value as JSON, for what is answered; moments and durations as text, and `null` for a double that JSON has no
    /// number for.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::from(*value),
            Self::Int(number) => Json::from(*number),
            Self::Double(number) => Json::from(*number),
            Self::Text(text) => Json::from(text.as_ref()),
            Self::Timestamp(_) | Self::Duration(_) => {
                Json::from(super::functions::text_of(self).unwrap_or_default().as_ref())
            }
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => Json::Object(
                entries
                    .iter()
                    .map(|(key, value)| {
                        let key = super::functions::text_of(key).unwrap_or_default();
                        (key.into_owned(), value.to_json())
                    })
                    .collect(),
            ),
            Self::JsonList(items) => Json::Array((*items).clone()),
            Self::JsonMap(fields) => Json::Object((*fields).clone()),
        }
    }

    /// What kind of value it is, as CEL calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Timestamp(_) => "timestamp",
            Self::Duration(_) => "duration",
            Self::List(_) | Self::JsonList(_) => "list",
            Self::Map(_) | Self::JsonMap(_) => "map",
        }
    }

    /// The field `name` of a map.
    ///
    /// Errors: for what is no map.
    pub fn field(&self, name: &str) -> Result<Option<Self>, Failure> {
        match self {
            Self::JsonMap(fields) => Ok(fields.get(name).map(Self::of_json)),
            Self::Map(entries) => {
                let is_named = |(key, _): &&(Self, Self)| matches!(key, Self::Text(text) if text == name);
                Ok(entries.iter().find(is_named).map(|(_, value)| value.clone()))
            }
            other => Err(Failure::new(format!("{} has no fields", other.kind()))),
        }
    }

    /// How many elements a list or map has.
    pub(super) fn count(&self) -> Option<usize> {
        match self {
            Self::List(items) => Some(items.len()),
            Self::JsonList(items) => Some(items.len()),
            Self::Map(entries) => Some(entries.len()),
            Self::JsonMap(fields) => Some(fields.len()),
            _ => None,
        }
    }

    /// The elements of a list, or the keys of a map. `None` for anything else.
    pub(super) fn elements(&self) -> Option<Vec<Self>> {
        Some(match self {
            Self::List(items) => items.to_vec(),
            Self::JsonList(items) => items.iter().map(Self::of_json).collect(),
            Self::Map(entries) => entries.iter().map(|(key, _)| key.clone()).collect(),
            Self::JsonMap(fields) => fields.keys().map(|key| Self::Text(Cow::Borrowed(key))).collect(),
            _ => return None,
        })
    }

    /// The value under `key`. `None` for what is no map.
    pub(super) fn under(&self, key: &Self, steps: &mut Steps) -> Result<Option<Self>, Failure> {
        match self {
            Self::JsonMap(fields) => match key {
                Self::Text(name) => Ok(fields.get(name.as_ref()).map(Self::of_json)),
                _ => Ok(None),
            },
            Self::Map(entries) => {
                for (known, value) in entries.iter() {
                    if known.equals(key, steps)? {
                        return Ok(Some(value.clone()));
                    }
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Whether two values are equal. Values of different kinds are not, but for numbers.
    pub(super) fn equals(&self, other: &Self, steps: &mut Steps) -> Result<bool, Failure> {
        steps.take(1)?;
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(one), Self::Bool(other)) => one == other,
            (Self::Text(one), Self::Text(other)) => {
                steps.take_text(one.len().min(other.len()))?;
                one == other
            }
            (Self::Timestamp(one), Self::Timestamp(other)) | (Self::Duration(one), Self::Duration(other)) => {
                one == other
            }
            (Self::Int(_) | Self::Double(_), Self::Int(_) | Self::Double(_)) => {
                self.numbers(other) == Some(Ordering::Equal)
            }
            (Self::List(_) | Self::JsonList(_), Self::List(_) | Self::JsonList(_)) => {
                let same = self.count() == other.count();
                steps.take(self.count().unwrap_or(0))?;
                let (Some(ones), Some(others), true) = (self.elements(), other.elements(), same) else {
                    return Ok(false);
                };
                for (one, other) in ones.iter().zip(&others) {
                    if !one.equals(other, steps)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Map(_) | Self::JsonMap(_), Self::Map(_) | Self::JsonMap(_)) => {
                steps.take(self.count().unwrap_or(0))?;
                let (Some(keys), true) = (self.elements(), self.count() == other.count()) else {
                    return Ok(false);
                };
                for key in keys {
                    let (one, other) = (self.under(&key, steps)?, other.under(&key, steps)?);
                    let (Some(one), Some(other)) = (one, other) else {
                        return Ok(false);
                    };
                    if !one.equals(&other, steps)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => false,
        })
    }

    /// Which of two values comes first; `None` where one is no number (`NaN`).
    ///
    /// Errors: for values that have no order.
    pub(super) fn order(&self, other: &Self) -> Result<Option<Ordering>, Failure> {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => Ok(Some(one.cmp(other))),
            (Self::Text(one), Self::Text(other)) => Ok(Some(one.cmp(other))),
            (Self::Timestamp(one), Self::Timestamp(other)) | (Self::Duration(one), Self::Duration(other)) => {
                Ok(Some(one.cmp(other)))
            }
            (Self::Int(_) | Self::Double(_), Self::Int(_) | Self::Double(_)) => Ok(self.numbers(other)),
            _ => Err(Failure::new(format!(
                "{} and {} have no order",
                self.kind(),
                other.kind()
            ))),
        }
    }

    fn numbers(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(one), Self::Int(other)) => Some(one.cmp(other)),
            (Self::Double(one), Self::Double(other)) => one.partial_cmp(other),
            (Self::Int(one), Self::Double(other)) => mixed(*one, *other),
            (Self::Double(one), Self::Int(other)) => mixed(*other, *one).map(Ordering::reverse),
            _ => None,
        }
    }
}

/// The whole part of a double. `None` where it does not fit.
pub(super) fn whole(double: f64) -> Option<i64> {
    // The bounds themselves are exact: -2^63 fits, 2^63 does not.
    if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&double) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "in range, and to be cut off")]
    Some(double as i64)
}

/// The double next to a whole number.
pub(super) fn double(whole: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "the nearest is what CEL asks for")]
    let double = whole as f64;
    double
}

/// How a whole number compares with a double, exactly: not as the double next to it.
fn mixed(int: i64, other: f64) -> Option<Ordering> {
    match whole(other) {
        Some(cut) => {
            let fraction = double(cut).partial_cmp(&other)?;
            Some(int.cmp(&cut).then(fraction))
        }
        None if other.is_nan() => None,
        None if other > 0.0 => Some(Ordering::Less),
        None => Some(Ordering::Greater),
    }
}
