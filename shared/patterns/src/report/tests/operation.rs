//! The operation, in a storage of memory: run whole, stopped anywhere, refused.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

use serde_json::Value;
use tidegate_protocol::calls::reporting::MetadataPatch;
use tidegate_protocol::event::{JsonText, Progress};
use tidegate_protocol::ids::{ActionName, StreamName, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use crate::operation::{Context, Done, Incoming, Invocation, Opened, Outgoing, Reader};
use crate::report::summarize::{BUSY_BYTES_MAX, Pace, Request, summarize};
use tidegate_protocol::SortedMap;

/// A storage and a job in memory.
#[derive(Default)]
struct Memory {
    objects: RefCell<SortedMap<String, (String, Vec<u8>)>>,
    checkpoint: RefCell<Option<Vec<u8>>>,
    progress: RefCell<Vec<Progress>>,
    checkpoints: Cell<usize>,
    /// Offsets at which the object was opened.
    opened: RefCell<Vec<u64>>,
    /// The run ends with `LEASE_LOST` right behind this checkpoint.
    stop_at: Cell<Option<usize>>,
    /// Bytes after which the storage stops.
    breaks_at: Cell<Option<usize>>,
    /// Bytes that the storage gives at once; a thousand where it is not said.
    chunk_bytes: Cell<Option<usize>>,
    /// How often others had their turn.
    turns: Cell<usize>,
    /// How often they had had it when each object was written.
    turns_at_puts: RefCell<Vec<usize>>,
}

struct Chunks {
    rest: Vec<u8>,
    /// Bytes until the storage stops.
    left: Option<usize>,
    chunk_bytes: usize,
}

impl Reader for Chunks {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.left == Some(0) {
            return Err(Error::new(ErrorCode::Unavailable, "The storage stopped."));
        }
        let size = self
            .rest
            .len()
            .min(self.chunk_bytes)
            .min(self.left.unwrap_or(usize::MAX));
        self.left = self.left.map(|left| left - size);
        let chunk: Vec<u8> = self.rest.drain(..size).collect();
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}

impl Context for Memory {
    type Reader = Chunks;

    fn now(&self) -> UnixMs {
        UnixMs(1_767_225_600_000)
    }

    async fn sleep(&self, _ms: u64) {
        self.turns.set(self.turns.get() + 1);
    }

    async fn progress(&self, progress: Progress) -> Result<(), Error> {
        self.progress.borrow_mut().push(progress);
        Ok(())
    }

    async fn output(&self, _: &StreamName, _: &str) -> Result<(), Error> {
        panic!("nothing is written");
    }
    async fn patch_metadata(&self, _: Vec<MetadataPatch>) -> Result<(), Error> {
        panic!("nothing is changed");
    }
    async fn checkpoint(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.checkpoint.borrow().clone())
    }

    async fn save_checkpoint(&self, bytes: Vec<u8>, progress: Progress) -> Result<(), Error> {
        *self.checkpoint.borrow_mut() = Some(bytes);
        self.checkpoints.set(self.checkpoints.get() + 1);
        if self.stop_at.get() == Some(self.checkpoints.get()) {
            return Err(Error::new(ErrorCode::LeaseLost, "Stopped."));
        }
        self.progress(progress).await
    }

    async fn open(&self, key: &str, offset: u64, etag: Option<&str>) -> Result<Option<Opened<Chunks>>, Error> {
        let objects = self.objects.borrow();
        let Some((current, bytes)) = objects.get(key) else {
            return Ok(None);
        };
        if etag.is_some_and(|etag| etag != current) {
            return Err(Error::new(ErrorCode::Conflict, "Replaced."));
        }
        self.opened.borrow_mut().push(offset);
        let rest = bytes[usize::try_from(offset).unwrap()..].to_vec();
        let reader = Chunks {
            rest,
            left: self.breaks_at.get(),
            chunk_bytes: self.chunk_bytes.get().unwrap_or(1000),
        };
        Ok(Some(Opened {
            size: bytes.len() as u64,
            etag: current.clone(),
            reader,
        }))
    }

    async fn put(&self, key: &str, content_type: &str, bytes: Vec<u8>) -> Result<(), Error> {
        self.turns_at_puts.borrow_mut().push(self.turns.get());
        self.objects
            .borrow_mut()
            .insert(key.to_owned(), (content_type.to_owned(), bytes));
        Ok(())
    }

    async fn fetch(&self, _request: Outgoing) -> Result<Incoming, Error> {
        Err(Error::new(ErrorCode::UpstreamError, "There is no upstream."))
    }
}

/// Nothing in memory waits, so that one poll is enough.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("something waits"),
    }
}

const PAYLOAD: &str = r#"{"object":"zips.csv"}"#;
const QUICK: Pace = Pace {
    checkpoint_bytes: 3000,
    run_bytes: u64::MAX,
};

fn zips(rows: u32, first: u32) -> Vec<u8> {
    let mut text = String::from("zip,\"place\",lat\n");
    for row in first..first + rows {
        text.push_str(&format!("{:05},\"place, {}\",{}.5\n", row, row % 300, row % 90));
    }
    text.push_str("broken\n");
    text.into_bytes()
}

fn memory(bytes: Vec<u8>) -> Memory {
    let memory = Memory::default();
    memory
        .objects
        .borrow_mut()
        .insert("zips.csv".to_owned(), ("etag 1".to_owned(), bytes));
    memory
}

fn run(memory: &Memory, payload: &str, pace: Pace) -> Result<Done, Error> {
    let request = Request::read(payload)?;
    block_on(summarize(memory, request, pace))
}

fn result(done: Done) -> Value {
    match done {
        Done::Result(text) => serde_json::from_str(text.as_str()).unwrap(),
        Done::Unfinished | Done::Snoozed { .. } | Done::HandedOver => panic!("unfinished"),
    }
}

fn written(memory: &Memory, key: &str) -> String {
    String::from_utf8(memory.objects.borrow()[key].1.clone()).unwrap()
}

#[test]
fn others_have_a_turn_however_much_the_storage_gives_at_once() {
    let bytes = zips(60_000, 500);
    let least = bytes.len() / BUSY_BYTES_MAX;
    assert!(least >= 4, "{least}");
    let mut results = Vec::new();
    for chunk_bytes in [1000, 100_000, usize::MAX] {
        let memory = memory(bytes.clone());
        memory.chunk_bytes.set(Some(chunk_bytes));
        let pace = Pace {
            checkpoint_bytes: u64::MAX,
            run_bytes: u64::MAX,
        };
        results.push(result(run(&memory, PAYLOAD, pace).unwrap())["rows"].clone());
        // A turn for each so many bytes; more where the bytes come in pieces that do not fill them.
        let turns = memory.turns.get();
        assert!((least..=2 * least).contains(&turns), "{turns} for {chunk_bytes}");
    }
    assert_eq!(results, [Value::from(60_000), Value::from(60_000), Value::from(60_000)]);
}

#[test]
fn others_have_a_turn_before_each_object_that_is_written() {
    let bytes = zips(100, 50);
    assert!(bytes.len() < BUSY_BYTES_MAX, "to read it takes no turn");
    let memory = memory(bytes);
    let pace = Pace {
        checkpoint_bytes: u64::MAX,
        run_bytes: u64::MAX,
    };
    run(&memory, PAYLOAD, pace).unwrap();
    assert_eq!(*memory.turns_at_puts.borrow(), [1, 2]);
}

#[test]
fn a_report_is_written_beside_the_object_and_summed_up() {
    let memory = memory(zips(900, 500));
    let call = Invocation {
        pattern: "report".to_owned(),
        operation: "summarize".to_owned(),
        instance: "here".to_owned(),
        action: ActionName::parse("act").unwrap(),
        config: JsonText::null(),
        settings: JsonText::null(),
        payload: JsonText::parse(PAYLOAD).unwrap(),
        user: UserId::parse("user").unwrap(),
        attempt: 1,
        effect_key: None,
        traceparent: None,
        timeout_ms: 60_000,
        job: None,
    };
    let result = result(block_on(crate::report::run(&memory, &call)).unwrap());
    assert_eq!(
        (&result["object"], &result["rows"], &result["broken_rows"]),
        (&"zips.csv".into(), &900.into(), &1.into())
    );
    let columns = result["columns"].as_array().unwrap();
    let types: Vec<_> = columns.iter().map(|column| column["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["string", "string", "number"]);
    assert_eq!(
        (&columns[0]["min"], &columns[0]["distinct"]),
        (&"00500".into(), &900.into())
    );
    assert_eq!(columns[2]["min"], 0.5);
    let data: Value = serde_json::from_str(&written(&memory, "zips.csv.report.json")).unwrap();
    assert_eq!((&data["rows"], &data["broken"][0]["line"]), (&900.into(), &902.into()));
    assert_eq!(result["report"]["html"], "zips.csv.report.html");
    assert!(written(&memory, "zips.csv.report.html").contains("<h1>zips.csv</h1>"));
    assert_eq!(
        memory.objects.borrow()["zips.csv.report.html"].0,
        "text/html; charset=utf-8"
    );
    let progress = memory.progress.borrow();
    assert!(progress.windows(2).all(|pair| pair[0].percentage <= pair[1].percentage));
    let last = progress.last().unwrap();
    assert_eq!(last.percentage, 100.0);
    assert_eq!(last.message.as_deref(), Some("21.2 kB of 21.2 kB, 901 rows"));
}

#[test]
fn a_run_stopped_at_any_checkpoint_comes_to_the_same_report() {
    let bytes = zips(3000, 100);
    let whole = memory(bytes.clone());
    run(&whole, PAYLOAD, QUICK).unwrap();
    let checkpoints = whole.checkpoints.get();
    assert!(checkpoints > 10);
    for stop in 1..=checkpoints {
        let stopped = memory(bytes.clone());
        stopped.stop_at.set(Some(stop));
        assert_eq!(run(&stopped, PAYLOAD, QUICK).unwrap_err().code, ErrorCode::LeaseLost);
        stopped.stop_at.set(None);
        run(&stopped, PAYLOAD, QUICK).unwrap();
        let opened = stopped.opened.borrow().clone();
        assert!(opened.len() == 1 || opened[1] == 3000 * stop as u64, "{opened:?}");
        for key in ["zips.csv.report.json", "zips.csv.report.html"] {
            assert_eq!(written(&stopped, key), written(&whole, key), "{stop}");
        }
    }
}

#[test]
fn a_run_that_did_its_share_goes_on_in_the_next() {
    let bytes = zips(2000, 1);
    let whole = memory(bytes.clone());
    let expected = run(&whole, PAYLOAD, QUICK).unwrap();
    let shared = memory(bytes);
    let pace = Pace {
        checkpoint_bytes: 5000,
        run_bytes: 10_000,
    };
    let mut runs = 1;
    let done = loop {
        match run(&shared, PAYLOAD, pace).unwrap() {
            Done::Unfinished => runs += 1,
            Done::Snoozed { .. } | Done::HandedOver => panic!("nothing to wait for"),
            done @ Done::Result(_) => break done,
        }
    };
    assert_eq!(
        (done, runs),
        (expected, shared.objects.borrow()["zips.csv"].1.len().div_ceil(10_000))
    );
    assert_eq!(
        written(&shared, "zips.csv.report.json"),
        written(&whole, "zips.csv.report.json")
    );
}

#[test]
fn a_replaced_object_is_read_from_its_beginning() {
    let replaced = memory(zips(1000, 100));
    replaced.stop_at.set(Some(2));
    run(&replaced, PAYLOAD, QUICK).unwrap_err();
    replaced.stop_at.set(None);
    let newer = zips(400, 7000);
    replaced
        .objects
        .borrow_mut()
        .insert("zips.csv".to_owned(), ("etag 2".to_owned(), newer.clone()));
    let result = result(run(&replaced, PAYLOAD, QUICK).unwrap());
    assert_eq!((&result["rows"], &result["bytes"]), (&400.into(), &newer.len().into()));
    assert_eq!(*replaced.opened.borrow(), [0, 0]);
    assert_eq!(result["columns"][0]["min"], "07000");
}

#[test]
fn an_object_that_is_not_there_is_named() {
    let empty = Memory::default();
    let error = run(&empty, PAYLOAD, QUICK).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    assert!(error.message.contains("zips.csv") && !error.retryable);
    let removed = memory(zips(1000, 100));
    removed.stop_at.set(Some(1));
    run(&removed, PAYLOAD, QUICK).unwrap_err();
    removed.objects.borrow_mut().clear();
    assert_eq!(run(&removed, PAYLOAD, QUICK).unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn a_storage_that_stops_costs_no_more_than_since_the_checkpoint() {
    let broken = memory(zips(1000, 100));
    broken.breaks_at.set(Some(7500));
    let error = run(&broken, PAYLOAD, QUICK).unwrap_err();
    assert!(error.code == ErrorCode::Unavailable && error.retryable);
    broken.breaks_at.set(None);
    run(&broken, PAYLOAD, QUICK).unwrap();
    assert_eq!(*broken.opened.borrow(), [0, 6000]);
}

#[test]
fn an_object_that_is_no_table_fails_for_good() {
    let binary = memory(Vec::from(&b"\x00\x01\x02"[..]));
    let error = run(&binary, PAYLOAD, QUICK).unwrap_err();
    assert_eq!((error.code, error.retryable), (ErrorCode::ProcessingFailed, false));
    assert!(error.message.contains("zero bytes"), "{}", error.message);
}

#[test]
fn a_checkpoint_that_cannot_be_read_begins_anew() {
    let memory = memory(zips(100, 100));
    *memory.checkpoint.borrow_mut() = Some(Vec::from(&b"\xff\xff\xff\xff"[..]));
    assert_eq!(result(run(&memory, PAYLOAD, QUICK).unwrap())["rows"], 100);
}

#[test]
fn all_faults_of_a_payload_are_told_at_once() {
    let pointers = |payload: &str| -> Vec<String> {
        let error = Request::read(payload).unwrap_err();
        assert_eq!(error.code, ErrorCode::ValidationError);
        error.details.iter().map(|fault| fault.pointer.to_string()).collect()
    };
    assert_eq!(pointers("{}"), ["/object"]);
    assert_eq!(
        pointers(r#"{"object":"","format":"xml","delimiter":"ab","output":7,"objct":1}"#),
        ["/objct", "/object", "/output", "/format", "/delimiter"]
    );
    assert_eq!(
        pointers(r#"{"object":"a","format":"ndjson","delimiter":";"}"#),
        ["/delimiter"]
    );
    for delimiter in ["\"", "a", "1", "\n", "é"] {
        let payload = serde_json::json!({"object": "a", "delimiter": delimiter}).to_string();
        assert_eq!(pointers(&payload), ["/delimiter"], "{delimiter}");
    }
}

#[test]
fn the_report_goes_where_it_is_told() {
    let memory = memory(zips(10, 100));
    let payload = r#"{"object":"zips.csv","output":"reports/today","format":"csv","delimiter":","}"#;
    let result = result(run(&memory, payload, QUICK).unwrap());
    assert_eq!(result["report"]["json"], "reports/today.report.json");
    assert!(memory.objects.borrow().contains_key("reports/today.report.html"));
}
