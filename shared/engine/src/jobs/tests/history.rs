//! What a job writes, what its metadata comes to, and what is kept of its events.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::calls::executor::Execute;
use tidegate_protocol::calls::jobs::{Call, Enqueue, JobRef, Reply};
use tidegate_protocol::calls::reporting::{Durability, MetadataPatch, Notes, PatchOp, Written};
use tidegate_protocol::event::{Event, Happening, JsonText, Output, Progress};
use tidegate_protocol::http::{EventPage, OutputPage};
use tidegate_protocol::ids::{JobId, Seq, StreamName};
use tidegate_protocol::limits::{OUTPUT_CHUNK_BYTES_MAX, OUTPUT_KEEP_BYTES_MIN, OUTPUT_STREAMS_MAX};
use tidegate_protocol::{Error, ErrorCode};

use super::super::Effect;
use super::super::history::{EVENTS_BYTES_MAX, ROW_BYTES};
use super::bench::*;

fn stream(name: &str) -> StreamName {
    StreamName::parse(name).unwrap()
}

fn text(number: u64, chunks: &[(&str, &str)]) -> Notes {
    let output = chunks.iter().map(|(name, chunk)| Written {
        stream: stream(name),
        chunk: (*chunk).into(),
    });
    Notes {
        number: Some(number),
        output: output.collect(),
        ..Notes::default()
    }
}

fn patch(op: PatchOp, key: &str, value: &str) -> MetadataPatch {
    MetadataPatch {
        op,
        key: key.into(),
        value: JsonText::parse(value).unwrap(),
    }
}

fn patches(number: u64, metadata_patch: Vec<MetadataPatch>) -> Notes {
    Notes {
        number: Some(number),
        metadata_patch,
        ..Notes::default()
    }
}

fn kept(durability: Durability, keep_bytes: u64) -> Enqueue {
    let mut enqueue = followed();
    enqueue.job.policy.reporting.durability = durability;
    enqueue.job.policy.reporting.keep_bytes = keep_bytes;
    enqueue
}

impl Bench {
    fn note(
        &mut self,
        execute: &Execute,
        progress: Option<Progress>,
        notes: Notes,
    ) -> (Result<Reply, Error>, Vec<Effect>) {
        self.call(Call::Report {
            job: execute.job,
            token: execute.token,
            progress,
            checkpoint: None,
            notes: Some(notes),
        })
    }

    fn attach(&mut self, job: JobId, after: u64) -> Reply {
        let call = Call::Follow {
            job: JobRef::Id(job),
            caller: caller("ann"),
            hub: HUB,
            after: Some(Seq(after)),
        };
        self.call(call).0.unwrap()
    }

    fn page<T: serde::de::DeserializeOwned>(&mut self, call: Call) -> T {
        match self.call(call).0 {
            Ok(Reply::History(page)) => serde_json::from_str(page.as_str()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn events(&mut self, job: JobId, after: u64) -> EventPage {
        self.page(Call::Events {
            job,
            caller: caller("ann"),
            after: Seq(after),
        })
    }

    fn output(&mut self, job: JobId, name: &str, offset: u64) -> OutputPage {
        self.page(Call::Output {
            job,
            caller: caller("ann"),
            stream: stream(name),
            offset,
        })
    }

    fn rows(&self) -> u64 {
        self.count("SELECT (SELECT count(*) FROM output) + (SELECT count(*) FROM event)")
    }
}

fn told(effects: &[Effect]) -> Vec<Event> {
    deliveries(effects).into_iter().map(|delivery| delivery.event).collect()
}

fn outputs(events: &[Event]) -> Vec<(u64, &str, u64, &str)> {
    let outputs = events.iter().filter_map(|event| match &event.what {
        Happening::Output(Output { stream, offset, chunk }) => {
            Some((event.seq.0, stream.as_str(), *offset, chunk.as_str()))
        }
        _ => None,
    });
    outputs.collect()
}

#[test]
fn text_is_told_in_order_with_its_place_in_its_stream_and_among_all_events() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    let notes = text(1, &[("log", "é\n"), ("tokens", "a"), ("log", "b")]);
    let (_, effects) = bench.note(&execute, Some(percent(10.0)), notes);
    let first = told(&effects);
    assert_eq!(
        outputs(&first),
        [(2, "log", 0, "é\n"), (3, "tokens", 0, "a"), (4, "log", 3, "b")]
    );
    assert!(matches!(first[3].what, Happening::Progress(_)) && first[3].seq == Seq(5));
    let (_, effects) = bench.note(&execute, None, text(2, &[("log", "c")]));
    assert_eq!(outputs(&told(&effects)), [(6, "log", 4, "c")]);
    bench.crash();
    let (_, effects) = bench.note(&execute, None, text(3, &[("log", "d")]));
    assert_eq!(outputs(&told(&effects)), [(7, "log", 5, "d")]);
    assert_eq!(bench.output(execute.job, "log", 0).text, "é\nbcd");
}

#[test]
fn notes_that_come_again_under_their_lease_change_nothing() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    let mut notes = text(1, &[("log", "a")]);
    notes.metadata_patch.push(patch(PatchOp::Increment, "n", "1"));
    for crashes in [false, true, false] {
        let (reply, _) = bench.note(&execute, None, notes.clone());
        assert!(matches!(reply, Ok(Reply::Continue { .. })));
        if crashes {
            bench.crash();
        }
    }
    assert_eq!(bench.output(execute.job, "log", 0).text, "a");
    assert_eq!(bench.get(execute.job).progress.metadata.unwrap().as_str(), r#"{"n":1}"#);
    assert_eq!(bench.get(execute.job).seq, Seq(3));
    // Those of the next attempt count from one again.
    let (_, _) = bench.finish(&execute, failure(true));
    let execute = execution(&bench.alarm());
    let (_, _) = bench.note(&execute, None, notes);
    assert_eq!(bench.output(execute.job, "log", 0).text, "aa");
}

#[test]
fn text_of_an_old_lease_is_refused() {
    let mut bench = Bench::new();
    let old = bench.start(plain());
    bench.finish(&old, failure(true)).0.unwrap();
    let execute = execution(&bench.alarm());
    let (reply, _) = bench.note(&old, None, text(1, &[("log", "late")]));
    assert_eq!(code(&reply), ErrorCode::LeaseLost);
    assert_eq!((bench.output(execute.job, "log", 0).written, bench.rows()), (0, 0));
}

#[test]
fn a_job_that_neither_writes_nor_keeps_its_history_has_no_rows_of_it() {
    let mut bench = Bench::new();
    let execute = bench.start(keyed("k"));
    for percentage in [10.0, 50.0, 90.0] {
        bench.report(&execute, Some(percent(percentage)), None).0.unwrap();
    }
    bench.finish(&execute, success()).0.unwrap();
    let reported = bench.count("SELECT count(*) FROM job WHERE reported IS NOT NULL");
    assert_eq!((bench.rows(), reported), (0, 0));
}

#[test]
fn the_oldest_text_makes_way_and_whoever_comes_back_is_told() {
    let mut bench = Bench::new();
    let execute = bench.start(kept(Durability::Last, OUTPUT_KEEP_BYTES_MIN));
    let chunk = "x".repeat(8000);
    for number in 1..=6 {
        bench.note(&execute, None, text(number, &[("log", &chunk)])).0.unwrap();
    }
    let rows = OUTPUT_KEEP_BYTES_MIN / (8000 + ROW_BYTES);
    assert_eq!(bench.rows(), rows);
    let page = bench.output(execute.job, "log", 100);
    assert_eq!(
        (page.gap, page.offset, page.next_offset, page.written),
        (true, 16_000, 48_000, 48_000)
    );
    assert_eq!(page.text.len(), 32_000);
    let page = bench.output(execute.job, "log", 47_999);
    assert_eq!((page.gap, page.offset, page.text.as_str()), (false, 47_999, "x"));
    // The places 2 and 3 are forgotten, 4 to 7 are kept.
    let Reply::Following { snapshot, events, .. } = bench.attach(execute.job, 2) else {
        panic!("an answer")
    };
    assert_eq!(
        (snapshot.map(|s| (s.gap, s.seq)), events.len()),
        (Some((true, Seq(7))), 0)
    );
    let Reply::Following { snapshot, events, .. } = bench.attach(execute.job, 3) else {
        panic!("an answer")
    };
    assert_eq!((snapshot, events.len()), (None, 4));
    let page = bench.events(execute.job, 0);
    assert_eq!((page.gap, page.events.len(), page.next_after), (true, 4, None));
    assert!(!bench.events(execute.job, 3).gap);
    // Of another stream that grows, this one is what makes way.
    for number in 7..=11 {
        bench
            .note(&execute, None, text(number, &[("other", &chunk)]))
            .0
            .unwrap();
    }
    let page = bench.output(execute.job, "log", 0);
    assert_eq!(
        (page.gap, page.text.as_str(), page.offset, page.next_offset),
        (true, "", 48_000, 48_000)
    );
}

#[test]
fn a_long_text_becomes_several_events_of_whole_characters() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    let long = format!("a{}", "é".repeat(OUTPUT_CHUNK_BYTES_MAX));
    let (_, effects) = bench.note(&execute, None, text(1, &[("log", &long)]));
    let events = told(&effects);
    assert_eq!(events.len(), 3);
    assert_eq!(
        outputs(&events).iter().map(|(.., chunk)| *chunk).collect::<String>(),
        long
    );
    for offset in [0, 1, 3, 16_383, 16_385] {
        let page = bench.output(execute.job, "log", offset);
        let rest = long.get(usize::try_from(offset).unwrap()..).unwrap();
        assert_eq!((page.offset, page.text.as_str(), page.gap), (offset, rest, false));
    }
    let inside = bench.output(execute.job, "log", 2);
    assert_eq!(
        (inside.offset, inside.text.len()),
        (1, long.len() - 1),
        "a character is not cut"
    );
    let beyond = bench.output(execute.job, "log", 1_000_000);
    assert_eq!(
        (beyond.text.as_str(), beyond.next_offset, beyond.gap),
        ("", 1_000_000, false)
    );
}

#[test]
fn changes_are_made_to_what_is_stored_and_told_with_the_progress() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    let first = Progress {
        metadata: JsonText::parse(r#"{"rows":1}"#),
        ..percent(30.0)
    };
    bench.report(&execute, Some(first), None).0.unwrap();
    let changes = vec![
        patch(PatchOp::Increment, "rows", "41"),
        patch(PatchOp::Append, "files", r#""a""#),
        patch(PatchOp::Set, "at", "null"),
    ];
    let (_, effects) = bench.note(&execute, None, patches(1, changes));
    let Happening::Progress(progress) = &told(&effects)[0].what else {
        panic!("{effects:?}")
    };
    let expected = r#"{"at":null,"files":["a"],"rows":42}"#;
    assert_eq!(
        (progress.percentage, progress.metadata.as_ref().unwrap().as_str()),
        (30.0, expected)
    );
    // What a report says nothing of stays.
    bench.report(&execute, Some(percent(40.0)), None).0.unwrap();
    assert_eq!(bench.get(execute.job).progress.metadata.unwrap().as_str(), expected);
    // What does not fit is left out.
    let long = format!("\"{}\"", "x".repeat(5000));
    let changes = vec![
        patch(PatchOp::Set, "long", &long),
        patch(PatchOp::Increment, "rows", "1"),
    ];
    bench.note(&execute, None, patches(2, changes)).0.unwrap();
    let metadata = bench.get(execute.job).progress.metadata.unwrap();
    assert_eq!(metadata.as_str(), expected.replace("42", "43"));
}

#[test]
fn notes_that_cannot_be_taken_are_refused_and_nothing_of_the_report_counts() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    let names: Vec<String> = (0..=OUTPUT_STREAMS_MAX).map(|number| number.to_string()).collect();
    let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let (reply, _) = bench.note(&execute, Some(percent(50.0)), text(1, &all));
    assert_eq!(code(&reply), ErrorCode::ValidationError);
    let (reply, _) = bench.note(&execute, None, patches(1, vec![patch(PatchOp::Increment, "n", "true")]));
    assert_eq!(code(&reply), ErrorCode::ValidationError);
    assert_eq!((bench.get(execute.job).seq, bench.rows()), (Seq(1), 0));
    bench.note(&execute, None, text(1, &all[1..])).0.unwrap();
    let (reply, _) = bench.note(&execute, None, text(2, &all[..1]));
    assert_eq!(code(&reply), ErrorCode::ValidationError, "one more than there may be");
    bench.note(&execute, None, text(2, &all[1..2])).0.unwrap();
    assert_eq!(bench.output(execute.job, "1", 0).text, "xx");
}

#[test]
fn where_all_is_asked_for_each_event_is_kept_beyond_what_a_row_holds() {
    let mut bench = Bench::new();
    let execute = bench.start(kept(Durability::All, OUTPUT_KEEP_BYTES_MIN));
    for number in 0..300 {
        bench
            .report(&execute, Some(percent(f64::from(number) / 10.0)), None)
            .0
            .unwrap();
    }
    bench.note(&execute, None, text(1, &[("log", "a")])).0.unwrap();
    bench.finish(&execute, failure(true)).0.unwrap();
    let execute = execution(&bench.alarm());
    bench.finish(&execute, failure(false)).0.unwrap();
    bench.crash();
    let first = bench.events(execute.job, 0);
    assert_eq!(
        (first.events.len(), first.gap, first.ended, first.next_after),
        (200, false, false, Some(Seq(201)))
    );
    let second = bench.events(execute.job, 201);
    assert_eq!(
        (second.events.len(), second.gap, second.ended, second.next_after),
        (105, false, true, None)
    );
    let last: Vec<&str> = second.events.iter().rev().take(4).map(JsonText::as_str).collect();
    for (event, kind) in last.iter().zip(["error", "started", "retrying", "output"]) {
        assert!(event.contains(&format!("\"type\":\"{kind}\"")), "{event}");
    }
    // A dead letter knows why its attempts failed, whatever else is kept.
    assert_eq!(bench.dead_letters(everything()).dead_letters[0].earlier_errors.len(), 1);
    let Reply::Following {
        snapshot,
        events,
        ended,
        ..
    } = bench.attach(execute.job, 1)
    else {
        panic!("an answer")
    };
    assert_eq!((snapshot, events.len(), ended), (None, 305, true));
}

#[test]
fn a_history_is_bounded_and_says_what_it_has_forgotten() {
    let mut bench = Bench::new();
    bench.compares = false;
    let execute = bench.start(kept(Durability::All, OUTPUT_KEEP_BYTES_MIN));
    let long = Progress {
        message: Some("x".repeat(4000)),
        ..percent(1.0)
    };
    let reports = EVENTS_BYTES_MAX / 4000 + 10;
    for _ in 0..reports {
        bench.report(&execute, Some(long.clone()), None).0.unwrap();
    }
    let bytes = bench.count("SELECT sum(length(body) + 64) FROM event");
    assert!((EVENTS_BYTES_MAX - 5000..=EVENTS_BYTES_MAX).contains(&bytes), "{bytes}");
    assert!(bench.rows() < reports);
    let page = bench.events(execute.job, 0);
    assert!(page.gap && page.next_after.is_some());
    assert!(!bench.events(execute.job, page.next_after.unwrap().0).gap);
}

#[test]
fn whoever_missed_more_than_one_answer_brings_is_told_so_and_a_watch_goes_on() {
    let mut bench = Bench::new();
    let execute = bench.start(kept(Durability::Last, 4 * 1024 * 1024));
    let chunk = "x".repeat(16_000);
    for number in 1..=20 {
        bench.note(&execute, None, text(number, &[("log", &chunk)])).0.unwrap();
    }
    let Reply::Following { snapshot, events, .. } = bench.attach(execute.job, 1) else {
        panic!("an answer")
    };
    assert_eq!((snapshot.map(|s| s.gap), events.len()), (Some(true), 0));
    bench.finish(&execute, success()).0.unwrap();
    let (mut after, mut seen, mut over, mut answers) = (1, 0, false, 0);
    while !over {
        let call = Call::Watch {
            job: execute.job,
            caller: caller("ann"),
            after: Some(Seq(after)),
            wait_ms: 0,
            until_end: false,
        };
        let Ok(Reply::Following {
            snapshot: None,
            events,
            ended,
            ..
        }) = bench.call(call).0
        else {
            panic!("no gap")
        };
        (after, over) = (events.last().unwrap().seq.0, ended);
        seen += outputs(&events).len();
        answers += 1;
    }
    assert_eq!((seen, answers), (20, 2));
    let mut page = bench.output(execute.job, "log", 0);
    let mut length = page.text.len();
    while page.next_offset < page.written {
        page = bench.output(execute.job, "log", page.next_offset);
        length += page.text.len();
    }
    assert_eq!((length, page.ended), (320_000, true));
}

#[test]
fn a_job_that_had_no_row_gets_one_with_its_first_text() {
    let mut bench = Bench::new();
    let (waits, effects) = bench.send(Call::Enqueue(alloc::boxed::Box::new(waiting(60_000))));
    let execute = execution(&effects);
    assert_eq!(bench.count("SELECT count(*) FROM job"), 0);
    bench.note(&execute, None, text(1, &[("log", "a")])).0.unwrap();
    assert_eq!(bench.output(execute.job, "log", 0).text, "a");
    let (_, effects) = bench.finish(&execute, success());
    assert!(matches!(
        replies(&effects)[&waits],
        Ok(Reply::Ended { stored: true, .. })
    ));
}

#[test]
fn what_a_job_wrote_goes_with_it_a_bounded_number_of_rows_at_a_time() {
    let mut bench = Bench::new();
    bench.compares = false;
    let chunk = "x";
    let chunks: Vec<(&str, &str)> = (0..100).map(|n| (if n % 2 == 0 { "a" } else { "b" }, chunk)).collect();
    for _ in 0..3 {
        let execute = bench.start(kept(Durability::All, 1 << 20));
        for number in 1..=60 {
            bench
                .note(&execute, Some(percent(1.0)), text(number, &chunks))
                .0
                .unwrap();
        }
        bench.finish(&execute, success()).0.unwrap();
        bench.delivered_all(&execute);
    }
    // One row for the start of the attempt.
    assert_eq!(bench.rows(), 3 * (60 * 101 + 1));
    bench.later(RETENTION_MS);
    for left in [2, 1, 0] {
        bench.alarm();
        let jobs = bench.count("SELECT count(*) FROM job");
        assert_eq!((jobs, bench.rows()), (left, left * (60 * 101 + 1)));
    }
}

impl Bench {
    /// The hub confirms the end of the job, so that nothing is left to be delivered.
    fn delivered_all(&mut self, execute: &Execute) {
        let Reply::Following { events, .. } = self.attach(execute.job, u64::MAX >> 12) else {
            panic!("an answer")
        };
        let event = events.last().unwrap().clone();
        let delivery = tidegate_protocol::calls::hub::Delivery {
            job: execute.job,
            event,
        };
        self.delivered(HUB, &[delivery], &[]);
    }
}

#[test]
fn a_strangers_history_is_not_there() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    let (job, caller) = (execute.job, caller("bob"));
    for call in [
        Call::Events {
            job,
            caller: caller.clone(),
            after: Seq(0),
        },
        Call::Output {
            job,
            caller: caller.clone(),
            stream: stream("log"),
            offset: 0,
        },
    ] {
        assert_eq!(code(&bench.call(call).0), ErrorCode::NotFound);
    }
}
