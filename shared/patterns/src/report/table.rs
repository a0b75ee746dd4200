//! Rows, good and broken, as they come from either format.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::column::Column;
use super::csv::{Overrun, Record};
use super::error::ReportError;
use super::limits::{
    BROKEN_KEPT, COLUMNS_MAX, EXCERPT_BYTES_MAX, FIELD_BYTES_MAX, JUDGED_AFTER_ROWS, NAME_BYTES_MAX, RECORD_BYTES_MAX,
    Tier,
};
use super::ndjson::{self, Field, Line};
use super::top::beginning;
use super::value::{classify, classify_json, classify_text};

/// A row that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenRow {
    /// The line it begins at, from 1.
    pub line: u64,
    /// Why, for a person.
    pub reason: String,
    /// The beginning of it.
    pub excerpt: String,
}

/// The table so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    /// Whether the header was read; NDJSON has none.
    has_header: bool,
    /// Good rows.
    pub(super) rows: u64,
    pub(super) broken_rows: u64,
    pub(super) broken: Vec<BrokenRow>,
    /// Fields of NDJSON whose names came after the bound of columns was reached.
    pub(super) ignored_fields: u64,
    /// How much is kept of each column.
    tier: Tier,
}

impl Table {
    /// Takes a record of CSV in; the first one is the header.
    pub(super) fn record(&mut self, record: &Record, delimiter: u8) -> Result<(), ReportError> {
        let is_utf8 = record.bytes.is_ascii() || record.iter().all(|field| core::str::from_utf8(field).is_ok());
        if !self.has_header {
            return self.header(record, is_utf8);
        }
        let reason = match record.overrun {
            Some(Overrun::Field) => format!("a field of more than {FIELD_BYTES_MAX} bytes; is a quote not closed?"),
            Some(Overrun::Record) => format!("a row of more than {RECORD_BYTES_MAX} bytes"),
            Some(Overrun::Text) => String::from("text behind a closing quote"),
            Some(Overrun::Unclosed) => String::from("a quote that is never closed"),
            None if record.fields != self.columns.len() => {
                format!("{} instead of {}", fields(record.fields), fields(self.columns.len()))
            }
            None if !is_utf8 => String::from("not UTF-8"),
            None => {
                for (column, field) in self.columns.iter_mut().zip(record.iter()) {
                    let field = field.trim_ascii();
                    if let Some(value) = classify(field) {
                        column.add(value, field, self.tier);
                    }
                }
                self.rows += 1;
                return Ok(());
            }
        };
        let mut excerpt = Vec::with_capacity(EXCERPT_BYTES_MAX * 2);
        for (at, field) in record.iter().enumerate() {
            if at > 0 {
                excerpt.push(delimiter);
            }
            excerpt.extend_from_slice(field.get(..EXCERPT_BYTES_MAX).unwrap_or(field));
            if excerpt.len() >= EXCERPT_BYTES_MAX {
                break;
            }
        }
        self.break_row(record.line, reason, &excerpt)
    }

    fn header(&mut self, record: &Record, is_utf8: bool) -> Result<(), ReportError> {
        match record.overrun {
            Some(Overrun::Field | Overrun::Record) => {
                return Err(ReportError::NotTable("its first line is longer than any header"));
            }
            Some(Overrun::Text) => return Err(ReportError::NotTable("its header has text behind a closing quote")),
            Some(Overrun::Unclosed) => return Err(ReportError::NotTable("a quote in its header is never closed")),
            None => {}
        }
        if !is_utf8 {
            return Err(ReportError::NotText("its header is not UTF-8"));
        }
        if record.fields > COLUMNS_MAX {
            return Err(ReportError::TooManyColumns);
        }
        for (at, field) in record.iter().enumerate() {
            let name = String::from_utf8_lossy(beginning(field.trim_ascii(), NAME_BYTES_MAX)).into_owned();
            let name = if name.is_empty() {
                format!("column {}", at + 1)
            } else {
                name
            };
            let mut unique = name.clone();
            let mut copies = 1_u32;
            while self.columns.iter().any(|column| column.name == unique) {
                copies += 1;
                unique = format!("{name} ({copies})");
            }
            self.columns.push(Column::new(unique));
        }
        self.fit();
        self.has_header = true;
        Ok(())
    }

    /// Takes a line of NDJSON in. An empty line is none.
    pub(super) fn line(&mut self, line: &Line<'_>) -> Result<(), ReportError> {
        if line.is_over {
            let reason = format!("a line of more than {RECORD_BYTES_MAX} bytes");
            return self.break_row(line.number, reason, line.bytes);
        }
        let bytes = line.bytes.trim_ascii();
        if bytes.is_empty() {
            return Ok(());
        }
        let Ok(text) = core::str::from_utf8(bytes) else {
            return self.break_row(line.number, String::from("not UTF-8"), bytes);
        };
        let fields = match ndjson::fields(text) {
            Ok(fields) => fields,
            Err(reason) => return self.break_row(line.number, reason, bytes),
        };
        let is_over = |field: &Field<'_>| match field {
            Field::Text(text) => text.len() > FIELD_BYTES_MAX,
            Field::Raw(raw) => raw.len() > FIELD_BYTES_MAX,
        };
        if fields.iter().any(|(_, field)| is_over(field)) {
            return self.break_row(
                line.number,
                format!("a field of more than {FIELD_BYTES_MAX} bytes"),
                bytes,
            );
        }
        let mut seen = [false; COLUMNS_MAX];
        let mut guess = 0;
        for (name, field) in &fields {
            let Some(place) = self.place(name, guess) else {
                self.ignored_fields += 1;
                continue;
            };
            guess = place + 1;
            // Of a name that comes twice the first value counts, so that no column has more values than rows.
            if let (Some(column), Some(seen)) = (self.columns.get_mut(place), seen.get_mut(place))
                && !core::mem::replace(seen, true)
            {
                add_json(column, field, self.tier);
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// The place of the column of a name, a new one where there is room. Rows mostly have their fields in the order of
    /// the columns: it is looked for from `guess` on.
    fn place(&mut self, name: &str, guess: usize) -> Option<usize> {
        let name = core::str::from_utf8(beginning(name.as_bytes(), NAME_BYTES_MAX)).unwrap_or(name);
        let guess = guess.min(self.columns.len());
        let (before, behind) = self.columns.split_at(guess);
        let is_it = |column: &Column| column.name == name;
        let found = behind.iter().position(is_it).map(|place| guess + place);
        let found = found.or_else(|| before.iter().position(is_it));
        if found.is_none() && self.columns.len() < COLUMNS_MAX {
            self.columns.push(Column::new(name.to_owned()));
            self.fit();
            return Some(self.columns.len() - 1);
        }
        found
    }

    /// Lets go of the accuracy that so many columns do not have.
    fn fit(&mut self) {
        let tier = Tier::of(self.columns.len());
        if tier != self.tier {
            self.columns.iter_mut().for_each(|column| column.shrink(tier));
            self.tier = tier;
        }
    }

    fn break_row(&mut self, line: u64, reason: String, bytes: &[u8]) -> Result<(), ReportError> {
        self.broken_rows += 1;
        if self.broken.len() < BROKEN_KEPT {
            let kept = beginning(bytes, EXCERPT_BYTES_MAX);
            let mut excerpt = String::from_utf8_lossy(kept).into_owned();
            if kept.len() < bytes.len() {
                excerpt.push('…');
            }
            self.broken.push(BrokenRow { line, reason, excerpt });
        }
        let rows = self.rows + self.broken_rows;
        if rows >= JUDGED_AFTER_ROWS {
            self.judge()
        } else {
            Ok(())
        }
    }

    /// Whether so much is broken that it is no table.
    pub(super) fn judge(&self) -> Result<(), ReportError> {
        let rows = self.rows + self.broken_rows;
        if self.broken_rows <= rows / 2 {
            return Ok(());
        }
        let first = self
            .broken
            .first()
            .map(|row| (row.line, row.reason.clone()))
            .unwrap_or_default();
        Err(ReportError::MostlyBroken {
            rows,
            broken: self.broken_rows,
            first,
        })
    }
}

fn fields(count: usize) -> String {
    if count == 1 {
        String::from("1 field")
    } else {
        format!("{count} fields")
    }
}

fn add_json(column: &mut Column, field: &Field<'_>, tier: Tier) {
    match field {
        Field::Text(text) if text.is_empty() => {}
        Field::Text(text) => column.add(classify_text(text.as_bytes()), text.as_bytes(), tier),
        Field::Raw(raw) => {
            if let Some(value) = classify_json(raw.as_bytes()) {
                column.add(value, raw.as_bytes(), tier);
            }
        }
    }
}
