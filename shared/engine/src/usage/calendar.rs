//! The windows in which use is added up: hours, days and months, all in UTC.

use alloc::format;

use tidegate_protocol::time::UnixMs;

/// An hour. Milliseconds.
pub const HOUR_MS: u64 = 3_600_000;
/// A day. Milliseconds.
pub const DAY_MS: u64 = 86_400_000;

/// How long a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month of the Gregorian calendar.
    Month,
}

impl Window {
    /// The names of all windows.
    pub const NAMES: [&'static str; 3] = ["hour", "day", "month"];

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The window that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Hour, Self::Day, Self::Month]
            .into_iter()
            .find(|window| window.as_str() == text)
    }

    /// When the window began that `at` lies in.
    pub fn start(self, at: UnixMs) -> UnixMs {
        match self {
            Self::Hour => UnixMs(at.0 - at.0 % HOUR_MS),
            Self::Day => UnixMs(at.0 - at.0 % DAY_MS),
            Self::Month => {
                let text = format!("{at}");
                let month = text.get(..7).unwrap_or_default();
                UnixMs::parse(&format!("{month}-01T00:00:00Z")).unwrap_or(at)
            }
        }
    }

    /// When the window ends that `at` lies in: when the next one begins.
    pub fn end(self, at: UnixMs) -> UnixMs {
        let start = self.start(at);
        match self {
            Self::Hour => start.plus(HOUR_MS),
            Self::Day => start.plus(DAY_MS),
            // No month has more than 31 days, and none that follows one has fewer than 28.
            Self::Month => self.start(start.plus(31 * DAY_MS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn windows_begin_and_end_as_the_calendar_says() {
        for (at, window, start, end) in [
            (
                "2026-11-21T07:59:59.999Z",
                Window::Hour,
                "2026-11-21T07:00:00.000Z",
                "2026-11-21T08:00:00.000Z",
            ),
            (
                "2026-11-21T00:00:00.000Z",
                Window::Day,
                "2026-11-21T00:00:00.000Z",
                "2026-11-22T00:00:00.000Z",
            ),
            (
                "2026-11-21T07:00:00.000Z",
                Window::Month,
                "2026-11-01T00:00:00.000Z",
                "2026-12-01T00:00:00.000Z",
            ),
            (
                "2028-02-29T23:59:59.999Z",
                Window::Month,
                "2028-02-01T00:00:00.000Z",
                "2028-03-01T00:00:00.000Z",
            ),
            (
                "2027-01-31T23:00:00.000Z",
                Window::Month,
                "2027-01-01T00:00:00.000Z",
                "2027-02-01T00:00:00.000Z",
            ),
            (
                "2026-12-31T12:00:00.000Z",
                Window::Month,
                "2026-12-01T00:00:00.000Z",
                "2027-01-01T00:00:00.000Z",
            ),
        ] {
            let moment = UnixMs::parse(at).unwrap();
            assert_eq!(window.start(moment).to_string(), start, "{at}");
            assert_eq!(window.end(moment).to_string(), end, "{at}");
        }
    }
}
