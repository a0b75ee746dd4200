//! Packs: several waiting jobs of a batch in one row.
//!
//! The jobs of one batch that one turn accepts and cannot start lie together in a row of `pack`, as far as nothing but
//! their requests tells them apart. A job has left its pack if and only if it has a row of its own: so leaving costs
//! nothing beyond that row, which a claim writes as running, without an entry in the index of due rows, and any other
//! change of a job as it is then. A pack's row is written when it is made, by an alarm that finds that jobs have left it, and when the last of them is gone.
//!
//! What is packed is in memory as well, without the jobs themselves: which number waits in which pack, and where.

use alloc::vec::Vec;

#[cfg(feature = "native")]
use tidegate_protocol::calls::jobs::NewJob;
use tidegate_protocol::event::{JobState, Payload};
use tidegate_protocol::ids::{BatchId, HubIndex, JobId, JobNumber};
use tidegate_protocol::time::UnixMs;

use super::backlog::Count;
use super::enqueue::waiting_job;
use super::lanes::LaneName;
use super::row::{Job, state_number, state_of};
use crate::database::{Database, DatabaseError, Row, Value, from_blob, to_blob};
use tidegate_protocol::{SortedMap, SortedSet};

/// Jobs of one pack at most.
pub(super) const PACK_JOBS_MAX: usize = 64;
/// Bytes of the jobs of one pack at most. A claim reads past those of the jobs before.
pub(super) const PACK_BYTES_MAX: usize = 256 * 1024;

/// `places` is read by every recovery, and comes before `jobs`, of which a part is read at a time.
pub(super) const PACKS: &[&str] = &["-- jobs::schema
    CREATE TABLE pack (
        first INTEGER PRIMARY KEY,
        last INTEGER NOT NULL,
        lane TEXT NOT NULL,
        batch TEXT NOT NULL,
        state INTEGER NOT NULL,
        due_at INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        follower INTEGER,
        places BLOB NOT NULL,
        jobs BLOB NOT NULL
    ) STRICT"];

/// Where a job lies in its pack: what it asks for from `start` to `split`, its input from there to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub number: JobNumber,
    pub tail: u32,
    pub start: u32,
    pub split: u32,
    pub end: u32,
    pub payload_bytes: u64,
    /// Whether the job has a row of its own.
    pub left: bool,
}

/// A pack, without its jobs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pack {
    pub lane: LaneName,
    pub batch: BatchId,
    /// That of each of its jobs.
    pub state: JobState,
    pub due_at: UnixMs,
    pub created_at: UnixMs,
    pub follower: Option<HubIndex>,
    /// In the order of their numbers.
    pub places: Vec<Place>,
    /// How many have not left it.
    waiting: u64,
}

impl Pack {
    /// A pack of no jobs.
    pub fn new(lane: LaneName, batch: BatchId, job: &Job, due_at: UnixMs) -> Self {
        Self {
            lane,
            batch,
            state: job.state,
            due_at,
            created_at: job.created_at,
            follower: job.followers.first().copied(),
            places: Vec::new(),
            waiting: 0,
        }
    }

    /// Adds a job behind the others, whose numbers are lower.
    pub fn push(&mut self, place: Place) {
        self.places.push(place);
        self.waiting += 1;
    }

    fn place(&self, number: JobNumber) -> Option<&Place> {
        let at = self.places.binary_search_by_key(&number, |place| place.number).ok()?;
        self.places.get(at)
    }

    /// Notes that a job has left. Says whether it was there.
    fn leave(&mut self, number: JobNumber) -> bool {
        let Ok(at) = self.places.binary_search_by_key(&number, |place| place.number) else {
            return false;
        };
        match self.places.get_mut(at) {
            Some(place) if !place.left => {
                place.left = true;
                self.waiting = self.waiting.saturating_sub(1);
                true
            }
            _ => false,
        }
    }

    fn after(&self, number: JobNumber) -> impl Iterator<Item = &Place> {
        let from = self.places.partition_point(|place| place.number <= number);
        self.places.get(from..).into_iter().flatten()
    }

    fn remaining(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| !place.left)
    }

    /// The job of a place, and its input, out of what the pack holds from `from` on.
    fn job(&self, place: &Place, from: u32, bytes: &[u8]) -> Result<(Job, Payload), DatabaseError> {
        let part = |start: u32, end: u32| {
            let start = usize::try_from(start.saturating_sub(from)).ok()?;
            bytes.get(start..usize::try_from(end.saturating_sub(from)).ok()?)
        };
        let short = || DatabaseError::new("a pack is shorter than its places");
        let spec = from_blob(part(place.start, place.split).ok_or_else(short)?)?;
        let payload = from_blob(part(place.split, place.end).ok_or_else(short)?)?;
        let id = JobId::new(place.number, place.tail);
        let job = Job {
            state: self.state,
            due_at: Some(self.due_at),
            ..waiting_job(id, self.created_at, spec, self.follower, place.payload_bytes)
        };
        Ok((job, payload))
    }

    fn read(row: &mut Row) -> Result<Self, DatabaseError> {
        let lane = row.text()?.into();
        let batch = BatchId::parse(&row.text()?).ok_or_else(|| DatabaseError::new("a batch's id cannot be read"))?;
        let state = state_of(row.number()?)?;
        let (due_at, created_at) = (UnixMs(row.number()?), UnixMs(row.number()?));
        let follower = row.optional_number()?.map(u16::try_from).transpose();
        let follower = follower.map_err(|_| DatabaseError::new("a hub out of range"))?;
        let places = read_places(&row.blob()?)?;
        Ok(Self {
            lane,
            batch,
            state,
            due_at,
            created_at,
            follower: follower.map(HubIndex),
            waiting: u64::try_from(places.len()).unwrap_or(u64::MAX),
            places,
        })
    }

    fn write_places(&self) -> Result<Vec<u8>, DatabaseError> {
        let numbers = |place: &Place| {
            let [tail, start, split, end] = [place.tail, place.start, place.split, place.end].map(u64::from);
            [place.number.0, tail, start, split, end, place.payload_bytes]
        };
        to_blob(&self.places.iter().map(numbers).collect::<Vec<_>>())
    }
}

fn read_places(bytes: &[u8]) -> Result<Vec<Place>, DatabaseError> {
    let read: Vec<[u64; 6]> = from_blob(bytes)?;
    let small = |number: u64| u32::try_from(number).map_err(|_| DatabaseError::new("a place out of range"));
    let place = |[number, tail, start, split, end, payload_bytes]: [u64; 6]| {
        Ok(Place {
            number: JobNumber(number),
            tail: small(tail)?,
            start: small(start)?,
            split: small(split)?,
            end: small(end)?,
            payload_bytes,
            left: false,
        })
    };
    read.into_iter().map(place).collect()
}

/// The packs of a lane.
#[derive(Debug, Clone, Default, PartialEq)]
struct OfLane {
    /// In the order in which their jobs start.
    packs: SortedSet<(UnixMs, JobNumber)>,
    /// How many jobs wait in them.
    waiting: u64,
}

/// What is remembered of packs: all but the jobs themselves.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Packs {
    /// By the lowest number that each has had.
    packs: SortedMap<JobNumber, Pack>,
    /// The jobs that wait in packs, and in which.
    waiting: SortedMap<JobNumber, JobNumber>,
    /// The packs of each lane in which jobs wait.
    lanes: SortedMap<LaneName, OfLane>,
    /// Those that some jobs have left since they were written.
    begun: SortedSet<JobNumber>,
    /// Those that all jobs have left.
    spent: SortedSet<JobNumber>,
}

impl Packs {
    /// Reads what is stored.
    pub fn recover(db: &impl Database) -> Result<Self, DatabaseError> {
        let mut packs = Self::default();
        let rows = db.run(
            "-- packs::recover
            SELECT first, lane, batch, state, due_at, created_at, follower, places FROM pack ORDER BY first",
            &[],
        )?;
        for mut row in rows {
            let first = JobNumber(row.number()?);
            packs.add(first, Pack::read(&mut row)?);
        }
        let rows = db.run(
            "-- packs::recover
            SELECT pack.first, job.number FROM pack CROSS JOIN job
            WHERE job.number >= pack.first AND job.number <= pack.last",
            &[],
        )?;
        for mut row in rows {
            let (first, number) = (JobNumber(row.number()?), JobNumber(row.number()?));
            // Others of the same turn have numbers in between.
            if packs.waiting.get(&number) == Some(&first) {
                packs.leave(number);
            }
        }
        Ok(packs)
    }

    /// Writes a new pack. One row.
    pub fn insert(&mut self, db: &impl Database, pack: Pack, jobs: &[u8]) -> Result<(), DatabaseError> {
        let (Some(first), Some(last)) = (pack.places.first(), pack.places.last()) else {
            return Ok(());
        };
        let first = first.number;
        db.run(
            "-- packs::insert
            INSERT INTO pack (first, last, lane, batch, state, due_at, created_at, follower, places, jobs)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            &[
                Value::Number(first.0),
                Value::Number(last.number.0),
                Value::Text(&pack.lane),
                Value::Text(pack.batch.as_str()),
                Value::Number(state_number(pack.state)),
                Value::Number(pack.due_at.0),
                Value::Number(pack.created_at.0),
                Value::optional(pack.follower.map(|hub| u64::from(hub.0))),
                Value::Blob(&pack.write_places()?),
                Value::Blob(jobs),
            ],
        )?;
        self.add(first, pack);
        Ok(())
    }

    fn add(&mut self, first: JobNumber, pack: Pack) {
        self.waiting
            .extend(pack.places.iter().map(|place| (place.number, first)));
        let of_lane = self.lanes.entry(pack.lane.clone()).or_default();
        of_lane.packs.insert((pack.due_at, first));
        of_lane.waiting += pack.waiting;
        self.packs.insert(first, pack);
    }

    /// Whether a job waits in a pack.
    pub fn holds(&self, number: JobNumber) -> bool {
        self.waiting.contains_key(&number)
    }

    /// The batch of a job that waits in a pack.
    pub fn batch_of(&self, number: JobNumber) -> Option<&BatchId> {
        let first = self.waiting.get(&number)?;
        self.packs.get(first).map(|pack| &pack.batch)
    }

    /// A job has a row of its own from now on.
    pub fn leave(&mut self, number: JobNumber) {
        let Some(first) = self.waiting.remove(&number) else {
            return;
        };
        let Some(pack) = self.packs.get_mut(&first) else { return };
        if !pack.leave(number) {
            return;
        }
        if let Some(of_lane) = self.lanes.get_mut(&pack.lane) {
            of_lane.waiting = of_lane.waiting.saturating_sub(1);
            if pack.waiting == 0 {
                of_lane.packs.remove(&(pack.due_at, first));
            }
            if of_lane.packs.is_empty() {
                self.lanes.remove(&pack.lane);
            }
        }
        if pack.waiting > 0 {
            self.begun.insert(first);
        } else {
            self.begun.remove(&first);
            self.spent.insert(first);
        }
    }

    /// When the first packed job of a lane may start.
    pub fn head(&self, lane: &str) -> Option<UnixMs> {
        self.lanes.get(lane)?.packs.first().map(|(due, _)| *due)
    }

    /// How many jobs of a lane are packed.
    pub fn jobs_of(&self, lane: &str) -> u64 {
        self.lanes.get(lane).map_or(0, |of_lane| of_lane.waiting)
    }

    /// The first packed jobs of a lane whose time has come, in the order in which they start, `count` at most.
    pub fn first_of(&self, lane: &str, now: UnixMs, count: u64) -> Vec<(UnixMs, JobNumber)> {
        let of_lane = self.lanes.get(lane).into_iter().flat_map(|of_lane| &of_lane.packs);
        let mut packs = of_lane.copied().take_while(|(due, _)| *due <= now).peekable();
        // The next job of each pack that has begun: the numbers of packs that were filled side by side alternate.
        let mut next = SortedSet::new();
        let mut found = Vec::new();
        while u64::try_from(found.len()).is_ok_and(|found| found < count) {
            let earliest = next.first().map(|(due, number, _)| (*due, *number));
            if let Some((due, first)) = packs.next_if(|pack| earliest.is_none_or(|earliest| *pack <= earliest)) {
                let pack = self.packs.get(&first);
                let job = pack.and_then(|pack| pack.remaining().next());
                next.extend(job.map(|place| (due, place.number, first)));
                continue;
            }
            let Some((due, number, first)) = next.pop_first() else {
                break;
            };
            found.push((due, number));
            let pack = self.packs.get(&first);
            let job = pack.and_then(|pack| pack.after(number).find(|place| !place.left));
            next.extend(job.map(|place| (due, place.number, first)));
        }
        found
    }

    /// How many packed jobs of a lane come before the job `number`, which starts at `due`.
    pub fn ahead(&self, lane: &str, due: UnixMs, number: JobNumber) -> u64 {
        let of_lane = self.lanes.get(lane).into_iter().flat_map(|of_lane| &of_lane.packs);
        let packs = of_lane.filter_map(|(_, first)| self.packs.get(first));
        let before = packs.map(|pack| match pack.due_at.cmp(&due) {
            core::cmp::Ordering::Less => pack.waiting,
            core::cmp::Ordering::Equal => {
                let earlier = pack.remaining().filter(|place| place.number < number).count();
                u64::try_from(earlier).unwrap_or(u64::MAX)
            }
            core::cmp::Ordering::Greater => 0,
        });
        before.sum()
    }

    /// The packed jobs whose numbers are from `from` on and below `to`, in their order.
    pub fn between(&self, from: JobNumber, to: JobNumber) -> impl DoubleEndedIterator<Item = JobNumber> {
        let to = to.max(from);
        self.waiting.range(from..to).map(|(number, _)| *number)
    }

    /// What waits in each pack: its lane, the time from which on, and how much.
    pub fn each(&self) -> impl Iterator<Item = (&LaneName, UnixMs, Count)> {
        let packs = self.packs.values().filter(|pack| pack.waiting > 0);
        packs.map(|pack| {
            let count = Count {
                jobs: pack.waiting,
                bytes: pack.remaining().map(|place| place.payload_bytes).sum(),
            };
            (&pack.lane, pack.due_at, count)
        })
    }

    /// The jobs that have left packs since these were written: those that run may have no entry in any index.
    pub fn gone(&self) -> impl Iterator<Item = JobNumber> {
        let packs = self.begun.iter().chain(&self.spent);
        let places = packs
            .filter_map(|first| self.packs.get(first))
            .flat_map(|pack| &pack.places);
        places.filter(|place| place.left).map(|place| place.number)
    }

    /// The highest number of a packed job.
    pub fn last(&self) -> Option<JobNumber> {
        let lasts = self.packs.values().filter_map(|pack| pack.places.last());
        lasts.map(|place| place.number).max()
    }

    /// A packed job, and its input.
    pub fn load(&self, db: &impl Database, number: JobNumber) -> Result<Option<(Job, Payload)>, DatabaseError> {
        Ok(self.load_all(db, &[number])?.pop())
    }

    /// Packed jobs, and their inputs. Those that lie side by side are read by one statement.
    pub fn load_all(&self, db: &impl Database, numbers: &[JobNumber]) -> Result<Vec<(Job, Payload)>, DatabaseError> {
        let mut jobs = Vec::with_capacity(numbers.len());
        let pack_of = |number: &JobNumber| self.waiting.get(number);
        for side_by_side in numbers.chunk_by(|one, other| one < other && pack_of(one) == pack_of(other)) {
            let Some((first, pack)) = side_by_side
                .first()
                .and_then(pack_of)
                .and_then(|first| Some((first, self.packs.get(first)?)))
            else {
                continue;
            };
            let places: Vec<&Place> = side_by_side.iter().filter_map(|number| pack.place(*number)).collect();
            let (Some(from), Some(to)) = (places.first(), places.last()) else {
                continue;
            };
            let rows = db.run(
                "-- packs::load
                SELECT substr(jobs, CAST(? AS INTEGER), CAST(? AS INTEGER)) FROM pack WHERE first = CAST(? AS INTEGER)",
                &[
                    Value::Number(u64::from(from.start) + 1),
                    Value::Number(u64::from(to.end.saturating_sub(from.start))),
                    Value::Number(first.0),
                ],
            )?;
            let mut row = rows
                .into_iter()
                .next()
                .ok_or_else(|| DatabaseError::new("a pack is gone"))?;
            let bytes = row.blob()?;
            for place in &places {
                jobs.push(pack.job(place, from.start, &bytes)?);
            }
        }
        Ok(jobs)
    }

    /// Every running job has an entry in an index: writes the packs anew that jobs have left, and deletes those that all
    /// have left. From then on the rows of those jobs may go. One row for each.
    pub fn settle(&mut self, db: &impl Database) -> Result<(), DatabaseError> {
        for first in core::mem::take(&mut self.begun) {
            let Some(pack) = self.packs.get_mut(&first) else {
                continue;
            };
            pack.places.retain(|place| !place.left);
            db.run(
                "-- packs::settle
                UPDATE pack SET places = ? WHERE first = CAST(? AS INTEGER)",
                &[Value::Blob(&pack.write_places()?), Value::Number(first.0)],
            )?;
        }
        for first in self.spent.clone() {
            self.delete(db, first)?;
        }
        Ok(())
    }

    /// Packs that all jobs have left, the oldest, with the numbers of these.
    pub fn spent(&self, count: usize) -> Vec<(JobNumber, Vec<JobNumber>)> {
        let packs = self.spent.iter().take(count);
        let packs = packs.filter_map(|first| Some((*first, self.packs.get(first)?)));
        packs
            .map(|(first, pack)| (first, pack.places.iter().map(|place| place.number).collect()))
            .collect()
    }

    /// Deletes a pack that all jobs have left. One row.
    pub fn delete(&mut self, db: &impl Database, first: JobNumber) -> Result<(), DatabaseError> {
        self.spent.remove(&first);
        self.packs.remove(&first);
        db.run(
            "-- packs::delete
            DELETE FROM pack WHERE first = CAST(? AS INTEGER)",
            &[Value::Number(first.0)],
        )?;
        Ok(())
    }
}

/// A job that waits in a pack, as its row would be. For checks: no turn looks at all of them.
#[cfg(feature = "native")]
#[derive(Debug, Clone)]
pub struct Packed {
    /// Its id.
    pub id: JobId,
    /// Its state, as rows have it.
    pub state: u64,
    /// When it may start.
    pub due_at: UnixMs,
    /// When it was accepted.
    pub created_at: UnixMs,
    /// What it asks for; the payload in it is empty.
    pub spec: NewJob,
    /// Its input.
    pub payload: Payload,
}

/// The jobs that wait in packs, by their rows alone.
///
/// Errors: the database's.
#[cfg(feature = "native")]
pub fn packed(db: &impl Database) -> Result<Vec<Packed>, DatabaseError> {
    let packs = Packs::recover(db)?;
    let numbers: Vec<JobNumber> = packs.between(JobNumber(0), JobNumber(u64::MAX)).collect();
    let jobs = packs.load_all(db, &numbers)?.into_iter();
    let view = |(job, payload): (Job, Payload)| Packed {
        id: job.id,
        state: state_number(job.state),
        due_at: job.due_at.unwrap_or_default(),
        created_at: job.created_at,
        spec: job.spec,
        payload,
    };
    Ok(jobs.map(view).collect())
}
