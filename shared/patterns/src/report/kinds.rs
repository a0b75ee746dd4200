//! What the values of a column are, all of them together.

use alloc::vec::Vec;

use super::column::Column;
use super::profile::Format;
use super::summary::{ColumnType, KindCount};
use super::value::Kind;

const ALL: [(Kind, ColumnType); 7] = [
    (Kind::Integer, ColumnType::Integer),
    (Kind::Number, ColumnType::Number),
    (Kind::Boolean, ColumnType::Boolean),
    (Kind::Date, ColumnType::Date),
    (Kind::DateTime, ColumnType::DateTime),
    (Kind::Text, ColumnType::String),
    (Kind::Json, ColumnType::Json),
];

/// One type for all values, if one can hold them.
pub(super) fn column_type(column: &Column, format: Format) -> ColumnType {
    let all = |kinds: &[Kind]| kinds.iter().map(|kind| column.of_kind(*kind)).sum::<u64>() == column.count;
    if column.count == 0 {
        ColumnType::Empty
    } else if let Some((_, only)) = ALL.iter().find(|(kind, _)| all(&[*kind])) {
        *only
    } else if all(&[Kind::Integer, Kind::Number]) {
        ColumnType::Number
    } else if all(&[Kind::Date, Kind::DateTime]) {
        ColumnType::DateTime
    } else if all(&[Kind::Text, Kind::Code]) || (all(&[Kind::Integer, Kind::Code, Kind::Text]) && has_codes(column)) {
        // Codes and whole numbers are codes all of them: `00501` and `90210`, `K1A` too.
        ColumnType::String
    } else if format == Format::Csv && (all(&[Kind::Text, Kind::Code, Kind::Boolean]) || is_mostly_text(column)) {
        // Among other words, `True` is one: there is a town of that name.
        ColumnType::String
    } else {
        ColumnType::Mixed
    }
}

/// Whether at least nine values in ten are texts.
fn is_mostly_text(column: &Column) -> bool {
    let texts = column.of_kind(Kind::Text) + column.of_kind(Kind::Code);
    column.of_kind(Kind::Text) > 0 && column.count - texts.min(column.count) <= column.count / 10
}

fn has_codes(column: &Column) -> bool {
    column.of_kind(Kind::Code) > 0
}

/// How many values there are of each kind.
pub(super) fn kinds(column: &Column) -> Vec<KindCount> {
    let count = |kind| match kind {
        Kind::Text => column.of_kind(Kind::Text) + column.of_kind(Kind::Code),
        other => column.of_kind(other),
    };
    let counts = ALL.iter().map(|(kind, shown)| KindCount {
        kind: *shown,
        count: count(*kind),
    });
    counts.filter(|kind| kind.count > 0).collect()
}
