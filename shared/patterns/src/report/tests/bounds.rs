//! What a fault in the object costs, and what a checkpoint weighs.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::report::limits::{CHECKPOINT_BYTES_MAX, COLUMNS_MAX, FIELD_BYTES_MAX, KEYS_MAX, RECORD_BYTES_MAX, Tier};
use crate::report::tests::{options, summary_of};
use crate::report::{Profile, Summary};

/// A table with a stray quote in its tenth row, and the offset behind that quote.
fn with_a_stray_quote(rows: u32) -> (String, usize) {
    let (mut text, mut behind) = (String::from("id,name\n"), 0);
    for row in 0..rows {
        if row == 9 {
            text.push_str("9,\"oops\n");
            behind = text.len() - "oops\n".len();
        } else {
            text.push_str(&format!("{row},name {row}\n"));
        }
    }
    text.push_str("broken\n");
    (text, behind)
}

fn check_at_every_cut(text: &str, expected: &Summary, around: usize) {
    for at in around - 3..around + 3 {
        let mut profile = Profile::new(options("a.csv"));
        profile.feed(&text.as_bytes()[..at]).unwrap();
        let mut profile = Profile::resume(&profile.checkpoint()).unwrap();
        profile.feed(&text.as_bytes()[at..]).unwrap();
        assert_eq!(profile.finish().as_ref(), Ok(expected), "{at}");
    }
    for size in [1, 1000, FIELD_BYTES_MAX] {
        let mut profile = Profile::new(options("a.csv"));
        for chunk in text.as_bytes().chunks(size) {
            profile.feed(chunk).unwrap();
        }
        assert_eq!(profile.finish().as_ref(), Ok(expected), "{size}");
    }
}

#[test]
fn a_stray_quote_costs_no_more_than_the_bound_of_a_field() {
    let (text, behind) = with_a_stray_quote(20_000);
    let stop = behind + FIELD_BYTES_MAX;
    let next = stop + text.split_at(stop).1.find('\n').unwrap() + 1;
    let after = text.split_at(next).1.lines().count() - 1;
    let summary = summary_of("a.csv", text.as_bytes()).unwrap();
    assert_eq!((summary.rows, summary.broken_rows), (9 + after as u64, 2));
    assert!(summary.rows > 10_000);
    let lines: Vec<_> = summary.broken.iter().map(|row| row.line).collect();
    assert_eq!(lines, [11, 20_002]);
    assert!(
        summary.broken[0].reason.contains("is a quote not closed?"),
        "{:?}",
        summary.broken[0]
    );
    assert!(summary.broken[0].excerpt.starts_with("9,oops\n10,name 10\n"));
    check_at_every_cut(&text, &summary, stop);
}

#[test]
fn the_stop_in_a_field_is_at_one_byte_whatever_stands_there() {
    // A line end of two bytes, an escaped quote, and the closing quote around the bound.
    for (at_the_bound, rows) in [("\r\n", 2), ("\"\"", 1), ("\",3", 1), ("\"\n", 2), ("x\"\n", 1)] {
        for short_by in 0..3 {
            let field = "x".repeat(FIELD_BYTES_MAX - short_by);
            let text = format!("a,b\n1,\"{field}{at_the_bound}\n3,4\n5,6");
            let summary = summary_of("a.csv", text.as_bytes());
            let Ok(summary) = summary else {
                panic!("{at_the_bound:?} {short_by}")
            };
            check_at_every_cut(&text, &summary, "a,b\n1,\"".len() + FIELD_BYTES_MAX);
            if short_by == 0 {
                assert!(summary.rows >= rows, "{at_the_bound:?}: {summary:?}");
            }
        }
    }
}

#[test]
fn a_row_over_its_bound_ends_at_its_line_end() {
    let field = "x".repeat(FIELD_BYTES_MAX);
    let columns = RECORD_BYTES_MAX / FIELD_BYTES_MAX + 1;
    let header: Vec<_> = (0..columns).map(|at| format!("c{at}")).collect();
    let row = |field: &str| vec![field; columns].join(",");
    let text = format!("{}\n{}\n{}\n{}\n", header.join(","), row("1"), row(&field), row("2"));
    let summary = summary_of("a.csv", text.as_bytes()).unwrap();
    assert_eq!((summary.rows, summary.broken_rows, summary.broken[0].line), (2, 1, 3));
    assert_eq!(
        summary.broken[0].reason,
        format!("a row of more than {RECORD_BYTES_MAX} bytes")
    );
}

#[test]
fn text_behind_a_closing_quote_breaks_the_row_it_began_in() {
    // The quote of the first row is closed by the first one of the second row.
    let text = "id,name\n9,\"oops\n10,\"ok\"\n11,\"fine\" ,\n12,\"fine\" \n13,fine\n14,\"a\"\"b\"\n";
    let summary = summary_of("a.csv", text.as_bytes()).unwrap();
    let broken: Vec<_> = summary
        .broken
        .iter()
        .map(|row| (row.line, row.reason.as_str()))
        .collect();
    assert_eq!(
        broken,
        [(2, "text behind a closing quote"), (4, "3 fields instead of 2 fields")]
    );
    assert_eq!((summary.rows, summary.broken_rows), (3, 2));
    assert_eq!(summary.broken[0].excerpt, "9,oops\n10,");
    let names = summary.columns[1].texts.as_ref().unwrap();
    assert_eq!((names.min.as_str(), names.max.as_str()), ("a\"b", "fine"));
}

#[test]
fn an_object_of_too_many_keys_is_a_broken_row() {
    let object = |keys: usize| {
        let fields: Vec<_> = (0..keys).map(|at| format!("\"k{at}\":1")).collect();
        format!("{{{}}}\n", fields.join(","))
    };
    let text = format!("{}{}{}", object(1), object(KEYS_MAX + 1), object(KEYS_MAX));
    let summary = summary_of("a.ndjson", text.as_bytes()).unwrap();
    assert_eq!((summary.rows, summary.broken_rows), (2, 1));
    assert_eq!(
        (summary.broken[0].line, summary.broken[0].reason.as_str()),
        (2, "an object of more than 1024 keys")
    );
    assert_eq!(summary.ignored_fields, (KEYS_MAX - COLUMNS_MAX) as u64);
}

#[test]
fn names_that_are_cut_to_the_same_one_give_a_row_one_value() {
    let name = "n".repeat(200);
    let text = format!("{{\"{name}1\":1,\"{name}2\":2,\"a\":3}}\n");
    let summary = summary_of("a.ndjson", text.as_bytes()).unwrap();
    let counts: Vec<_> = summary.columns.iter().map(|column| column.count).collect();
    assert_eq!(counts, [1, 1]);
}

#[test]
fn columns_that_come_late_leave_the_others_their_counts() {
    let mut text = String::new();
    for row in 0..600 {
        text.push_str(&format!("{{\"a\":{}}}\n", if row % 3 == 0 { 7 } else { row }));
    }
    let late: Vec<_> = (0..100).map(|at| format!("\"late {at}\":true")).collect();
    text.push_str(&format!("{{\"a\":7,{}}}\n", late.join(",")));
    let summary = summary_of("a.ndjson", text.as_bytes()).unwrap();
    let column = &summary.columns[0];
    assert_eq!((summary.columns.len(), column.count, column.nulls), (101, 601, 0));
    let top = &column.top[0];
    assert!(
        top.value == "7" && top.count >= 202 && top.count - top.error <= 202,
        "{top:?}"
    );
    // Four standard errors around the 401 there are.
    let distinct = column.distinct;
    assert!(
        distinct.approximate && (375..=427).contains(&distinct.count),
        "{distinct:?}"
    );
}

#[test]
fn a_checkpoint_stays_below_its_bound() {
    for (columns, at_least) in [(Tier::Narrow.columns_max(), 1 << 20), (COLUMNS_MAX, 5 << 19)] {
        let row = |field: &dyn Fn(usize) -> String| {
            let mut row = (0..columns).map(field).collect::<Vec<_>>().join(",");
            row.push('\n');
            row
        };
        let mut text = row(&|at| format!("{at:0>128}"));
        for (number, sign) in [("1e90", ""), ("1e-90", ""), ("1e90", "-"), ("1e-90", "-")] {
            text.push_str(&row(&|_| format!("{sign}{number}")));
        }
        let values = if columns == COLUMNS_MAX { 300 } else { 1100 };
        for value in 0..values {
            text.push_str(&row(&|_| format!("{value:x>96}")));
        }
        text.push_str(&row(&|_| String::from("2024-02-29T12:30:00.123456789+00:00")));
        // A record that goes on.
        text.push_str(&"x".repeat(FIELD_BYTES_MAX));
        for _ in 1..RECORD_BYTES_MAX / FIELD_BYTES_MAX {
            text.push(',');
            text.push_str(&"x".repeat(FIELD_BYTES_MAX));
        }
        let mut profile = Profile::new(options("a.csv"));
        profile.feed(text.as_bytes()).unwrap();
        let bytes = profile.checkpoint().len();
        assert!((at_least..=CHECKPOINT_BYTES_MAX).contains(&bytes), "{columns}: {bytes}");
    }
}
