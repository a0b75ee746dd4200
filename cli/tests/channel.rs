//! `tidegate channel` against a server in the same process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

#[path = "../../sdk/rust/tests/fake/mod.rs"]
mod fake;

use std::process::{Output, Stdio};

use fake::{Fake, Reply, Socket, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

fn start(fake: &Fake, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .env("TIDEGATE_URL", &fake.url)
        .env("TIDEGATE_TOKEN", "token-1")
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn end(child: Child) -> (i32, String, String) {
    let Output { status, stdout, stderr } = within(child.wait_with_output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

async fn run(fake: &Fake, arguments: &[&str]) -> (i32, String, String) {
    end(start(fake, arguments)).await
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn answer(socket: &mut Socket, offset: u64, recovered: bool) -> Value {
    let request = socket.frame().await;
    let answer = json!({"type":"subscribed","request_id":request["id"],"channel":"chat:1","epoch":"e1","offset":offset,
        "recovered":recovered});
    socket.send(answer).await;
    request
}

fn message(offset: u64) -> Value {
    json!({"type":"message","channel":"chat:1","epoch":"e1","offset":offset,"data":{"n":offset},"publisher":"ann",
        "timestamp":"2026-11-21T07:00:00.000Z"})
}

#[tokio::test]
async fn a_message_is_published_from_the_line_a_file_or_stdin_under_its_key() {
    let fake = Fake::start(|request| {
        let deduplicated = request.json()["idempotency_key"] == "k";
        Some(Reply::json(
            200,
            &json!({"epoch":"e1","offset":4,"deduplicated":deduplicated}),
        ))
    })
    .await;
    let (code, stdout, stderr) = run(&fake, &["channel", "publish", "chat:1", "{\"a\":1}"]).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "e1:4\n", ""));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.json");
    std::fs::write(&file, "[2]").unwrap();
    let named = format!("@{}", file.display());
    let (code, stdout, stderr) = run(&fake, &["channel", "publish", "chat:1", &named, "--key", "k"]).await;
    assert_eq!((code, stdout.as_str()), (0, "e1:4\n"));
    assert!(stderr.contains("there already"), "{stderr}");
    let mut child = start(&fake, &["channel", "publish", "chat:1", "-", "--json"]);
    child.stdin.take().unwrap().write_all(b"\"three\"").await.unwrap();
    let (_, stdout, _) = end(child).await;
    let published = json!({"type":"published","channel":"chat:1","epoch":"e1","offset":4,"deduplicated":false});
    assert_eq!(lines(&stdout), [published]);
    let sent: Vec<Value> = fake
        .received()
        .iter()
        .map(|request| request.json()["data"].clone())
        .collect();
    assert_eq!(sent, [json!({"a":1}), json!([2]), json!("three")]);
}

#[tokio::test]
async fn what_cannot_be_used_is_exit_2_and_asks_nothing() {
    let fake = Fake::start(|_| None).await;
    for (arguments, said) in [
        (
            &["channel", "publish", "chat:1", "hello"][..],
            "data of the command line is no JSON",
        ),
        (&["channel", "publish", "a b", "1"], "`a b` is no channel's name"),
        (&["channel", "publish", "chat:1", "@/nowhere/at/all"], "data's file"),
        (&["channel", "follow", "a b"], "`a b` is no channel's name"),
        (&["channel", "follow", "chat:1", "--after", "12"], "a cursor: an epoch"),
        (&["channel", "follow", "chat:1", "--count", "0"], "--count"),
        (&["channel", "history", "chat:1", "--limit", "1001"], "--limit"),
        (&["channel", "history", "chat:1", "--limit", "5", "--all"], "--all"),
        (&["channel", "history", "a b"], "`a b` is no channel's name"),
    ] {
        let (code, stdout, stderr) = run(&fake, arguments).await;
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn a_follower_shows_each_message_once_over_a_cut_and_ends_after_so_many() {
    let mut fake = Fake::start(|_| None).await;
    let child = start(
        &fake,
        &["channel", "follow", "chat:1", "--count", "3", "--after", "e1:3"],
    );
    let mut socket = fake.welcomed().await;
    let request = answer(&mut socket, 3, true).await;
    assert_eq!(request["after"], json!({"epoch":"e1","offset":3}));
    socket.send(message(4)).await;
    socket.send(message(5)).await;
    socket.close(1012, "restart").await;
    let mut socket = fake.welcomed().await;
    let request = answer(&mut socket, 9, false).await;
    assert_eq!(request["after"], json!({"epoch":"e1","offset":5}));
    socket.send(message(10)).await;
    let (code, stdout, stderr) = end(child).await;
    let line = |n: u64| format!("e1:{n}  2026-11-21T07:00:00.000Z  ann  {{\"n\":{n}}}\n");
    assert_eq!((code, stdout), (0, [line(4), line(5), line(10)].concat()));
    for said in [
        "reconnecting in",
        "connected again",
        "gap: 4 messages are missing behind e1:5",
    ] {
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
}

#[tokio::test]
async fn machines_are_told_of_everything_and_ctrl_c_says_where_to_go_on() {
    let mut fake = Fake::start(|_| None).await;
    for json in [true, false] {
        let mut arguments = vec!["channel", "follow", "chat:1"];
        if json {
            arguments.push("--json");
        }
        let child = start(&fake, &arguments);
        let mut socket = fake.welcomed().await;
        answer(&mut socket, 3, false).await;
        socket.send(message(4)).await;
        let gap = json!({"type":"subscribed","channel":"chat:1","epoch":"e2","offset":0,"recovered":false});
        socket.send(gap).await;
        // Only what is out already is sure to be before the signal.
        let (pid, mut child) = (child.id().unwrap(), child);
        let said = if json {
            shown(child.stdout.as_mut().unwrap(), 3).await
        } else {
            shown(child.stderr.as_mut().unwrap(), 1).await
        };
        let killed = Command::new("kill").args(["-INT", &pid.to_string()]).status();
        assert!(within(killed).await.unwrap().success());
        let (code, stdout, stderr) = end(child).await;
        assert_eq!(code, 130);
        if json {
            let expected = [
                json!({"type":"subscribed","channel":"chat:1","epoch":"e1","offset":3}),
                message(4),
                json!({"type":"gap","channel":"chat:1","after":"e1:4","until":"e2:0"}),
            ];
            assert_eq!(lines(&said), expected);
            let detached = json!({"type":"detached","channel":"chat:1","after":"e2:0"});
            assert_eq!(lines(&stdout), [detached]);
        } else {
            assert_eq!(said, "gap: the log of e1:4 is gone; it goes on behind e2:0\n");
            assert!(
                stderr.contains("tidegate channel follow chat:1 --after e2:0"),
                "{stderr}"
            );
            assert!(stdout.starts_with("e1:4  "), "{stdout}");
        }
    }
}

/// Waits for so many lines, and gives them.
async fn shown(from: &mut (impl AsyncReadExt + Unpin), count: usize) -> String {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while seen.iter().filter(|byte| **byte == b'\n').count() < count {
        within(from.read_exact(&mut byte)).await.unwrap();
        seen.push(byte[0]);
    }
    String::from_utf8(seen).unwrap()
}

#[tokio::test]
async fn a_channel_that_may_not_be_followed_ends_with_the_code_of_the_error() {
    let mut fake = Fake::start(|_| None).await;
    for (error, code, exit) in [("NOT_FOUND", 404, 4), ("FORBIDDEN", 403, 3)] {
        let child = start(&fake, &["channel", "follow", "chat:1", "--json"]);
        let mut socket = fake.welcomed().await;
        let told = json!({"code":error,"message":format!("{code}"),"retryable":false});
        if exit == 4 {
            let request = socket.frame().await;
            socket
                .send(json!({"type":"error","request_id":request["id"],"error":told}))
                .await;
        } else {
            answer(&mut socket, 3, false).await;
            socket
                .send(json!({"type":"unsubscribed","channel":"chat:1","error":told}))
                .await;
        }
        let (code, stdout, _) = end(child).await;
        let last = lines(&stdout).pop().unwrap();
        assert_eq!((code, &last["error"]["code"]), (exit, &json!(error)));
    }
}

#[tokio::test]
async fn the_history_is_shown_by_pages_or_whole_and_what_is_no_longer_kept_is_said() {
    let fake = Fake::start(|request| {
        let stored = |offset: u64| json!({"offset":offset,"data":offset,"timestamp":"2026-11-21T07:00:00.000Z"});
        let page = match request.path.split_once('?').map_or("", |(_, query)| query) {
            "" | "limit=1000" => json!({"messages":[stored(5), stored(6)],"recovered":true,"next":"e1:6"}),
            "after=e1%3A6&limit=1000" => json!({"messages":[stored(7)],"recovered":true}),
            "after=e1%3A2" => json!({"messages":[stored(5)],"recovered":false}),
            "after=e1%3A7&limit=1" => json!({"messages":[],"recovered":true}),
            other => panic!("{other}"),
        };
        let mut page = page;
        page["epoch"] = json!("e1");
        page["offset"] = json!(7);
        Some(Reply::json(200, &page))
    })
    .await;
    let (code, stdout, stderr) = run(&fake, &["channel", "history", "chat:1"]).await;
    let line = |n: u64| format!("e1:{n}  2026-11-21T07:00:00.000Z  -  {n}\n");
    assert_eq!((code, stdout), (0, [line(5), line(6)].concat()));
    assert!(
        stderr.contains("More: tidegate channel history chat:1 --after e1:6"),
        "{stderr}"
    );
    let (_, stdout, stderr) = run(&fake, &["channel", "history", "chat:1", "--all"]).await;
    assert_eq!((stdout, stderr.as_str()), ([line(5), line(6), line(7)].concat(), ""));
    let (code, stdout, stderr) = run(&fake, &["channel", "history", "chat:1", "--after", "e1:2"]).await;
    assert_eq!((code, stdout), (0, line(5)));
    assert!(stderr.contains("gap: 2 messages are missing behind e1:2"), "{stderr}");
    let (_, stdout, _) = run(&fake, &["--json", "channel", "history", "chat:1"]).await;
    let told = lines(&stdout);
    assert_eq!(told[2], json!({"type":"page","channel":"chat:1","next":"e1:6"}));
    let (code, stdout, stderr) = run(
        &fake,
        &["channel", "history", "chat:1", "--after", "e1:7", "--limit", "1"],
    )
    .await;
    assert_eq!((code, stdout.as_str()), (0, ""));
    assert!(
        stderr.contains("Nothing is kept there; the log stands at e1:7."),
        "{stderr}"
    );
}
