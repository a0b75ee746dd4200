//! The matrix of frames: every type of frame that a client may send, on sockets that may not do what it says.
//!
//! The types are those of the reference, which a test of the protocol compares with what is read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::socket::{Incoming, Socket};
use tidegate_tests::token;

use super::things::{OWNER, SCOPES, Things, server};
use super::{Stocked, hold};

/// How soon a live socket hears that it is no longer wanted.
const SOON: Duration = Duration::from_secs(2);

/// What comes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// A frame of this type.
    Frame(&'static str),
    /// An error of this code.
    Error(&'static str),
    /// The end of the connection, with this code.
    End(u16),
}
use Comes::{End, Error, Frame};

/// A type of frame.
struct Row {
    kind: &'static str,
    /// Frames of it that name `things`.
    frames: fn(&Things) -> Vec<Value>,
    /// What comes of them for whoever may, for another tenant's user with every scope, and for another user without one.
    comes: [Comes; 3],
}

/// In an order in which each can be done.
const ROWS: &[Row] = &[
    Row {
        kind: "attach",
        frames: |things| {
            vec![
                json!({ "type": "attach", "job_id": things.job }),
                json!({ "type": "attach", "job_id": things.job, "after": 0 }),
                json!({ "type": "attach", "action": "slow", "idempotency_key": things.idempotency_key }),
            ]
        },
        comes: [Frame("snapshot"), Error("NOT_FOUND"), Error("NOT_FOUND")],
    },
    Row {
        kind: "detach",
        frames: |things| vec![json!({ "type": "detach", "job_id": things.job })],
        // Whoever does not follow a job is told the same, whether there is one or not.
        comes: [Frame("ok"), Frame("ok"), Frame("ok")],
    },
    Row {
        kind: "lease",
        frames: |things| {
            let body = json!({ "max": 1, "wait_ms": 0, "worker": "w" });
            vec![json!({ "type": "lease", "pool": things.pool, "body": body })]
        },
        // Of a pool of the other tenant's own, in which nothing waits.
        comes: [Frame("leased"), Frame("leased"), Error("FORBIDDEN")],
    },
    Row {
        kind: "report",
        frames: |things| vec![json!({ "type": "report", "attempt_token": things.attempt })],
        comes: [Frame("renewed"), Error("UNAUTHORIZED"), Error("UNAUTHORIZED")],
    },
    Row {
        kind: "finish",
        frames: |things| {
            let body = json!({ "outcome": "succeeded", "result": 1 });
            vec![json!({ "type": "finish", "attempt_token": things.attempt, "body": body })]
        },
        comes: [Frame("ok"), Error("UNAUTHORIZED"), Error("UNAUTHORIZED")],
    },
    Row {
        kind: "cancel",
        frames: |things| vec![json!({ "type": "cancel", "job_id": things.job })],
        comes: [Frame("ok"), Error("NOT_FOUND"), Error("NOT_FOUND")],
    },
    Row {
        kind: "request",
        // With the key of the other tenant's job, which is another key: it makes a job of their own.
        frames: |things| {
            let later = json!({ "type": "request", "action": "slow", "delay_ms": 36_000_000, "payload": { "ms": 1 } });
            let mut keyed = later.clone();
            keyed["idempotency_key"] = json!(things.idempotency_key);
            vec![later, keyed]
        },
        comes: [
            Frame("acknowledgment"),
            Frame("acknowledgment"),
            Frame("acknowledgment"),
        ],
    },
    Row {
        kind: "subscribe",
        frames: |things| {
            let after = json!({ "epoch": "0", "offset": 0 });
            vec![
                json!({ "type": "subscribe", "channel": things.channel }),
                json!({ "type": "subscribe", "channel": things.channel, "after": after }),
                json!({ "type": "subscribe", "channel": things.channel, "presence": { "data": 1 } }),
                json!({ "type": "subscribe", "channel": things.channel, "presence": { "member": false } }),
            ]
        },
        comes: [Frame("subscribed"), Error("NOT_FOUND"), Error("NOT_FOUND")],
    },
    Row {
        kind: "presence",
        frames: |things| vec![json!({ "type": "presence", "channel": things.channel })],
        comes: [Frame("presence"), Error("NOT_FOUND"), Error("NOT_FOUND")],
    },
    Row {
        kind: "publish",
        frames: |things| vec![json!({ "type": "publish", "channel": things.channel, "data": 1 })],
        comes: [Frame("published"), Error("NOT_FOUND"), Error("NOT_FOUND")],
    },
    Row {
        kind: "unsubscribe",
        frames: |things| vec![json!({ "type": "unsubscribe", "channel": things.channel })],
        // Whoever does not follow a channel is told the same, whether there is one or not.
        comes: [Frame("ok"), Frame("ok"), Frame("ok")],
    },
    Row {
        kind: "auth",
        frames: |things| {
            let token = token::mint(&things.tenant, OWNER, SCOPES);
            vec![json!({ "type": "auth", "token": token })]
        },
        comes: [Frame("ok"), End(3500), End(3500)],
    },
];

/// Fails where the reference names a type that has no row, or a row that it does not name. A `ping` is answered by the
/// platform, to the letter, and reaches nothing of any tenant.
fn rows() -> &'static [Row] {
    let reference = include_str!("../../../../docs/reference/protocol.md");
    let (_, part) = reference
        .split_once("### From the client")
        .expect("the part about frames");
    let (part, _) = part.split_once("\n### ").expect("a part behind it");
    let named: BTreeSet<&str> = part
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|kind| *kind != "ping")
        .collect();
    let rows: BTreeSet<&str> = ROWS.iter().map(|row| row.kind).collect();
    assert_eq!(
        rows, named,
        "say in tests/tests/e2e/matrix/frames.rs what comes of each type"
    );
    ROWS
}

/// Sends a frame, and gives what comes of it first.
fn ask(socket: &mut Socket, frame: &Value) -> (Comes, Value) {
    let id = socket.ask(frame.clone());
    let until = Instant::now() + tidegate_tests::SOON;
    loop {
        match socket.next_within(until.saturating_duration_since(Instant::now())) {
            Incoming::Frame(answer) if answer["request_id"] == json!(id) => {
                let comes = match answer["error"]["code"].as_str() {
                    Some(code) => Error(code.to_owned().leak()),
                    None => Frame(answer["type"].as_str().expect("a type").to_owned().leak()),
                };
                return (comes, answer);
            }
            // The announcement of an end.
            Incoming::Frame(_) => {}
            Incoming::Closed(code) => return (End(code.expect("a close code")), Value::Null),
            Incoming::Nothing => panic!("nothing came of {frame}"),
        }
    }
}

/// What is left of an answer without what names the answer itself, a job that it made, and the things.
fn plain(answer: &Value, things: &Things) -> String {
    let mut answer = answer.clone();
    let made = answer["type"] == "acknowledgment";
    if let Some(members) = answer.as_object_mut() {
        members.retain(|name, _| {
            let of_the_answer = matches!(name.as_str(), "request_id" | "timestamp");
            let of_the_job = made && matches!(name.as_str(), "job_id" | "run_at");
            !(of_the_answer || of_the_job)
        });
    }
    let blank = |text: String, name: &&str| text.replace(*name, "*");
    things.names().iter().fold(answer.to_string(), blank)
}

#[test]
fn a_frame_reaches_nothing_of_another_tenant_or_user() {
    let server = server();
    let (theirs, mine) = (Stocked::new(&server), Stocked::new(&server));
    let nothing = theirs.things.made_up();
    let socket = |who: usize| match who {
        1 => mine.tenant.socket_with(&mine.tenant.token(OWNER, SCOPES)),
        _ => theirs.tenant.socket_with(&theirs.tenant.token("mallory", "admin")),
    };
    let mut cells = 0;
    for row in rows() {
        for who in [1, 2] {
            // A request of another user is their own: it makes a job, as it may.
            if (row.kind, who) == ("request", 2) {
                let guarded = json!({ "type": "request", "action": "guarded" });
                assert_eq!(ask(&mut socket(who), &guarded).0, Error("FORBIDDEN"));
                cells += 1;
                continue;
            }
            // A token of an attempt is a credential by itself, but not on another tenant's socket.
            let is_token = matches!(row.kind, "report" | "finish");
            for (frame, absent) in (row.frames)(&theirs.things).into_iter().zip((row.frames)(&nothing)) {
                let mut frame = frame;
                if is_token && who == 2 {
                    frame["attempt_token"] = json!(mine.things.attempt);
                }
                let (comes, answer) = ask(&mut socket(who), &frame);
                assert_eq!(comes, row.comes[who], "{frame}: {answer}");
                if comes == Frame("leased") {
                    assert_eq!(answer["jobs"], json!([]), "{answer}");
                }
                if comes == Frame("acknowledgment") {
                    assert_ne!(answer["deduplicated"], json!(true), "{answer}");
                }
                if !is_token {
                    let (_, absent) = ask(&mut socket(who), &absent);
                    assert_eq!(plain(&answer, &theirs.things), plain(&absent, &nothing), "{frame}");
                }
                cells += 1;
            }
        }
        theirs.is_untouched(row.kind);
    }
    // The right to see every job is not the right to end one.
    let mut reader = theirs.tenant.socket_with(&theirs.tenant.token("mallory", "jobs:read"));
    let cancel = json!({ "type": "cancel", "job_id": theirs.things.job });
    assert_eq!(ask(&mut reader, &cancel).0, Error("FORBIDDEN"));
    theirs.is_untouched("a reader");
    println!("{} types of frames, {cells} cells of others", ROWS.len());
    // The same frames, of whoever may.
    for row in rows() {
        // Of a job that waits there may be no event yet, and then nothing comes.
        let frames = (row.frames)(&theirs.things).into_iter();
        for frame in frames.filter(|frame| frame["after"].is_null()) {
            let mut owner = theirs.tenant.socket_with(&theirs.tenant.token(OWNER, SCOPES));
            let (comes, answer) = ask(&mut owner, &frame);
            assert_eq!(comes, row.comes[0], "{frame}: {answer}");
        }
    }
}

/// Opens a socket for each frame, shuts them out by `shut`, sends the frames at once, and checks that all that comes is the
/// end.
fn is_shut_out(mine: &mut Stocked, token: impl Fn() -> String, code: u16, shut: impl FnOnce(&Stocked)) -> usize {
    let frames: Vec<Value> = rows().iter().flat_map(|row| (row.frames)(&mine.things)).collect();
    let mut sockets: Vec<Socket> = frames.iter().map(|_| mine.tenant.socket_with(&token())).collect();
    sockets.iter_mut().for_each(Socket::echoes);
    shut(mine);
    for (frame, socket) in frames.iter().zip(&mut sockets) {
        socket.ask(frame.clone());
    }
    for (frame, socket) in frames.iter().zip(&mut sockets) {
        let until = Instant::now() + SOON;
        loop {
            match socket.next_within(until.saturating_duration_since(Instant::now())) {
                Incoming::Frame(answer) => assert!(
                    matches!(answer["type"].as_str(), Some("error" | "goodbye" | "auth_expiring")),
                    "{frame}: {answer}"
                ),
                Incoming::Closed(closed) => {
                    assert_eq!(closed, Some(code), "{frame}");
                    break;
                }
                Incoming::Nothing => panic!("the socket of {frame} lives on"),
            }
        }
    }
    frames.len()
}

/// What is seen of a tenant but for its revocations and its audit trail, which say why a socket was shut out.
fn is_as_before(mine: &Stocked) {
    let now = mine.things.snapshot(&mine.tenant);
    for ((path, before), (_, after)) in mine.before.iter().zip(&now) {
        if !matches!(path.as_str(), "/v1/admin/audit" | "/v1/admin/revocations") {
            assert_eq!(before, after, "{path}");
        }
    }
}

#[test]
fn a_frame_does_nothing_once_the_token_of_its_socket_is_no_longer_good() {
    let server = server();
    let mut mine = Stocked::new(&server);
    let tenant = mine.tenant.id.clone();
    let of = |user: &'static str, seconds: u64| {
        let tenant = tenant.clone();
        move || {
            let mut claims = token::claims(&tenant, user, SCOPES);
            claims["exp"] = json!(token::now_seconds() + seconds);
            token::sign(&token::header(), &claims)
        }
    };
    let expired = is_shut_out(&mut mine, of(OWNER, 4), 3011, |_| {
        std::thread::sleep(Duration::from_millis(4_100))
    });
    is_as_before(&mine);
    // The sockets of another user who may do all that the owner may, so that the owner can look.
    let revoked = is_shut_out(&mut mine, of("dave", 600), 3500, |mine| {
        mine.admin()
            .post("/v1/admin/revocations", &json!({ "user": "dave" }))
            .json(201);
    });
    is_as_before(&mine);
    let ticket = mine
        .tenant
        .client_with(OWNER, SCOPES)
        .send("POST", "/v1/tickets", &[], &[])
        .json(201);
    let suspended = is_shut_out(&mut mine, of(OWNER, 600), 3502, |mine| hold(&mine.tenant, "suspend"));
    let path = format!("/v1/connect?ticket={}", ticket["ticket"].as_str().expect("a ticket"));
    let refused = Socket::connect(server.port(), &path, &[], &mine.tenant.observer);
    assert_eq!(
        refused.err().map(|refused| refused.status),
        Some(403),
        "a ticket of a suspended tenant"
    );
    hold(&mine.tenant, "resume");
    std::thread::sleep(super::SOON);
    is_as_before(&mine);
    println!(
        "{expired} frames after the end of a token, {revoked} after a revocation, {suspended} of a suspended tenant"
    );
}
