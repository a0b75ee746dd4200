//! The bounds of a profile. Together they keep its memory, and so its checkpoint, bounded whatever the object holds.

use serde::{Deserialize, Serialize};

use super::distinct::REGISTERS;

/// Columns of a table. More is a sign that the file is no table, and each costs up to 14 KiB even in a wide one.
pub const COLUMNS_MAX: usize = 256;
/// Bytes of one field. Texts are longer than this in documents, not in tables.
pub const FIELD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one record. A wide table of short fields fits; a file without line ends does not.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Keys of an object in NDJSON. More than a few times the columns there can be is no row of a table.
pub const KEYS_MAX: usize = 4 * COLUMNS_MAX;
/// Bytes looked at to find the format and the delimiter: some hundred lines of a usual table.
pub const HEAD_BYTES: usize = 16 * 1024;
/// Broken rows that are kept with their line. They show what is wrong; the count says how often.
pub const BROKEN_KEPT: usize = 20;
/// Bytes of a broken row that are kept.
pub const EXCERPT_BYTES_MAX: usize = 160;
/// Rows after which a file that is mostly broken is given up.
pub const JUDGED_AFTER_ROWS: u64 = 1000;
/// Bytes of a column's name.
pub const NAME_BYTES_MAX: usize = 128;
/// Bytes of a value that are kept, as a top value or as the least and the greatest text.
pub const VALUE_BYTES_MAX: usize = 96;
/// Top values shown of each column.
pub const TOP_SHOWN: usize = 10;
/// Bins of the finest histogram that is kept.
pub const GRID_BINS_MAX: usize = 128;

/// How much is kept of each column: the more columns, the less of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// Up to 16 columns.
    Narrow,
    /// Up to 64 columns.
    Middle,
    /// Up to [`COLUMNS_MAX`].
    Wide,
}

impl Default for Tier {
    fn default() -> Self {
        Self::of(0)
    }
}

impl Tier {
    /// The tier of a table of so many columns.
    pub const fn of(columns: usize) -> Self {
        if columns <= Self::Narrow.columns_max() {
            Self::Narrow
        } else if columns <= Self::Middle.columns_max() {
            Self::Middle
        } else {
            Self::Wide
        }
    }

    /// The columns of its widest table.
    pub const fn columns_max(self) -> usize {
        match self {
            Self::Narrow => 16,
            Self::Middle => 64,
            Self::Wide => COLUMNS_MAX,
        }
    }

    /// Top values followed. A value more frequent than one row in this many is certainly found.
    pub const fn candidates_max(self) -> usize {
        match self {
            Self::Narrow => 256,
            Self::Middle => 64,
            Self::Wide => 16,
        }
    }

    /// Distinct values counted exactly; more are estimated.
    pub const fn distinct_exact_max(self) -> usize {
        match self {
            Self::Narrow => 1024,
            Self::Middle => 512,
            Self::Wide => 256,
        }
    }

    /// Buckets of a quantile sketch on each side of zero: at 1 % they span 17, 8 and 4 powers of ten, counted from the
    /// greatest magnitude down.
    pub const fn buckets_max(self) -> usize {
        match self {
            Self::Narrow => 2048,
            Self::Middle => 1024,
            Self::Wide => 512,
        }
    }

    /// Bytes of one column in a checkpoint.
    const fn column_bytes_max(self) -> usize {
        let exact = self.distinct_exact_max() * VARINT_BYTES_MAX;
        let distinct = if exact > REGISTERS { exact } else { REGISTERS };
        self.candidates_max() * CANDIDATE_BYTES_MAX
            + distinct
            + 2 * self.buckets_max() * COUNT_BYTES_MAX
            + 2 * GRID_BINS_MAX * COUNT_BYTES_MAX
            + SCALARS_BYTES_MAX
    }

    /// Bytes of all columns in a checkpoint.
    const fn table_bytes_max(self) -> usize {
        self.columns_max() * self.column_bytes_max()
    }
}

/// Bytes of the longest variable-length integer in a checkpoint.
const VARINT_BYTES_MAX: usize = 10;
/// Bytes of a count of rows there: an object has 5 TiB at most, and a row two bytes at least, so a count has 42 bits,
/// seven to a byte.
const COUNT_BYTES_MAX: usize = 6;
const _: () = assert!((5_u64 << 40) / 2 < 1 << (7 * COUNT_BYTES_MAX));
/// A followed value there: its hash, its length, itself, whether it is cut, its count and its error.
const CANDIDATE_BYTES_MAX: usize = VARINT_BYTES_MAX + 1 + VALUE_BYTES_MAX + 1 + 2 * COUNT_BYTES_MAX;
/// What else there is of a column: its name with a number behind it, the least and the greatest text, the first and the
/// last moment as they are written (40 bytes each), and some 40 numbers.
const SCALARS_BYTES_MAX: usize = NAME_BYTES_MAX + 16 + 2 * VALUE_BYTES_MAX + 2 * 40 + 40 * VARINT_BYTES_MAX;
/// A broken row there: its reason, and its excerpt, each byte of which may have become a replacement character of three.
const BROKEN_BYTES_MAX: usize = 256 + 3 * EXCERPT_BYTES_MAX;
/// What else there is of a profile: the name of the object, the ends of fields, totals.
const OTHER_BYTES_MAX: usize = 1024 + (COLUMNS_MAX + 1) * 3 + 16 * VARINT_BYTES_MAX;
/// Bytes of a checkpoint, for an object whose name has 1 KiB at most. It lies in object storage, where some MiB are
/// little; a table of 16 columns stays below 2.2 MiB, and the usual one far below.
///
/// 256 columns x 14.4 KiB, a record of 1 MiB that goes on, 20 broken rows, the rest: 4.7 MiB.
pub const CHECKPOINT_BYTES_MAX: usize = 5 * 1024 * 1024;
const _: () = {
    let around = RECORD_BYTES_MAX + BROKEN_KEPT * BROKEN_BYTES_MAX + OTHER_BYTES_MAX;
    assert!(HEAD_BYTES < RECORD_BYTES_MAX);
    assert!(Tier::Narrow.table_bytes_max() + around <= CHECKPOINT_BYTES_MAX);
    assert!(Tier::Middle.table_bytes_max() + around <= CHECKPOINT_BYTES_MAX);
    assert!(Tier::Wide.table_bytes_max() + around <= CHECKPOINT_BYTES_MAX);
};
const _: () = assert!(EXCERPT_BYTES_MAX < FIELD_BYTES_MAX && FIELD_BYTES_MAX < RECORD_BYTES_MAX);
