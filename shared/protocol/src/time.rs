//! Moments and durations. The clock is never read here: a moment is an argument.

use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidegate_cbor::{Decode, Encode};

/// A moment: milliseconds since 1970-01-01T00:00:00Z, leap seconds ignored.
///
/// In JSON it is RFC 3339 text in UTC with milliseconds; between the parts, a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct UnixMs(pub u64);

/// The last moment that can be written with four digits for the year.
const LAST: u64 = 253_402_300_799_999;
const DAY_MS: u64 = 86_400_000;

impl UnixMs {
    /// This moment and `ms` milliseconds more; it stays at the last representable one.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        let sum = self.0.saturating_add(ms);
        Self(if sum > LAST { LAST } else { sum })
    }

    /// Milliseconds from `earlier` to this moment, 0 where it lies before.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Reads RFC 3339 text, with any offset and up to nine digits of a second; finer than a millisecond is cut off.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let number = |from: usize, to: usize| -> Option<u64> {
            let digits = bytes.get(from..to)?;
            digits
                .iter()
                .all(u8::is_ascii_digit)
                .then(|| digits.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')))
        };
        let sign = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|b| wanted.contains(b));
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let shape = sign(4, b"-") && sign(7, b"-") && sign(10, b"Tt ") && sign(13, b":") && sign(16, b":");
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + u64::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if !shape || year < 1970 || day == 0 || day > days || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let mut at = 19;
        let mut ms = 0;
        if sign(at, b".") {
            let digits = bytes.get(at + 1..)?.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 || digits > 9 {
                return None;
            }
            let taken = digits.min(3);
            ms = number(at + 1, at + 1 + taken)? * [1, 100, 10, 1].get(taken).copied()?;
            at += 1 + digits;
        }
        let local =
            days_from_civil(year, month, day) * DAY_MS + hour * 3_600_000 + minute * 60_000 + second * 1000 + ms;
        let moment = if sign(at, b"Zz") {
            at += 1;
            local
        } else {
            let (offset_hour, offset_minute) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            if !sign(at + 3, b":") || offset_hour > 23 || offset_minute > 59 {
                return None;
            }
            let offset = offset_hour * 3_600_000 + offset_minute * 60_000;
            let moment = match bytes.get(at)? {
                b'+' => local.checked_sub(offset)?,
                b'-' => local + offset,
                _ => return None,
            };
            at += 6;
            moment
        };
        (at == bytes.len()).then_some(Self(moment))
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (H. Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).saturating_sub(719_468)
}

/// The date `days` after 1970-01-01: year, month, day (same source).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = self.0.min(LAST);
        let (year, month, day) = civil_from_days(moment / DAY_MS);
        let rest = moment % DAY_MS;
        let (hour, minute, second, ms) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
        )
    }
}

impl Serialize for UnixMs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for UnixMs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = alloc::borrow::Cow::<str>::deserialize(deserializer)?;
            Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected a time as RFC 3339 text"))
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for UnixMs {
    fn schema_name() -> alloc::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time", "description": "RFC 3339, UTC, milliseconds" })
    }
}

/// Reads a duration with its unit, as configuration writes it: `250ms`, `30s`, `5m`, `2h`, `7d`. Milliseconds.
pub fn parse_duration(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => DAY_MS,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Writes a duration as configuration does, in the largest unit that keeps it whole.
pub fn format_duration(ms: u64) -> String {
    let (unit, name) = [(DAY_MS, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")]
        .into_iter()
        .find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit))
        .unwrap_or((1, "ms"));
    format!("{}{name}", ms / unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn rfc_3339_examples_are_read() {
        for (text, ms) in [
            ("1985-04-12T23:20:50.52Z", 482_196_050_520),
            ("1996-12-19T16:39:57-08:00", 851_042_397_000),
            ("1937-01-01T12:00:27.87+00:20", 0),
            ("2026-11-21T07:00:00.000Z", 1_795_244_400_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("1970-01-01T00:00:00Z", 0),
        ] {
            let read = UnixMs::parse(text);
            if text.starts_with("1937") {
                assert_eq!(read, None, "before 1970");
            } else {
                assert_eq!(read, Some(UnixMs(ms)), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2026",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T07:00:00",
            "2026-11-21T07:00:00Zx",
            "2026-11-21T07:00:00.Z",
            "tomorrow",
        ] {
            assert_eq!(UnixMs::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_moment_survives_its_text(ms in 0..=LAST) {
            prop_assert_eq!(UnixMs::parse(&UnixMs(ms).to_string()), Some(UnixMs(ms)));
        }

        #[test]
        fn reading_a_moment_never_panics(text in "\\PC{0,40}") {
            let _ = UnixMs::parse(&text);
        }

        #[test]
        fn a_duration_survives_its_text(ms in 0..10_000_000_000_u64) {
            prop_assert_eq!(parse_duration(&format_duration(ms)), Some(ms));
        }
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, ms) in [
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("7d", Some(604_800_000)),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1w", None),
        ] {
            assert_eq!(parse_duration(text), ms, "{text}");
        }
    }
}
