//! Moments as texts of ISO 8601, in UTC.

use alloc::format;
use alloc::string::String;

const DAY_MS: i64 = 86_400_000;

/// How much of a moment is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    /// `2024-02-29`
    Day,
    /// `2024-02-29T12:30:00Z`
    Second,
    /// `2024-02-29T12:30:00.250Z`
    Millisecond,
}

/// The text of a moment, in milliseconds since 1970, of the years 0 to 9999.
pub(super) fn text(at: i64, precision: Precision) -> String {
    let (year, month, day) = date(at.div_euclid(DAY_MS));
    let date = format!("{year:04}-{month:02}-{day:02}");
    let rest = at.rem_euclid(DAY_MS);
    let (hour, minute, second, ms) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000);
    match precision {
        Precision::Day => date,
        Precision::Second => format!("{date}T{hour:02}:{minute:02}:{second:02}Z"),
        Precision::Millisecond => format!("{date}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"),
    }
}

/// Year, month and day of a day since 1970, in the proleptic Gregorian calendar.
const fn date(days: i64) -> (i64, i64, i64) {
    // Years from March on, so that the leap day is the last one; 400 of them have always the same days.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year;
    if month < 10 {
        (year, month + 3, day)
    } else {
        (year + 1, month - 9, day)
    }
}
