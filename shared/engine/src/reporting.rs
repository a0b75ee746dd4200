//! What an attempt says beyond how far it is: whether it can be taken, what becomes of the metadata, and what an executor
//! gathers before it sends it. It knows neither rows nor the platform.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem;

use serde_json::{Map, Number, Value};
use tidegate_protocol::calls::reporting::{MetadataPatch, Notes, PatchOp, Written};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::StreamName;
use tidegate_protocol::limits::{
    ID_CHARS_MAX, METADATA_PATCHES_MAX, OUTPUT_CHUNK_BYTES_MAX, OUTPUT_REPORT_BYTES_MAX, OUTPUT_STREAMS_MAX,
};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, Fault};

/// How long text may wait for more before it is sent. Milliseconds.
pub const GATHER_MS: u64 = 100;
/// Gathered text that is sent at once. Bytes.
pub const GATHER_BYTES: usize = 4 * 1024;

const _: () = assert!(GATHER_BYTES + OUTPUT_REPORT_BYTES_MAX / 2 <= OUTPUT_REPORT_BYTES_MAX);

/// Whether notes can be taken as they are, whatever job they are of.
///
/// Errors: `VALIDATION_ERROR` with every fault.
pub fn check(notes: &Notes) -> Result<(), Error> {
    let mut faults = Vec::new();
    if notes.metadata_patch.len() > METADATA_PATCHES_MAX {
        let expected = format!("at most {METADATA_PATCHES_MAX} changes");
        let got = notes.metadata_patch.len().to_string();
        faults.push(Fault::new("/metadata_patch", expected, &got));
    }
    for (index, patch) in notes.metadata_patch.iter().enumerate() {
        if patch.key.is_empty() || patch.key.chars().count() > ID_CHARS_MAX {
            let pointer = format!("/metadata_patch/{index}/key");
            faults.push(Fault::new(pointer, "a name of 1 to 128 characters", &patch.key));
        }
        if patch.op == PatchOp::Increment && number(&patch.value).is_none() {
            let pointer = format!("/metadata_patch/{index}/value");
            faults.push(Fault::new(pointer, "a number", patch.value.as_str()));
        }
    }
    let bytes: usize = notes.output.iter().map(|written| written.chunk.len()).sum();
    if bytes > OUTPUT_REPORT_BYTES_MAX {
        let expected = format!("at most {OUTPUT_REPORT_BYTES_MAX} bytes of text in one report");
        faults.push(Fault::new("/output", expected, &bytes.to_string()));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Error::invalid("The report cannot be used.", faults))
    }
}

/// The refusal of a stream beyond the last that a job may have.
pub fn too_many_streams(stream: &StreamName) -> Error {
    let expected = format!("at most {OUTPUT_STREAMS_MAX} streams of one job");
    let fault = Fault::new("/output", expected, stream.as_str());
    Error::invalid("The report cannot be used.", alloc::vec![fault])
}

fn number(value: &JsonText) -> Option<Number> {
    serde_json::from_str(value.as_str()).ok()
}

/// The metadata after the changes, in their order. A change that would make it longer than `bytes_max` is left out, and
/// the others count all the same. `None` where there is none.
pub fn patched(metadata: Option<JsonText>, patches: &[MetadataPatch], bytes_max: usize) -> Option<JsonText> {
    if patches.is_empty() {
        return metadata;
    }
    let read = |text: &JsonText| serde_json::from_str(text.as_str()).ok();
    let mut entries: Map<String, Value> = metadata.as_ref().and_then(read).unwrap_or_default();
    let mut text = metadata;
    for patch in patches {
        let Ok(value) = serde_json::from_str::<Value>(patch.value.as_str()) else {
            continue;
        };
        let before = entries.get(&patch.key).cloned();
        let after = match patch.op {
            PatchOp::Set => value,
            PatchOp::Increment => added(before.as_ref(), &value),
            PatchOp::Append => appended(before.clone(), value),
        };
        entries.insert(patch.key.clone(), after);
        match JsonText::of(&entries).filter(|text| text.as_str().len() <= bytes_max) {
            Some(longer) => text = Some(longer),
            None => {
                match before {
                    Some(before) => entries.insert(patch.key.clone(), before),
                    None => entries.remove(&patch.key),
                };
            }
        }
    }
    text
}

/// The sum, whole where both are; what cannot be told in a number leaves the entry as it was.
fn added(entry: Option<&Value>, value: &Value) -> Value {
    let entry = entry
        .filter(|entry| entry.is_number())
        .cloned()
        .unwrap_or(Value::from(0));
    let whole = entry.as_i64().zip(value.as_i64());
    if let Some(sum) = whole.and_then(|(a, b)| a.checked_add(b)) {
        return Value::from(sum);
    }
    let sum = entry.as_f64().zip(value.as_f64()).map(|(a, b)| a + b);
    sum.and_then(Number::from_f64).map_or(entry, Value::Number)
}

fn appended(entry: Option<Value>, value: Value) -> Value {
    let mut list = match entry {
        None => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(other) => alloc::vec![other],
    };
    list.push(value);
    Value::Array(list)
}

/// Text in pieces of at most [`OUTPUT_CHUNK_BYTES_MAX`], each of whole characters.
pub fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    core::iter::from_fn(move || {
        let mut end = text.len().min(OUTPUT_CHUNK_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, rest) = text.split_at_checked(end)?;
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Gathers what an attempt writes and notes between two reports, and holds what is on its way until it has arrived.
#[derive(Debug, Default)]
pub struct Gathered {
    waiting: Notes,
    waiting_bytes: usize,
    /// Since when something waits.
    since: Option<UnixMs>,
    /// What may not have arrived.
    on_its_way: Option<Notes>,
    /// Whether a report with it is under way.
    sending: bool,
    number: u64,
    streams: Vec<StreamName>,
}

impl Gathered {
    /// Takes text. It is cut where it is longer than one report can be: call it again with what it gives back.
    ///
    /// Errors: `VALIDATION_ERROR` for one stream too many.
    pub fn write<'t>(&mut self, now: UnixMs, stream: &StreamName, text: &'t str) -> Result<&'t str, Error> {
        if !self.streams.contains(stream) {
            if self.streams.len() >= OUTPUT_STREAMS_MAX {
                return Err(too_many_streams(stream));
            }
            self.streams.push(stream.clone());
        }
        let mut end = text.len().min(OUTPUT_REPORT_BYTES_MAX / 2);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (text, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        if text.is_empty() {
            return Ok(rest);
        }
        match self.waiting.output.last_mut() {
            Some(last) if last.stream == *stream => last.chunk.push_str(text),
            _ => self.waiting.output.push(Written {
                stream: stream.clone(),
                chunk: text.into(),
            }),
        }
        self.waiting_bytes += text.len();
        self.since.get_or_insert(now);
        Ok(rest)
    }

    /// Takes changes of the metadata.
    ///
    /// Errors: `VALIDATION_ERROR` for one that cannot be made.
    pub fn patch(&mut self, now: UnixMs, patches: Vec<MetadataPatch>) -> Result<(), Error> {
        let notes = Notes {
            metadata_patch: patches,
            ..Notes::default()
        };
        check(&notes)?;
        self.waiting.metadata_patch.extend(notes.metadata_patch);
        self.since.get_or_insert(now);
        Ok(())
    }

    /// When what waits is to be sent; `None` where nothing waits. At once where it is much, or must be sent again.
    pub fn due_at(&self) -> Option<UnixMs> {
        if self.sending && self.waiting.is_empty() {
            return None;
        }
        if self.on_its_way.is_some() || self.is_full() {
            return Some(UnixMs(0));
        }
        self.since.map(|since| since.plus(GATHER_MS))
    }

    /// Whether so much waits that no more is to be gathered before a report.
    pub fn is_full(&self) -> bool {
        self.waiting_bytes >= GATHER_BYTES || self.waiting.metadata_patch.len() >= METADATA_PATCHES_MAX / 2
    }

    /// Whether a report is under way, of which nobody knows yet what became of it.
    pub fn is_sending(&self) -> bool {
        self.sending
    }

    /// What the next report carries: what is not known to have arrived, as it was, else what waits. Nothing while another
    /// report is under way, which must come before it.
    pub fn send(&mut self) -> Option<Notes> {
        if self.sending || self.is_empty() {
            return None;
        }
        if self.on_its_way.is_none() {
            self.number += 1;
            let fits = self.waiting.metadata_patch.len().min(METADATA_PATCHES_MAX);
            let rest = self.waiting.metadata_patch.split_off(fits);
            let mut notes = mem::take(&mut self.waiting);
            notes.number = Some(self.number);
            self.since = self.since.filter(|_| !rest.is_empty());
            self.waiting.metadata_patch = rest;
            self.waiting_bytes = 0;
            self.on_its_way = Some(notes);
        }
        self.sending = true;
        self.on_its_way.clone()
    }

    /// The notes of this number have arrived, or are refused for good.
    pub fn arrived(&mut self, number: Option<u64>) {
        if self.on_its_way.as_ref().is_some_and(|notes| notes.number == number) {
            self.on_its_way = None;
            self.sending = false;
        }
    }

    /// Nobody knows whether what was on its way has arrived: it is sent again.
    pub fn lost(&mut self) {
        self.sending = false;
    }

    /// Whether there is nothing left to send.
    pub fn is_empty(&self) -> bool {
        self.on_its_way.is_none() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests;
