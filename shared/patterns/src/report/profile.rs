//! The profile of an object: bytes in, a summary out, and a checkpoint at any byte in between.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::csv::Splitter;
use super::error::ReportError;
use super::hash::hash;
use super::limits::HEAD_BYTES;
use super::ndjson::Lines;
use super::sniff;
use super::summary::{self, Summary};
use super::table::Table;

/// The first byte of a checkpoint: what follows is written as this version writes it.
const CHECKPOINT_VERSION: u8 = 2;
/// Bytes of the checksum that follows. It finds damage, not forgery.
const CHECKSUM_BYTES: usize = 4;
/// The byte order mark some programs write in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// The format of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// RFC 4180, with a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// What is known of an object before it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Its name, whose end may tell the format.
    pub name: String,
    /// Its format; found out where it is missing.
    pub format: Option<Format>,
    /// The delimiter of CSV, an ASCII character; found out where it is missing.
    pub delimiter: Option<u8>,
}

/// Where the bytes go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Stage {
    /// The first bytes, until there are enough to tell the format.
    Head(Vec<u8>),
    Csv(Splitter, u8),
    Ndjson(Lines),
}

/// A profile under way. After an error it is of no further use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    options: Options,
    bytes: u64,
    stage: Stage,
    table: Table,
}

impl Profile {
    /// A profile of an object of which nothing is read yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            bytes: 0,
            stage: Stage::Head(Vec::new()),
            table: Table::default(),
        }
    }

    /// Goes on with some bytes, cut anywhere.
    ///
    /// Errors: the object cannot be reported on at all.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ReportError> {
        self.bytes += bytes.len() as u64;
        let Stage::Head(head) = &mut self.stage else {
            return self.read(bytes);
        };
        let (first, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - head.len().min(HEAD_BYTES)));
        head.extend_from_slice(first);
        if head.len() < HEAD_BYTES {
            return Ok(());
        }
        self.begin()?;
        self.read(rest)
    }

    /// Bytes fed so far: the offset at which the object is opened again.
    pub const fn bytes_read(&self) -> u64 {
        self.bytes
    }

    /// Rows so far, good and broken.
    pub const fn rows(&self) -> u64 {
        self.table.rows + self.table.broken_rows
    }

    /// Ends the object.
    ///
    /// Errors: the object cannot be reported on at all.
    pub fn finish(mut self) -> Result<Summary, ReportError> {
        if matches!(self.stage, Stage::Head(_)) {
            self.begin()?;
        }
        let table = &mut self.table;
        match &mut self.stage {
            Stage::Head(_) => return Err(ReportError::Empty),
            Stage::Csv(splitter, delimiter) => splitter.finish(&mut |record| table.record(record, *delimiter))?,
            Stage::Ndjson(lines) => lines.finish(&mut |line| table.line(&line))?,
        }
        if self.table.rows == 0 {
            self.table.judge()?;
        }
        if self.table.columns.is_empty() && self.table.rows == 0 {
            return Err(ReportError::Empty);
        }
        let (format, delimiter) = match self.stage {
            Stage::Csv(_, delimiter) => (Format::Csv, Some(delimiter)),
            Stage::Head(_) | Stage::Ndjson(_) => (Format::Ndjson, None),
        };
        Ok(summary::summarize(
            self.options.name,
            format,
            delimiter,
            self.bytes,
            self.table,
        ))
    }

    /// Everything there is to go on from: at most [`super::limits::CHECKPOINT_BYTES_MAX`] bytes.
    pub fn checkpoint(&self) -> Vec<u8> {
        // Writing plain data to a vector does not fail; if it did, the checkpoint could not be read and the run would
        // begin anew.
        let state = postcard::to_allocvec(self).unwrap_or_default();
        let mut bytes = Vec::with_capacity(1 + CHECKSUM_BYTES + state.len());
        bytes.push(CHECKPOINT_VERSION);
        bytes.extend(checksum(&state));
        bytes.extend(state);
        bytes
    }

    /// Goes on from a checkpoint.
    ///
    /// Errors: [`ReportError::Checkpoint`] for one of another version, or a damaged one.
    pub fn resume(checkpoint: &[u8]) -> Result<Self, ReportError> {
        let Some((&CHECKPOINT_VERSION, rest)) = checkpoint.split_first() else {
            return Err(ReportError::Checkpoint);
        };
        match rest.split_first_chunk::<CHECKSUM_BYTES>() {
            Some((expected, state)) if *expected == checksum(state) => {
                postcard::from_bytes(state).map_err(|_| ReportError::Checkpoint)
            }
            _ => Err(ReportError::Checkpoint),
        }
    }

    /// Tells the format, and reads the first bytes by it.
    fn begin(&mut self) -> Result<(), ReportError> {
        let Stage::Head(head) = &mut self.stage else {
            return Ok(());
        };
        let head = core::mem::take(head);
        let text = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&head);
        sniff::refuse_others(text)?;
        let format = match self.options.format {
            Some(format) => format,
            None => sniff::format(&self.options.name, text)?,
        };
        self.stage = match format {
            Format::Ndjson => Stage::Ndjson(Lines::default()),
            Format::Csv => {
                let delimiter = self.options.delimiter.unwrap_or_else(|| sniff::delimiter(text));
                Stage::Csv(Splitter::new(delimiter), delimiter)
            }
        };
        self.read(text)
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), ReportError> {
        let table = &mut self.table;
        match &mut self.stage {
            Stage::Head(_) => Ok(()),
            Stage::Csv(splitter, delimiter) => {
                let delimiter = *delimiter;
                splitter.feed(bytes, &mut |record| table.record(record, delimiter))
            }
            Stage::Ndjson(lines) => lines.feed(bytes, &mut |line| table.line(&line)),
        }
    }
}

fn checksum(state: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = hash(state).to_le_bytes();
    [a, b, c, d]
}
