//! What a field is, by how it is written. What may be an identifier is no number: `00501` is a ZIP code, and a run of
//! sixteen digits would not survive as a double.

use serde::{Deserialize, Serialize};

/// Digits of a whole number that a double certainly holds.
const DIGITS_MAX: usize = 15;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Integer,
    Number,
    Boolean,
    Date,
    DateTime,
    /// Digits that are no number.
    Code,
    Text,
    Json,
}

/// How many kinds there are.
pub(super) const KINDS: usize = 8;

/// A value that is not null.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Integer(f64),
    Number(f64),
    Boolean,
    /// Milliseconds since 1970.
    Date(i64),
    /// Milliseconds since 1970; a time without an offset is taken as UTC.
    DateTime(i64),
    Code,
    Text,
    Json,
}

impl Value {
    /// Its kind.
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Integer(_) => Kind::Integer,
            Self::Number(_) => Kind::Number,
            Self::Boolean => Kind::Boolean,
            Self::Date(_) => Kind::Date,
            Self::DateTime(_) => Kind::DateTime,
            Self::Code => Kind::Code,
            Self::Text => Kind::Text,
            Self::Json => Kind::Json,
        }
    }
}

/// What a field of CSV is, without the spaces around it; nothing for a null: an empty field, `null`, `NaN`, `N/A`
/// or `\N`. `NA` is none: it is Namibia, and a sales region.
pub(super) fn classify(field: &[u8]) -> Option<Value> {
    let value = match *field.first()? {
        b'0'..=b'9' | b'-' | b'.' => instant(field).or_else(|| number(field)).unwrap_or(Value::Text),
        b'n' | b'N' if matches!(field, b"null" | b"NULL" | b"Null" | b"NaN" | b"nan" | b"N/A" | b"n/a") => return None,
        b'\\' if field == b"\\N" => return None,
        b't' | b'T' | b'f' | b'F' if matches!(field.len(), 4 | 5) && is_boolean(field) => Value::Boolean,
        _ => Value::Text,
    };
    Some(value)
}

/// What a string of JSON is: a date or a text. It is never a number, as it was not written as one.
pub(super) fn classify_text(text: &[u8]) -> Value {
    instant(text).unwrap_or(Value::Text)
}

/// What any other JSON value is.
pub(super) fn classify_json(raw: &[u8]) -> Option<Value> {
    match raw.first() {
        Some(b'n') => None,
        Some(b't' | b'f') => Some(Value::Boolean),
        Some(b'{' | b'[') => Some(Value::Json),
        _ => match number(raw) {
            Some(Value::Code) | None => Some(parsed(raw).map_or(Value::Text, Value::Number)),
            number => number,
        },
    }
}

fn is_boolean(field: &[u8]) -> bool {
    field.eq_ignore_ascii_case(b"true") || field.eq_ignore_ascii_case(b"false")
}

/// A number as JSON writes it; `.5` and `5.` too.
fn number(field: &[u8]) -> Option<Value> {
    let (is_negative, digits) = match field.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, field),
    };
    let (mut mantissa, mut seen, mut whole_digits, mut fraction_digits) = (0_u64, 0_usize, 0_usize, 0_i32);
    let (mut in_fraction, mut exponent) = (false, None);
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                seen += 1;
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                if in_fraction {
                    fraction_digits += 1;
                } else {
                    whole_digits += 1;
                }
            }
            b'.' if !in_fraction => in_fraction = true,
            b'e' | b'E' if seen > 0 => {
                exponent = Some(power(digits.get(at + 1..)?)?);
                break;
            }
            _ => return None,
        }
    }
    if seen == 0 {
        return None;
    }
    let is_whole = !in_fraction && exponent.is_none();
    if whole_digits > 1 && digits.first() == Some(&b'0') {
        return (is_whole && !is_negative).then_some(Value::Code);
    }
    if is_whole && whole_digits > DIGITS_MAX {
        return Some(Value::Code);
    }
    let scale = exponent.unwrap_or(0) - fraction_digits;
    if seen > DIGITS_MAX || !(-22..=22).contains(&scale) {
        return parsed(field).map(Value::Number);
    }
    // Both are exact, so the result is the nearest double, as a full parser finds it.
    #[expect(clippy::cast_precision_loss, reason = "at most 15 digits")]
    let mut value = mantissa as f64;
    let power = POWERS.get(usize::try_from(scale.abs()).ok()?)?;
    if scale < 0 {
        value /= power;
    } else {
        value *= power;
    }
    let value = if is_negative { -value } else { value };
    Some(if is_whole {
        Value::Integer(value)
    } else {
        Value::Number(value)
    })
}

/// The powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The exponent behind an `e`.
fn power(text: &[u8]) -> Option<i32> {
    let (is_negative, digits) = match text.split_first()? {
        (b'-', digits) => (true, digits),
        (b'+', digits) => (false, digits),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 4 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let power = digits
        .iter()
        .fold(0, |power, digit| power * 10 + i32::from(digit - b'0'));
    Some(if is_negative { -power } else { power })
}

fn parsed(text: &[u8]) -> Option<f64> {
    let value: f64 = core::str::from_utf8(text).ok()?.parse().ok()?;
    Some(value).filter(|value| value.is_finite())
}

/// A date or a time of ISO 8601: `2024-02-29`, `2024/02/29`, `2024-02-29T12:30`, with seconds, a fraction, an offset.
fn instant(text: &[u8]) -> Option<Value> {
    let (date, time) = text.split_at_checked(10)?;
    let [y1, y2, y3, y4, first, m1, m2, second, d1, d2] = <[u8; 10]>::try_from(date).ok()?;
    if !matches!(first, b'-' | b'/') || first != second {
        return None;
    }
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let days = days(year, two(m1, m2)?, two(d1, d2)?)?;
    let midnight = days * 86_400_000;
    match time.split_first() {
        None => Some(Value::Date(midnight)),
        Some((b'T' | b't' | b' ', clock)) => Some(Value::DateTime(midnight + clock_ms(clock)?)),
        Some(_) => None,
    }
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

/// Days since 1970, in the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap),
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Years from March on, so that the leap day is the last one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468)
}

/// Milliseconds since midnight UTC.
fn clock_ms(text: &[u8]) -> Option<i64> {
    let ([h1, h2, b':', m1, m2], mut rest) = text.split_first_chunk::<5>()? else {
        return None;
    };
    let (hour, minute) = (two(*h1, *h2)?, two(*m1, *m2)?);
    let (mut second, mut ms) = (0, 0);
    if let Some(([b':', s1, s2], after)) = rest.split_first_chunk::<3>() {
        (second, rest) = (two(*s1, *s2)?, after);
        if let Some((b'.' | b',', after)) = rest.split_first() {
            let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (fraction, after) = after.split_at(digits);
            if digits == 0 || digits > 9 {
                return None;
            }
            ms = fraction
                .iter()
                .chain(b"000")
                .take(3)
                .fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'));
            rest = after;
        }
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some((hour * 3600 + minute * 60 + second) * 1000 + ms - offset_ms(rest)?)
}

fn offset_ms(text: &[u8]) -> Option<i64> {
    let (sign, h1, h2, m1, m2) = match *text {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] | [sign @ (b'+' | b'-'), h1, h2, m1, m2] => (sign, h1, h2, m1, m2),
        [sign @ (b'+' | b'-'), h1, h2] => (sign, h1, h2, b'0', b'0'),
        _ => return None,
    };
    let (hours, minutes) = (two(h1, h2)?, two(m1, m2)?);
    let ms = (hours * 60 + minutes) * 60_000;
    (hours <= 23 && minutes <= 59).then_some(if sign == b'-' { -ms } else { ms })
}
