//! What reports carry beyond progress: each counts once, the tables are bounded, and nothing in them outlives its job.

use tidegate_engine::database::{Database, Value};
use tidegate_protocol::calls::jobs::Call;
use tidegate_protocol::event::{Event, Happening};
use tidegate_protocol::ids::JobId;

use super::Facts;
use crate::setting::KEEP_BYTES;
use crate::world::{Check, World};

/// What a row of the tables counts for beyond its content.
const ROW_BYTES: u64 = 64;

impl Facts {
    /// How many events the report makes, and whether its notes are news. A report that counts is noted.
    pub(super) fn note_report(&mut self, call: &Call) -> (u64, bool) {
        let Call::Report {
            token, progress, notes, ..
        } = call
        else {
            return (0, false);
        };
        let known = self.noted.filter(|(of, _)| of == token).map_or(0, |(_, number)| number);
        let fresh = notes
            .as_ref()
            .filter(|notes| notes.number.is_none_or(|number| number > known));
        if let Some(number) = fresh.and_then(|notes| notes.number) {
            self.noted = Some((*token, number));
        }
        let patched = fresh.is_some_and(|notes| !notes.metadata_patch.is_empty());
        let written = fresh.map_or(0, |notes| notes.output.len() as u64);
        (written + u64::from(progress.is_some() || patched), fresh.is_some())
    }
}

/// Text begins where what was told of its stream before it ends, or later where something was not told.
pub(super) fn check_output(job: JobId, earlier: Option<&Event>, event: &Event) -> Check {
    let (Some(Happening::Output(before)), Happening::Output(after)) = (earlier.map(|event| &event.what), &event.what)
    else {
        return Ok(());
    };
    if before.stream == after.stream && before.offset + before.chunk.len() as u64 != after.offset {
        return Err(format!("{job}: {after:?} right behind {before:?}"));
    }
    Ok(())
}

impl World {
    /// The tables hold nothing of a job that is gone, and of none more than they may.
    pub(super) fn check_tables(&mut self, shard: usize) -> Check {
        let db = &self.shards[shard].db;
        let count = |sql: &'static str, bound: &[Value<'_>]| -> Result<u64, String> {
            let rows = db.run(sql, bound).map_err(|error| error.message)?;
            let row = rows.into_iter().next();
            let number = row
                .map(|mut row| row.number())
                .transpose()
                .map_err(|error| error.message)?;
            Ok(number.unwrap_or(0))
        };
        let orphans = count(
            "SELECT (SELECT count(*) FROM output WHERE number NOT IN (SELECT number FROM job))
                + (SELECT count(*) FROM event WHERE number NOT IN (SELECT number FROM job))
                + (SELECT count(*) FROM lost_doorbell WHERE number NOT IN (SELECT number FROM job))",
            &[],
        )?;
        let longest = count(
            "SELECT coalesce(max(kept), 0) FROM (SELECT sum(length(chunk) + CAST(? AS INTEGER)) AS kept FROM output
                GROUP BY number)",
            &[Value::Number(ROW_BYTES)],
        )?;
        if orphans > 0 || longest > KEEP_BYTES {
            return Err(format!(
                "shard {shard}: {orphans} rows of no job, {longest} bytes of one"
            ));
        }
        Ok(())
    }
}
