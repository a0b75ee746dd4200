//! Splits CSV (RFC 4180) into records, from chunks cut anywhere. The whole state is data, so it fits a checkpoint.
//!
//! Lenient where nothing is in doubt: a quote inside of an unquoted field is a character like any other, blanks behind
//! a closing quote are dropped, `\n`, `\r` and `\r\n` all end a record, and empty lines are none. A stray quote turns
//! what is inside and outside of quotes around, so text behind a closing quote breaks the record, as a field over its
//! bound does: from there on nothing is trusted up to the next line end, where the next record begins.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::error::ReportError;
use super::limits::{COLUMNS_MAX, EXCERPT_BYTES_MAX, FIELD_BYTES_MAX, RECORD_BYTES_MAX};

/// Where in a record the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    RecordStart,
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote within a quoted field: the end of it, or the first half of an escaped quote.
    QuoteSeen,
    /// Among blanks behind a quoted field.
    Closed,
    /// In a record that cannot be used, before its line end.
    Skipping,
}

/// Why a record cannot be used, as far as splitting shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Overrun {
    /// A field is over its bound.
    Field,
    /// The record is over its bound.
    Record,
    /// There is text behind a closing quote.
    Text,
    /// The object ends within quotes.
    Unclosed,
}

/// One record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The line it begins at, from 1.
    pub(super) line: u64,
    /// Its fields, one behind the other, without quotes.
    pub(super) bytes: Vec<u8>,
    /// Where each field ends; of more fields than can be used, only one too many.
    ends: Vec<usize>,
    /// All fields.
    pub(super) fields: usize,
    /// Why it cannot be used.
    pub(super) overrun: Option<Overrun>,
}

impl Record {
    /// Its fields.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.ends.iter().map(move |end| {
            let field = self.bytes.get(from..*end).unwrap_or_default();
            from = *end;
            field
        })
    }

    /// Takes the bytes of a field in, up to the bounds; how many fit.
    fn push(&mut self, bytes: &[u8]) -> usize {
        let field_bytes = self.bytes.len() - self.ends.last().copied().unwrap_or(0);
        let of_field = FIELD_BYTES_MAX.saturating_sub(field_bytes);
        let of_record = RECORD_BYTES_MAX.saturating_sub(self.bytes.len());
        match bytes.get(..of_field.min(of_record)) {
            Some(fitting) if fitting.len() < bytes.len() => {
                self.bytes.extend_from_slice(fitting);
                self.spoil(if of_field <= of_record {
                    Overrun::Field
                } else {
                    Overrun::Record
                });
                fitting.len()
            }
            _ => {
                self.bytes.extend_from_slice(bytes);
                bytes.len()
            }
        }
    }

    /// Notes why it cannot be used. Only the beginning is kept, for the excerpt.
    fn spoil(&mut self, overrun: Overrun) {
        self.overrun = Some(overrun);
        self.bytes.truncate(EXCERPT_BYTES_MAX);
        let kept = self.bytes.len();
        self.bytes.shrink_to(EXCERPT_BYTES_MAX);
        self.ends.retain(|end| *end <= kept);
    }

    fn end_field(&mut self) {
        self.fields += 1;
        if self.ends.len() <= COLUMNS_MAX {
            self.ends.push(self.bytes.len());
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.fields = 0;
        self.overrun = None;
    }
}

/// The splitter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Splitter {
    delimiter: u8,
    state: State,
    /// The line of the next byte.
    line: u64,
    /// Whether the byte before was a `\r`, so that a `\n` ends no further line.
    after_return: bool,
    record: Record,
}

/// What is done with each record.
pub(super) trait Sink: FnMut(&Record) -> Result<(), ReportError> {}
impl<F: FnMut(&Record) -> Result<(), ReportError>> Sink for F {}

impl Splitter {
    /// A splitter at the beginning of an object.
    pub(super) fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            state: State::RecordStart,
            line: 1,
            after_return: false,
            record: Record::default(),
        }
    }

    /// Goes on with some bytes.
    pub(super) fn feed(&mut self, mut rest: &[u8], sink: &mut impl Sink) -> Result<(), ReportError> {
        let delimiter = self.delimiter;
        let is_end = |byte: u8| byte == delimiter || is_line_end(byte);
        while let Some((&byte, after)) = rest.split_first() {
            match self.state {
                State::RecordStart if is_line_end(byte) => {
                    self.end_line(byte);
                    rest = after;
                }
                State::RecordStart => {
                    self.after_return = false;
                    self.record.line = self.line;
                    self.state = State::FieldStart;
                }
                State::FieldStart if byte == b'"' && delimiter != b'"' => {
                    self.state = State::Quoted;
                    rest = after;
                }
                State::QuoteSeen if byte == b'"' => {
                    self.state = State::Quoted;
                    self.push(b"\"");
                    rest = after;
                }
                State::QuoteSeen | State::Closed if is_end(byte) => {
                    self.end_field(byte, sink)?;
                    rest = after;
                }
                State::QuoteSeen | State::Closed if matches!(byte, b' ' | b'\t') => {
                    self.state = State::Closed;
                    rest = after;
                }
                State::QuoteSeen | State::Closed => {
                    self.record.spoil(Overrun::Text);
                    self.state = State::Skipping;
                }
                State::FieldStart | State::Plain => {
                    let at = rest.iter().position(|byte| is_end(*byte)).unwrap_or(rest.len());
                    let (text, end) = rest.split_at(at);
                    self.state = State::Plain;
                    let pushed = self.push(text);
                    match end.split_first() {
                        _ if pushed < text.len() => rest = rest.get(pushed..).unwrap_or_default(),
                        Some((&byte, after)) => {
                            self.end_field(byte, sink)?;
                            rest = after;
                        }
                        None => return Ok(()),
                    }
                }
                State::Quoted => {
                    let at = rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len());
                    let (text, end) = rest.split_at(at);
                    let pushed = self.push(text);
                    self.count_lines(text.get(..pushed).unwrap_or(text));
                    match end.split_first() {
                        _ if pushed < text.len() => rest = rest.get(pushed..).unwrap_or_default(),
                        Some((_, after)) => {
                            self.after_return = false;
                            self.state = State::QuoteSeen;
                            rest = after;
                        }
                        None => return Ok(()),
                    }
                }
                State::Skipping if is_line_end(byte) => {
                    self.end_record(byte, sink)?;
                    rest = after;
                }
                State::Skipping => {
                    self.after_return = false;
                    let at = rest.iter().position(|byte| is_line_end(*byte)).unwrap_or(rest.len());
                    rest = rest.get(at..).unwrap_or_default();
                }
            }
        }
        Ok(())
    }

    /// Takes the bytes of a field in; how many fit. Where it is not all of them, the record is skipped from there on.
    fn push(&mut self, bytes: &[u8]) -> usize {
        let pushed = self.record.push(bytes);
        if pushed < bytes.len() {
            self.state = State::Skipping;
        }
        pushed
    }

    /// Ends the object, and with it a record without a line end.
    pub(super) fn finish(&mut self, sink: &mut impl Sink) -> Result<(), ReportError> {
        match self.state {
            State::RecordStart => return Ok(()),
            State::Quoted => self.record.spoil(Overrun::Unclosed),
            State::FieldStart | State::Plain | State::QuoteSeen | State::Closed | State::Skipping => {}
        }
        self.end_record(b'\n', sink)
    }

    fn end_field(&mut self, byte: u8, sink: &mut impl Sink) -> Result<(), ReportError> {
        if byte == self.delimiter {
            self.record.end_field();
            self.state = State::FieldStart;
            return Ok(());
        }
        self.end_record(byte, sink)
    }

    fn end_record(&mut self, byte: u8, sink: &mut impl Sink) -> Result<(), ReportError> {
        self.record.end_field();
        let kept = sink(&self.record);
        self.record.clear();
        self.state = State::RecordStart;
        self.end_line(byte);
        kept
    }

    fn end_line(&mut self, byte: u8) {
        if byte == b'\r' || !self.after_return {
            self.line += 1;
        }
        self.after_return = byte == b'\r';
    }

    fn count_lines(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                b'\n' | b'\r' => self.end_line(*byte),
                _ => self.after_return = false,
            }
        }
    }
}

const fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}
