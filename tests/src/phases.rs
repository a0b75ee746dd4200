//! What the server was in the middle of when it was killed, as its own log tells.
//!
//! With `--trace`, a `Jobs` object writes `trace <phase> begin <subject>` when it begins to decide on something, and
//! `trace <phase> end <subject>` once all consequences are carried out; durable_objects/src/trace.rs says exactly when.
//! A kill fell into a phase where the log has a begin without its end.

use std::collections::BTreeMap;

/// The phases of a job, by their names in the log: the request is taken, an attempt is decided on, its progress is
/// stored, its outcome is, the deadline of a request turns it into a job.
pub const PHASES: [&str; 5] = ["enqueue", "claim", "progress", "complete", "spill"];

/// The phases that have begun and not ended since the server was started.
#[derive(Debug, Default)]
pub struct Phases {
    open: BTreeMap<(&'static str, String), usize>,
    begun: BTreeMap<&'static str, usize>,
}

impl Phases {
    /// Takes a line of the log. Gives the phase that it begins, if it does.
    pub fn take(&mut self, line: &str) -> Option<&'static str> {
        let (_, words) = line.split_once("trace ")?;
        let mut words = words.split_whitespace();
        let (name, edge, subject) = (words.next()?, words.next()?, words.next()?);
        let phase = *PHASES.iter().find(|phase| **phase == name)?;
        let key = (phase, subject.to_owned());
        match edge {
            "begin" => {
                *self.open.entry(key).or_default() += 1;
                *self.begun.entry(phase).or_default() += 1;
                Some(phase)
            }
            "end" => {
                // The same job can be in a phase twice: two reports of progress, say.
                let left = self.open.get_mut(&key).map(|count| {
                    *count -= 1;
                    *count
                });
                if left == Some(0) {
                    self.open.remove(&key);
                }
                None
            }
            _ => None,
        }
    }

    /// How many of each phase are open; phases without any are left out.
    pub fn open(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for ((phase, _), count) in &self.open {
            *counts.entry(*phase).or_default() += count;
        }
        counts
    }

    /// How many of each phase have begun; phases without any are left out.
    pub fn begun(&self) -> BTreeMap<&'static str, usize> {
        self.begun.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_begin_without_its_end_is_open() {
        let mut phases = Phases::default();
        for (line, begins) in [
            ("[debug] trace enqueue begin r-1", Some("enqueue")),
            ("[debug] trace claim begin job_1", Some("claim")),
            ("[debug] trace progress begin job_1", Some("progress")),
            ("[debug] trace progress begin job_1", Some("progress")),
            ("[debug] trace enqueue end r-1", None),
            ("[debug] trace progress end job_1", None),
            ("[debug] trace complete end job_2", None),
            ("[debug] trace other begin job_3", None),
            ("[debug] constructed Jobs t:a:jobs:0", None),
            ("[debug] trace spill beg", None),
        ] {
            assert_eq!(phases.take(line), begins, "{line}");
        }
        assert_eq!(phases.open(), BTreeMap::from([("claim", 1), ("progress", 1)]));
        assert_eq!(
            phases.begun(),
            BTreeMap::from([("claim", 1), ("enqueue", 1), ("progress", 2)])
        );
    }
}
