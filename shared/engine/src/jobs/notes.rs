//! What a report carries beyond how far an attempt is: text for streams, and changes of the metadata.

use alloc::vec::Vec;

use tidegate_protocol::Error;
use tidegate_protocol::calls::reporting::Notes;
use tidegate_protocol::event::{Event, Progress};
use tidegate_protocol::ids::FencingToken;
use tidegate_protocol::limits::OUTPUT_STREAMS_MAX;

use super::row::Job;
use super::{PROGRESS_BYTES_MAX, Turn};
use crate::database::{Database, DatabaseError};
use crate::reporting::{patched, pieces, too_many_streams};

/// The notes, unless they say nothing or have come already under the same lease.
pub(super) fn news(job: &Job, token: FencingToken, notes: Option<Notes>) -> Option<Notes> {
    let known = job.reported.as_ref().filter(|reported| reported.token == Some(token));
    let known = known.map_or(0, |reported| reported.number);
    notes.filter(|notes| !notes.is_empty() && notes.number.is_none_or(|number| number > known))
}

/// Whether `job` may have all the streams of the notes.
///
/// Errors: `VALIDATION_ERROR` where they are too many.
pub(super) fn check_streams(job: &Job, notes: &Notes) -> Result<(), Error> {
    let known = |stream| {
        job.reported
            .as_ref()
            .is_some_and(|reported| reported.streams.contains_key(stream))
    };
    let mut room =
        OUTPUT_STREAMS_MAX.saturating_sub(job.reported.as_ref().map_or(0, |reported| reported.streams.len()));
    let mut fresh = Vec::new();
    for written in &notes.output {
        if known(&written.stream) || fresh.contains(&&written.stream) {
            continue;
        }
        room = room.checked_sub(1).ok_or_else(|| too_many_streams(&written.stream))?;
        fresh.push(&written.stream);
    }
    Ok(())
}

/// The progress that a report comes to: its own, with what it says nothing of as it was, and the changes made to that.
pub(super) fn progressed(job: &Job, progress: Option<Progress>, notes: Option<&Notes>) -> Option<Progress> {
    let patches = notes.map_or(&[][..], |notes| &notes.metadata_patch);
    let mut progress = match progress {
        None if patches.is_empty() => return None,
        None => job.progress.clone(),
        Some(progress) => progress,
    };
    let metadata = progress.metadata.take().or_else(|| job.progress.metadata.clone());
    progress.metadata = patched(metadata, patches, PROGRESS_BYTES_MAX);
    Some(progress)
}

impl<D: Database> Turn<'_, D> {
    /// Stores the text of the notes, and remembers that they have come.
    pub(super) fn take_notes(
        &mut self,
        job: &mut Job,
        token: FencingToken,
        notes: &Notes,
        events: &mut Vec<Event>,
    ) -> Result<(), DatabaseError> {
        for written in &notes.output {
            for piece in pieces(&written.chunk) {
                events.push(self.write(job, written.stream.clone(), piece)?);
            }
        }
        if let Some(number) = notes.number {
            let reported = job.reported.get_or_insert_default();
            (reported.token, reported.number) = (Some(token), number);
        }
        Ok(())
    }
}
