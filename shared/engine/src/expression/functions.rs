//! What operators and functions give. All arithmetic is checked.

use alloc::borrow::Cow;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;

use tidegate_protocol::time::UnixMs;

use super::evaluator::{not_taken, overflow};
use super::tree::{Function, InZone, Operator, Part};
use super::value::{Steps, double, whole};
use super::{Failure, Value};
use crate::schedules::Zone;

/// The last moment that can be written with four digits for the year.
const LAST_MS: i64 = 253_402_300_799_999;

/// `+`, `-`, `*`, `/` and `%`.
pub(super) fn arithmetic<'v>(
    operator: Operator,
    left: Value<'v>,
    right: Value<'v>,
    steps: &mut Steps,
) -> Result<Value<'v>, Failure> {
    use Operator::{Add, Divide, Multiply, Remainder, Subtract};
    let moment = |sum: Option<i64>| match sum {
        Some(ms @ 0..=LAST_MS) => Ok(Value::Timestamp(ms)),
        _ => Err(overflow()),
    };
    match (operator, left, right) {
        (Divide | Remainder, Value::Int(_), Value::Int(0)) => Err(Failure::new("division by zero")),
        (_, Value::Int(one), Value::Int(other)) => match operator {
            Add => one.checked_add(other),
            Subtract => one.checked_sub(other),
            Multiply => one.checked_mul(other),
            Divide => one.checked_div(other),
            _ => one.checked_rem(other),
        }
        .map(Value::Int)
        .ok_or_else(overflow),
        (Add, Value::Double(one), Value::Double(other)) => Ok(Value::Double(one + other)),
        (Subtract, Value::Double(one), Value::Double(other)) => Ok(Value::Double(one - other)),
        (Multiply, Value::Double(one), Value::Double(other)) => Ok(Value::Double(one * other)),
        (Divide, Value::Double(one), Value::Double(other)) => Ok(Value::Double(one / other)),
        (Add, Value::Text(one), Value::Text(other)) => {
            steps.take_text(one.len() + other.len())?;
            Ok(Value::Text(one + other))
        }
        (Add, one @ (Value::List(_) | Value::JsonList(_)), other @ (Value::List(_) | Value::JsonList(_))) => {
            steps.take(one.count().unwrap_or(0) + other.count().unwrap_or(0))?;
            let mut items = one.elements().unwrap_or_default();
            items.extend(other.elements().unwrap_or_default());
            Ok(Value::List(Rc::new(items)))
        }
        (Add, Value::Timestamp(one), Value::Duration(other)) | (Add, Value::Duration(one), Value::Timestamp(other)) => {
            moment(one.checked_add(other))
        }
        (Subtract, Value::Timestamp(one), Value::Duration(other)) => moment(one.checked_sub(other)),
        (Subtract, Value::Timestamp(one), Value::Timestamp(other)) => {
            one.checked_sub(other).map(Value::Duration).ok_or_else(overflow)
        }
        (Add, Value::Duration(one), Value::Duration(other)) => {
            one.checked_add(other).map(Value::Duration).ok_or_else(overflow)
        }
        (Subtract, Value::Duration(one), Value::Duration(other)) => {
            one.checked_sub(other).map(Value::Duration).ok_or_else(overflow)
        }
        (_, one, other) => Err(Failure::new(format!(
            "`{}` does not take {} and {}",
            operator.as_str(),
            one.kind(),
            other.kind()
        ))),
    }
}

/// Calls a function, whose second argument is that of a method.
pub(super) fn call<'v>(
    function: Function,
    first: Value<'v>,
    second: Option<Value<'v>>,
    steps: &mut Steps,
) -> Result<Value<'v>, Failure> {
    match function {
        Function::Dyn => Ok(first),
        Function::Size => {
            let size = match &first {
                Value::Text(text) => {
                    steps.take_text(text.len())?;
                    Some(text.chars().count())
                }
                other => other.count(),
            };
            let size = size.ok_or_else(|| not_taken("size", &first))?;
            i64::try_from(size).map(Value::Int).map_err(|_| overflow())
        }
        Function::StartsWith | Function::EndsWith | Function::Contains => {
            let (Value::Text(text), Some(Value::Text(part))) = (&first, &second) else {
                let (name, wrong) = match (&first, &second) {
                    (Value::Text(_), Some(part)) => ("the argument of a method of texts", part),
                    _ => ("a method of texts", &first),
                };
                return Err(Failure::new(format!("{name} is a string, not {}", wrong.kind())));
            };
            steps.take_text(text.len())?;
            Ok(Value::Bool(match function {
                Function::StartsWith => text.starts_with(part.as_ref()),
                Function::EndsWith => text.ends_with(part.as_ref()),
                _ => text.contains(part.as_ref()),
            }))
        }
        Function::Bool => match &first {
            Value::Bool(value) => Some(*value),
            Value::Text(text) => match text.as_ref() {
                "true" | "True" | "TRUE" | "t" | "1" => Some(true),
                "false" | "False" | "FALSE" | "f" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
        .map(Value::Bool)
        .ok_or_else(|| unlike("bool", &first)),
        Function::Int => match &first {
            Value::Int(number) => Some(*number),
            // The least of all doubles that fit is refused as well, as in CEL.
            Value::Double(number) => whole(*number).filter(|number| *number != i64::MIN),
            Value::Text(text) => text.parse().ok(),
            Value::Timestamp(ms) => Some(ms.div_euclid(1000)),
            _ => None,
        }
        .map(Value::Int)
        .ok_or_else(|| unlike("int", &first)),
        Function::Double => match &first {
            Value::Double(number) => Some(*number),
            Value::Int(number) => Some(double(*number)),
            Value::Text(text) if !text.contains(char::is_whitespace) => serde_json::from_str(text).ok(),
            _ => None,
        }
        .map(Value::Double)
        .ok_or_else(|| unlike("double", &first)),
        Function::Text => match first {
            Value::Text(_) => Ok(first),
            other => text_of(&other).map(Value::Text).ok_or_else(|| unlike("string", &other)),
        },
        Function::Timestamp => match &first {
            Value::Timestamp(ms) => Some(*ms),
            Value::Text(text) => UnixMs::parse(text).and_then(|moment| i64::try_from(moment.0).ok()),
            Value::Int(seconds) => seconds.checked_mul(1000),
            _ => None,
        }
        .filter(|ms| (0..=LAST_MS).contains(ms))
        .map(Value::Timestamp)
        .ok_or_else(|| unlike("timestamp", &first)),
        Function::Duration => match &first {
            Value::Duration(ms) => Some(*ms),
            Value::Text(text) => duration(text),
            _ => None,
        }
        .map(Value::Duration)
        .ok_or_else(|| unlike("duration", &first)),
    }
}

fn unlike(kind: &str, value: &Value<'_>) -> Failure {
    match value {
        Value::Text(text) => Failure::new(format!("\"{}\" is no {kind}", tidegate_protocol::fault::shorten(text))),
        other => Failure::new(format!("this {} is no {kind}", other.kind())),
    }
}

/// A value as text. `None` for what has none.
pub(super) fn text_of<'v>(value: &Value<'v>) -> Option<Cow<'v, str>> {
    Some(match value {
        Value::Text(text) => text.clone(),
        Value::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
        Value::Int(number) => number.to_string().into(),
        Value::Double(number) => match serde_json::Number::from_f64(*number) {
            Some(finite) => {
                let text = finite.to_string();
                text.strip_suffix(".0").unwrap_or(&text).to_string().into()
            }
            None if number.is_nan() => Cow::Borrowed("NaN"),
            None if *number > 0.0 => Cow::Borrowed("+Inf"),
            None => Cow::Borrowed("-Inf"),
        },
        Value::Timestamp(ms) => {
            let text = UnixMs(u64::try_from(*ms).unwrap_or(0)).to_string();
            text.replace(".000Z", "Z").into()
        }
        Value::Duration(ms) => {
            let sign = if *ms < 0 { "-" } else { "" };
            let (seconds, rest) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
            let text = format!("{sign}{seconds}.{rest:03}");
            let text = text.trim_end_matches('0').trim_end_matches('.');
            // A whole number of seconds has lost its zeros with those behind the point.
            if rest == 0 {
                format!("{sign}{seconds}s").into()
            } else {
                format!("{text}s").into()
            }
        }
        _ => return None,
    })
}

/// A duration as CEL writes it: numbers, each with its unit, such as `1h30m` or `-1.5s`. Milliseconds; what is finer is cut
/// off.
fn duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut nanoseconds = 0_i128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at_checked(digits)?;
        let (fraction, behind) = match behind.strip_prefix('.') {
            Some(behind) => behind.split_at_checked(behind.find(|c: char| !c.is_ascii_digit())?)?,
            None => ("", behind),
        };
        if number.is_empty() && fraction.is_empty() {
            return None;
        }
        let units = [
            ("ns", 1),
            ("us", 1_000),
            ("ms", 1_000_000),
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000_i128),
        ];
        let (unit, scale) = units.into_iter().find(|(unit, _)| behind.starts_with(unit))?;
        rest = behind.strip_prefix(unit)?;
        let whole = if number.is_empty() {
            0
        } else {
            number.parse::<u64>().ok()?
        };
        nanoseconds = nanoseconds.checked_add(i128::from(whole).checked_mul(scale)?)?;
        let mut worth = scale;
        for digit in fraction.bytes().take(18) {
            worth /= 10;
            nanoseconds += worth * i128::from(digit - b'0');
        }
    }
    i64::try_from(sign * nanoseconds / 1_000_000).ok()
}

/// A part of a date in a zone, or of a duration.
pub(super) fn part<'v>(part: Part, of: &Value<'v>, zone: Option<&InZone>) -> Result<Value<'v>, Failure> {
    let ms = match of {
        Value::Duration(ms) if part.of_duration() && zone.is_none() => {
            let of = match part {
                Part::Hours => ms / 3_600_000,
                Part::Minutes => ms / 60_000,
                Part::Seconds => ms / 1000,
                _ => ms % 1000,
            };
            return Ok(Value::Int(of));
        }
        Value::Timestamp(ms) => *ms,
        other => return Err(Failure::new(format!("{} has no such part", other.kind()))),
    };
    let at = ms.div_euclid(1000);
    let shown = match zone {
        Some(zone) => zone.0.shown(at),
        None => Zone::shown_in_utc(at),
    };
    let shown = shown.ok_or_else(overflow)?;
    Ok(Value::Int(match part {
        Part::Year => i64::from(shown.year),
        Part::Month => i64::from(shown.month) - 1,
        Part::DayOfMonth => i64::from(shown.day) - 1,
        Part::Date => i64::from(shown.day),
        Part::DayOfWeek => i64::from(shown.weekday),
        Part::Hours => i64::from(shown.second_of_day / 3600),
        Part::Minutes => i64::from(shown.second_of_day / 60 % 60),
        Part::Seconds => i64::from(shown.second_of_day % 60),
        Part::Milliseconds => ms.rem_euclid(1000),
    }))
}
