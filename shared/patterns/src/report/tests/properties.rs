//! Chunks, checkpoints and hostile bytes; and CSV against the `csv` crate.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;

use crate::report::csv::{Overrun, Record, Splitter};
use crate::report::tests::options;
use crate::report::{Format, Options, Profile, ReportError, Summary, render_html};

/// Pieces that make up tables, and what breaks them.
const PIECES: &[&[u8]] = &[
    b"a",
    b"1",
    b"-2.5",
    b"00501",
    b"2024-02-29",
    b"2024-01-01T10:00:00Z",
    b"true",
    b"null",
    b"\xc3\xa9",
    b"\xff",
    b"\"",
    b"\"\"",
    b",",
    b",",
    b",",
    b";",
    b"\n",
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b"{\"a\":1,\"b\":\"x\"}",
    b"{\"a\":[1,2]}",
    b"{\"b\":\"\\u00e9\"}",
    b"{",
    b"\xef\xbb\xbf",
    b"1e400",
    b"9999999999999999999",
];

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(PIECES), 0..60).prop_map(|pieces| pieces.concat())
}

fn any_options() -> impl Strategy<Value = Options> {
    let format = prop::sample::select(&[None, Some(Format::Csv), Some(Format::Ndjson)][..]);
    let delimiter = prop::sample::select(&[None, Some(b','), Some(b';')][..]);
    (format, delimiter).prop_map(|(format, delimiter)| Options {
        format,
        delimiter,
        ..options("object")
    })
}

fn whole(options: &Options, bytes: &[u8]) -> Result<Summary, ReportError> {
    let mut profile = Profile::new(options.clone());
    profile.feed(bytes)?;
    profile.finish()
}

fn chunked(options: &Options, bytes: &[u8], sizes: &[usize]) -> Result<Summary, ReportError> {
    let mut profile = Profile::new(options.clone());
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        profile.feed(chunk)?;
        rest = after;
    }
    profile.finish()
}

fn resumed_at(options: &Options, bytes: &[u8], at: usize) -> Result<Summary, ReportError> {
    let mut profile = Profile::new(options.clone());
    profile.feed(&bytes[..at])?;
    let mut resumed = Profile::resume(&profile.checkpoint())?;
    assert_eq!(resumed.bytes_read(), at as u64);
    resumed.feed(&bytes[at..])?;
    resumed.finish()
}

/// A table with all that changes a state: quotes, line ends, broken rows, many values.
fn table(rows: u32) -> Vec<u8> {
    let mut text = String::from("\u{feff}id,\"na\"\"me\",zip,when,amount,flag\r\n");
    for row in 0..rows {
        let spread = row.wrapping_mul(2_654_435_761) >> 7;
        text.push_str(&match row % 50 {
            17 => String::from("broken,row\n"),
            33 => format!(
                "{row},\"a \"\"quoted\"\"\r\nname é {spread}\",00{},,1e3,true\r",
                row % 9
            ),
            _ => format!(
                "{row},name {},{:05},2024-01-{:02}T10:00:00Z,{}.{},false\n",
                spread % 700,
                row % 999,
                row % 28 + 1,
                spread % 5000,
                row % 7
            ),
        });
    }
    text.into_bytes()
}

#[test]
fn a_profile_goes_on_from_every_byte_of_a_table() {
    let bytes = table(60);
    let expected = whole(&options("t.csv"), &bytes).unwrap();
    assert_eq!((expected.rows, expected.broken_rows), (59, 1));
    for at in 0..=bytes.len() {
        assert_eq!(
            resumed_at(&options("t.csv"), &bytes, at).as_ref(),
            Ok(&expected),
            "{at}"
        );
    }
}

#[test]
fn a_profile_goes_on_behind_every_bound_of_its_counts() {
    // Past the head, the exact count of distinct values and the followed values.
    let bytes = table(2000);
    let expected = whole(&options("t.csv"), &bytes).unwrap();
    assert!(expected.columns[0].distinct.approximate && expected.columns[0].top_is_approximate);
    for at in (0..bytes.len()).step_by(9973) {
        assert_eq!(
            resumed_at(&options("t.csv"), &bytes, at).as_ref(),
            Ok(&expected),
            "{at}"
        );
    }
    for size in [1, 7, 4096] {
        assert_eq!(
            chunked(&options("t.csv"), &bytes, &[size]).as_ref(),
            Ok(&expected),
            "{size}"
        );
    }
}

/// The records of the splitter up to the first one with text behind a closing quote, and whether there is one.
fn split(bytes: &[u8], sizes: &[usize]) -> (Vec<Vec<Vec<u8>>>, bool) {
    let (mut records, mut is_cut) = (Vec::new(), false);
    let mut sink = |record: &Record| {
        assert!(matches!(record.overrun, None | Some(Overrun::Unclosed | Overrun::Text)));
        is_cut |= record.overrun == Some(Overrun::Text);
        if !is_cut {
            records.push(record.iter().map(<[u8]>::to_vec).collect());
        }
        Ok(())
    };
    let mut splitter = Splitter::new(b',');
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        splitter.feed(chunk, &mut sink).unwrap();
        rest = after;
    }
    splitter.finish(&mut sink).unwrap();
    (records, is_cut)
}

fn split_by_the_csv_crate(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes);
    let records = reader
        .byte_records()
        .map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect());
    records.collect()
}

proptest! {
    #[test]
    fn records_are_those_of_the_csv_crate_up_to_text_behind_a_quote(
        text in "[ab\",,\n\n\r]{0,60}",
        sizes in prop::collection::vec(1..9_usize, 1..8),
    ) {
        let (found, is_cut) = split(text.as_bytes(), &sizes);
        let mut expected = split_by_the_csv_crate(text.as_bytes());
        if is_cut {
            // The crate takes the text into the field.
            prop_assert!(expected.len() > found.len());
            expected.truncate(found.len());
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn what_the_csv_crate_writes_comes_back(rows in prop::collection::vec(prop::collection::vec("\\PC{0,8}|[\"\r\n,]{1,4}", 3), 1..20)) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        rows.iter().for_each(|row| writer.write_record(row).unwrap());
        let written = writer.into_inner().unwrap();
        let expected: Vec<Vec<Vec<u8>>> =
            rows.into_iter().map(|row| row.into_iter().map(String::into_bytes).collect()).collect();
        prop_assert_eq!(split(&written, &[5, 3]), (expected, false));
    }

    #[test]
    fn the_cut_of_the_chunks_changes_nothing(
        options in any_options(),
        bytes in pieces(),
        sizes in prop::collection::vec(1..9_usize, 1..8),
    ) {
        prop_assert_eq!(chunked(&options, &bytes, &sizes), whole(&options, &bytes));
    }

    #[test]
    fn a_stop_at_any_byte_changes_nothing(options in any_options(), bytes in pieces(), place in any::<prop::sample::Index>()) {
        let at = place.index(bytes.len() + 1);
        prop_assert_eq!(resumed_at(&options, &bytes, at), whole(&options, &bytes));
    }

    #[test]
    fn arbitrary_bytes_are_reported_on_or_refused(options in any_options(), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(summary) = whole(&options, &bytes) {
            let page = render_html(&summary, "title", "now");
            prop_assert!(page.ends_with("</html>\n"));
        }
    }

    #[test]
    fn an_arbitrary_checkpoint_is_resumed_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let _ = Profile::resume(&bytes);
        // One byte of a good one is changed.
        let mut profile = Profile::new(options("t.csv"));
        profile.feed(&table(400)).unwrap();
        let mut checkpoint = profile.checkpoint();
        let at = place.index(checkpoint.len());
        let is_damaged = checkpoint[at] != byte;
        checkpoint[at] = byte;
        prop_assert_eq!(Profile::resume(&checkpoint).err(), is_damaged.then_some(ReportError::Checkpoint));
    }
}
