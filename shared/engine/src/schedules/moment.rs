//! A moment in a zone, as `croner` wants to see it.

use core::cell::Cell;
use core::cmp::Ordering;

use croner::errors::CronError;
use croner::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use tidegate_protocol::time::UnixMs;

use super::zone::{Meant, Shown, Zone};

/// A whole second in a zone.
#[derive(Clone)]
pub(super) struct Moment<'a> {
    /// Seconds since 1970.
    at: i64,
    shown: Shown,
    zone: &'a Zone,
    /// Conversions that the search may still ask for.
    left: &'a Cell<u32>,
}

impl<'a> Moment<'a> {
    /// The second that `at` lies in. `None` beyond the calendar.
    pub fn at(at: UnixMs, zone: &'a Zone, left: &'a Cell<u32>) -> Option<Self> {
        let at = i64::try_from(at.0 / 1000).ok()?;
        let shown = zone.shown(at)?;
        Some(Self { at, shown, zone, left })
    }

    /// The moment as the rest of the engine has it. `None` before 1970.
    pub fn unix_ms(&self) -> Option<UnixMs> {
        u64::try_from(self.at).ok()?.checked_mul(1000).map(UnixMs)
    }

    fn moved(&self, at: i64) -> Option<Self> {
        let shown = self.zone.shown(at)?;
        Some(Self {
            at,
            shown,
            ..self.clone()
        })
    }
}

impl CronDateTime for Moment<'_> {
    fn to_civil(&self) -> CivilDateTime {
        let Shown {
            year,
            month,
            day,
            second_of_day,
            ..
        } = self.shown;
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(year, month, day),
            CivilTime::from_parts_unchecked(hour, minute, second),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(self.shown.weekday)
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let left = self
            .left
            .get()
            .checked_sub(1)
            .ok_or(CronError::TimeSearchLimitExceeded)?;
        self.left.set(left);
        let second_of_day = civil.hour() * 3600 + civil.minute() * 60 + civil.second();
        let meant = self.zone.meant(civil.year(), civil.month(), civil.day(), second_of_day);
        let at = |at| self.moved(at).ok_or(CronError::InvalidTime);
        Ok(match meant.ok_or(CronError::InvalidDate)? {
            Meant::Once(moment) => Resolution::Single(at(moment)?),
            Meant::Twice(first, second) => Resolution::Ambiguous(at(first)?, at(second)?),
            Meant::Never => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.moved(self.at.checked_add(seconds)?)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}
