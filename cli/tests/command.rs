//! The command against a server in the same process: what it prints, and with which code it ends.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

#[path = "../../sdk/rust/tests/fake/mod.rs"]
mod fake;

use std::path::Path;
use std::process::Stdio;

use fake::{Fake, Received, Reply, Socket, within};
use serde_json::{Value, json};
use tidegate_protocol::chain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn command(folder: &Path, url: Option<&str>, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_remove("TIDEGATE_URL").env_remove("TIDEGATE_TOKEN");
    if let Some(url) = url {
        command.env("TIDEGATE_URL", url).env("TIDEGATE_TOKEN", "token-1");
    }
    command
        .args(arguments)
        .current_dir(folder)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

async fn end(child: Child) -> Ended {
    let output = within(child.wait_with_output()).await.unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn run(fake: &Fake, arguments: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    end(command(folder.path(), Some(&fake.url), arguments).spawn().unwrap()).await
}

fn start(fake: &Fake, arguments: &[&str]) -> Child {
    command(&std::env::temp_dir(), Some(&fake.url), arguments)
        .spawn()
        .unwrap()
}

/// Answers the request on `socket` with an acknowledgment, and returns the request's id.
async fn acknowledge(socket: &mut Socket) -> Value {
    let request = socket.frame().await;
    socket
        .send(json!({"type":"acknowledgment","request_id":request["id"],"job_id":"job_1","status":"queued","seq":0}))
        .await;
    request["id"].clone()
}

fn progress(id: &Value, seq: u64, percentage: f64) -> Value {
    json!({"type":"progress","request_id":id,"job_id":"job_1","seq":seq,"attempt":1,"percentage":percentage,"message":"reading"})
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn each_error_of_the_server_has_its_exit_code() {
    for (status, code, exit) in [
        (422, "VALIDATION_ERROR", 2),
        (422, "IDEMPOTENCY_MISMATCH", 2),
        (413, "PAYLOAD_TOO_LARGE", 2),
        (401, "UNAUTHORIZED", 3),
        (403, "FORBIDDEN", 3),
        (404, "INVALID_ACTION", 4),
        (410, "GONE", 4),
        (409, "CANCELLED", 5),
        (504, "TIMEOUT", 6),
        (503, "UNAVAILABLE", 6),
        (429, "RATE_LIMITED", 7),
        (500, "PROCESSING_FAILED", 1),
        (418, "SOMETHING_NEW", 1),
    ] {
        let fake = Fake::start(move |_| Some(Reply::problem(status, code))).await;
        let ended = run(&fake, &["call", "a"]).await;
        assert_eq!(ended.code, exit, "{code}: {}", ended.stderr);
        assert!(ended.stderr.contains(&format!("({code})")), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}

#[tokio::test]
async fn a_call_sends_its_payload_and_prints_the_answer() {
    let fake = Fake::start(|request| {
        let sent = request.json();
        Some(Reply::json(200, &json!({"request_id":"r","data":sent["payload"]})))
    })
    .await;
    let ended = run(
        &fake,
        &["call", "core.echo", "--payload", r#"{"b":1,"a":[2]}"#, "--key", "k1"],
    )
    .await;
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "{\n  \"a\": [\n    2\n  ],\n  \"b\": 1\n}\n")
    );
    let request = fake.received().pop().unwrap();
    assert_eq!(request.header("authorization"), Some("Bearer token-1"));
    assert_eq!(request.json()["idempotency_key"], "k1");

    let mut child = command(
        &std::env::temp_dir(),
        Some(&fake.url),
        &["call", "a", "--payload", "-", "--json"],
    )
    .stdin(Stdio::piped())
    .spawn()
    .unwrap();
    child.stdin.take().unwrap().write_all(b"[7]").await.unwrap();
    let ended = end(child).await;
    assert_eq!(lines(&ended.stdout), [json!({"type":"response","data":[7]})]);
}

#[tokio::test]
async fn a_large_answer_is_told_with_the_way_to_its_result() {
    let fake = Fake::start(|_| {
        let answer = json!({"request_id":"r","data":null,"job_id":"job_1","result_url":"/v1/jobs/job_1/result"});
        Some(Reply::json(200, &answer))
    })
    .await;
    let ended = run(&fake, &["call", "a"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
    assert!(ended.stderr.contains("tidegate job result job_1"), "{}", ended.stderr);
}

#[tokio::test]
async fn an_asynchronous_call_prints_the_job_and_how_to_follow_it() {
    let fake = Fake::start(|request| {
        assert_eq!(request.header("prefer"), Some("respond-async"));
        assert_eq!(request.json()["mode"], "async");
        Some(Reply::json(
            202,
            &json!({"request_id":"r","job_id":"job_1","status":"queued","seq":0}),
        ))
    })
    .await;
    let ended = run(&fake, &["call", "a", "--async"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "job_1\n"));
    assert!(ended.stderr.contains("tidegate job follow job_1"), "{}", ended.stderr);
}

#[tokio::test]
async fn every_fault_of_a_request_is_listed_where_it_is() {
    let fake = Fake::start(|_| {
        let faults = json!([
            {"pointer":"/payload/object","expected":"an object's name","got":"7"},
            {"pointer":"/mode","expected":"a mode","got":"asinc","suggestion":"async"}
        ]);
        Some(Reply::json(
            422,
            &json!({"code":"VALIDATION_ERROR","detail":"Two faults.","details":faults}),
        ))
    })
    .await;
    let ended = run(&fake, &["call", "a"]).await;
    assert_eq!(ended.code, 2);
    for part in [
        "Two faults.",
        "at /payload/object",
        "expected an object's name",
        "got      7",
        "meant    async?",
    ] {
        assert!(ended.stderr.contains(part), "{part} in {}", ended.stderr);
    }
    let ended = run(&fake, &["call", "a", "--json"]).await;
    let error = &lines(&ended.stdout)[0];
    assert_eq!((&error["type"], &error["exit"]), (&json!("error"), &json!(2)));
    assert_eq!(error["error"]["details"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_followed_call_shows_progress_and_the_result_and_where_its_report_is() {
    let mut fake = Fake::start(|_| None).await;
    let child = start(
        &fake,
        &[
            "call",
            "report.summarize",
            "--payload",
            r#"{"object":"zips.csv"}"#,
            "--follow",
        ],
    );
    let mut socket = fake.welcomed().await;
    let id = acknowledge(&mut socket).await;
    socket.send(progress(&id, 1, 12.5)).await;
    let result = json!({"rows":3,"report":{"html":"reports/job_1/report.html"}});
    socket
        .send(json!({"type":"complete","request_id":id,"job_id":"job_1","seq":2,"attempt":1,"result":result}))
        .await;
    let ended = end(child).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(serde_json::from_str::<Value>(&ended.stdout).unwrap(), result);
    for part in [
        "acknowledged: job_1",
        " 12.5 % reading",
        "tidegate get reports/job_1/report.html report.html",
    ] {
        assert!(ended.stderr.contains(part), "{part} in {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_followed_call_survives_a_cut_says_so_and_repeats_nothing() {
    let mut fake = Fake::start(|_| None).await;
    let child = start(&fake, &["call", "a", "--follow", "--json"]);
    let mut socket = fake.welcomed().await;
    let id = acknowledge(&mut socket).await;
    socket.send(progress(&id, 1, 10.0)).await;
    socket.close(1012, "restart").await;
    let mut socket = fake.welcomed().await;
    let attach = socket.frame().await;
    assert_eq!((&attach["type"], &attach["after"]), (&json!("attach"), &json!(1)));
    let id = attach["id"].clone();
    for frame in [
        json!({"type":"snapshot","request_id":id,"job_id":"job_1","seq":1,"status":"running","percentage":10.0,"gap":false}),
        progress(&id, 1, 10.0),
        progress(&id, 2, 20.0),
        json!({"type":"complete","request_id":id,"job_id":"job_1","seq":3,"attempt":1,"result":[1]}),
    ] {
        socket.send(frame).await;
    }
    let ended = end(child).await;
    assert_eq!(ended.code, 0);
    let kinds: Vec<String> = lines(&ended.stdout)
        .iter()
        .map(|line| format!("{} {}", line["type"].as_str().unwrap(), line["seq"]))
        .collect();
    assert_eq!(
        kinds,
        [
            "acknowledgment 0",
            "progress 1",
            "reconnecting null",
            "reconnected null",
            "progress 2",
            "complete 3"
        ]
    );
}

#[tokio::test]
async fn who_follows_a_job_and_misses_nothing_is_shown_once_where_it_stands() {
    let mut fake = Fake::start(|_| None).await;
    let child = start(&fake, &["job", "follow", "job_1", "--after", "4"]);
    let snapshot = |id: &Value| {
        json!({"type":"snapshot","request_id":id,"job_id":"job_1","seq":4,"status":"running",
            "percentage":40.0,"message":"reading","gap":false})
    };
    let mut socket = fake.welcomed().await;
    let attach = socket.frame().await;
    assert_eq!(attach["after"], 4);
    socket.send(snapshot(&attach["id"])).await;
    socket.close(1012, "restart").await;
    let mut socket = fake.welcomed().await;
    let attach = socket.frame().await;
    assert_eq!(attach["after"], 4);
    socket.send(snapshot(&attach["id"])).await;
    socket
        .send(json!({"type":"complete","request_id":attach["id"],"job_id":"job_1","seq":5,"attempt":1,"result":1}))
        .await;
    let ended = end(child).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("reading").count(), 1, "{}", ended.stderr);
}

#[tokio::test]
async fn outcomes_of_a_followed_job_are_told_apart() {
    for (code, exit) in [
        ("PROCESSING_FAILED", 1),
        ("CANCELLED", 5),
        ("EXPIRED", 6),
        ("TIMEOUT", 6),
    ] {
        let mut fake = Fake::start(|_| None).await;
        let child = start(&fake, &["job", "follow", "job_1"]);
        let mut socket = fake.welcomed().await;
        let attach = socket.frame().await;
        assert_eq!(attach["job_id"], "job_1");
        socket
            .send(
                json!({"type":"error","request_id":attach["id"],"job_id":"job_1","seq":4,
                "error":{"code":code,"message":"It ended so.","retryable":false}}),
            )
            .await;
        let ended = end(child).await;
        assert_eq!(ended.code, exit, "{code}");
        assert!(ended.stderr.contains("It ended so."), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_job_that_does_not_end_in_time_is_told_with_the_way_back() {
    let mut fake = Fake::start(|_| None).await;
    let child = start(&fake, &["call", "a", "--timeout", "300ms"]);
    let mut socket = fake.welcomed().await;
    acknowledge(&mut socket).await;
    let ended = end(child).await;
    assert_eq!(ended.code, 6);
    assert!(
        ended.stderr.contains("tidegate job follow job_1 --after 0"),
        "{}",
        ended.stderr
    );
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_detaches_and_says_how_to_follow_again() {
    let mut fake = Fake::start(|_| None).await;
    let child = start(&fake, &["job", "follow", "job_1", "--json"]);
    let mut socket = fake.welcomed().await;
    let attach = socket.frame().await;
    socket.send(progress(&attach["id"], 7, 1.0)).await;
    let pid = child.id().unwrap().to_string();
    // Only once the line is out is it sure that the command listens for the signal.
    let mut child = child;
    let mut stdout = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    within(tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut line))
        .await
        .unwrap();
    let sent = Command::new("kill").args(["-INT", &pid]).status();
    assert!(within(sent).await.unwrap().success());
    let mut rest = String::new();
    within(tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut rest))
        .await
        .unwrap();
    let status = within(child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(130));
    let last = lines(&rest).pop().unwrap();
    assert_eq!(last, json!({"type":"detached","job_id":"job_1","seq":7}));
}

#[tokio::test]
async fn a_bad_token_is_told_on_the_socket_too() {
    let fake = Fake::start(|_| Some(Reply::problem(401, "UNAUTHORIZED"))).await;
    let ended = run(&fake, &["call", "a", "--follow"]).await;
    assert_eq!(ended.code, 3);
    assert!(ended.stderr.contains("help: Give a good token"), "{}", ended.stderr);
}

#[tokio::test]
async fn without_a_token_nothing_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let ended = end(command(folder.path(), None, &["job", "list"]).spawn().unwrap()).await;
    assert_eq!(ended.code, 3);
    assert!(ended.stderr.contains("TIDEGATE_TOKEN"), "{}", ended.stderr);
}

#[tokio::test]
async fn address_and_token_are_found_in_a_folder_above() {
    let fake = Fake::start(|_| Some(Reply::json(200, &json!({"jobs":[]})))).await;
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    std::fs::create_dir(folder.path().join(".tidegate")).unwrap();
    let kept = json!({"url": fake.url, "token": "kept", "other": 1}).to_string();
    std::fs::write(folder.path().join(".tidegate/cli.json"), kept).unwrap();
    let ended = end(command(&below, None, &["job", "list"]).spawn().unwrap()).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(fake.received()[0].header("authorization"), Some("Bearer kept"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_exit_6_with_a_remedy() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let folder = tempfile::tempdir().unwrap();
    let ended = end(command(folder.path(), Some(&url), &["job", "list"]).spawn().unwrap()).await;
    assert_eq!(ended.code, 6);
    assert!(ended.stderr.contains("cargo xtask dev"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_wrong_command_line_or_payload_is_exit_2_and_asks_nothing() {
    let fake = Fake::start(|_| None).await;
    for arguments in [
        &["call"][..],
        &["call", "a", "--payload", "{nonsense"],
        &["call", "a", "--payload", "@no-such-file"],
        &["call", "a", "--timeout", "soon"],
        &["job", "show", "a/b"],
        &["job", "list", "--status", "faild"],
        &["put", "a", "no-such-file"],
        &["nonsense"],
    ] {
        let ended = run(&fake, arguments).await;
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.stderr);
        assert!(!ended.stderr.is_empty());
    }
    assert!(fake.received().is_empty());
}

fn objects(request: &Received) -> Option<Reply> {
    match (request.method.as_str(), request.path.as_str()) {
        ("PUT", "/v1/objects/zips.csv") => {
            let size = request.body.len();
            Some(Reply::json(200, &json!({"key":"zips.csv","size":size,"etag":"\"e\""})))
        }
        ("GET", "/v1/objects/zips.csv") => Some(Reply::bytes("text/csv", "a,b\n1,2\n")),
        _ => None,
    }
}

#[tokio::test]
async fn objects_are_put_and_got_and_an_absent_one_leaves_no_file() {
    let fake = Fake::start(objects).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.csv"), "a,b\n1,2\n").unwrap();
    let tidegate = |arguments: &[&str]| command(folder.path(), Some(&fake.url), arguments).spawn().unwrap();
    let ended = end(tidegate(&["put", "zips.csv", "in.csv"])).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let sent = fake.received().pop().unwrap();
    assert_eq!(sent.body, b"a,b\n1,2\n");
    assert_eq!(
        (sent.header("content-length"), sent.header("content-type")),
        (Some("8"), Some("text/csv"))
    );

    let ended = end(tidegate(&["get", "zips.csv"])).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "a,b\n1,2\n"));
    let ended = end(tidegate(&["get", "zips.csv", "out.csv"])).await;
    assert_eq!(ended.code, 0);
    assert_eq!(std::fs::read(folder.path().join("out.csv")).unwrap(), b"a,b\n1,2\n");
    assert!(!folder.path().join("out.csv.part").exists());

    let ended = end(tidegate(&["get", "absent", "absent.csv"])).await;
    assert_eq!(ended.code, 4);
    assert!(!folder.path().join("absent.csv").exists());
}

#[tokio::test]
async fn jobs_are_shown_listed_cancelled_and_read() {
    let fake = Fake::start(|request| {
        let job = |status: &str| {
            json!({"job_id":"job_1","action":"a.b","user":"ada","status":status,"attempt":1,"seq":3,
                "progress":{"percentage":50,"message":"half"},"metadata":{"k":"v"},"created_at":"2026-11-21T07:00:00.000Z",
                "started_at":"2026-11-21T07:00:01.000Z"})
        };
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v1/jobs/job_1") => Some(Reply::json(200, &job("running"))),
            ("GET", "/v1/jobs/job_1?wait=30") => Some(Reply::json(200, &job("cancelled"))),
            ("GET", "/v1/jobs?status=running&limit=1") => {
                Some(Reply::json(200, &json!({"jobs":[job("running")],"cursor":"next"})))
            }
            ("POST", "/v1/jobs/job_1:cancel") => Some(Reply::json(202, &json!({}))),
            ("GET", "/v1/jobs/job_1/result") => Some(Reply::bytes("application/json", "{\"a\":1}")),
            _ => None,
        }
    })
    .await;
    let ended = run(&fake, &["job", "show", "job_1"]).await;
    assert_eq!(ended.code, 0);
    assert!(ended.stdout.contains("progress  50.0 % half"), "{}", ended.stdout);
    let started = "started   2026-11-21T07:00:01.000Z";
    assert!(ended.stdout.contains(started), "{}", ended.stdout);
    assert_eq!(run(&fake, &["job", "show", "job_1", "--wait", "30s"]).await.code, 5);
    let ended = run(&fake, &["job", "list", "--status", "running", "--limit", "1"]).await;
    assert!(
        ended.stdout.contains("a.b") && ended.stderr.contains("--cursor next"),
        "{}",
        ended.stdout
    );
    assert_eq!(run(&fake, &["job", "cancel", "job_1"]).await.code, 0);
    assert_eq!(run(&fake, &["job", "result", "job_1"]).await.stdout, "{\"a\":1}");
    assert_eq!(run(&fake, &["job", "show", "job_2"]).await.code, 4);
}

#[tokio::test]
async fn schedules_are_listed_steered_and_backfilled_to_their_end() {
    const JOB: &str = "job_07fjctayr00yef567";
    let fake = Fake::start(|request| {
        let schedule = |paused: bool| {
            let next = if paused {
                json!([])
            } else {
                json!(["2026-11-22T02:00:00.000Z"])
            };
            json!({"name":"nightly","cron":"0 3 * * *","time_zone":"Europe/Berlin","action":"a.b","user":"ada",
                "overlap":"skip","catch_up_ms":60000,"jitter_ms":0,"paused":paused,"next":next,"last_job":JOB,"fired":3,
                "skipped":0,"missed":2,"something_new":1})
        };
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v1/schedules") => Some(Reply::json(200, &json!({"schedules":[schedule(false)]}))),
            ("POST", "/v1/schedules/nightly:pause") => Some(Reply::json(200, &schedule(true))),
            ("POST", "/v1/schedules/nightly:resume") => Some(Reply::json(200, &schedule(false))),
            ("POST", "/v1/schedules/nightly:trigger") => {
                let named = request.header("idempotency-key").is_some();
                named.then(|| Reply::json(202, &json!({"job_id":JOB,"deduplicated":false})))
            }
            ("POST", "/v1/schedules/nightly:backfill") => {
                let rest = json!({"fired":100,"known":0,"rest_from":"2026-11-21T12:00:00.000Z"});
                let first = request.json()["from"] == "2026-11-21T00:00:00.000Z";
                Some(Reply::json(
                    202,
                    &if first { rest } else { json!({"fired":1,"known":2}) },
                ))
            }
            _ => None,
        }
    })
    .await;
    let ended = run(&fake, &["schedules", "list"]).await;
    let line =
        format!("nightly  0 3 * * * (Europe/Berlin)  a.b  next 2026-11-22T02:00:00.000Z  last {JOB}  missed 2\n");
    assert_eq!((ended.code, ended.stdout), (0, line));
    let ended = run(&fake, &["schedules", "pause", "nightly"]).await;
    assert!(ended.stdout.contains("paused"), "{}", ended.stdout);
    assert_eq!(run(&fake, &["schedules", "resume", "nightly"]).await.code, 0);
    assert_eq!(
        run(&fake, &["schedules", "trigger", "nightly"]).await.stdout,
        format!("{JOB}\n")
    );
    let part = ["--from", "2026-11-21T00:00:00Z", "--to", "2026-11-22T00:00:00Z"];
    let ended = run(&fake, &[&["schedules", "backfill", "nightly"][..], &part].concat()).await;
    assert_eq!(ended.stdout, "101 fired, 2 had a job already\n");
    assert_eq!(run(&fake, &["schedules", "pause", "other"]).await.code, 4);
    assert_eq!(run(&fake, &["schedules", "pause", "no/name"]).await.code, 2);
    let asked = fake.received().len();
    assert_eq!(
        run(
            &fake,
            &["schedules", "backfill", "nightly", "--from", "today", "--to", "now"]
        )
        .await
        .code,
        2
    );
    assert_eq!(fake.received().len(), asked);
}

#[tokio::test]
async fn a_composition_is_applied_and_shown() {
    let fake = Fake::start(|request| match request.method.as_str() {
        "PUT" => Some(Reply::json(200, &json!({"revision":"rev-1"}))),
        _ => Some(Reply::json(200, &json!({"actions":{}}))),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.json"), r#"{"actions":{}}"#).unwrap();
    let tidegate = |arguments: &[&str]| command(folder.path(), Some(&fake.url), arguments).spawn().unwrap();
    let ended = end(tidegate(&["composition", "apply", "c.json"])).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "Active: revision rev-1\n"));
    assert_eq!(fake.received()[0].path, "/v1/admin/composition");
    let ended = end(tidegate(&["composition", "show"])).await;
    assert_eq!(ended.stdout, "{\n  \"actions\": {}\n}\n");
}

#[tokio::test]
async fn a_token_is_minted_from_the_development_key_of_a_folder_above() {
    let folder = tempfile::tempdir().unwrap();
    let vars = r#"TIDEGATE_DEPLOYMENT_KEY='x'
TIDEGATE_ISSUERS='[{"issuer":"https://i.invalid","audience":"t","tenant_claim":"tid","keys":{"keys":[{"kty":"oct","kid":"dev","alg":"HS256","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}}]'
"#;
    std::fs::write(folder.path().join(".dev.vars"), vars).unwrap();
    let below = folder.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let ended = end(command(&below, None, &["token"]).spawn().unwrap()).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(ended.stdout.trim().split('.').count(), 3);
    let empty = tempfile::tempdir().unwrap();
    let ended = end(command(empty.path(), None, &["token"]).spawn().unwrap()).await;
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("--key-file"), "{}", ended.stderr);
}

#[tokio::test]
async fn help_lists_the_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let ended = end(command(folder.path(), None, &["--help"]).spawn().unwrap()).await;
    assert_eq!(ended.code, 0);
    assert!(ended.stdout.contains("Exit codes:") && ended.stdout.contains(".tidegate/cli.json"));
}

#[tokio::test]
async fn a_retry_prints_the_job_that_is_tried_now() {
    let fake = Fake::start(|request| {
        let sent = request.json();
        let next = if sent["payload"].is_null() { "job_1" } else { "job_2" };
        Some(Reply::json(202, &json!({"job_id":next,"action":"a","status":"queued"})))
    })
    .await;
    let ended = run(&fake, &["job", "retry", "job_1"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "job_1\n"));
    assert!(ended.stderr.contains("due now"), "{}", ended.stderr);
    let ended = run(&fake, &["job", "retry", "job_1", "--payload", "[1]"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "job_2\n"));
    let sent = fake.received();
    assert!(sent.iter().all(|request| request.path == "/v1/jobs/job_1:retry"));
    assert_eq!(sent[1].json(), json!({"payload":[1]}));
}

#[tokio::test]
async fn dead_letters_are_redriven_until_nothing_is_left() {
    let fake = Fake::start(|request| {
        let sent = request.json();
        let answer = if sent["cursor"] == "c" {
            json!({"jobs":[{"job_id":"job_2","error":{"code":"CONFLICT","message":"no","retryable":false}}]})
        } else {
            json!({"jobs":[{"job_id":"job_1","redriven_to":"job_9"}],"cursor":"c"})
        };
        Some(Reply::json(200, &answer))
    })
    .await;
    let ended = run(
        &fake,
        &[
            "dead-letters",
            "redrive",
            "--all",
            "--code",
            "TIMEOUT",
            "--rate",
            "5",
            "--metadata",
            "k=v",
        ],
    )
    .await;
    assert_eq!(
        ended.code, 1,
        "the exit code tells of the one that was refused: {}",
        ended.stderr
    );
    assert!(
        ended.stdout.contains("job_1  redriven as job_9\njob_2  "),
        "{}",
        ended.stdout
    );
    let sent = fake.received();
    assert_eq!(
        sent[0].json(),
        json!({"filter":{"code":"TIMEOUT","metadata":{"k":"v"}},"dry_run":false,"rate_per_second":5})
    );
    assert_eq!((sent.len(), sent[1].json()["cursor"].clone()), (2, json!("c")));
    let ended = run(&fake, &["dead-letters", "discard"]).await;
    assert_eq!(
        (ended.code, fake.received().len()),
        (2, 2),
        "nothing is sent without ids or --all"
    );
}

#[tokio::test]
async fn dead_letters_are_listed_with_the_reason() {
    let fake = Fake::start(|_| {
        let letter = json!({"job_id":"job_1","action":"a","user":"u","attempts":3,
            "error":{"code":"UPSTREAM_ERROR","message":"the bank is closed","retryable":false}});
        Some(Reply::json(200, &json!({"dead_letters":[letter],"cursor":"7"})))
    })
    .await;
    let ended = run(&fake, &["dead-letters", "list", "--limit", "1"]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stdout.contains("job_1") && ended.stdout.contains("the bank is closed"),
        "{}",
        ended.stdout
    );
    assert!(ended.stderr.contains("--cursor 7"), "{}", ended.stderr);
    assert_eq!(fake.received()[0].path, "/v1/dead-letters?limit=1");
}

#[tokio::test]
async fn a_batch_prints_a_line_for_each_request() {
    let fake = Fake::start(|request| {
        assert!(request.json()[0]["idempotency_key"].is_string());
        let problem = json!({"code":"INVALID_ACTION","detail":"no such action","status":404,"retryable":false});
        Some(Reply::json(
            200,
            &json!({"results":[
                {"index":0,"status":202,"accepted":{"job_id":"job_1","status":"queued"}},
                {"index":1,"status":404,"problem":problem},
            ]}),
        ))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("all.ndjson"),
        "{\"action\":\"a\"}\n{\"action\":\"b\"}\n",
    )
    .unwrap();
    let arguments = ["call", "--batch", "all.ndjson"];
    let ended = end(command(folder.path(), Some(&fake.url), &arguments).spawn().unwrap()).await;
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    assert!(ended.stdout.starts_with("0  job_1  queued\n1  "), "{}", ended.stdout);
    assert!(ended.stdout.contains("no such action"), "{}", ended.stdout);
}

#[tokio::test]
async fn a_job_says_in_a_line_each_what_it_waits_for() {
    const AT: &str = "2026-11-22T02:00:00.000Z";
    let fake = Fake::start(|request| {
        let pause = |scope: Value| json!({"kind":"paused","about":{"scope":scope,"by":"op","since":AT}});
        let (status, waits_for) = match request.path.as_str() {
            "/v1/jobs/job_1/why" => (
                "queued",
                json!([
                    {"kind":"delayed","about":{"until":AT}},
                    {"kind":"retrying","about":{"until":AT}},
                    {"kind":"doorbell","about":{"until":AT}},
                    pause(json!("tenant")),
                    pause(json!({"action":"mail.*"})),
                    pause(json!({"key":"ann"})),
                    {"kind":"limit","about":{"limit":"one","key":"c7","max":1,"held_by":["job_8"]}},
                    {"kind":"limit","about":{"limit":"all","key":"","max":5,"held_by":[]}},
                    {"kind":"throttled","about":{"limit":"bank","key":"","until":AT}},
                    {"kind":"places","about":{"running":128}},
                    {"kind":"behind","about":{"ahead":2}},
                    {"kind":"moon","about":{"phase":"\u{7}new"}},
                ]),
            ),
            "/v1/jobs/job_2/why" => ("running", json!([])),
            _ => return None,
        };
        Some(Reply::json(
            200,
            &json!({"job_id":"job_1","status":status,"waits_for":waits_for}),
        ))
    })
    .await;
    let ended = run(&fake, &["job", "why", "job_1"]).await;
    let expected = format!(
        "It may not start before {AT}.\n\
         An attempt failed; the next may not start before {AT}.\n\
         Its doorbell has not rung; without it, it may start at {AT}.\n\
         All jobs are paused, by op since {AT}.\n\
         The actions mail.* are paused, by op since {AT}.\n\
         The share of ann is paused, by op since {AT}.\n\
         The limit one for c7 is full: 1 at once, held by job_8.\n\
         The limit all is full: 5 at once.\n\
         The throttle bank has room again at {AT}.\n\
         Every place of the queue is taken: 128 jobs run.\n\
         2 jobs like it come first.\n\
         It waits for something that this command does not know: moon {{\"phase\":\"\\u0007new\"}}.\n"
    );
    assert_eq!((ended.code, ended.stdout), (0, expected));
    let ended = run(&fake, &["job", "why", "job_2"]).await;
    assert_eq!(ended.stdout, "It waits for nothing: its status is running.\n");
    let ended = run(&fake, &["job", "why", "job_1", "--json"]).await;
    let why = &lines(&ended.stdout)[0];
    assert_eq!(
        (&why["type"], &why["waits_for"][10]["about"]["ahead"]),
        (&json!("why"), &json!(2))
    );
    assert_eq!(run(&fake, &["job", "why", "job_3"]).await.code, 4);
}

#[tokio::test]
async fn the_queue_is_shown_and_held_back_by_exactly_one_scope() {
    let fake = Fake::start(|request| {
        let scope = match serde_json::from_slice(&request.body).unwrap_or(Value::Null) {
            Value::Null => {
                return Some(Reply::json(
                    200,
                    &json!({"running":3,"waiting":0,"actions":[],"pauses":[]}),
                ));
            }
            body if body["tenant"] == true => json!("tenant"),
            body => body,
        };
        let pauses = json!([{"scope":scope,"by":"op","since":"2026-11-22T02:00:00.000Z"}]);
        let actions = json!([{"action":"mail.send","waiting":7}]);
        Some(Reply::json(
            200,
            &json!({"running":128,"waiting":7,"actions":actions,"pauses":pauses}),
        ))
    })
    .await;
    let ended = run(&fake, &["queue", "show"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "3 running, 0 waiting\n"));
    for (arguments, scope, body) in [
        (&["--tenant"][..], "--tenant", json!({"tenant":true})),
        (&["--action", "mail.*"], "--action mail.*", json!({"action":"mail.*"})),
        (&["--key", "-7"], "--key -7", json!({"key":"-7"})),
    ] {
        for verb in ["pause", "resume"] {
            let ended = run(&fake, &[&["queue", verb], arguments].concat()).await;
            let line = format!("paused   {scope}  by op since 2026-11-22T02:00:00.000Z\n");
            assert_eq!(
                ended.stdout,
                format!("128 running, 7 waiting\nwaiting  mail.send  7\n{line}")
            );
            let sent = fake.received().pop().unwrap();
            assert_eq!((sent.path, sent.method.as_str()), (format!("/v1/queue:{verb}"), "POST"));
            assert_eq!(serde_json::from_slice::<Value>(&sent.body).unwrap(), body);
        }
    }
    let asked = fake.received().len();
    for wrong in [&[][..], &["--tenant", "--key", "k"], &["--action", "a b"]] {
        assert_eq!(
            run(&fake, &[&["queue", "pause"], wrong].concat()).await.code,
            2,
            "{wrong:?}"
        );
    }
    assert_eq!(
        fake.received().len(),
        asked,
        "nothing is sent that does not say what is meant"
    );
}

#[tokio::test]
async fn a_call_says_its_priority_and_how_long_it_may_wait() {
    let fake = Fake::start(|_| Some(Reply::json(200, &json!({"data":1})))).await;
    let ended = run(&fake, &["call", "a", "--priority", "high", "--queue-timeout", "30s"]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let sent = fake.received()[0].json();
    assert_eq!(
        (&sent["priority"], &sent["queue_timeout_ms"]),
        (&json!("high"), &json!(30_000))
    );
    assert_eq!(run(&fake, &["call", "a"]).await.code, 0);
    assert_eq!(fake.received()[1].json()["priority"], Value::Null);
    let ended = run(&fake, &["call", "a", "--priority", "urgent"]).await;
    assert_eq!((ended.code, fake.received().len()), (2, 2));
    assert!(ended.stderr.contains("high, normal, low"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_worker_runs_a_command_for_each_job_and_stops_when_it_is_told_to() {
    let job = |n: u32| {
        json!({
            "job_id": format!("job_{n}"), "action": "shout", "attempt": 1, "payload": { "n": n }, "metadata": {},
            "effect_key": format!("job_{n}"), "deadline": "2030-01-01T00:00:00.000Z",
            "lease_until": "2030-01-01T00:00:00.000Z", "lease_ms": 1500, "attempt_token": format!("token-{n}"),
        })
    };
    let given = std::sync::atomic::AtomicBool::new(false);
    let fake = Fake::start(move |request| {
        if request.path.ends_with(":lease") {
            let first = !given.swap(true, std::sync::atomic::Ordering::SeqCst);
            let jobs = if first {
                vec![job(1), job(2), job(3)]
            } else {
                Vec::new()
            };
            std::thread::sleep(std::time::Duration::from_millis(20));
            return Some(Reply::json(200, &json!({ "jobs": jobs })));
        }
        Some(Reply::json(200, &json!({ "lease_until": "2030-01-01T00:00:00.000Z" })))
    })
    .await;
    let script = r#"case $TIDEGATE_JOB_ID in
        job_1) cat;;
        job_2) echo plain words;;
        *) echo "progress 40 half of it" >&2; sleep 1.2; echo no memory >&2; exit 3;;
    esac"#;
    let child = start(
        &fake,
        &["worker", "gpu", "--exec", script, "--concurrency", "3", "--json"],
    );
    let ended = |fake: &Fake| {
        fake.received()
            .iter()
            .filter(|request| request.path.ends_with(":finish"))
            .count()
    };
    within(async {
        while ended(&fake) < 3 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let id = child.id().unwrap().to_string();
    Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
    let stopped = end(child).await;
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    let counts = &lines(&stopped.stdout)[0];
    assert_eq!((&counts["succeeded"], &counts["failed"]), (&json!(2), &json!(1)));
    let received = fake.received();
    let said = |path: &str| {
        let found = received
            .iter()
            .find(|request| request.path == path && request.body.len() > 2);
        found.unwrap_or_else(|| panic!("nothing came to {path}")).json()
    };
    assert_eq!(said("/v1/attempts/job_1:finish")["result"], json!({ "n": 1 }));
    assert_eq!(said("/v1/attempts/job_2:finish")["result"], "plain words");
    let failed = said("/v1/attempts/job_3:finish");
    assert_eq!(failed["error"]["retryable"], true);
    assert!(
        failed["error"]["message"].as_str().unwrap().contains("no memory"),
        "{failed}"
    );
    let progress = said("/v1/attempts/job_3:report");
    assert_eq!(
        progress["progress"],
        json!({ "percentage": 40.0, "message": "half of it" })
    );
}

#[tokio::test]
async fn a_batch_is_sent_under_its_key_followed_to_its_end_and_cancelled() {
    let status = |running: u64, succeeded: u64, failed: u64| {
        json!({"batch_id":"bat_1","user":"u","accepted":2,"waiting":0,"running":running,"succeeded":succeeded,
            "failed":failed,"cancelled":0,"expired":0,"progress":100 - 50 * running})
    };
    let looks = std::sync::atomic::AtomicU32::new(0);
    let fake = Fake::start(move |request| {
        let answer = match request.path.as_str() {
            "/v1/requests:batch" => {
                assert_eq!(request.header("idempotency-key"), Some("k"));
                assert!(request.json()[0]["idempotency_key"].is_null(), "its place names it");
                json!({"batch_id":"bat_1","results":[
                    {"index":0,"status":202,"accepted":{"job_id":"job_1","status":"queued"}},
                    {"index":1,"status":202,"accepted":{"job_id":"job_2","status":"queued"}},
                ]})
            }
            "/v1/batches/bat_1" if looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => status(1, 1, 0),
            "/v1/batches/bat_1" | "/v1/batches/bat_1?wait=5" => status(0, 1, 1),
            "/v1/batches/bat_1:cancel" => status(0, 2, 0),
            other => panic!("{other}"),
        };
        Some(Reply::json(200, &answer))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("all.json"),
        "[{\"action\":\"a\"},{\"action\":\"b\"}]",
    )
    .unwrap();
    let arguments = ["batch", "send", "all.json", "--key", "k", "--follow"];
    let ended = end(command(folder.path(), Some(&fake.url), &arguments).spawn().unwrap()).await;
    assert_eq!(ended.code, 1, "one of its jobs failed: {}", ended.stderr);
    assert!(ended.stdout.starts_with("bat_1\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("2: 1 succeeded, 1 failed"), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("50.0 % 1 running, 1 succeeded"),
        "{}",
        ended.stderr
    );
    let shown = run(&fake, &["--json", "batch", "show", "bat_1", "--wait", "5s"]).await;
    assert_eq!((shown.code, &lines(&shown.stdout)[0]["failed"]), (1, &json!(1)));
    let cancelled = run(&fake, &["batch", "cancel", "bat_1"]).await;
    assert_eq!(cancelled.code, 0, "{}", cancelled.stderr);
    let received = fake.received();
    assert_eq!(received.last().unwrap().path, "/v1/batches/bat_1:cancel");
    assert_eq!(run(&fake, &["batch", "show", "no/id"]).await.code, 2);
}

#[tokio::test]
async fn a_followed_call_that_waits_for_a_worker_says_so() {
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    let mut fake = Fake::start(move |request| {
        if request.path != "/v1/jobs/job_1/why" {
            return None;
        }
        let _told = asked.send(());
        let waits_for = json!([{"kind":"worker","about":{"pool":"gpu"}}]);
        let why = json!({"job_id":"job_1","status":"queued","waits_for":waits_for});
        Some(Reply::json(200, &why))
    })
    .await;
    let child = start(&fake, &["call", "a", "--follow"]);
    let mut socket = fake.welcomed().await;
    let id = acknowledge(&mut socket).await;
    within(was_asked.recv()).await.unwrap();
    let mut child = child;
    let mut stderr = tokio::io::BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("pool gpu") {
        let read = tokio::io::AsyncBufReadExt::read_line(&mut stderr, &mut said);
        assert_ne!(within(read).await.unwrap(), 0, "it ended: {said}");
    }
    assert!(said.contains("none has asked for work of late"), "{said}");
    socket
        .send(json!({"type":"complete","request_id":id,"job_id":"job_1","seq":2,"attempt":1,"result":7}))
        .await;
    assert_eq!(end(child).await.code, 0);
    assert!(
        fake.received()
            .iter()
            .any(|request| request.path == "/v1/jobs/job_1/why")
    );
}

#[tokio::test]
async fn a_secret_comes_from_stdin_or_a_file_and_is_never_printed() {
    let view = json!({"name":"bank","version":2,"created_at":"2026-11-21T07:00:00.000Z","rotated_at":"2026-11-22T07:00:00.000Z"});
    let fake = Fake::start(move |request: &Received| {
        Some(match request.method.as_str() {
            "PUT" => Reply::json(200, &view),
            "DELETE" => Reply::json(200, &json!(null)),
            _ => Reply::json(200, &json!({"secrets":[view]})),
        })
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("value");
    std::fs::write(&file, "hunter2\n").unwrap();
    let from_file = [
        "secret",
        "set",
        "bank",
        "--from-file",
        file.to_str().unwrap(),
        "--overlap",
        "0s",
    ];
    let ended = run(&fake, &from_file).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert_eq!(ended.stdout, "bank  version 2 of 2026-11-22T07:00:00.000Z\n");
    let request = fake.received().pop().unwrap();
    assert_eq!(request.path, "/v1/admin/secrets/bank");
    assert_eq!(request.json(), json!({"value":"hunter2","overlap_ms":0}));

    let mut child = command(folder.path(), Some(&fake.url), &["secret", "set", "bank", "--json"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"two\nlines\r\n").await.unwrap();
    drop(stdin);
    let ended = end(child).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(lines(&ended.stdout)[0]["version"], 2);
    assert_eq!(fake.received().pop().unwrap().json(), json!({"value":"two\nlines"}));

    // Nothing on stdin is no value, and nothing is sent.
    let sent = fake.received().len();
    let ended = run(&fake, &["secret", "set", "bank"]).await;
    assert_eq!((ended.code, fake.received().len()), (2, sent), "{}", ended.stderr);
    let ended = run(&fake, &["secret", "list"]).await;
    assert_eq!(ended.stdout, "bank  version 2 of 2026-11-22T07:00:00.000Z\n");
    let ended = run(&fake, &["secret", "delete", "bank"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, "Deleted bank.\n"));
    assert!(fake.received().pop().unwrap().header("idempotency-key").is_some());
}

/// A trail of 6 entries: the first two in the archive, two a page of the rest.
fn trail() -> (Vec<String>, Vec<String>) {
    let (mut entries, mut heads) = (Vec::new(), vec![chain::Head::unchained(0)]);
    for number in 1..=6 {
        let before = heads[number - 1];
        let text = chain::kept(&json!({ "what": "queue.paused", "target": {}, "number": number }));
        let after = before.link(&text);
        let chained = (&*before.hash.to_string(), &*after.hash.to_string());
        entries.push(chain::shown(after.seq, Some(chained), &text));
        heads.push(after);
    }
    (entries, heads.iter().map(chain::Head::to_string).collect())
}

async fn serve_trail(entries: Vec<String>) -> Fake {
    let (_, heads) = trail();
    Fake::start(move |received| {
        let path = received.path.as_str();
        if let Some(name) = path.strip_prefix("/v1/admin/audit/archive/") {
            let text = entries[..2].join("\n") + "\n";
            return (name == "1-2").then(|| Reply::bytes("application/x-ndjson", text));
        }
        if path.starts_with("/v1/admin/audit/archive") {
            let segment = json!({ "name": "1-2", "first": 1, "last": 2, "bytes": 3 });
            return Some(Reply::json(200, &json!({ "segments": [segment] })));
        }
        let after: usize = path.strip_prefix("/v1/admin/audit?limit=200&after=")?.parse().unwrap();
        let kept = entries[2..]
            .iter()
            .map(|entry| serde_json::from_str::<Value>(entry).unwrap());
        let mut kept: Vec<Value> = kept
            .filter(|entry| entry["seq"].as_u64() > Some(after as u64))
            .collect();
        let more = kept.len() > 2;
        kept.truncate(2);
        let mut page = json!({ "entries": kept, "head": heads[6], "checkpoint": heads[2] });
        if more {
            page["cursor"] = kept[1]["seq"].to_string().into();
        }
        Some(Reply::json(200, &page))
    })
    .await
}

#[tokio::test]
async fn a_trail_is_verified_from_the_archive_into_what_is_kept_and_the_first_bad_entry_is_named() {
    let (entries, heads) = trail();
    let fake = serve_trail(entries.clone()).await;
    let ended = run(&fake, &["audit", "verify", "--head", &heads[1], "--head", &heads[5]]).await;
    assert_eq!((ended.code, ended.stdout.trim()), (0, &*heads[6]), "{}", ended.stderr);
    let ended = run(&fake, &["--json", "audit", "verify", "--live"]).await;
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (ended.code, &told["entries"], &told["head"]),
        (0, &json!(4), &json!(heads[6]))
    );
    // What was noted: another hash, more than there is, or what only the archive has.
    let other = heads[5].replace("5:", "4:");
    for (arguments, said) in [
        (vec!["--head", &other], "Entry 4 is not the one"),
        (vec!["--head", &heads[1], "--live"], "walk the archive"),
    ] {
        let ended = run(&fake, &[&["audit", "verify"], &*arguments].concat()).await;
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    let ended = run(&fake, &["audit", "verify", "--head", "7"]).await;
    assert_eq!(ended.code, 2, "{}", ended.stderr);

    type Tamper = fn(&mut Vec<String>);
    let cases: [(&str, Tamper); 4] = [
        ("Entry 1 was changed", |all| {
            all[0] = all[0].replace("paused", "resumed")
        }),
        ("Entry 4 is missing", |all| drop(all.remove(3))),
        ("Entry 4 is missing", |all| all.swap(3, 4)),
        ("Entry 6 was noted, and the trail ends before it", |all| all.truncate(5)),
    ];
    for (said, tamper) in cases {
        let mut entries = entries.clone();
        tamper(&mut entries);
        let fake = serve_trail(entries).await;
        let ended = run(&fake, &["audit", "verify", "--head", &heads[6]]).await;
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_file_of_the_trail_is_verified_without_a_server() {
    let (entries, heads) = trail();
    let folder = tempfile::tempdir().unwrap();
    let verify = async |lines: &[String]| {
        std::fs::write(folder.path().join("segment.ndjson"), lines.join("\n")).unwrap();
        let arguments = ["audit", "verify", "--file", "segment.ndjson", "--head", &heads[4]];
        end(command(folder.path(), None, &arguments).spawn().unwrap()).await
    };
    let ended = verify(&entries[1..5]).await;
    assert_eq!((ended.code, ended.stdout.trim()), (0, &*heads[5]), "{}", ended.stderr);
    assert_eq!(verify(&[&entries[1..2], &entries[3..]].concat()).await.code, 1);
    assert_eq!(verify(&[]).await.code, 1, "what was noted is not there");
}

#[tokio::test]
async fn a_follower_of_the_trail_shows_each_entry_once() {
    let fake = Fake::start(|received| {
        let (entries, head) = match received.path.as_str() {
            "/v1/admin/audit?limit=1" => (json!([]), 4),
            "/v1/admin/audit?user=ann&after=4" => (json!([{ "seq": 6, "what": "queue.paused" }]), 7),
            "/v1/admin/audit?user=ann&after=7" => (json!([{ "seq": 8, "what": "queue.resumed" }]), 8),
            _ => return None,
        };
        let head = format!("{head}:{}", "0".repeat(64));
        Some(Reply::json(200, &json!({ "entries": entries, "head": head })))
    })
    .await;
    // Ends with what the server no longer knows.
    let ended = run(&fake, &["audit", "--follow", "--user", "ann"]).await;
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    let acts: Vec<_> = ended.stdout.lines().map(|line| line.contains("queue.paused")).collect();
    assert_eq!(acts, [true, false], "{}", ended.stdout);
}

#[tokio::test]
async fn a_key_is_made_rotated_and_deleted_and_its_text_alone_is_printed() {
    let key = json!({"key_id":"key_1","name":"ci","user":"bot","scopes":["jobs:read"],"created_at":"2026-11-21T07:00:00.000Z","created_by":"root"});
    let fake = Fake::start(move |request: &Received| {
        Some(match (request.method.as_str(), request.path.as_str()) {
            ("GET", _) => Reply::json(200, &json!({"keys":[key]})),
            ("DELETE", _) => Reply::json(200, &json!(null)),
            _ => Reply::json(201, &json!({"api_key":"tgk_demo_x","key":key})),
        })
    })
    .await;
    let ended = run(&fake, &["key", "create", "ci", "--user", "bot", "--scope", "jobs:read"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "tgk_demo_x\n"));
    assert!(ended.stderr.contains("key_1"), "{}", ended.stderr);
    let request = fake.received().pop().unwrap();
    assert_eq!(request.json(), json!({"name":"ci","user":"bot","scopes":["jobs:read"]}));
    let ended = run(&fake, &["key", "rotate", "key_1", "--overlap", "1h"]).await;
    assert_eq!(ended.stdout, "tgk_demo_x\n");
    let request = fake.received().pop().unwrap();
    assert_eq!(
        (request.path.as_str(), request.json()),
        ("/v1/admin/keys/key_1:rotate", json!({"overlap_ms":3_600_000}))
    );
    let ended = run(&fake, &["key", "list"]).await;
    assert_eq!(ended.stdout, "key_1  ci  bot  jobs:read\n");
    let ended = run(&fake, &["key", "delete", "key_1"]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(fake.received().pop().unwrap().header("idempotency-key").is_some());
}

#[tokio::test]
async fn a_key_whose_answer_is_lost_is_not_made_twice() {
    // A server that reads a request and hangs up.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4096]).await;
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    for (arguments, times) in [
        (&["key", "create", "ci", "--user", "bot"][..], 1),
        (&["key", "rotate", "key_1"], 1),
        (&["key", "list"], 3),
    ] {
        let before = asked.load(std::sync::atomic::Ordering::SeqCst);
        let ended = end(command(&std::env::temp_dir(), Some(&url), arguments).spawn().unwrap()).await;
        let after = asked.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!((ended.code, after - before), (6, times), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_revocation_names_one() {
    let fake = Fake::start(|request: &Received| {
        assert_eq!(request.path, "/v1/admin/revocations");
        let view = json!({"at":"2026-11-21T07:00:00.000Z","until":"2026-11-22T07:00:00.000Z"});
        Some(Reply::json(200, &view))
    })
    .await;
    for (arguments, body) in [
        (
            &["revoke", "--user", "ann", "--for", "1d"][..],
            json!({"user":"ann","for_ms":86_400_000}),
        ),
        (&["revoke", "--token-id", "j1"], json!({"token":"j1"})),
        (&["revoke", "--everyone"], json!({"everyone":true})),
    ] {
        let ended = run(&fake, arguments).await;
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert!(
            ended.stdout.contains("until 2026-11-22T07:00:00.000Z"),
            "{}",
            ended.stdout
        );
        assert_eq!(fake.received().pop().unwrap().json(), body);
    }
    let sent = fake.received().len();
    for wrong in [&["revoke"][..], &["revoke", "--everyone", "--user", "ann"]] {
        assert_eq!((run(&fake, wrong).await.code, fake.received().len()), (2, sent));
    }
}
