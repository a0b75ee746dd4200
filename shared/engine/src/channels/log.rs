//! The messages of a channel: where they stand, how many are kept, and what can be made up for.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::calls::channel::{Keep, Medium};
use tidegate_protocol::channels::{Cursor, HistoryPage, Message};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{Epoch, Offset, UserId};
use tidegate_protocol::limits::{RECOVERED_BYTES_MAX, RECOVERED_MESSAGES_MAX};
use tidegate_protocol::time::UnixMs;

use super::{Moment, published};
use crate::database::{Database, DatabaseError, Row, Value, from_blob, to_blob};

/// Messages of a stored log that are in memory as well, so that hubs are told without a row being read.
const RECENT_MAX: usize = 64;
/// Bytes of their data. The objects of an isolate share 128 MB.
const RECENT_BYTES_MAX: usize = 64 * 1024;

/// The log, as far as this instance holds it in memory.
#[derive(Debug, Clone)]
pub(super) struct Log {
    keep: Keep,
    epoch: Epoch,
    head: Offset,
    /// The first that is kept; behind the head where none is.
    first: Offset,
    /// When the first one was published, and the latest: a clock that jumps back changes no order.
    first_at: UnixMs,
    last_at: UnixMs,
    /// Bytes of what is kept.
    bytes: u64,
    /// The latest messages; all that are kept, where the medium is memory.
    recent: VecDeque<Message>,
    recent_bytes: usize,
}

fn message(mut row: Row) -> Result<Message, DatabaseError> {
    let (offset, timestamp) = (Offset(row.number()?), UnixMs(row.number()?));
    let data = JsonText::stored(row.text()?);
    let publisher = row.optional_text()?.as_deref().and_then(UserId::parse);
    Ok(Message {
        offset,
        timestamp,
        data,
        publisher,
    })
}

fn len(data: &JsonText) -> u64 {
    u64::try_from(data.as_str().len()).unwrap_or(u64::MAX)
}

/// A quarter more, so that not every message that comes has one deleted.
fn slack(bound: u64) -> u64 {
    bound.saturating_add(bound / 4)
}

impl Log {
    /// The stored log; `None` where none was begun.
    pub fn load(db: &impl Database) -> Result<Option<Self>, DatabaseError> {
        let rows = db.run("-- log::load\nSELECT epoch, head, keep FROM channel", &[])?;
        let Some(mut row) = rows.into_iter().next() else {
            return Ok(None);
        };
        let epoch = Epoch::parse(&row.text()?).ok_or_else(|| DatabaseError::new("an epoch that is none"))?;
        let emptied = Offset(row.number()?);
        let keep = from_blob(&row.blob()?)?;
        let rows = db.run(
            "-- log::load
            SELECT min(place), max(place), min(at), max(at), total(length(CAST(data AS BLOB))) FROM message",
            &[],
        )?;
        let mut log = Self {
            keep,
            epoch,
            head: emptied,
            first: emptied.next(),
            first_at: UnixMs(0),
            last_at: UnixMs(0),
            bytes: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
        };
        if let Some(mut row) = rows.into_iter().next()
            && let (Some(first), Some(head)) = (row.optional_number()?, row.optional_number()?)
        {
            log.first = Offset(first);
            log.head = Offset(head);
            log.first_at = UnixMs(row.number()?);
            log.last_at = UnixMs(row.number()?);
            log.bytes = row.number()?;
        }
        Ok(Some(log))
    }

    /// A log that is empty, and of which nothing was ever told.
    pub fn begin(db: &impl Database, moment: &mut Moment<'_>, keep: Keep) -> Result<Self, DatabaseError> {
        let epoch = Epoch::generate(moment.now, (moment.random)());
        for sql in [
            "-- log::begin\nDELETE FROM channel",
            "-- log::begin\nDELETE FROM message",
            "-- log::begin\nDELETE FROM published",
        ] {
            db.run(sql, &[])?;
        }
        if keep.medium == Medium::Rows {
            db.run(
                "-- log::begin
                INSERT INTO channel (id, epoch, head, keep) VALUES (1, ?, 0, ?)",
                &[Value::Text(epoch.as_str()), Value::Blob(&to_blob(&keep)?)],
            )?;
        }
        Ok(Self {
            keep,
            epoch,
            head: Offset(0),
            first: Offset(1),
            first_at: moment.now,
            last_at: UnixMs(0),
            bytes: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
        })
    }

    pub fn keep(&self) -> &Keep {
        &self.keep
    }

    /// From now on so much is kept. One row, where that is not what it was.
    pub fn set_keep(&mut self, db: &impl Database, keep: Keep) -> Result<(), DatabaseError> {
        if self.keep != keep && keep.medium == Medium::Rows {
            db.run(
                "-- log::set_keep\nUPDATE channel SET keep = ?",
                &[Value::Blob(&to_blob(&keep)?)],
            )?;
        }
        self.keep = keep;
        Ok(())
    }

    /// The same messages in another life: no cursor of before is good any more.
    pub fn renew(&mut self, db: &impl Database, moment: &mut Moment<'_>) -> Result<(), DatabaseError> {
        self.epoch = Epoch::generate(moment.now, (moment.random)());
        if self.keep.medium == Medium::Rows {
            db.run(
                "-- log::renew\nUPDATE channel SET epoch = ?",
                &[Value::Text(self.epoch.as_str())],
            )?;
        }
        Ok(())
    }

    /// The latest message.
    pub fn at(&self) -> Cursor {
        Cursor {
            epoch: self.epoch.clone(),
            offset: self.head,
        }
    }

    /// Adds a message. One row, and one for each that goes.
    pub fn append(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        data: &JsonText,
        publisher: Option<&UserId>,
    ) -> Result<Offset, DatabaseError> {
        let (offset, at, keep) = (self.head.next(), now.max(self.last_at), self.keep);
        if keep.medium == Medium::Rows {
            db.run(
                "-- log::append
                INSERT INTO message (place, at, data, publisher) VALUES (?, ?, ?, ?)",
                &[
                    Value::Number(offset.0),
                    Value::Number(at.0),
                    Value::Text(data.as_str()),
                    publisher.map_or(Value::Null, |user| Value::Text(user.as_str())),
                ],
            )?;
        }
        if self.first > self.head {
            self.first = offset;
            self.first_at = at;
        }
        self.head = offset;
        self.last_at = at;
        self.bytes += len(data);
        self.recent_bytes += data.as_str().len();
        self.recent.push_back(Message {
            offset,
            timestamp: at,
            data: data.clone(),
            publisher: publisher.cloned(),
        });
        match keep.medium {
            Medium::Rows => self.forget_recent(RECENT_MAX, RECENT_BYTES_MAX),
            Medium::Memory => {}
        }
        let due = self.count() > slack(keep.messages)
            || self.bytes > slack(keep.bytes)
            || self.first_at.plus(slack(keep.age_ms)) < at;
        if due {
            self.trim(db, now)?;
        }
        Ok(offset)
    }

    fn forget_recent(&mut self, most: usize, bytes_max: usize) {
        while self.recent.len() > most || (self.recent_bytes > bytes_max && self.recent.len() > 1) {
            let Some(gone) = self.recent.pop_front() else { return };
            self.recent_bytes = self.recent_bytes.saturating_sub(gone.data.as_str().len());
        }
    }

    fn count(&self) -> u64 {
        (self.head.0 + 1).saturating_sub(self.first.0)
    }

    /// Lets go of what is no longer to be kept. Where all of it goes, one row keeps the place of the latest.
    pub fn trim(&mut self, db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
        let keep = self.keep;
        if self.count() == 0 {
            return published::forget(db, now);
        }
        let since = UnixMs(now.0.saturating_sub(keep.age_ms));
        let by_count = Offset((self.head.0 + 1).saturating_sub(keep.messages));
        let mut first = self.first_since(db, since)?.max(by_count).max(self.first);
        let mut gone = self.bytes_before(db, first)?;
        // Bytes are counted from the oldest, and the newest message stays whatever it takes.
        while self.bytes.saturating_sub(gone) > keep.bytes && first < self.head {
            gone += self.bytes_of(db, first)?;
            first = first.next();
        }
        if first == self.first {
            return Ok(());
        }
        if keep.medium == Medium::Rows {
            db.run(
                "-- log::trim
                DELETE FROM message WHERE place < CAST(? AS INTEGER)",
                &[Value::Number(first.0)],
            )?;
            if first > self.head {
                db.run(
                    "-- log::trim
                    UPDATE channel SET head = CAST(? AS INTEGER)",
                    &[Value::Number(self.head.0)],
                )?;
                published::forget(db, now)?;
            }
        }
        while self.recent.front().is_some_and(|message| message.offset < first) {
            self.forget_recent(self.recent.len().saturating_sub(1), usize::MAX);
        }
        self.first = first;
        self.bytes = self.bytes.saturating_sub(gone);
        self.first_at = match self.read(db, Offset(first.0.saturating_sub(1)), 1, usize::MAX)?.first() {
            Some(message) => message.timestamp,
            None => now,
        };
        Ok(())
    }

    /// The first message that was published at `since` or later; behind the head where none was.
    fn first_since(&self, db: &impl Database, since: UnixMs) -> Result<Offset, DatabaseError> {
        let end = self.head.next();
        if self.last_at < since || self.count() == 0 {
            return Ok(end);
        }
        if self.first_at >= since {
            return Ok(self.first);
        }
        let recent = self.recent.iter().find(|message| message.timestamp >= since);
        match (recent, self.recent.front()) {
            (Some(found), Some(front)) if front.offset == self.first || found.offset > front.offset => {
                return Ok(found.offset);
            }
            _ => {}
        }
        let rows = db.run(
            "-- log::first_since
            SELECT place FROM message WHERE at >= CAST(? AS INTEGER) ORDER BY place LIMIT 1",
            &[Value::Number(since.0)],
        )?;
        match rows.into_iter().next() {
            Some(mut row) => Ok(Offset(row.number()?)),
            None => Ok(end),
        }
    }

    fn bytes_before(&self, db: &impl Database, end: Offset) -> Result<u64, DatabaseError> {
        if self.keep.medium == Medium::Memory {
            let before = self.recent.iter().filter(|message| message.offset < end);
            return Ok(before.map(|message| len(&message.data)).sum());
        }
        let rows = db.run(
            "-- log::bytes_before
            SELECT total(length(CAST(data AS BLOB))) FROM message WHERE place < CAST(? AS INTEGER)",
            &[Value::Number(end.0)],
        )?;
        match rows.into_iter().next() {
            Some(mut row) => row.number(),
            None => Ok(0),
        }
    }

    fn bytes_of(&self, db: &impl Database, at: Offset) -> Result<u64, DatabaseError> {
        let before = Offset(at.0.saturating_sub(1));
        let messages = self.read(db, before, 1, usize::MAX)?;
        Ok(messages.first().map_or(0, |message| len(&message.data)))
    }

    /// The messages after `after`, as many as there is room for, one at least.
    pub fn read(
        &self,
        db: &impl Database,
        after: Offset,
        most: usize,
        bytes_max: usize,
    ) -> Result<Vec<Message>, DatabaseError> {
        let mut messages = Vec::new();
        let mut bytes = 0_usize;
        let mut take = |message: &Message| {
            bytes += message.data.as_str().len();
            let room = messages.is_empty() || (messages.len() < most && bytes <= bytes_max);
            if room {
                messages.push(message.clone());
            }
            room
        };
        let in_memory = self.recent.front().is_none_or(|front| front.offset <= after.next());
        if self.keep.medium == Medium::Memory || (in_memory && (after >= self.head || !self.recent.is_empty())) {
            let wanted = self.recent.iter().filter(|message| message.offset > after);
            let _all = wanted.into_iter().all(&mut take);
            return Ok(messages);
        }
        let mut from = after;
        loop {
            let rows = db.run(
                "-- log::read
                SELECT place, at, data, publisher FROM message WHERE place > CAST(? AS INTEGER) ORDER BY place LIMIT 64",
                &[Value::Number(from.0)],
            )?;
            let last = rows.len() < 64;
            for row in rows {
                let message = message(row)?;
                from = message.offset;
                if !take(&message) {
                    return Ok(messages);
                }
            }
            if last {
                return Ok(messages);
            }
        }
    }

    /// The first message that may be shown.
    fn visible(&self, db: &impl Database, now: UnixMs) -> Result<Offset, DatabaseError> {
        let keep = self.keep;
        let since = UnixMs(now.0.saturating_sub(keep.age_ms));
        let by_count = Offset((self.head.0 + 1).saturating_sub(keep.messages));
        Ok(self.first_since(db, since)?.max(by_count).max(self.first))
    }

    /// All messages after the cursor; `None` where some of them are no longer kept, or are too many for one answer.
    pub fn recover(
        &self,
        db: &impl Database,
        now: UnixMs,
        after: Option<&Cursor>,
    ) -> Result<Option<Vec<Message>>, DatabaseError> {
        let Some(after) = after.filter(|after| after.epoch == self.epoch && after.offset <= self.head) else {
            return Ok(None);
        };
        if after.offset == self.head {
            return Ok(Some(Vec::new()));
        }
        if after.offset.next() < self.visible(db, now)? {
            return Ok(None);
        }
        let messages = self.read(db, after.offset, RECOVERED_MESSAGES_MAX, RECOVERED_BYTES_MAX)?;
        let whole = messages.last().is_some_and(|last| last.offset == self.head);
        Ok(whole.then_some(messages))
    }

    /// The newest message, where it may be shown.
    pub fn newest(&self, db: &impl Database, now: UnixMs) -> Result<Option<Message>, DatabaseError> {
        if self.head < self.visible(db, now)? {
            return Ok(None);
        }
        let before = Offset(self.head.0.saturating_sub(1));
        Ok(self.read(db, before, 1, usize::MAX)?.pop())
    }

    /// A page of what is kept, after a cursor or from the oldest on.
    pub fn page(
        &self,
        db: &impl Database,
        now: UnixMs,
        after: Option<&Cursor>,
        limit: u64,
    ) -> Result<HistoryPage, DatabaseError> {
        let oldest = Offset(self.visible(db, now)?.0.saturating_sub(1));
        let known = after.filter(|after| after.epoch == self.epoch && after.offset <= self.head);
        let recovered = known.is_some_and(|after| after.offset >= oldest);
        let from = known.map_or(oldest, |after| after.offset.max(oldest));
        let most = usize::try_from(limit).unwrap_or(usize::MAX).min(RECOVERED_MESSAGES_MAX);
        let messages = if from < self.head {
            self.read(db, from, most, RECOVERED_BYTES_MAX)?
        } else {
            vec![]
        };
        let last = messages.last().map_or(self.head, |message| message.offset);
        let next = (last < self.head).then(|| {
            let epoch = self.epoch.clone();
            alloc::string::ToString::to_string(&Cursor { epoch, offset: last })
        });
        Ok(HistoryPage {
            epoch: self.epoch.clone(),
            offset: self.head,
            recovered,
            messages,
            next,
        })
    }

    /// When the latest message is too old, so that all of them go; `None` where nothing is kept.
    pub fn expires_at(&self) -> Option<UnixMs> {
        (self.count() > 0 && self.keep.medium == Medium::Rows).then(|| self.last_at.plus(self.keep.age_ms).plus(1))
    }
}
