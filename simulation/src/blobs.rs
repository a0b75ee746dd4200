//! Object storage: payloads too large for a row. Each belongs to one row, and is deleted with it.

use tidegate_engine::database::{Database, from_blob};
use tidegate_engine::jobs::{packed, payload_name};
use tidegate_protocol::calls::jobs::Call;
use tidegate_protocol::event::{JsonText, Payload};
use tidegate_protocol::ids::JobId;

use crate::world::{Check, World};

/// What the keys of payloads begin with.
const PAYLOADS: &str = "payloads/";

impl World {
    /// At times a request's payload counts as too large for a row, and is put into object storage first.
    pub fn check_in(&mut self, mut call: Call) -> Call {
        if self.random.permille(400)
            && let Call::Enqueue(enqueue) = &mut call
            && let Payload::Inline(text) = &enqueue.job.payload
        {
            let key = format!("{PAYLOADS}{}", self.next_id);
            self.next_id += 1;
            enqueue.job.payload = self.store(key, text.clone());
        }
        call
    }

    /// The payload with which a client redrives a job. The same one has the same key.
    pub fn store_redriven(&mut self, job: JobId, text: JsonText) -> Payload {
        let key = format!("{PAYLOADS}{:x}", payload_name(job, text.as_str()));
        self.store(key, text)
    }

    fn store(&mut self, key: String, text: JsonText) -> Payload {
        self.counters.payloads_stored += 1;
        let bytes = text.as_str().len() as u64;
        self.blobs.insert(key.clone(), text);
        Payload::Stored { key, bytes }
    }

    /// Whether a call carries a payload that one row is to own: it cannot come twice, as its key is made for it alone.
    pub fn owns_a_payload(call: &Call) -> bool {
        matches!(call, Call::Enqueue(enqueue) if matches!(enqueue.job.payload, Payload::Stored { .. }))
    }

    /// Deletes objects. No row may name one of them.
    pub fn delete(&mut self, shard: usize, keys: &[String]) -> Check {
        for key in keys.iter().filter(|key| key.starts_with(PAYLOADS)) {
            let rows = self.shards[shard]
                .db
                .run("SELECT payload FROM job", &[])
                .map_err(|error| error.message)?;
            for mut row in rows {
                let payload = row.blob().and_then(|bytes| from_blob(&bytes));
                let payload: Payload = payload.map_err(|error| error.message)?;
                if matches!(&payload, Payload::Stored { key: named, .. } if named == key) {
                    return Err(format!("a payload that a row names was deleted: {key}"));
                }
            }
            let hidden = packed(&self.shards[shard].db).map_err(|error| error.message)?;
            if hidden
                .iter()
                .any(|job| matches!(&job.payload, Payload::Stored { key: named, .. } if named == key))
            {
                return Err(format!("a payload that a pack names was deleted: {key}"));
            }
            self.counters.payloads_deleted += u64::from(self.blobs.remove(key).is_some());
        }
        Ok(())
    }
}
