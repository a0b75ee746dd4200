//! When a schedule fires: cron expressions after OCPS 1.4, in the time zones of the IANA database.
//!
//! Pure: a moment goes in, the next one comes out. `croner` reads expressions and searches the calendar, [`zone`] knows the
//! zones (all of them, inside the bundle), and [`moment`] is what stands between the two. Who keeps a schedule, and what
//! becomes of a moment that was missed, is decided in [`crate::jobs`].
//!
//! What OCPS and this make of a clock that is put forward or back. An expression with one hour, one minute and one
//! second is a fixed time: where that time is left out, it fires at the first moment after the gap, and where it comes
//! twice, it fires at the first of the two. Any other expression is an interval: what a gap leaves out is left out, and
//! what comes twice fires twice.

mod moment;
#[cfg(test)]
mod tests;
mod zone;

use alloc::string::{String, ToString};
use core::cell::Cell;
use core::str::FromStr;

use croner::Cron;
use tidegate_protocol::time::UnixMs;

use moment::Moment;
pub use zone::Zone;

/// Characters of an expression at most: seven fields, each a list of everything, would not be more.
pub const EXPRESSION_CHARS_MAX: usize = 256;
/// Conversions of one search at most, some 100 ns each. The longest search that finds anything, the 29th of February on
/// a day of the week, takes some 2,000; what never comes is given up after this many.
const CONVERSIONS_MAX: u32 = 50_000;
/// From when on an expression must come at least once, 2025-01-01T00:00:00Z. A fixed moment, so that a document that
/// compiles today compiles for ever.
const BEGINNING: UnixMs = UnixMs(1_735_689_600_000);

/// Why a text is no timetable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// It is no cron expression: why not.
    Expression(String),
    /// It is one, and no moment matches it, as with the 30th of February.
    Never,
    /// There is no such zone in the IANA database.
    Zone,
}

/// An expression in a zone.
#[derive(Debug, Clone)]
pub struct Timetable {
    cron: Cron,
    zone: Zone,
}

/// Reads an expression: five fields, six with seconds, seven with years, or one of `@yearly`, `@monthly`, `@weekly`,
/// `@daily` and `@hourly`.
///
/// Errors: [`Unusable::Expression`].
pub fn parse_expression(text: &str) -> Result<Cron, Unusable> {
    let refuse = |why: &str| Err(Unusable::Expression(why.to_string()));
    if text.len() > EXPRESSION_CHARS_MAX {
        return refuse("too long");
    }
    let known =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'*' | b',' | b'-' | b'/' | b'#' | b'?' | b'+' | b'@');
    if !text.bytes().all(known) {
        return refuse("a character that no field has");
    }
    if text.trim().eq_ignore_ascii_case("@reboot") {
        return refuse("`@reboot`: nothing is ever rebooted here");
    }
    // `croner` passes over an empty item; whoever wrote it meant something.
    let mut fields = text.split_ascii_whitespace();
    if fields.any(|field| field.split(',').any(str::is_empty)) {
        return refuse("an empty item in a list");
    }
    Cron::from_str(text).map_err(|error| Unusable::Expression(error.to_string()))
}

/// Finds a zone by its name, `Europe/Berlin` or `UTC`; case does not count.
///
/// Errors: [`Unusable::Zone`].
pub fn parse_zone(name: &str) -> Result<Zone, Unusable> {
    Zone::find(name).ok_or(Unusable::Zone)
}

impl Timetable {
    /// Puts an expression into a zone.
    ///
    /// Errors: [`Unusable::Never`] where no moment matches.
    pub fn new(cron: Cron, zone: Zone) -> Result<Self, Unusable> {
        let timetable = Self { cron, zone };
        match timetable.next_after(BEGINNING) {
            Some(_) => Ok(timetable),
            None => Err(Unusable::Never),
        }
    }

    /// Reads both, where both have been checked before: what was found right is not searched again.
    ///
    /// Errors: whatever is wrong with either.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, Unusable> {
        Ok(Self {
            cron: parse_expression(expression)?,
            zone: parse_zone(zone)?,
        })
    }

    /// The first moment after `at` that matches, a whole second; `None` where there is none any more.
    ///
    /// The work is bounded, whatever the expression: a search that comes to its end without a match takes some 30 ms.
    pub fn next_after(&self, at: UnixMs) -> Option<UnixMs> {
        let left = Cell::new(CONVERSIONS_MAX);
        let start = Moment::at(at, &self.zone, &left)?;
        let found = self.cron.find_next_occurrence(&start, false).ok()?;
        found.unix_ms().filter(|next| *next > at)
    }
}
