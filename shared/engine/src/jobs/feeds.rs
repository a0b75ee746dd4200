//! What happens to jobs, on its way to the channels that tell it.
//!
//! The changes of one turn are a row of the outbox for each channel, written with what they tell of, and gone once the channel
//! has confirmed them. Rows have numbers that only rise, and a channel takes them in their order: told twice or late, each is one
//! message. Progress is thinned before it is noted. A job whose composition does not ask for it writes none of this.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::calls::channel::Keep;
use tidegate_protocol::calls::feeds::Changes;
use tidegate_protocol::changes::{ChangeKind, JobChange, TENANT_JOBS, user_channel};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ChannelName, JobNumber};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, SortedMap};

use super::row::Job;
use super::{Effect, REDELIVERY_MS, Turn};
use crate::database::{Database, DatabaseError, Value, from_blob, to_blob};

/// Changes of one row at most: some 250 bytes each.
const ROW_CHANGES_MAX: usize = 100;
/// Rows told in one call at most.
const TOLD_ROWS_MAX: usize = 64;
/// Changes told in one call at most, but for those of its last row: the channel stores all of them in one turn.
const TOLD_CHANGES_MAX: usize = 100;
/// Numbers that are taken in advance by one row. A restart passes over what is left of them.
const NUMBERS: u64 = 1000;
/// Numbers of one millisecond. A restart begins above those of all time before: a platform that took the rows back to an earlier
/// time did not take the channels back, which know what was given since. Below 2^53 until the year 2255.
const NUMBERS_PER_MS: u64 = 1000;
/// The shortest time between two messages about the progress of one job. Milliseconds.
pub const PROGRESS_MS: u64 = 1000;
/// How long a channel that cannot be reached is left alone at first. Twice as long each time. Milliseconds.
const RETRY_MS: u64 = 500;
/// And at most. Milliseconds.
const RETRY_MS_MAX: u64 = 60_000;

/// The outbox, and up to where its numbers are taken: that outlives the rows, so that none is given twice.
pub(super) const FEEDS: &[&str] = &[
    "-- jobs::schema
    CREATE TABLE feed (number INTEGER PRIMARY KEY, channel TEXT NOT NULL, body BLOB NOT NULL) STRICT",
    "-- jobs::schema
    CREATE TABLE feed_numbers (id INTEGER PRIMARY KEY CHECK (id = 1), until INTEGER NOT NULL) STRICT",
];

/// The body of a row.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(super) struct Body {
    keep: Keep,
    changes: Vec<JsonText>,
}

/// What is on its way to one channel.
#[derive(Debug, Clone, Default)]
struct Outgoing {
    /// The rows that are not confirmed, oldest first.
    rows: VecDeque<u64>,
    /// Whether a call is under way.
    sending: bool,
    failures: u32,
    /// When it is told again, whether or not it has answered.
    retry_at: UnixMs,
}

/// The progress of a job that runs.
#[derive(Debug, Clone, Copy)]
struct Noted {
    /// When it was noted last.
    at: UnixMs,
    /// Whether there is more since.
    held: bool,
}

/// What is to be told.
#[derive(Debug, Clone, Default)]
pub(super) struct Feeds {
    /// The newest number that was given.
    last: u64,
    /// Up to where numbers may be given without a row.
    until: u64,
    channels: SortedMap<ChannelName, Outgoing>,
    progress: SortedMap<JobNumber, Noted>,
}

/// Changes that a turn has yet to write, in their order.
pub(super) type Unwritten = SortedMap<ChannelName, Body>;

impl Feeds {
    pub fn recover(db: &impl Database, now: UnixMs) -> Result<Self, DatabaseError> {
        let mut feeds = Self {
            last: now.0 * NUMBERS_PER_MS,
            ..Self::default()
        };
        let rows = db.run("-- feeds::recover\nSELECT until FROM feed_numbers WHERE id = 1", &[])?;
        let Some(mut row) = rows.into_iter().next() else {
            return Ok(feeds);
        };
        feeds.until = row.number()?;
        feeds.last = feeds.last.max(feeds.until);
        for mut row in db.run(
            "-- feeds::recover\nSELECT number, channel FROM feed ORDER BY number",
            &[],
        )? {
            let number = row.number()?;
            if let Some(channel) = ChannelName::parse(&row.text()?) {
                feeds.channels.entry(channel).or_default().rows.push_back(number);
            }
        }
        Ok(feeds)
    }

    /// When the object must be woken to tell again what is not confirmed.
    pub fn next_wake(&self) -> Option<UnixMs> {
        self.channels.values().map(|outgoing| outgoing.retry_at).min()
    }

    /// When progress that was held back may be told, as long as this memory lives.
    pub fn next_tick(&self) -> Option<UnixMs> {
        let held = self.progress.values().filter(|noted| noted.held);
        held.map(|noted| noted.at.plus(PROGRESS_MS)).min()
    }
}

impl<D: Database> Turn<'_, D> {
    /// Something happened to `job`, which is as it is then. `code` says why, where something went wrong.
    pub(super) fn note_change(&mut self, job: &Job, kind: ChangeKind, code: Option<ErrorCode>) {
        let feeds = job.spec.policy.feeds;
        if feeds.are_none() {
            return;
        }
        if kind != ChangeKind::Progress {
            self.state.feeds.progress.remove(&job.id.number());
        }
        let change = JobChange {
            kind,
            job_id: job.id,
            seq: job.seq,
            attempt: job.attempt,
            status: job.state,
            action: job.spec.action.clone(),
            user: job.spec.user.clone(),
            percentage: (kind == ChangeKind::Progress).then_some(job.progress.percentage),
            code,
            at: self.now,
        };
        let Some(text) = JsonText::of(&change) else { return };
        let all = feeds.tenant.zip(ChannelName::parse(TENANT_JOBS));
        let own = feeds.user.zip(user_channel(&job.spec.user));
        for (keep, channel) in all.into_iter().chain(own) {
            let body = self.changes.entry(channel).or_insert_with(|| Body {
                keep,
                changes: Vec::new(),
            });
            body.changes.push(text.clone());
        }
    }

    /// `job` got on: told at once where that was not told within the last second, else once that is over, as it is then.
    pub(super) fn got_on(&mut self, job: &Job) {
        if job.spec.policy.feeds.are_none() {
            return;
        }
        let noted = self.state.feeds.progress.get_mut(&job.id.number());
        if let Some(noted) = noted.filter(|noted| noted.at.plus(PROGRESS_MS) > self.now) {
            noted.held = true;
            return;
        }
        let noted = Noted {
            at: self.now,
            held: false,
        };
        self.state.feeds.progress.insert(job.id.number(), noted);
        self.note_change(job, ChangeKind::Progress, None);
    }

    /// At the end of a turn: stores what has changed in it, and tells the channels that have nothing under way.
    pub(super) fn tell_changes(&mut self) -> Result<(), DatabaseError> {
        let now = self.now;
        if self.state.feeds.next_tick().is_some_and(|at| at <= now) {
            let due = |noted: &Noted| noted.held && noted.at.plus(PROGRESS_MS) <= now;
            let progress = self.state.feeds.progress.iter();
            let due: Vec<JobNumber> = progress.filter(|(_, noted)| due(noted)).map(|(job, _)| *job).collect();
            for number in due {
                match self.state.rows.get(&number).cloned() {
                    Some(job) => self.got_on(&job),
                    None => drop(self.state.feeds.progress.remove(&number)),
                }
            }
        }
        for (channel, body) in core::mem::take(&mut self.changes) {
            for changes in body.changes.chunks(ROW_CHANGES_MAX) {
                let body = Body {
                    keep: body.keep,
                    changes: changes.to_vec(),
                };
                let number = self.next_number()?;
                self.store_changes(number, &channel, &to_blob(&body)?)?;
            }
        }
        let channels = self.state.feeds.channels.iter();
        let idle = |outgoing: &Outgoing| (!outgoing.sending && outgoing.failures == 0) || outgoing.retry_at <= now;
        let ready: Vec<ChannelName> = channels
            .filter(|(_, to)| idle(to))
            .map(|(name, _)| name.clone())
            .collect();
        for channel in ready {
            self.tell_channel(channel)?;
        }
        Ok(())
    }

    /// The next number of a row. One row for a thousand of them.
    fn next_number(&mut self) -> Result<u64, DatabaseError> {
        let feeds = &mut self.state.feeds;
        feeds.last += 1;
        if feeds.last > feeds.until {
            feeds.until = feeds.last + NUMBERS - 1;
            self.db.run(
                "-- feeds::next_number
                INSERT INTO feed_numbers (id, until) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET until = excluded.until",
                &[Value::Number(feeds.until)],
            )?;
        }
        Ok(feeds.last)
    }

    fn store_changes(&mut self, number: u64, channel: &ChannelName, body: &[u8]) -> Result<(), DatabaseError> {
        self.db.run(
            "-- feeds::store_changes
            INSERT INTO feed (number, channel, body) VALUES (?, ?, ?)",
            &[Value::Number(number), Value::Text(channel.as_str()), Value::Blob(body)],
        )?;
        let outgoing = self.state.feeds.channels.entry(channel.clone()).or_default();
        outgoing.rows.push_back(number);
        Ok(())
    }

    /// Tells a channel the oldest changes that it has not confirmed.
    fn tell_channel(&mut self, channel: ChannelName) -> Result<(), DatabaseError> {
        let Some(outgoing) = self.state.feeds.channels.get_mut(&channel) else {
            return Ok(());
        };
        outgoing.sending = true;
        outgoing.retry_at = self.now.plus(REDELIVERY_MS);
        let (mut rows, mut changes, mut newest) = (Vec::new(), 0, None);
        for number in outgoing.rows.iter().take(TOLD_ROWS_MAX) {
            let Some(body) = body(self.db, *number)? else {
                continue;
            };
            let Body { keep, changes: told } = from_blob(&body)?;
            changes += told.len();
            newest = Some(keep);
            rows.push(Changes {
                number: *number,
                changes: told,
            });
            if changes >= TOLD_CHANGES_MAX {
                break;
            }
        }
        if let Some(keep) = newest {
            self.effects.push(Effect::TellChanges { channel, rows, keep });
        }
        Ok(())
    }

    /// A channel has stored everything up to a number; or could not be reached.
    pub(super) fn changes_told(
        &mut self,
        channel: &ChannelName,
        said: Result<u64, Error>,
    ) -> Result<(), DatabaseError> {
        let Some(outgoing) = self.state.feeds.channels.get_mut(channel) else {
            return Ok(());
        };
        outgoing.sending = false;
        let Ok(stored) = said else {
            let wait = (RETRY_MS << outgoing.failures.min(10)).min(RETRY_MS_MAX);
            outgoing.failures = outgoing.failures.saturating_add(1);
            outgoing.retry_at = self.now.plus(wait);
            return Ok(());
        };
        outgoing.failures = 0;
        while let Some(number) = outgoing.rows.front().copied().filter(|number| *number <= stored) {
            outgoing.rows.pop_front();
            forget(self.db, number)?;
        }
        if outgoing.rows.is_empty() {
            self.state.feeds.channels.remove(channel);
        }
        self.tell_changes()
    }
}

fn body(db: &impl Database, number: u64) -> Result<Option<Vec<u8>>, DatabaseError> {
    let rows = db.run(
        "-- feeds::body
        SELECT body FROM feed WHERE number = CAST(? AS INTEGER)",
        &[Value::Number(number)],
    )?;
    rows.into_iter().next().map(|mut row| row.blob()).transpose()
}

fn forget(db: &impl Database, number: u64) -> Result<(), DatabaseError> {
    db.run(
        "-- feeds::forget
        DELETE FROM feed WHERE number = CAST(? AS INTEGER)",
        &[Value::Number(number)],
    )?;
    Ok(())
}
