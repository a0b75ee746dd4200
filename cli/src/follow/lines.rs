//! An update as one line for a person.

use std::fmt;

use tidegate_sdk::Update;

use crate::output::tame;

/// A percentage, in tenths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent {
    /// 0 to 1000.
    pub tenths: u64,
}

/// A percentage as the server states it, kept between 0 and 100.
pub fn percent(percentage: f64) -> Percent {
    // Bounded just before, so that nothing is cut off; not a number becomes 0.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let tenths = (percentage * 10.0).round().clamp(0.0, 1000.0) as u64;
    Percent { tenths }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>3}.{} %", self.tenths / 10, self.tenths % 10)
    }
}

/// Milliseconds as seconds, with one decimal.
pub fn seconds(ms: u64) -> String {
    let tenths = ms.div_ceil(100);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// The line; `None` for what ends the call, which is told otherwise.
pub fn line(update: &Update) -> Option<String> {
    let text = match update {
        Update::Reconnecting { attempt, in_ms, why } => {
            format!("reconnecting in {} s (attempt {attempt}): {why}", seconds(*in_ms))
        }
        Update::Reconnected => "connected again".to_owned(),
        Update::Acknowledged(event) => {
            let known = if event.deduplicated {
                ", which was there already"
            } else {
                ""
            };
            format!("acknowledged: {}{known} ({})", event.job_id, event.status)
        }
        Update::Progress(event) => {
            let message = event.message.as_deref().unwrap_or_default();
            format!("{} {message}", percent(event.percentage))
        }
        Update::Retrying(event) => {
            let when = event.next_attempt_at.map(|at| format!(" at {at}")).unwrap_or_default();
            let error = &event.error;
            format!(
                "attempt {} failed ({}: {}); another follows{when}",
                event.attempt, error.code, error.message
            )
        }
        Update::Started(event) => {
            let when = event.timestamp.map(|at| format!(" at {at}")).unwrap_or_default();
            format!("attempt {} started{when}", event.attempt)
        }
        Update::Snapshot(event) => {
            let message = event.message.as_deref().unwrap_or_default();
            let gap = if event.gap {
                " (events before this are no longer kept)"
            } else {
                ""
            };
            format!("{} {}: {message}{gap}", percent(event.percentage), event.status)
        }
        Update::CancelRefused(error) => format!("not cancelled: {}", error.message),
        Update::TokenExpiring { expires_at } => match expires_at {
            Some(at) => format!("the token expires at {at}"),
            None => "the token expires soon".to_owned(),
        },
        // Text has its own command: `tidegate job output`.
        Update::Output(_) | Update::Ended(_) => return None,
    };
    Some(tame(text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_stays_between_0_and_100() {
        for (percentage, text) in [
            (0.0, "  0.0 %"),
            (12.34, " 12.3 %"),
            (100.0, "100.0 %"),
            (250.0, "100.0 %"),
            (-1.0, "  0.0 %"),
            (f64::NAN, "  0.0 %"),
        ] {
            assert_eq!(percent(percentage).to_string(), text);
        }
    }

    #[test]
    fn what_the_server_says_cannot_move_the_cursor() {
        let text = r#"{"job_id":"j","seq":1,"percentage":1,"message":"a\u001b[2Jb\nc"}"#;
        let event = serde_json::from_str(text).unwrap();
        assert_eq!(line(&Update::Progress(event)).unwrap(), "  1.0 % a[2Jbc");
    }

    #[test]
    fn the_start_of_an_attempt_is_told_with_its_moment() {
        let text = r#"{"job_id":"j","seq":2,"attempt":3,"timestamp":"2026-11-21T07:00:00.000Z"}"#;
        let event = serde_json::from_str(text).unwrap();
        let told = "attempt 3 started at 2026-11-21T07:00:00.000Z";
        assert_eq!(line(&Update::Started(event)).unwrap(), told);
    }
}
