//! A job's history beyond its row: what it wrote to its streams, and, where its action asks for that, each event.
//!
//! Two tables, a row for each chunk and each event, in the order of their places. Both are bounded: the oldest rows make
//! way. What is left of a job's history, row and tables together, is read here, and whether something of it is missing is
//! told by its places, which have no hole but for what was forgotten.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::Error;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::Reply;
use tidegate_protocol::calls::reporting::Durability;
use tidegate_protocol::event::{Event, Happening, JsonText, Output};
use tidegate_protocol::frames::ServerFrame;
use tidegate_protocol::http::{EventPage, OutputPage};
use tidegate_protocol::ids::{FencingToken, JobId, JobNumber, Seq, StreamName};
use tidegate_protocol::time::UnixMs;

use super::row::{FIRST, Job};
use super::{CallId, TURN_ROWS_MAX, Turn};
use crate::database::{Database, DatabaseError, Row, Value, from_blob, to_blob};
use tidegate_protocol::SortedMap;

/// Events of a job that are kept where all are asked for. Bytes, each row counted with [`ROW_BYTES`] more.
pub const EVENTS_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// What a row counts for beyond its content, so that the number of rows is bounded too.
pub const ROW_BYTES: u64 = 64;
/// Events of one page of a list.
pub const PAGE_EVENTS_MAX: usize = 200;
/// Events that one call brings a client that comes back; where it missed more, it is told where the job stands.
pub const CATCH_UP_EVENTS_MAX: usize = 2000;
/// Text that one page brings, of one stream or of several. Bytes.
pub const PAGE_BYTES_MAX: usize = 256 * 1024;
/// Rows of the tables that one turn deletes with jobs past their retention, unless one job has more.
const SWEEP_ROWS_MAX: u64 = 10_000;
/// Rows that one look for the oldest takes.
const TRIM_ROWS: u64 = 64;

/// What a row remembers of the tables: nothing of a job that has neither written nor patched.
#[derive(Debug, Clone, PartialEq, Default, Encode, Decode)]
pub(super) struct Reported {
    /// Under which lease the latest numbered notes came.
    pub token: Option<FencingToken>,
    /// Their number.
    pub number: u64,
    /// What was written to each stream in all. Bytes.
    pub streams: SortedMap<StreamName, u64>,
    /// What is kept of it. Bytes, counted as for the bound.
    pub output_bytes: u64,
    /// What is kept of the events. Bytes, counted as for the bound.
    pub event_bytes: u64,
    /// Rows of both tables.
    pub rows: u64,
}

/// A part of a job's history.
pub(super) struct Page {
    /// Oldest first.
    pub events: Vec<Event>,
    /// Whether an event is missing among or before them.
    pub gap: bool,
    /// Whether there are more behind them.
    pub more: bool,
}

impl<D: Database> Turn<'_, D> {
    /// Notes that `what` happened to `job`: as [`Job::append`], and in the history where each event is kept.
    pub(super) fn record(&mut self, job: &mut Job, what: Happening) -> Result<Event, DatabaseError> {
        self.record_at(job, self.now, what)
    }

    /// As [`Self::record`], of what happened at `at`.
    pub(super) fn record_at(&mut self, job: &mut Job, at: UnixMs, what: Happening) -> Result<Event, DatabaseError> {
        let event = job.append(at, what)?;
        if job.spec.policy.reporting.durability == Durability::All && !event.what.is_terminal() {
            let body = to_blob(&event)?;
            self.db.run(
                "-- jobs::record
                INSERT INTO event (number, seq, body) VALUES (?, ?, ?)",
                &[
                    Value::Number(job.id.number().0),
                    Value::Number(event.seq.0),
                    Value::Blob(&body),
                ],
            )?;
            let reported = job.reported.get_or_insert_default();
            reported.event_bytes += counted(body.len());
            reported.rows += 1;
            if reported.event_bytes > EVENTS_BYTES_MAX {
                let trimmed = trim(
                    self.db,
                    &EVENTS,
                    job.id.number(),
                    reported.event_bytes - EVENTS_BYTES_MAX,
                )?;
                reported.event_bytes = reported.event_bytes.saturating_sub(trimmed.bytes);
                reported.rows = reported.rows.saturating_sub(trimmed.rows);
            }
        }
        Ok(event)
    }

    /// Puts text at the end of a stream of `job`. One row, and one for each that makes way.
    pub(super) fn write(&mut self, job: &mut Job, stream: StreamName, chunk: &str) -> Result<Event, DatabaseError> {
        let written = job
            .reported
            .get_or_insert_default()
            .streams
            .entry(stream.clone())
            .or_default();
        let offset = *written;
        *written += bytes(chunk.len());
        let output = Output {
            stream,
            offset,
            chunk: chunk.into(),
        };
        self.db.run(
            "-- jobs::write
            INSERT INTO output (number, seq, attempt, at, stream, start, chunk) VALUES (?, ?, ?, ?, ?, ?, ?)",
            &[
                Value::Number(job.id.number().0),
                Value::Number(job.seq.next().0),
                Value::Number(u64::from(job.attempt)),
                Value::Number(self.now.0),
                Value::Text(output.stream.as_str()),
                Value::Number(offset),
                Value::Blob(chunk.as_bytes()),
            ],
        )?;
        let keep_bytes = job.spec.policy.reporting.keep_bytes;
        let number = job.id.number();
        let reported = job.reported.get_or_insert_default();
        reported.output_bytes += counted(chunk.len());
        reported.rows += 1;
        if reported.output_bytes > keep_bytes {
            let trimmed = trim(self.db, &OUTPUT, number, reported.output_bytes - keep_bytes)?;
            reported.output_bytes = reported.output_bytes.saturating_sub(trimmed.bytes);
            reported.rows = reported.rows.saturating_sub(trimmed.rows);
        }
        job.append(self.now, Happening::Output(output))
    }

    /// The stored events of `job` after `after`, at most `events_max` of them.
    pub(super) fn history(&self, job: &Job, after: Seq, events_max: usize) -> Result<Page, DatabaseError> {
        let mut events: Vec<Event> = job.log.iter().chain(&job.outcome).cloned().collect();
        let mut until = None;
        if job.reported.is_some() {
            let limit = bytes(events_max);
            let (stored, written) = (self.stored(job, after, limit)?, self.written(job, after, limit)?);
            // Behind the last row of a search that is full, the others may know more than this one.
            let full = [&stored, &written]
                .into_iter()
                .filter(|found| found.len() >= events_max);
            until = full.filter_map(|found| found.last()).map(|event| event.seq).min();
            events.extend(stored);
            events.extend(written);
        }
        events.retain(|event| event.seq > after && until.is_none_or(|until| event.seq <= until));
        events.sort_by_key(|event| event.seq);
        events.dedup_by_key(|event| event.seq);
        let cut = cut(&events, events_max);
        let more = until.is_some() || cut < events.len();
        events.truncate(cut);
        let mut next = after.max(FIRST).next();
        let mut gap = false;
        for event in &events {
            gap |= event.seq > next;
            next = event.seq.next();
        }
        gap |= !more && next <= job.seq;
        Ok(Page { events, gap, more })
    }

    fn stored(&self, job: &Job, after: Seq, limit: u64) -> Result<Vec<Event>, DatabaseError> {
        let rows = self.db.run(
            "-- jobs::stored
            SELECT body FROM event WHERE number = CAST(? AS INTEGER) AND seq > CAST(? AS INTEGER)
            ORDER BY seq LIMIT CAST(? AS INTEGER)",
            &[
                Value::Number(job.id.number().0),
                Value::Number(after.0),
                Value::Number(limit),
            ],
        )?;
        rows.into_iter().map(|mut row| from_blob(&row.blob()?)).collect()
    }

    fn written(&self, job: &Job, after: Seq, limit: u64) -> Result<Vec<Event>, DatabaseError> {
        let rows = self.db.run(
            "-- jobs::written
            SELECT seq, attempt, at, stream, start, chunk FROM output
            WHERE number = CAST(? AS INTEGER) AND seq > CAST(? AS INTEGER) ORDER BY seq LIMIT CAST(? AS INTEGER)",
            &[
                Value::Number(job.id.number().0),
                Value::Number(after.0),
                Value::Number(limit),
            ],
        )?;
        rows.into_iter().map(output_event).collect()
    }

    /// Shows the stored events of a job, a page of them.
    pub(super) fn events(&mut self, call: CallId, id: JobId, caller: &Caller, after: Seq) -> Result<(), DatabaseError> {
        let Some(job) = self.visible(id, caller)? else {
            self.reply(call, Err(Error::not_found()));
            return Ok(());
        };
        let page = self.history(&job, after, PAGE_EVENTS_MAX)?;
        let request_id = &job.spec.request_id;
        let frames = page.events.iter();
        let frames = frames.filter_map(|event| JsonText::of(&ServerFrame::event(request_id.clone(), job.id, event)));
        let shown = EventPage {
            events: frames.collect(),
            gap: page.gap,
            ended: job.state.is_ended() && !page.more,
            next_after: page.events.last().filter(|_| page.more).map(|event| event.seq),
        };
        self.reply(
            call,
            Ok(Reply::History(JsonText::of(&shown).unwrap_or_else(JsonText::null))),
        );
        Ok(())
    }

    /// Shows the text of one of a job's streams, a page of it.
    pub(super) fn output(
        &mut self,
        call: CallId,
        id: JobId,
        caller: &Caller,
        stream: StreamName,
        offset: u64,
    ) -> Result<(), DatabaseError> {
        let Some(job) = self.visible(id, caller)? else {
            self.reply(call, Err(Error::not_found()));
            return Ok(());
        };
        let written = job
            .reported
            .as_ref()
            .and_then(|reported| reported.streams.get(&stream).copied());
        let written = written.unwrap_or(0);
        let mut shown = OutputPage {
            stream,
            offset,
            text: String::new(),
            next_offset: offset,
            written,
            gap: false,
            ended: job.state.is_ended(),
            seq: job.seq,
        };
        if offset < written {
            self.read_stream(job.id.number(), &mut shown)?;
        }
        self.reply(
            call,
            Ok(Reply::History(JsonText::of(&shown).unwrap_or_else(JsonText::null))),
        );
        Ok(())
    }

    /// Fills `page` with what is kept of its stream from its offset on. There is something beyond that.
    fn read_stream(&self, number: JobNumber, page: &mut OutputPage) -> Result<(), DatabaseError> {
        let asked = page.offset;
        let rows = self.db.run(
            "-- jobs::read_stream
            SELECT start, chunk FROM output WHERE number = CAST(? AS INTEGER) AND stream = CAST(? AS TEXT)
            AND start + length(chunk) > CAST(? AS INTEGER) ORDER BY seq LIMIT CAST(? AS INTEGER)",
            &[
                Value::Number(number.0),
                Value::Text(page.stream.as_str()),
                Value::Number(asked),
                Value::Number(bytes(CATCH_UP_EVENTS_MAX)),
            ],
        )?;
        // Where nothing is kept, the rest of the stream is what is missing.
        page.offset = page.written;
        page.next_offset = page.written;
        for (index, mut row) in rows.into_iter().enumerate() {
            let (start, chunk) = (row.number()?, text(row.blob()?)?);
            let mut from = 0;
            if index == 0 {
                from = usize::try_from(asked.saturating_sub(start)).unwrap_or(0);
                while !chunk.is_char_boundary(from) {
                    from -= 1;
                }
                page.offset = start + bytes(from);
            }
            page.text.push_str(chunk.get(from..).unwrap_or_default());
            page.next_offset = start + bytes(chunk.len());
            if page.text.len() >= PAGE_BYTES_MAX {
                break;
            }
        }
        page.gap = page.offset > asked;
        Ok(())
    }
}

/// How many of the events make one page.
fn cut(events: &[Event], events_max: usize) -> usize {
    let mut size = 0;
    for (index, event) in events.iter().enumerate() {
        if index == events_max || size >= PAGE_BYTES_MAX {
            return index;
        }
        if let Happening::Output(output) = &event.what {
            size += output.chunk.len();
        }
    }
    events.len()
}

fn output_event(mut row: Row) -> Result<Event, DatabaseError> {
    let seq = Seq(row.number()?);
    let attempt = u32::try_from(row.number()?).map_err(|_| DatabaseError::new("an attempt out of range"))?;
    let at = UnixMs(row.number()?);
    let stream = StreamName::parse(&row.text()?).ok_or_else(|| DatabaseError::new("a stream without a name"))?;
    let output = Output {
        stream,
        offset: row.number()?,
        chunk: text(row.blob()?)?,
    };
    Ok(Event {
        seq,
        attempt,
        at,
        what: Happening::Output(output),
    })
}

fn text(bytes: Vec<u8>) -> Result<String, DatabaseError> {
    String::from_utf8(bytes).map_err(|_| DatabaseError::new("a chunk that is no text"))
}

/// A table that is bounded for each job.
struct Table {
    oldest: &'static str,
    delete: &'static str,
}

const OUTPUT: Table = Table {
    oldest: "-- jobs::trim
        SELECT seq, length(chunk) FROM output WHERE number = CAST(? AS INTEGER) ORDER BY seq LIMIT CAST(? AS INTEGER)",
    delete: "-- jobs::trim
        DELETE FROM output WHERE number = CAST(? AS INTEGER) AND seq <= CAST(? AS INTEGER)",
};

const EVENTS: Table = Table {
    oldest: "-- jobs::trim
        SELECT seq, length(body) FROM event WHERE number = CAST(? AS INTEGER) ORDER BY seq LIMIT CAST(? AS INTEGER)",
    delete: "-- jobs::trim
        DELETE FROM event WHERE number = CAST(? AS INTEGER) AND seq <= CAST(? AS INTEGER)",
};

#[derive(Default)]
struct Trimmed {
    bytes: u64,
    rows: u64,
}

/// Deletes the oldest rows of a job until `over` bytes are free.
fn trim(db: &impl Database, table: &Table, number: JobNumber, over: u64) -> Result<Trimmed, DatabaseError> {
    let mut trimmed = Trimmed::default();
    while trimmed.bytes < over {
        let rows = db.run(table.oldest, &[Value::Number(number.0), Value::Number(TRIM_ROWS)])?;
        let mut last = None;
        for mut row in rows {
            if trimmed.bytes >= over {
                break;
            }
            last = Some(row.number()?);
            trimmed.bytes += row.number()? + ROW_BYTES;
            trimmed.rows += 1;
        }
        let Some(last) = last else { break };
        db.run(table.delete, &[Value::Number(number.0), Value::Number(last)])?;
    }
    Ok(trimmed)
}

/// How many of the jobs that are past their retention can be deleted in one turn, with what the tables hold of them.
pub(super) fn sweepable(db: &impl Database, now: UnixMs) -> Result<u64, DatabaseError> {
    let used = db.run(
        "-- jobs::sweepable
        SELECT EXISTS (SELECT 1 FROM output) OR EXISTS (SELECT 1 FROM event) OR EXISTS (SELECT 1 FROM alias)",
        &[],
    )?;
    if used.into_iter().next().map(|mut row| row.number()).transpose()? != Some(1) {
        return Ok(TURN_ROWS_MAX);
    }
    let rows = db.run(
        "-- jobs::sweepable
        SELECT reported, (SELECT max(place) FROM alias WHERE alias.number = job.number) FROM job WHERE expires_at <= CAST(? AS INTEGER) AND due_at IS NULL
        ORDER BY number LIMIT CAST(? AS INTEGER)",
        &[Value::Number(now.0), Value::Number(TURN_ROWS_MAX)],
    )?;
    let (mut jobs, mut deleted) = (0, 0);
    for mut row in rows {
        let reported: Option<Reported> = row.optional_blob()?.map(|bytes| from_blob(&bytes)).transpose()?;
        deleted += reported.map_or(0, |reported| reported.rows) + row.optional_number()?.unwrap_or(0);
        if jobs > 0 && deleted > SWEEP_ROWS_MAX {
            return Ok(jobs);
        }
        jobs += 1;
    }
    Ok(TURN_ROWS_MAX)
}

/// Deletes all of a job's history but for its row.
pub(super) fn forget(db: &impl Database, number: JobNumber) -> Result<(), DatabaseError> {
    for table in [&OUTPUT, &EVENTS] {
        db.run(table.delete, &[Value::Number(number.0), Value::Number((1 << 53) - 1)])?;
    }
    Ok(())
}

fn counted(content: usize) -> u64 {
    bytes(content) + ROW_BYTES
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
