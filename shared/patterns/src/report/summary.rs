//! What a report says, as data: the JSON of it, and what its page shows. Every number in it is finite.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;

use super::column::Column;
use super::histogram::{self, Histogram};
use super::instant::{self, Precision};
use super::kinds::{column_type, kinds};
use super::limits::TOP_SHOWN;
use super::profile::Format;
use super::table::{BrokenRow, Table};
use super::value::Kind;

/// The version of the JSON.
const VERSION: u32 = 1;

/// The report on an object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The version of these fields.
    pub version: u32,
    /// The name of the object.
    pub object: String,
    /// Its format.
    pub format: Format,
    /// The delimiter of CSV.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Its bytes.
    pub bytes: u64,
    /// Its good rows, without the header.
    pub rows: u64,
    /// Its broken rows.
    pub broken_rows: u64,
    /// The first of them.
    pub broken: Vec<BrokenRow>,
    /// Fields of NDJSON left out, because there were too many names.
    pub ignored_fields: u64,
    /// Its columns, in the order they came.
    pub columns: Vec<ColumnSummary>,
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// There is no value.
    Empty,
    /// Whole numbers.
    Integer,
    /// Numbers.
    Number,
    /// `true` and `false`.
    Boolean,
    /// Days.
    Date,
    /// Moments.
    DateTime,
    /// Texts, and digits that are no number, as in `00501`. In CSV, where everything is written as a text, also a column
    /// of nine texts in ten: its few numbers, dates or truth values are words that look like them, as the code `35` of
    /// an airport does among `35A` and `3U3`.
    String,
    /// Arrays and objects.
    Json,
    /// More than one of these.
    Mixed,
}

impl ColumnType {
    /// Its name, as in the JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::String => "string",
            Self::Json => "json",
            Self::Mixed => "mixed",
        }
    }
}

/// The report on a column.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColumnSummary {
    /// Its name.
    pub name: String,
    /// What its values are.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Its values.
    pub count: u64,
    /// Rows without a value.
    pub nulls: u64,
    /// How many values of each kind a mixed column has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<KindCount>,
    /// The different values.
    pub distinct: Distinct,
    /// Its numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<NumbersSummary>,
    /// Its dates and times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<TimesSummary>,
    /// Its values as texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub texts: Option<TextsSummary>,
    /// The most frequent values.
    pub top: Vec<TopValue>,
    /// Whether the counts of the most frequent values are estimates.
    pub top_is_approximate: bool,
}

/// How many values are of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KindCount {
    /// The kind.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// The values.
    pub count: u64,
}

/// How many different values there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Distinct {
    /// The number.
    pub count: u64,
    /// Whether it is an estimate, with a standard error of 1.6 %.
    pub approximate: bool,
}

/// The numbers of a column.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NumbersSummary {
    /// How many there are.
    pub count: u64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// The mean; missing where it is beyond the range of a double.
    pub mean: Option<f64>,
    /// The standard deviation of a sample; missing below two numbers.
    pub deviation: Option<f64>,
    /// The quantiles, each within 1 % of its value; those below the span of the sketch, far smaller than the greatest
    /// number, within a fiftieth of the range.
    pub quantiles: Quantiles,
    /// How they are spread.
    pub histogram: Histogram,
}

/// Quantiles: the number below or at which the share of the numbers lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// 1 %.
    pub p1: f64,
    /// 5 %.
    pub p5: f64,
    /// 25 %.
    pub p25: f64,
    /// The median.
    pub p50: f64,
    /// 75 %.
    pub p75: f64,
    /// 95 %.
    pub p95: f64,
    /// 99 %.
    pub p99: f64,
}

/// The dates and times of a column.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimesSummary {
    /// The first, as it is written.
    pub min: String,
    /// The last, as it is written.
    pub max: String,
    /// The quantiles, each within a hundredth of the span.
    pub quantiles: TimeQuantiles,
    /// How they are spread: milliseconds since 1970.
    pub histogram: Histogram,
}

/// Quantiles over time, in UTC: days where there are only days.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TimeQuantiles {
    /// 1 %.
    pub p1: String,
    /// 5 %.
    pub p5: String,
    /// 25 %.
    pub p25: String,
    /// The median.
    pub p50: String,
    /// 75 %.
    pub p75: String,
    /// 95 %.
    pub p95: String,
    /// 99 %.
    pub p99: String,
}

/// The values of a column as texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextsSummary {
    /// The first one in the order of the bytes, or its beginning.
    pub min: String,
    /// The last one in the order of the bytes, or its beginning.
    pub max: String,
    /// The characters of the shortest.
    pub length_min: u64,
    /// The characters of the longest.
    pub length_max: u64,
    /// The mean of the characters.
    pub length_mean: f64,
}

/// A frequent value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopValue {
    /// The value, or its beginning followed by `…`.
    pub value: String,
    /// How often it comes.
    pub count: u64,
    /// What the count may be too high by.
    pub error: u64,
}

/// The summary of a table.
pub(super) fn summarize(object: String, format: Format, delimiter: Option<u8>, bytes: u64, table: Table) -> Summary {
    Summary {
        version: VERSION,
        object,
        format,
        delimiter: delimiter.map(char::from),
        bytes,
        rows: table.rows,
        broken_rows: table.broken_rows,
        broken: table.broken,
        ignored_fields: table.ignored_fields,
        columns: table
            .columns
            .iter()
            .map(|column| summarize_column(column, table.rows, format))
            .collect(),
    }
}

fn summarize_column(column: &Column, rows: u64, format: Format) -> ColumnSummary {
    let kind = column_type(column, format);
    let shows_texts = matches!(
        kind,
        ColumnType::String | ColumnType::Mixed | ColumnType::Boolean | ColumnType::Json
    );
    let shows_times = matches!(kind, ColumnType::Date | ColumnType::DateTime);
    let shows_numbers = matches!(kind, ColumnType::Integer | ColumnType::Number | ColumnType::Mixed);
    ColumnSummary {
        name: column.name.clone(),
        kind,
        count: column.count,
        nulls: rows.saturating_sub(column.count),
        kinds: if kind == ColumnType::Mixed {
            kinds(column)
        } else {
            Vec::new()
        },
        distinct: Distinct {
            count: column.distinct.count().min(column.count),
            approximate: column.distinct.is_approximate(),
        },
        numbers: shows_numbers.then(|| numbers(column)).flatten(),
        times: shows_times.then(|| times(column)).flatten(),
        texts: shows_texts.then(|| texts(column)),
        top: top(column),
        top_is_approximate: column.top.is_approximate(),
    }
}

fn numbers(column: &Column) -> Option<NumbersSummary> {
    let numbers = &column.numbers;
    let count = numbers.moments.count();
    if count == 0 {
        return None;
    }
    let is_whole = column.of_kind(Kind::Number) == 0;
    let quantile = |percent: u64| {
        let value = histogram::at_rank(numbers, (count - 1).saturating_mul(percent) / 100);
        let value = if is_whole { libm::round(value) } else { value };
        value.clamp(numbers.min, numbers.max)
    };
    let quantiles = Quantiles {
        p1: quantile(1),
        p5: quantile(5),
        p25: quantile(25),
        p50: quantile(50),
        p75: quantile(75),
        p95: quantile(95),
        p99: quantile(99),
    };
    Some(NumbersSummary {
        count,
        min: numbers.min,
        max: numbers.max,
        mean: numbers.moments.mean(),
        deviation: numbers.moments.deviation(),
        quantiles,
        histogram: histogram::of(numbers, &quantiles),
    })
}

fn times(column: &Column) -> Option<TimesSummary> {
    let ((first, min), (last, max)) = (column.earliest.as_ref()?, column.latest.as_ref()?);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (days, moments) = (column.of_kind(Kind::Date), column.of_kind(Kind::DateTime));
    let precision = match moments {
        0 => Precision::Day,
        _ if first % 1000 == 0 && last % 1000 == 0 => Precision::Second,
        _ => Precision::Millisecond,
    };
    let quantile = |percent: u64| {
        let rank = (days + moments).saturating_sub(1).saturating_mul(percent) / 100;
        #[expect(clippy::cast_possible_truncation, reason = "between two moments")]
        let at = column.instants.at_rank(rank).map_or(*first, |at| at.middle() as i64);
        instant::text(at.clamp(*first, *last), precision)
    };
    Some(TimesSummary {
        min: text(min),
        max: text(max),
        quantiles: TimeQuantiles {
            p1: quantile(1),
            p5: quantile(5),
            p25: quantile(25),
            p50: quantile(50),
            p75: quantile(75),
            p95: quantile(95),
            p99: quantile(99),
        },
        histogram: histogram::whole(&column.instants),
    })
}

fn texts(column: &Column) -> TextsSummary {
    let texts = &column.texts;
    #[expect(clippy::cast_precision_loss, reason = "no object has 2^53 characters")]
    let length_mean = texts.length_sum as f64 / column.count.max(1) as f64;
    TextsSummary {
        min: String::from_utf8_lossy(&texts.least).into_owned(),
        max: String::from_utf8_lossy(&texts.greatest).into_owned(),
        length_min: texts.length_min,
        length_max: texts.length_max,
        length_mean,
    }
}

fn top(column: &Column) -> Vec<TopValue> {
    let ranked = column.top.ranked();
    let shown = ranked.iter().take(TOP_SHOWN).map(|(candidate, count)| {
        let mut value = String::from_utf8_lossy(&candidate.value).into_owned();
        if candidate.cut {
            value.push('…');
        }
        TopValue {
            value,
            count: *count,
            error: candidate.error,
        }
    });
    shown.collect()
}
