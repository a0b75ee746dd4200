//! Which waiting jobs are packed, and how one leaves its pack; see [`super::packs`].

use alloc::vec::Vec;

use tidegate_protocol::calls::jobs::Enqueue;
use tidegate_protocol::event::Payload;
use tidegate_protocol::ids::{BatchId, HubIndex, JobNumber};
use tidegate_protocol::time::UnixMs;

use super::Turn;
use super::lanes::{LaneName, Shape};
use super::packs::{PACK_BYTES_MAX, PACK_JOBS_MAX, Pack, Place};
use super::row::{Job, payload};
use crate::database::{Database, DatabaseError, to_blob};
use tidegate_protocol::SortedMap;

/// Jobs of one pack at least: a job that would lie in one alone gets its row at once.
pub(super) const PACK_JOBS_MIN: usize = 2;
/// Packs that one turn looks at to delete them. The others are left to later turns, and to the alarm.
const SPENT_LOOKS: usize = 4;

/// What the jobs of a pack have in common beyond their state, which follows from the time.
type Common = (LaneName, UnixMs, Option<HubIndex>, BatchId);

/// The packs that a turn is filling.
pub(super) type Filling = SortedMap<Common, Filled>;

/// A pack that a turn is filling.
pub(super) struct Filled {
    pack: Pack,
    jobs: Vec<u8>,
    /// The first job, and its input: alone it gets a row as any other job.
    first: (Job, Payload),
}

/// Whether a request of a batch is one that nothing ever looks for but by its number or its turn. Where it rings or has a
/// limit of time is decided later.
pub(super) fn is_plain(enqueue: &Enqueue) -> bool {
    let Enqueue {
        job,
        keyed,
        answer_within_ms,
        away_max_ms,
        ..
    } = enqueue;
    let special = keyed.is_some() || answer_within_ms.is_some() || away_max_ms.is_some();
    let special = special || job.once.is_some() || job.hook.is_some() || job.redriven_from.is_some();
    job.batch.is_some() && !special
}

impl<D: Database> Turn<'_, D> {
    /// Stores a job that waits from its `due_at` on: in a pack, which is written by [`Self::write_packs`].
    pub(super) fn pack(&mut self, job: &Job, payload: &Payload) -> Result<(), DatabaseError> {
        let (Some(due), Some(batch)) = (job.due_at, &job.spec.batch) else {
            return job.insert(self.db, payload, None);
        };
        let lane: LaneName = Shape::of(&job.spec).name()?.into();
        let common = (lane.clone(), due, job.followers.first().copied(), batch.clone());
        let (spec, input) = (to_blob(&job.spec)?, to_blob(payload)?);
        let full = self.filling.get(&common).is_some_and(|filled| {
            let bytes = filled.jobs.len() + spec.len() + input.len();
            filled.pack.places.len() >= PACK_JOBS_MAX || bytes > PACK_BYTES_MAX
        });
        if full && let Some(filled) = self.filling.remove(&common) {
            self.write_pack(filled)?;
        }
        let filled = self.filling.entry(common).or_insert_with(|| Filled {
            pack: Pack::new(lane, batch.clone(), job, due),
            jobs: Vec::new(),
            first: (job.clone(), payload.clone()),
        });
        let start = filled.jobs.len();
        filled.jobs.extend_from_slice(&spec);
        let split = filled.jobs.len();
        filled.jobs.extend_from_slice(&input);
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        filled.pack.push(Place {
            number: job.id.number(),
            tail: job.id.tail(),
            start: place(start),
            split: place(split),
            end: place(filled.jobs.len()),
            payload_bytes: job.payload_bytes,
            left: false,
        });
        Ok(())
    }

    /// Writes the packs that the turn has filled. Before that, nothing may look for what is in them.
    pub(super) fn write_packs(&mut self) -> Result<(), DatabaseError> {
        for filled in core::mem::take(&mut self.filling).into_values() {
            self.write_pack(filled)?;
        }
        Ok(())
    }

    fn write_pack(&mut self, filled: Filled) -> Result<(), DatabaseError> {
        if filled.pack.places.len() < self.state.pack_jobs_min {
            let (job, payload) = filled.first;
            return job.insert(self.db, &payload, None);
        }
        self.state.packs.insert(self.db, filled.pack, &filled.jobs)
    }

    /// The input of a job, wherever it lies.
    pub(super) fn payload_of(&self, number: JobNumber) -> Result<Payload, DatabaseError> {
        match self.state.packs.load(self.db, number)? {
            Some((_, payload)) => Ok(payload),
            None => payload(self.db, number),
        }
    }

    /// Gives a row to a job that waits in a pack, as the job is now. `payload` is its input, where that is known.
    pub(super) fn leave_pack(&mut self, job: &Job, payload: Option<&Payload>) -> Result<(), DatabaseError> {
        let number = job.id.number();
        match payload {
            Some(payload) => job.insert(self.db, payload, None)?,
            None => job.insert(self.db, &self.payload_of(number)?, None)?,
        }
        self.state.packs.leave(number);
        // What someone wants of it is no part of an insert.
        if job.control.is_some() || job.reported.is_some() {
            job.update(self.db)?;
        }
        Ok(())
    }

    /// Sees to it that `job`, which is as it is stored, has a row.
    pub(super) fn own_row(&mut self, job: &Job) -> Result<(), DatabaseError> {
        if self.state.packs.holds(job.id.number()) {
            self.leave_pack(job, None)?;
        }
        Ok(())
    }

    /// Deletes packs that all jobs have left, where each of these is found without them: its row is indexed, or nothing is
    /// left to do for it. The alarm deletes the others.
    pub(super) fn drop_spent_packs(&mut self) -> Result<(), DatabaseError> {
        for (first, numbers) in self.state.packs.spent(SPENT_LOOKS) {
            let state = &self.state;
            let unfound = |number: &JobNumber| {
                let running = state.running.get(number).is_some_and(|lease| !lease.indexed);
                running || state.undelivered.get(number).is_some_and(|end| !end.indexed)
            };
            if !numbers.iter().any(unfound) {
                self.state.packs.delete(self.db, first)?;
            }
        }
        Ok(())
    }
}
