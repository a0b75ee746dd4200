//! Notes that are refused, metadata that is patched, and text that is gathered.

use super::*;

fn stream(name: &str) -> StreamName {
    StreamName::parse(name).unwrap()
}

fn json(text: &str) -> JsonText {
    JsonText::parse(text).unwrap()
}

fn patch(op: PatchOp, key: &str, value: &str) -> MetadataPatch {
    MetadataPatch {
        op,
        key: key.into(),
        value: json(value),
    }
}

#[test]
fn each_change_does_what_it_says_to_whatever_stands_there() {
    use PatchOp::{Append, Increment, Set};
    for (before, op, value, after) in [
        (None, Set, "[1]", r#"{"k":[1]}"#),
        (Some(r#"{"a":1,"k":2}"#), Set, "null", r#"{"a":1,"k":null}"#),
        (None, Increment, "3", r#"{"k":3}"#),
        (Some(r#"{"k":40}"#), Increment, "2", r#"{"k":42}"#),
        (Some(r#"{"k":40}"#), Increment, "-50", r#"{"k":-10}"#),
        (Some(r#"{"k":1}"#), Increment, "0.5", r#"{"k":1.5}"#),
        (Some(r#"{"k":"x"}"#), Increment, "2", r#"{"k":2}"#),
        (
            Some(r#"{"k":9223372036854775807}"#),
            Increment,
            "1",
            r#"{"k":9.223372036854776e+18}"#,
        ),
        (Some(r#"{"k":1.7e308}"#), Increment, "1.7e308", r#"{"k":1.7e+308}"#),
        (None, Append, r#""x""#, r#"{"k":["x"]}"#),
        (Some(r#"{"k":["x"]}"#), Append, "[2]", r#"{"k":["x",[2]]}"#),
        (Some(r#"{"k":"x"}"#), Append, "2", r#"{"k":["x",2]}"#),
        (Some("[1]"), Set, "1", r#"{"k":1}"#),
    ] {
        let result = patched(before.map(json), &[patch(op, "k", value)], 4096);
        assert_eq!(result, Some(json(after)), "{before:?} {op:?} {value}");
    }
    assert_eq!(patched(None, &[], 10), None);
}

#[test]
fn a_change_that_would_make_the_metadata_too_long_is_left_out_and_no_other() {
    let long = format!("\"{}\"", "x".repeat(50));
    let patches = [
        patch(PatchOp::Increment, "n", "1"),
        patch(PatchOp::Set, "long", &long),
        patch(PatchOp::Set, "n", &long),
        patch(PatchOp::Increment, "n", "1"),
    ];
    assert_eq!(patched(None, &patches, 20), Some(json(r#"{"n":2}"#)));
}

#[test]
fn notes_that_cannot_be_used_are_refused_with_every_fault() {
    let notes = Notes {
        number: None,
        metadata_patch: alloc::vec![
            patch(PatchOp::Increment, "", "\"1\""),
            patch(PatchOp::Set, &"k".repeat(129), "1"),
        ],
        output: alloc::vec![Written {
            stream: stream("log"),
            chunk: "x".repeat(OUTPUT_REPORT_BYTES_MAX + 1),
        }],
    };
    let pointers: Vec<_> = check(&notes)
        .unwrap_err()
        .details
        .into_iter()
        .map(|fault| fault.pointer)
        .collect();
    let expected = [
        "/metadata_patch/0/key",
        "/metadata_patch/0/value",
        "/metadata_patch/1/key",
        "/output",
    ];
    assert_eq!(pointers, expected);
    let many = Notes {
        metadata_patch: alloc::vec![patch(PatchOp::Set, "k", "1"); METADATA_PATCHES_MAX + 1],
        ..Notes::default()
    };
    assert_eq!(check(&many).unwrap_err().details.len(), 1);
    assert_eq!(check(&Notes::default()), Ok(()));
}

#[test]
fn pieces_are_of_whole_characters_and_nothing_is_lost() {
    for text in [
        "",
        "a",
        &"é".repeat(OUTPUT_CHUNK_BYTES_MAX),
        &format!("a{}", "😀".repeat(20_000)),
    ] {
        let all: Vec<&str> = pieces(text).collect();
        assert_eq!(all.concat(), text);
        assert!(
            all.iter()
                .all(|piece| (1..=OUTPUT_CHUNK_BYTES_MAX).contains(&piece.len()))
        );
    }
}

#[test]
fn text_is_gathered_for_a_while_or_until_it_is_enough() {
    let mut gathered = Gathered::default();
    assert_eq!((gathered.due_at(), gathered.send()), (None, None));
    for (ms, text) in [(1000, "a"), (1050, "b")] {
        assert_eq!(gathered.write(UnixMs(ms), &stream("log"), text), Ok(""));
    }
    gathered.write(UnixMs(1060), &stream("tokens"), "c").unwrap();
    assert_eq!(gathered.due_at(), Some(UnixMs(1100)), "from the first on");
    assert!(!gathered.is_full());
    gathered
        .write(UnixMs(1070), &stream("tokens"), &"d".repeat(GATHER_BYTES))
        .unwrap();
    assert!(gathered.is_full());
    assert_eq!(gathered.due_at(), Some(UnixMs(0)), "at once");
    let sent = gathered.send().unwrap();
    let texts: Vec<_> = sent
        .output
        .iter()
        .map(|written| (written.stream.as_str(), written.chunk.len()))
        .collect();
    assert_eq!(
        (sent.number, texts),
        (Some(1), alloc::vec![("log", 2), ("tokens", 1 + GATHER_BYTES)])
    );
}

#[test]
fn what_may_not_have_arrived_is_sent_again_as_it_was_before_anything_else() {
    let mut gathered = Gathered::default();
    gathered.write(UnixMs(0), &stream("log"), "a").unwrap();
    let first = gathered.send().unwrap();
    gathered.write(UnixMs(1), &stream("log"), "b").unwrap();
    assert_eq!(gathered.send(), None, "nothing overtakes it");
    assert!(gathered.is_sending());
    gathered.lost();
    assert_eq!(gathered.due_at(), Some(UnixMs(0)), "again, at once");
    assert_eq!(gathered.send().as_ref(), Some(&first), "nothing said that it arrived");
    gathered.arrived(Some(7));
    assert!(!gathered.is_empty());
    gathered.arrived(first.number);
    let second = gathered.send().unwrap();
    assert_eq!((second.number, second.output[0].chunk.as_str()), (Some(2), "b"));
    gathered.arrived(second.number);
    assert!(gathered.is_empty());
    assert_eq!(gathered.send(), None);
}

#[test]
fn whatever_is_gathered_can_be_reported() {
    let mut gathered = Gathered::default();
    let text = "é".repeat(OUTPUT_REPORT_BYTES_MAX);
    let mut rest = text.as_str();
    let mut arrived = String::new();
    while !rest.is_empty() {
        rest = gathered.write(UnixMs(0), &stream("log"), rest).unwrap();
        let patches = alloc::vec![patch(PatchOp::Append, "k", "1"); METADATA_PATCHES_MAX];
        gathered.patch(UnixMs(0), patches.clone()).unwrap();
        gathered.patch(UnixMs(0), patches).unwrap();
        let mut reports = 0;
        while let Some(notes) = gathered.send() {
            assert_eq!(check(&notes), Ok(()));
            arrived.extend(notes.output.iter().map(|written| written.chunk.as_str()));
            gathered.arrived(notes.number);
            reports += 1;
        }
        assert_eq!(reports, 2, "as many as the changes take");
    }
    assert_eq!(arrived, text);
}

#[test]
fn a_stream_too_many_is_refused() {
    let mut gathered = Gathered::default();
    for number in 0..OUTPUT_STREAMS_MAX {
        gathered.write(UnixMs(0), &stream(&number.to_string()), "x").unwrap();
    }
    assert!(gathered.write(UnixMs(0), &stream("one more"), "x").is_err());
    assert!(
        gathered.write(UnixMs(0), &stream("0"), "x").is_ok(),
        "a known one still writes"
    );
    let error = gathered.patch(UnixMs(0), alloc::vec![patch(PatchOp::Increment, "k", "[]")]);
    assert!(error.is_err());
}
