//! A report on more than 200 MB, with `kill -9` in the middle: it goes on from its last checkpoint, and is right.
//!
//! Slow: it runs only where `TIDEGATE_SLOW=1` is set.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::server::Server;
use tidegate_tests::socket::{Incoming, Socket};
use tidegate_tests::stage::Follower;
use tidegate_tests::tenant::Tenant;

/// Rows of the table. Each has [`ROW_BYTES`], so that a count of rows is a place in the file.
const ROWS: u64 = 4_100_000;
/// Bytes of every row, its line end included.
const ROW_BYTES: u64 = 50;
/// The first line.
const HEADER: &[u8] = b"number,city,amount,note\n";
/// The whole file.
const BYTES: u64 = HEADER.len() as u64 + ROWS * ROW_BYTES;
const _: () = assert!(BYTES >= 200_000_000);
const _: () = assert!(ROWS.is_multiple_of(AMOUNTS) && AMOUNTS.is_multiple_of(CITIES.len() as u64));

/// `amount` goes round from 0 to this, exclusively.
const AMOUNTS: u64 = 1000;
/// `city` goes round these. Equally long, so that every row is.
const CITIES: [&str; 4] = ["Aarhus", "Bergen", "Coruna", "Dieppe"];
/// How far an attempt reads before it saves a checkpoint: what the operation `report.summarize` promises. Bytes.
const CHECKPOINT_BYTES: u64 = 32 << 20;
/// More than a chunk of the stream that is read: how late a checkpoint can be. Bytes.
const CHUNK_BYTES_MAX: u64 = 1 << 20;
/// How long the upload, and how long the report may go without a word. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// Row `number`, counted from 1.
fn row(number: u64) -> String {
    let city = CITIES[usize::try_from(number % 4).expect("below 4")];
    // Digits of a number that begins with zeros are a text: the column `number` begins at ten million.
    let number_text = 10_000_000 + number;
    let amount = number % AMOUNTS;
    let row = format!("{number_text},{city},{amount},");
    // The note fills the row up.
    let width = usize::try_from(ROW_BYTES).expect("small") - 1;
    format!("{row:x<width$}\n")
}

/// The file, made while it is read.
struct Table {
    next: u64,
    buffer: Vec<u8>,
    sent: usize,
}

impl Table {
    fn new() -> Self {
        Self {
            next: 1,
            buffer: HEADER.to_vec(),
            sent: 0,
        }
    }
}

impl Read for Table {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.sent == self.buffer.len() {
            self.buffer.clear();
            self.sent = 0;
            let end = (self.next + 2000).min(ROWS + 1);
            for number in self.next..end {
                self.buffer.extend_from_slice(row(number).as_bytes());
            }
            self.next = end;
        }
        let count = into.len().min(self.buffer.len() - self.sent);
        into[..count].copy_from_slice(&self.buffer[self.sent..self.sent + count]);
        self.sent += count;
        Ok(count)
    }
}

#[test]
fn the_table_is_as_large_as_it_says() {
    for number in [1, 9, 999, 1000, ROWS] {
        assert_eq!(row(number).len() as u64, ROW_BYTES, "{}", row(number));
    }
    assert!(row(1).starts_with("10000001,Bergen,1,x"), "{}", row(1));
}

/// How many rows the attempt had read when it reported this progress: `… of 205.0 MB, 1234 rows`.
fn rows_read(progress: &Value) -> u64 {
    progress["message"]
        .as_str()
        .and_then(|text| text.strip_suffix(" rows")?.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no rows in {progress}"))
}

/// The next progress that `request` brings, or the end.
fn next(socket: &mut Socket, request: &str) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        match socket.next_within(until.saturating_duration_since(Instant::now())) {
            Incoming::Frame(frame) if frame["request_id"] == request && frame["type"] != "acknowledgment" => {
                return frame;
            }
            Incoming::Frame(_) => {}
            other => panic!("the report is silent: {other:?}"),
        }
    }
}

#[test]
fn a_report_on_200_mb_goes_on_from_its_last_checkpoint_when_the_server_is_killed() {
    if std::env::var_os("TIDEGATE_SLOW").is_none_or(|value| value != "1") {
        println!("skipped: it moves 200 MB through the server; TIDEGATE_SLOW=1 runs it");
        return;
    }
    let begin = Instant::now();
    let tenant = Tenant::new(Arc::new(Server::start()));
    tenant.compose(None);
    let path = "/v1/objects/large.csv";
    let stored = tenant
        .client("alice")
        .put_stream(path, "text/csv", BYTES, Table::new(), PATIENCE);
    assert!(matches!(stored.status, 200 | 201), "{}", stored.text());
    println!("{} MB stored after {:?}", BYTES / 1_000_000, begin.elapsed());

    let mut socket = tenant.socket("alice");
    let frame = json!({ "action": "report.summarize", "payload": { "object": "large.csv" } });
    let (request, job) = socket.enqueue(frame);
    let read_before = loop {
        let progress = next(&mut socket, &request);
        assert_eq!(progress["type"], "progress", "it ended before half of it was read");
        assert_eq!(progress["attempt"], 1, "{progress}");
        if progress["percentage"]
            .as_f64()
            .is_some_and(|percentage| percentage >= 50.0)
        {
            break rows_read(&progress);
        }
    };
    tenant.server.kill();
    println!("killed after {:?}, {read_before} of {ROWS} rows read", begin.elapsed());
    let after = socket.seq(&request);
    drop(socket);
    tenant.server.start_again();

    let (end, resumed_at) = follow_to_the_end(&tenant, &job, after, read_before);
    assert_eq!(end["type"], "complete", "{end}");
    assert_eq!(tenant.observer.ends(&job), 1, "exactly one terminal event");
    assert_result(&tenant, &job, &end);
    println!(
        "went on at row {resumed_at}; {ROWS} rows, {BYTES} bytes reported after {:?}",
        begin.elapsed()
    );
}

/// Attaches to `job` after the event `after`, and checks that its work goes on behind the last checkpoint before the
/// row `read_before`. Gives the end, and the row at which the work went on.
///
/// Where the last checkpoint lies is known from outside: an attempt reads on only when the checkpoint that is due is
/// stored, so that at row `r` there is one for every [`CHECKPOINT_BYTES`] before it, each late by one chunk at most.
/// The percentage alone would not show a beginning from zero, because the queue never lets it fall within an attempt;
/// the rows, which the message tells, come from the profile itself, whose checkpoint holds them.
fn follow_to_the_end(tenant: &Tenant, job: &str, after: Option<u64>, read_before: u64) -> (Value, u64) {
    let checkpoints = read_before * ROW_BYTES / (CHECKPOINT_BYTES + CHUNK_BYTES_MAX);
    assert!(checkpoints >= 1, "killed before the first checkpoint");
    let place = checkpoints * CHECKPOINT_BYTES;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let percentage_min = place as f64 * 100.0 / BYTES as f64;
    let rows_min = place / ROW_BYTES - 1;

    let mut socket = tenant.socket("alice");
    let request = socket.attach(job, after);
    let mut follower = Follower::new(socket, "alice", request, job.to_owned());
    let mut resumed_at = None;
    loop {
        let event = next(&mut follower.socket, &follower.request);
        if event["type"] != "progress" {
            let resumed_at = resumed_at.expect("there is progress after the restart");
            return (event, resumed_at);
        }
        assert_eq!(event["attempt"], 1, "a lost lease is no failed attempt: {event}");
        let percentage = event["percentage"].as_f64().unwrap_or_default();
        assert!(
            percentage >= percentage_min,
            "{event} falls below the last checkpoint, at {percentage_min} %"
        );
        let rows = rows_read(&event);
        assert!(
            rows >= rows_min,
            "{event} goes on before the last checkpoint, at row {rows_min}"
        );
        resumed_at.get_or_insert(rows);
    }
}

/// The figures that are known of the table, in what the job gives and in what it wrote.
fn assert_result(tenant: &Tenant, job: &str, end: &Value) {
    let result = &end["result"];
    assert_eq!(result["rows"], ROWS, "{result}");
    assert_eq!(result["bytes"], BYTES, "{result}");
    assert_eq!(result["broken_rows"], 0, "{result}");
    let client = tenant.client("alice");
    let events = client
        .send(
            "GET",
            &format!("/v1/jobs/{job}/events"),
            &[("accept", "application/json")],
            &[],
        )
        .json(200);
    let events = events["events"].as_array().expect("a list of events");
    let ends = events
        .iter()
        .filter(|event| event["type"] == "complete" || event["type"] == "error");
    assert_eq!(ends.count(), 1, "{events:#?}");

    let object = |kind: &str| {
        let key = result["report"][kind]
            .as_str()
            .unwrap_or_else(|| panic!("no {kind} in {result}"));
        client.get(&format!("/v1/objects/{key}"))
    };
    let summary = object("json").json(200);
    assert_eq!((&summary["rows"], &summary["bytes"]), (&json!(ROWS), &json!(BYTES)));
    let rounds = ROWS / AMOUNTS;
    let sums = [
        ("number", "integer", ROWS * 10_000_000 + ROWS * (ROWS + 1) / 2),
        ("amount", "integer", rounds * (AMOUNTS * (AMOUNTS - 1) / 2)),
    ];
    let columns = summary["columns"].as_array().expect("a list of columns");
    let column = |name: &str| {
        let found = columns.iter().find(|column| column["name"] == name);
        found.unwrap_or_else(|| panic!("no column {name}: {summary}"))
    };
    for (name, kind, sum) in sums {
        let column = column(name);
        assert_eq!(column["type"], kind, "{column}");
        assert_eq!(
            (&column["count"], &column["nulls"]),
            (&json!(ROWS), &json!(0)),
            "{column}"
        );
        assert_eq!(sum_of(column), sum, "the sum of {name}: {column}");
    }
    let ends_of = |name: &str| [&column(name)["numbers"]["min"], &column(name)["numbers"]["max"]].map(Value::as_f64);
    assert_eq!(ends_of("amount"), [Some(0.0), Some(999.0)]);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let last = (10_000_000 + ROWS) as f64;
    assert_eq!(ends_of("number"), [Some(10_000_001.0), Some(last)]);
    let city = column("city");
    let top = city["top"].as_array().expect("the most frequent values");
    assert_eq!(top.len(), CITIES.len(), "{city}");
    assert!(top.iter().all(|value| value["count"] == ROWS / 4), "{city}");

    let page = object("html");
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    let html = String::from_utf8(page.body).expect("the page is UTF-8");
    assert!(html.to_lowercase().starts_with("<!doctype html"), "{}", &html[..100]);
    assert!(
        CITIES.iter().all(|city| html.contains(city)),
        "the cities are on the page"
    );
}

/// The sum of a column of whole numbers: the report has their mean and their count, and their product is rounded.
///
/// It is exact here: the running mean of `number` is a whole or a half at every row, which a double holds, and that of
/// `amount` is so small that the rounding of all rows together stays far below a half of the sum's last digit.
fn sum_of(column: &Value) -> u64 {
    let mean = column["numbers"]["mean"].as_f64().expect("a mean");
    let count = column["numbers"]["count"].as_f64().expect("a count");
    let sum = (mean * count).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a sum far below 2^53"
    )]
    let sum = sum as u64;
    sum
}
