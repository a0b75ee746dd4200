//! A moment in a zone, as `croner` wants to see it.
//!
//! `croner` has such a type for `jiff` itself; it brings `jiff`'s whole calendar into the bundle (some 50 KiB gzipped), of
//! which only the zones are needed.

use core::cell::Cell;
use core::cmp::Ordering;

use croner::errors::CronError;
use croner::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use tidegate_protocol::time::UnixMs;

/// A whole second in a zone.
#[derive(Clone)]
pub(super) struct Moment<'a> {
    at: Timestamp,
    zone: &'a TimeZone,
    /// Conversions that the search may still ask for.
    left: &'a Cell<u32>,
}

impl<'a> Moment<'a> {
    /// The second that `at` lies in. `None` beyond the calendar.
    pub fn at(at: UnixMs, zone: &'a TimeZone, left: &'a Cell<u32>) -> Option<Self> {
        let seconds = i64::try_from(at.0 / 1000).ok()?;
        let at = Timestamp::from_second(seconds).ok()?;
        Some(Self { at, zone, left })
    }

    /// The moment as the rest of the engine has it. `None` before 1970.
    pub fn unix_ms(&self) -> Option<UnixMs> {
        let seconds = u64::try_from(self.at.as_second()).ok()?;
        Some(UnixMs(seconds.saturating_mul(1000)))
    }

    fn civil(&self) -> DateTime {
        self.zone.to_datetime(self.at)
    }

    fn moved(&self, at: Timestamp) -> Self {
        Self { at, ..self.clone() }
    }
}

/// A field of a date, which is never negative where the year is not.
fn field(value: i8) -> u32 {
    u32::try_from(value).unwrap_or_default()
}

impl CronDateTime for Moment<'_> {
    fn to_civil(&self) -> CivilDateTime {
        let civil = self.civil();
        let date = CivilDate::from_parts_unchecked(i32::from(civil.year()), field(civil.month()), field(civil.day()));
        let time = CivilTime::from_parts_unchecked(field(civil.hour()), field(civil.minute()), field(civil.second()));
        CivilDateTime::new(date, time)
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(field(self.civil().weekday().to_sunday_zero_offset()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let left = self
            .left
            .get()
            .checked_sub(1)
            .ok_or(CronError::TimeSearchLimitExceeded)?;
        self.left.set(left);
        let part = |value: u32| i8::try_from(value).map_err(|_| CronError::InvalidDate);
        let civil = DateTime::new(
            i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?,
            part(civil.month())?,
            part(civil.day())?,
            part(civil.hour())?,
            part(civil.minute())?,
            part(civil.second())?,
            0,
        )
        .map_err(|_| CronError::InvalidDate)?;
        let at = |offset: jiff::tz::Offset| {
            let at = offset.to_timestamp(civil).map_err(|_| CronError::InvalidTime)?;
            Ok(self.moved(at))
        };
        Ok(match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => Resolution::Single(at(offset)?),
            AmbiguousOffset::Fold { before, after } => Resolution::Ambiguous(at(before)?, at(after)?),
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let at = Timestamp::from_second(self.at.as_second().checked_add(seconds)?).ok()?;
        Some(self.moved(at))
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}
