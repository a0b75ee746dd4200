//! Formats, headers, broken rows, and what is no table.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::report::instant::{self, Precision};
use crate::report::limits::{BROKEN_KEPT, COLUMNS_MAX, FIELD_BYTES_MAX, RECORD_BYTES_MAX};
use crate::report::tests::{column_of, options, summary_of};
use crate::report::{ColumnType, Format, Options, Profile, ReportError, render_html};

#[test]
fn the_type_of_a_column_holds_all_of_its_values() {
    let cases: &[(&str, ColumnType)] = &[
        ("1 2 3", ColumnType::Integer),
        ("1 2.5", ColumnType::Number),
        ("00501 90210", ColumnType::String),
        ("00501 K1A 90210", ColumnType::String),
        ("true FALSE", ColumnType::Boolean),
        ("True Paris", ColumnType::String),
        ("2024-01-01 2024-01-02", ColumnType::Date),
        ("2024-01-01 2024-01-02T10:00", ColumnType::DateTime),
        ("a b", ColumnType::String),
        ("1 a", ColumnType::Mixed),
        ("35A 3U3 JFK SFO LAX ORD 06N 06A DEN 35", ColumnType::String),
        ("35A 3U3 JFK SFO LAX ORD 06N 06A 36 35", ColumnType::Mixed),
        ("a b c d e f g h i 2024-01-01", ColumnType::String),
        ("a b c d e f g h 2024-01-01", ColumnType::Mixed),
        ("null", ColumnType::Empty),
    ];
    for (values, expected) in cases {
        let text = format!("head\n{}\n", values.replace(' ', "\n"));
        assert_eq!(column_of("a.csv", text.as_bytes()).kind, *expected, "{values}");
    }
}

#[test]
fn a_literal_of_json_is_no_word() {
    assert_eq!(
        column_of("a.ndjson", b"{\"a\":true}\n{\"a\":\"x\"}\n").kind,
        ColumnType::Mixed
    );
    assert_eq!(
        column_of("a.ndjson", b"{\"a\":\"1\"}\n{\"a\":\"2\"}\n").kind,
        ColumnType::String
    );
}

#[test]
fn numbers_are_described() {
    let column = column_of("a.csv", b"n\n1\n2\n3\n4\n\"\"\n");
    let numbers = column.numbers.unwrap();
    assert_eq!((column.count, column.nulls, numbers.count), (4, 1, 4));
    assert_eq!((numbers.min, numbers.max, numbers.mean), (1.0, 4.0, Some(2.5)));
    assert!((numbers.deviation.unwrap() - 1.290_994_448_735_805_6).abs() < 1e-12);
    assert_eq!(
        (numbers.quantiles.p1, numbers.quantiles.p50, numbers.quantiles.p99),
        (1.0, 2.0, 3.0)
    );
    assert_eq!(numbers.histogram.bins.iter().map(|bin| bin.count).sum::<u64>(), 4);
}

#[test]
fn numbers_at_the_ends_of_a_double_stay_finite() {
    let text = alloc::format!("n\n{0}\n-{0}\n{0}\n5e-324\n0\n-0\n", "1.7976931348623157e308");
    let summary = summary_of("a.csv", text.as_bytes()).unwrap();
    let numbers = summary.columns[0].numbers.as_ref().unwrap();
    assert_eq!((numbers.count, numbers.min, numbers.max), (6, f64::MIN, f64::MAX));
    assert!(
        numbers
            .histogram
            .bins
            .iter()
            .all(|bin| bin.from.is_finite() && bin.to.is_finite() && bin.from < bin.to)
    );
    let quantiles = serde_json::to_value(numbers.quantiles).unwrap();
    assert!(
        quantiles.as_object().unwrap().values().all(serde_json::Value::is_f64),
        "{quantiles}"
    );
    assert!(numbers.mean.is_none_or(f64::is_finite) && numbers.deviation.is_none_or(f64::is_finite));
}

#[test]
fn moments_in_other_offsets_are_ordered_by_time() {
    let column = column_of(
        "a.csv",
        b"t\n2024-01-01T00:30:00+02:00\n2023-12-31T23:00:00Z\n2024-01-01T00:00:00-05:00\n",
    );
    let times = column.times.unwrap();
    assert_eq!(times.min, "2024-01-01T00:30:00+02:00");
    assert_eq!(times.max, "2024-01-01T00:00:00-05:00");
}

#[test]
fn days_and_moments_have_quantiles_over_time() {
    let mut text = String::from("t\n");
    for day in 0..1000 {
        // Each day of 2020 to 2022, from the last to the first.
        let at = (18_262 + 999 - day) * 86_400_000;
        text.push_str(&instant::text(at, Precision::Day));
        text.push('\n');
    }
    let column = column_of("a.csv", text.as_bytes());
    let times = column.times.unwrap();
    assert_eq!(
        (column.kind, times.min.as_str(), times.max.as_str()),
        (ColumnType::Date, "2020-01-01", "2022-09-26")
    );
    // A hundredth of the span is ten days.
    for (found, from, to) in [
        (&times.quantiles.p1, "2020-01-01", "2020-01-20"),
        (&times.quantiles.p50, "2021-05-04", "2021-05-24"),
        (&times.quantiles.p99, "2022-09-06", "2022-09-26"),
    ] {
        assert!((from..=to).contains(&found.as_str()), "{found}");
    }
    assert!(times.histogram.bins.len() >= 20);
    assert_eq!(times.histogram.bins.iter().map(|bin| bin.count).sum::<u64>(), 1000);
    let page = render_html(&summary_of("a.csv", text.as_bytes()).unwrap(), "a.csv", "now");
    assert!(page.contains(&format!("<dd>{}</dd>", times.quantiles.p50)) && page.contains("class=\"spark\""));

    let times = column_of("a.csv", b"t\n1960-01-01T10:00:00.5Z\n1960-01-01T10:00:00.5Z\n")
        .times
        .unwrap();
    assert_eq!(times.quantiles.p50, "1960-01-01T10:00:00.500Z");
}

#[test]
fn outliers_do_not_press_the_histogram_together() {
    let mut text = String::from("n\n");
    for value in 0..10_000 {
        text.push_str(&format!("{}\n", 100 + value % 100));
    }
    text.push_str("100000000\n");
    let histogram = column_of("a.csv", text.as_bytes()).numbers.unwrap().histogram;
    assert!(
        histogram.bins.iter().filter(|bin| bin.count > 0).count() > 20,
        "{histogram:?}"
    );
    assert!(histogram.above >= 1);
}

#[test]
fn the_delimiter_is_found() {
    for (text, expected, columns) in [
        ("a,b\n1,2\n", ',', 2),
        ("a;b;c\n1,5;2;3\n", ';', 3),
        ("a\tb\n1\t2\n", '\t', 2),
        ("a|b\n1|2\n", '|', 2),
        ("\"x;y\",b\n1,2\n", ',', 2),
        ("alone\n1\n", ',', 1),
        ("a,b", ',', 2),
    ] {
        let summary = summary_of("data", text.as_bytes()).unwrap();
        assert_eq!(
            (summary.delimiter, summary.columns.len()),
            (Some(expected), columns),
            "{text}"
        );
    }
}

#[test]
fn the_format_is_told_found_by_name_or_by_the_first_byte() {
    let format = |name: &str, told, text: &str| {
        let mut profile = Profile::new(Options {
            format: told,
            ..options(name)
        });
        profile.feed(text.as_bytes()).unwrap();
        profile.finish().unwrap().format
    };
    assert_eq!(format("a", None, "{\"a\":1}\n"), Format::Ndjson);
    assert_eq!(format("a.JSONL", None, "\n{\"a\":1}\n"), Format::Ndjson);
    assert_eq!(format("a.csv", None, "{a},b\n1,2\n"), Format::Csv);
    assert_eq!(format("a", None, "a,b\n1,2\n"), Format::Csv);
    assert_eq!(format("a.ndjson", Some(Format::Csv), "a,b\n"), Format::Csv);
}

#[test]
fn a_header_is_read_whatever_its_names_are() {
    let summary = summary_of("a.csv", "\u{feff}\"a \", ,a,\"b\n\"\"c\"\r\n1,2,3,4\r\n".as_bytes()).unwrap();
    let names: Vec<_> = summary.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["a", "column 2", "a (2)", "b\n\"c"]);
    assert_eq!((summary.rows, summary.broken_rows), (1, 0));
}

#[test]
fn a_header_alone_is_a_table_without_rows() {
    let summary = summary_of("a.csv", b"a,b").unwrap();
    assert_eq!((summary.rows, summary.columns.len()), (0, 2));
    assert_eq!(summary.columns[0].kind, ColumnType::Empty);
}

#[test]
fn a_broken_row_is_kept_with_its_line_and_ends_nothing() {
    let long = "x".repeat(FIELD_BYTES_MAX + 1);
    let mut text = Vec::from(&b"a,b\r\n1,\"two\r\nlines\"\r\n1\r\n\r\n1,2,3\n\xff,1\n"[..]);
    text.extend(format!("{long},1\n1,2\n1,\"open").into_bytes());
    let summary = summary_of("a.csv", &text).unwrap();
    assert_eq!((summary.rows, summary.broken_rows), (2, 5));
    let broken: Vec<_> = summary
        .broken
        .iter()
        .map(|row| (row.line, row.reason.as_str()))
        .collect();
    let oversize = format!("a field of more than {FIELD_BYTES_MAX} bytes; is a quote not closed?");
    assert_eq!(
        broken,
        [
            (4, "1 field instead of 2 fields"),
            (6, "3 fields instead of 2 fields"),
            (7, "not UTF-8"),
            (8, oversize.as_str()),
            (10, "a quote that is never closed"),
        ]
    );
    assert_eq!(summary.broken[1].excerpt, "1,2,3");
    assert!(summary.broken[3].excerpt.len() < 200);
}

#[test]
fn of_many_broken_rows_the_first_are_kept_and_all_are_counted() {
    let text = format!("a,b\n{}", "1,2\n1\n".repeat(100));
    let summary = summary_of("a.csv", text.as_bytes()).unwrap();
    assert_eq!(
        (summary.rows, summary.broken_rows, summary.broken.len()),
        (100, 100, BROKEN_KEPT)
    );
}

#[test]
fn ndjson_is_read_by_name_whatever_the_order() {
    let text = "{\"a\":1,\"b\":\"x\"}\n\n{\"b\":\"y\",\"a\":null}\r\n{\"c\":{\"d\":[1]},\"a\":2.5,\"a\":9}\n";
    let summary = summary_of("a.ndjson", text.as_bytes()).unwrap();
    assert_eq!((summary.rows, summary.broken_rows), (3, 0));
    let found: Vec<_> = summary
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.kind, c.count, c.nulls))
        .collect();
    assert_eq!(
        found,
        [
            ("a", ColumnType::Number, 2, 1),
            ("b", ColumnType::String, 2, 1),
            ("c", ColumnType::Json, 1, 2)
        ]
    );
}

#[test]
fn a_broken_line_of_ndjson_is_kept_with_its_number() {
    let mut text = Vec::from(&b"{\"a\":1}\n{\"a\":\n[1]\n{\"a\":\"\xff\"}\n{\"a\":2}\n"[..]);
    text.extend(b"{\"a\":\"");
    text.extend(vec![b'x'; RECORD_BYTES_MAX]);
    text.extend(b"\"}\n{\"a\":\"\\ud800\"}\n{\"a\":3}");
    let summary = summary_of("a.ndjson", &text).unwrap();
    assert_eq!((summary.rows, summary.broken_rows), (3, 5));
    let lines: Vec<_> = summary.broken.iter().map(|row| row.line).collect();
    assert_eq!(lines, [2, 3, 4, 6, 7]);
    assert_eq!(summary.broken[1].reason, "no JSON object");
}

#[test]
fn more_names_than_there_may_be_columns_are_counted() {
    let fields: Vec<_> = (0..COLUMNS_MAX + 3).map(|at| format!("\"k{at}\":1")).collect();
    let summary = summary_of("a.ndjson", format!("{{{}}}\n", fields.join(",")).as_bytes()).unwrap();
    assert_eq!((summary.columns.len(), summary.ignored_fields), (COLUMNS_MAX, 3));
}

#[test]
fn what_is_no_table_is_refused_with_its_reason() {
    let mut mostly_broken = String::from("a,b\n");
    mostly_broken.push_str(&"1\n1\n1,2\n".repeat(400));
    let wide = vec!["x"; COLUMNS_MAX + 1].join(",");
    let cases: &[(&str, &[u8], &str)] = &[
        ("a.csv", b"", "empty"),
        ("a.csv", b"\xef\xbb\xbf\r\n \n", "empty"),
        ("a.ndjson", b" \n", "empty"),
        ("a.csv", b"a,b\x00\n", "zero bytes"),
        ("a.csv", b"\x1f\x8b\x08", "gzip"),
        ("a.csv", b"a\xff,b\n1,2\n", "header is not UTF-8"),
        ("a.csv", b"\"a,b\n1,2\n", "never closed"),
        ("a.csv", b"\"a\"x,b\n1,2\n", "header has text behind a closing quote"),
        ("a.json", b"[{\"a\":1}]", "JSON array"),
        ("a", b"<html>", "XML"),
        (
            "a.ndjson",
            b"hello\nworld\n",
            "2 of 2 rows are broken, the first at line 1",
        ),
        (
            "a.csv",
            mostly_broken.as_bytes(),
            "rows are broken, the first at line 2: 1 field instead of 2 fields",
        ),
        ("a.csv", wide.as_bytes(), "more than 256 columns"),
    ];
    for (name, bytes, expected) in cases {
        let error = summary_of(name, bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_checkpoint_that_is_none_is_refused() {
    let good = Profile::new(options("a.csv")).checkpoint();
    let mut other_version = good.clone();
    other_version[0] += 1;
    for bytes in [
        &b""[..],
        b"\x01",
        b"\x01\xff\xff\xff",
        b"\x02\xff\xff\xff\xff\xff",
        &other_version,
        &good[..good.len() - 1],
    ] {
        assert_eq!(Profile::resume(bytes), Err(ReportError::Checkpoint), "{bytes:?}");
    }
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 4;
        assert_eq!(Profile::resume(&damaged), Err(ReportError::Checkpoint), "{at}");
    }
    assert!(Profile::resume(&good).is_ok());
}
