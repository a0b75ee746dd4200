//! Progress for a person: a bar on a terminal, plain lines elsewhere.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidegate_sdk::Update;

use super::lines::{line, percent};
use crate::output::{stderr_is_terminal, tame};

/// Steps of the bar: tenths of a percent.
const STEPS: u64 = 1000;
const TICK: Duration = Duration::from_millis(120);

/// Where progress is shown.
pub enum Bar {
    /// Nowhere.
    Hidden,
    /// A bar that moves.
    Moving(ProgressBar),
    /// A line on stderr for each update.
    Lines,
}

impl Bar {
    /// A bar or lines, as stderr allows; nothing where it is not `shown`.
    pub fn new(shown: bool) -> Self {
        if !shown {
            return Self::Hidden;
        }
        if !stderr_is_terminal() {
            return Self::Lines;
        }
        let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr());
        let template = "{spinner} [{elapsed_precise}] {bar:32} {percent:>3}% {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message("connecting");
        bar.enable_steady_tick(TICK);
        Self::Moving(bar)
    }

    /// Says something beside the updates.
    pub fn say(&self, text: &str) {
        let text = tame(text);
        match self {
            Self::Hidden => {}
            Self::Lines => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            Self::Moving(bar) => bar.println(text),
        }
    }

    /// Shows an update.
    pub fn update(&mut self, update: &Update) {
        let Some(text) = line(update) else {
            return;
        };
        match self {
            Self::Hidden => {}
            Self::Lines => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            Self::Moving(bar) => {
                match update {
                    Update::Progress(event) => {
                        bar.set_position(percent(event.percentage).tenths);
                        bar.set_message(tame(event.message.as_deref().unwrap_or_default()));
                        return;
                    }
                    Update::Snapshot(event) => bar.set_position(percent(event.percentage).tenths),
                    // What happens once stays above the bar.
                    Update::Acknowledged(_)
                    | Update::Retrying(_)
                    | Update::Started(_)
                    | Update::CancelRefused(_)
                    | Update::Reconnecting { attempt: 1, .. } => bar.println(&text),
                    Update::Reconnecting { .. }
                    | Update::Reconnected
                    | Update::TokenExpiring { .. }
                    | Update::Output(_)
                    | Update::Ended(_) => {}
                }
                bar.set_message(text);
            }
        }
    }

    /// Shows how far something is, 0 to 100, and in words.
    pub fn set(&mut self, percentage: f64, text: &str) {
        match self {
            Self::Hidden => {}
            Self::Lines => {
                let _ = writeln!(std::io::stderr(), "{} {text}", percent(percentage));
            }
            Self::Moving(bar) => {
                bar.set_position(percent(percentage).tenths);
                bar.set_message(text.to_owned());
            }
        }
    }

    /// Takes the bar away.
    pub fn end(&mut self, succeeded: bool) {
        if let Self::Moving(bar) = self {
            let moved = bar.position() > 0;
            bar.finish_and_clear();
            if succeeded && moved {
                let _ = writeln!(std::io::stderr(), "done in {:.1} s", bar.elapsed().as_secs_f64());
            }
        }
    }
}
