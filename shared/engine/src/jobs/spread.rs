//! What an object knows of the others of its tenant, and what it hands on to them since the tenant has grown.
//!
//! The gate tells it. From that turn on the object is sealed for the partitions that it has lost: it answers for what it
//! has, takes no new key of theirs, and numbers its jobs in partitions that it still owns. So whoever was told that a key
//! or a job is elsewhere was told so for ever.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::calls::jobs::{Call, Enqueue, JobRef, Reply};
use tidegate_protocol::calls::once::Once;
use tidegate_protocol::calls::queueing::Queueing;
use tidegate_protocol::calls::spread::{Grown, Growth, Place, Standing, own, owner_after};
use tidegate_protocol::ids::{JobId, JobNumber, Partition, ShardIndex, fnv1a};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::once::{Leaves, free_dedupe};
use super::{CallId, Turn};
use crate::database::{Database, DatabaseError, Value, from_blob, to_blob};

/// How soon an operator may try again who meets an object that is not awake yet. Milliseconds.
const AWAKE_SOON_MS: u64 = 500;

/// What an object knows of its place in the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub(super) struct Spread {
    place: Place,
    /// Every number of shards that the tenant has had; empty where there was never more than one, or nobody said so.
    history: Vec<u16>,
    standing: Standing,
    /// Since when an object that joined others may start what counts under limits.
    opened_at: UnixMs,
    /// Earlier owners of its partitions have given out numbers up to this one.
    #[serde(default)]
    after: JobNumber,
}

impl Spread {
    /// Reads what is stored.
    pub fn recover(db: &impl Database) -> Result<Self, DatabaseError> {
        let rows = db.run("-- spread::recover\nSELECT known FROM spread WHERE id = 1", &[])?;
        match rows.into_iter().next() {
            Some(mut row) => from_blob(&row.blob()?),
            None => Ok(Self::default()),
        }
    }

    fn store(&self, db: &impl Database) -> Result<(), DatabaseError> {
        db.run(
            "-- spread::store
            INSERT INTO spread (id, known) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET known = excluded.known",
            &[Value::Blob(&to_blob(self)?)],
        )?;
        Ok(())
    }

    /// Where the object stands: its part of what is divided.
    pub fn place(&self) -> Place {
        self.place
    }

    /// How many objects there were first.
    pub fn first(&self) -> u16 {
        self.history.first().copied().unwrap_or(1)
    }

    /// The number above which its own begin.
    pub fn after(&self) -> JobNumber {
        self.after
    }

    /// Whether the object starts anything.
    pub fn is_awake(&self) -> bool {
        self.standing > Standing::Asleep
    }

    /// Since when it may start what counts under limits; `None`: not yet.
    pub fn opened_at(&self) -> Option<UnixMs> {
        (self.standing == Standing::Open).then_some(self.opened_at)
    }

    /// Who owns a partition that this object has lost: the next to be asked.
    fn lost_to(&self, partition: Partition) -> Option<ShardIndex> {
        owner_after(partition, self.place.shard, &self.history)
    }

    /// The partition in which a job is numbered that was meant for `partition`.
    pub fn number_in(&self, partition: Partition) -> Partition {
        if self.history.is_empty() {
            return partition;
        }
        own(partition, self.place.shard, self.place.shards)
    }
}

impl<D: Database> Turn<'_, D> {
    /// The tenant grows. An older word than the last changes nothing.
    pub(super) fn grow(&mut self, call: CallId, growth: Growth) -> Result<(), DatabaseError> {
        let known = &self.state.spread;
        let newer = (growth.history.len(), growth.standing) > (known.history.len(), known.standing);
        if newer && let Some(shards) = growth.history.last().copied() {
            let opens = known.standing < Standing::Open && growth.standing == Standing::Open;
            let spread = Spread {
                place: Place {
                    shard: growth.shard,
                    shards,
                },
                history: growth.history,
                standing: growth.standing,
                opened_at: if opens { self.now } else { known.opened_at },
                after: growth.after.max(known.after),
            };
            self.state.last = self.state.last.max(spread.after);
            for pause in &growth.pauses {
                self.state.gates.pause(self.db, pause)?;
            }
            self.know(spread)?;
        }
        let grown = Grown {
            last: self.state.last,
            pauses: self.state.gates.pauses(),
        };
        self.reply(call, Ok(Reply::Grown(grown)));
        Ok(())
    }

    /// The place that a hub tells, where nobody told one before: that of a tenant which began with several objects.
    pub(super) fn learn_place(&mut self, queueing: &Queueing) -> Result<(), DatabaseError> {
        self.learn_its_place(queueing.place)
    }

    /// The place that another object of the tenant tells, or a hub.
    pub(super) fn learn_its_place(&mut self, place: Place) -> Result<(), DatabaseError> {
        if place.shards < 2 || !self.state.spread.history.is_empty() {
            return Ok(());
        }
        self.know(Spread {
            place,
            history: alloc::vec![place.shards],
            ..Spread::default()
        })
    }

    fn know(&mut self, spread: Spread) -> Result<(), DatabaseError> {
        spread.store(self.db)?;
        self.state.gates.divide(&spread);
        self.state.spread = spread;
        self.state.lanes.all_opened();
        self.place_freed = true;
        Ok(())
    }

    /// Answers a call that this object can say nothing of: one for a job or a key that it does not have, of a partition
    /// that it has lost, and an operator's while it sleeps. Gives back any other.
    pub(super) fn hand_on(&mut self, id: CallId, call: Call) -> Result<Option<Call>, DatabaseError> {
        if !self.state.spread.is_awake() && matches!(call, Call::Pause { .. } | Call::Resume { .. }) {
            // What is paused here is what was paused elsewhere, and is on its way: it would undo a resume.
            let error = Error::new(ErrorCode::Unavailable, "The tenant is growing: try again.");
            self.reply(id, Err(error.retry_after(AWAKE_SOON_MS)));
            return Ok(None);
        }
        if let Some((shard, call)) = self.next_asked(&call)? {
            let call = Box::new(call);
            self.reply(id, Ok(Reply::Elsewhere { shard, call }));
            return Ok(None);
        }
        let Some(shard) = partition_of(&call).and_then(|partition| self.state.spread.lost_to(partition)) else {
            return Ok(Some(call));
        };
        if self.has(&call)? {
            return Ok(Some(call));
        }
        let call = Box::new(call);
        self.reply(id, Ok(Reply::Elsewhere { shard, call }));
        Ok(None)
    }

    /// Where a key that each object is asked for in turn is not here: the next one, and what it is asked.
    fn next_asked(&self, call: &Call) -> Result<Option<(ShardIndex, Call)>, DatabaseError> {
        let Call::Follow {
            job:
                JobRef::Anywhere {
                    action,
                    key,
                    at,
                    shards,
                },
            caller,
            hub,
            after,
        } = call
        else {
            return Ok(None);
        };
        let shards = self.state.spread.place().shards.max(*shards);
        let next = ShardIndex(at.0.saturating_add(1));
        if next.0 >= shards || self.named(action.as_str(), key.as_str())?.is_some() {
            return Ok(None);
        }
        let job = JobRef::Anywhere {
            action: action.clone(),
            key: key.clone(),
            at: next,
            shards,
        };
        let call = Call::Follow {
            job,
            caller: caller.clone(),
            hub: *hub,
            after: *after,
        };
        Ok(Some((next, call)))
    }

    /// Whether the job is here that a call names.
    fn has(&self, call: &Call) -> Result<bool, DatabaseError> {
        let job = match call {
            Call::Follow {
                job: JobRef::Key(action, key),
                ..
            } => return Ok(self.named(action.as_str(), key.as_str())?.is_some()),
            call => match job_of(call) {
                Some(job) => job,
                None => return Ok(true),
            },
        };
        let unstored = self.state.unstored.get(&job.number());
        Ok(unstored.is_some_and(|unstored| unstored.id == job) || self.load(job)?.is_some())
    }

    /// Hands on a request whose key names nothing here, where the object may take no new key of its partition. A key that
    /// an earlier job leaves without being replaced is free from then on. Gives back what is to be taken here.
    pub(super) fn hand_on_key(
        &mut self,
        call: CallId,
        enqueue: Enqueue,
        leaves: Option<&Leaves>,
    ) -> Result<Option<Enqueue>, DatabaseError> {
        let dedupe = enqueue.job.once.as_ref().and_then(Once::dedupe);
        let of_key = enqueue.keyed.is_some() || dedupe.is_some();
        let replaces = leaves.is_some_and(Leaves::replaces);
        let Some(shard) = self
            .state
            .spread
            .lost_to(enqueue.partition)
            .filter(|_| of_key && !replaces)
        else {
            return Ok(Some(enqueue));
        };
        if let Some(leaves) = leaves {
            free_dedupe(self.db, leaves.number)?;
        }
        let call_again = Box::new(Call::Enqueue(Box::new(enqueue)));
        self.reply(
            call,
            Ok(Reply::Elsewhere {
                shard,
                call: call_again,
            }),
        );
        Ok(None)
    }
}

/// The partition of the job that a call names.
fn partition_of(call: &Call) -> Option<Partition> {
    if let Call::Follow {
        job: JobRef::Key(action, key),
        ..
    } = call
    {
        let hash = fnv1a(&[action.as_str().as_bytes(), key.as_str().as_bytes()]);
        return Some(Partition::of_hash(hash));
    }
    job_of(call).map(|job| job.number().partition())
}

/// The job that a call names by its id, where whoever asks may not know which object has it.
fn job_of(call: &Call) -> Option<JobId> {
    match call {
        Call::Follow {
            job: JobRef::Id(job), ..
        }
        | Call::Watch { job, .. }
        | Call::Cancel { job, .. }
        | Call::Change { job, .. }
        | Call::Retry { job, .. }
        | Call::Get { job, .. }
        | Call::Result { job, .. }
        | Call::Why { job, .. }
        | Call::Events { job, .. }
        | Call::Output { job, .. } => Some(*job),
        _ => None,
    }
}
