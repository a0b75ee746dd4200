//! When attempts began: what a row tells of it, and the event of each start where all are kept.

use std::collections::BTreeMap;

use tidegate_protocol::event::{Event, Happening};
use tidegate_protocol::ids::{JobId, JobNumber};
use tidegate_protocol::time::UnixMs;

use super::RowView;
use crate::setting::keeps_all;
use crate::world::{Check, World};

/// The start of an attempt comes before whatever else is told of that attempt, and once.
pub(super) fn check_told(job: JobId, known: &BTreeMap<u64, Event>, event: &Event) -> Check {
    let of_the_same = |other: &&Event| other.attempt == event.attempt;
    let started = event.what == Happening::Started;
    let late = match started {
        true => known.range(..event.seq.0).map(|(_, event)| event).find(of_the_same),
        false => {
            let later = known.range(event.seq.0..).map(|(_, event)| event).filter(of_the_same);
            later.into_iter().find(|event| event.what == Happening::Started)
        }
    };
    match late {
        Some(other) => Err(format!(
            "{job}: the start of an attempt stands behind what came of it: {event:?} {other:?}"
        )),
        None => Ok(()),
    }
}

impl World {
    /// A row tells when its attempt began: as that began, and the same until the next one does. Where each event is
    /// kept, a start has a place.
    pub(super) fn check_starts(
        &mut self,
        before: &BTreeMap<JobNumber, RowView>,
        after: &BTreeMap<JobNumber, RowView>,
        now: UnixMs,
    ) -> Check {
        for (number, new) in after {
            let old = before.get(number).filter(|old| old.id == new.id);
            let attempts_before = old.map_or(0, |old| old.attempt);
            let facts = self.oracle.jobs.get(&new.id);
            // One that got its row late had begun before it.
            let begun = facts
                .filter(|facts| old.is_none() && facts.attempt > 0)
                .map(|facts| facts.began_at);
            let expected = match old {
                _ if new.attempt > attempts_before => Some(begun.unwrap_or(now.0)),
                Some(old) => old.started_at,
                None => None,
            };
            if new.started_at != expected {
                return Err(format!("{} began at {expected:?}, and its row says {new:?}", new.id));
            }
            let all = facts
                .and_then(|facts| facts.action.as_ref())
                .is_some_and(|action| keeps_all(action.as_str()));
            if all && new.attempt > attempts_before {
                self.counters.starts_kept += 1;
                if new.seq <= old.map_or(1, |old| old.seq) {
                    return Err(format!(
                        "{}: the start of an attempt has no place: {old:?} {new:?}",
                        new.id
                    ));
                }
            }
        }
        Ok(())
    }
}
