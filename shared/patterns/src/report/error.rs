//! Why an object cannot be reported on at all. A single broken row is no such reason.

use alloc::string::String;
use core::fmt;

/// Why there is no report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportError {
    /// There is no byte, or nothing but line ends.
    Empty,
    /// It is no text: what it seems to be instead.
    NotText(&'static str),
    /// It is text, but no table of lines: what it seems to be instead.
    NotTable(&'static str),
    /// The header has more columns than [`super::limits::COLUMNS_MAX`].
    TooManyColumns,
    /// More than half of the rows are broken; the first of them, with its line.
    MostlyBroken {
        /// Rows read.
        rows: u64,
        /// Rows broken.
        broken: u64,
        /// The first broken row: its line and the reason.
        first: (u64, String),
    },
    /// A checkpoint of another version, or damaged.
    Checkpoint,
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("The object is empty: there is nothing to report on."),
            Self::NotText(what) => write!(f, "The object is neither CSV nor NDJSON in UTF-8: {what}."),
            Self::NotTable(what) => write!(f, "The object is neither CSV nor NDJSON: {what}."),
            Self::TooManyColumns => {
                write!(f, "The header has more than {} columns.", super::limits::COLUMNS_MAX)
            }
            Self::MostlyBroken {
                rows,
                broken,
                first: (line, reason),
            } => {
                write!(
                    f,
                    "{broken} of {rows} rows are broken, the first at line {line}: {reason}."
                )
            }
            Self::Checkpoint => f.write_str("The checkpoint cannot be read."),
        }
    }
}

impl core::error::Error for ReportError {}
