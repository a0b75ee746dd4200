//! Input that is wrong in every way: a clear error that names all faults, and the socket lives on.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::socket::{Incoming, Socket};
use tidegate_tests::tenant::Tenant;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

fn pointers(error: &Value) -> BTreeSet<String> {
    let details = error["details"].as_array().into_iter().flatten();
    details
        .filter_map(|fault| fault["pointer"].as_str())
        .map(str::to_owned)
        .collect()
}

fn set<const N: usize>(items: [&str; N]) -> BTreeSet<String> {
    items.into_iter().map(str::to_owned).collect()
}

fn nested(depth: usize) -> String {
    format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
}

fn error(socket: &mut Socket) -> Value {
    let frame = socket.frame(|frame| frame["type"] == "error");
    let error = frame["error"].clone();
    assert!(
        error["message"].as_str().is_some_and(|text| !text.is_empty()),
        "{frame}"
    );
    assert!(frame["timestamp"].is_string(), "{frame}");
    frame
}

#[test]
fn a_bad_frame_gets_a_clear_error_and_the_socket_lives_on() {
    let tenant = Tenant::shared();
    let mut socket = tenant.socket("alice");
    let id129 = "x".repeat(129);
    let deep = format!(r#"{{"action":"core.echo","payload":{}}}"#, nested(100));
    let very_deep = format!(r#"{{"action":"core.echo","payload":{}}}"#, nested(100_000));
    let huge = json!({ "action": "core.echo", "payload": "x".repeat(300 * 1024) }).to_string();
    for (text, code) in [
        ("", "VALIDATION_ERROR"),
        ("hello", "VALIDATION_ERROR"),
        ("{", "VALIDATION_ERROR"),
        ("{\"action\":\"core.echo\"", "VALIDATION_ERROR"),
        ("{\"action\":\"core.echo\"}}", "VALIDATION_ERROR"),
        ("[]", "VALIDATION_ERROR"),
        ("null", "VALIDATION_ERROR"),
        ("42", "VALIDATION_ERROR"),
        ("\"request\"", "VALIDATION_ERROR"),
        ("{}", "VALIDATION_ERROR"),
        ("{\"type\":\"teleport\"}", "VALIDATION_ERROR"),
        ("{\"type\":7}", "VALIDATION_ERROR"),
        ("{\"type\":\"ping\",\"id\":\"p\"}", "VALIDATION_ERROR"),
        ("{\"type\":\"attach\"}", "VALIDATION_ERROR"),
        ("{\"type\":\"attach\",\"job_id\":\"job_nonsense\"}", "VALIDATION_ERROR"),
        ("{\"type\":\"cancel\"}", "VALIDATION_ERROR"),
        ("{\"type\":\"presence\",\"channel\":\"c d\"}", "VALIDATION_ERROR"),
        ("{\"type\":\"auth\",\"token\":\"x\"}", "UNAUTHORIZED"),
        ("{\"type\":\"publish\",\"channel\":\"c\"}", "VALIDATION_ERROR"),
        ("{\"type\":\"subscribe\",\"channel\":7,\"after\":1}", "VALIDATION_ERROR"),
        ("{\"action\":\"no.such.action\"}", "INVALID_ACTION"),
        (
            "{\"action\":\"core.echo\",\"action\":\"core.echo\"}",
            "VALIDATION_ERROR",
        ),
        (
            "{\"action\":\"core.echo\",\"payload\":{\"a\":\"\\ud800\"}}x",
            "VALIDATION_ERROR",
        ),
        (
            &format!("{{\"id\":\"{id129}\",\"action\":\"core.echo\"}}"),
            "VALIDATION_ERROR",
        ),
        (&deep, "VALIDATION_ERROR"),
        (&very_deep, "VALIDATION_ERROR"),
        (&huge, "PAYLOAD_TOO_LARGE"),
    ] {
        let shown: String = text.chars().take(80).collect();
        socket.send_text(text);
        let answer = error(&mut socket);
        assert_eq!(answer["error"]["code"], code, "{shown}: {answer}");
        socket.echoes();
    }
}

#[test]
fn all_faults_of_a_frame_are_named_together() {
    let tenant = Tenant::shared();
    let mut socket = tenant.socket("alice");
    socket.send(&json!({
        "id": "x".repeat(129), "action": "has a space", "mode": "fast", "timeout_ms": "soon", "delay_ms": -1,
        "idempotency_key": "", "priority": 3, "metadata": { "n": 1, "ok": "yes" }, "traceparent": "00-x", "colour": 1,
    }));
    let answer = error(&mut socket);
    let wanted = set([
        "/id",
        "/action",
        "/mode",
        "/timeout_ms",
        "/delay_ms",
        "/idempotency_key",
        "/priority",
        "/metadata/n",
        "/traceparent",
        "/colour",
    ]);
    assert_eq!(pointers(&answer["error"]), wanted, "{answer}");

    // An id that can be read is echoed, whatever else is wrong.
    socket.send(&json!({ "id": "mine", "actoin": "core.echo" }));
    let answer = error(&mut socket);
    assert_eq!(answer["request_id"], "mine", "{answer}");
    assert_eq!(pointers(&answer["error"]), set(["/action", "/actoin"]), "{answer}");
    assert!(answer.to_string().contains("\"suggestion\":\"action\""), "{answer}");
    socket.echoes();
}

#[test]
fn a_binary_frame_gets_an_error_and_the_socket_lives_on() {
    let tenant = Tenant::shared();
    let mut socket = tenant.socket("alice");
    for bytes in [&b""[..], b"\x00\xff\xfe", b"{\"action\":\"core.echo\"}"] {
        socket.send_binary(bytes);
        assert_eq!(error(&mut socket)["error"]["code"], "VALIDATION_ERROR");
        socket.echoes();
    }
}

#[test]
fn a_frame_in_fragments_is_one_frame() {
    let tenant = Tenant::shared();
    let mut socket = tenant.socket("alice");
    let text = br#"{"id":"pieces","action":"core.echo","payload":"whole"}"#;
    for (index, piece) in text.chunks(20).enumerate() {
        let kind = if index == 0 { Data::Text } else { Data::Continue };
        let last = (index + 1) * 20 >= text.len();
        socket.send_raw(Frame::message(piece.to_vec(), OpCode::Data(kind), last));
    }
    assert_eq!(socket.answer("pieces")["data"], "whole");
}

#[test]
fn half_a_frame_harms_no_one() {
    let tenant = Tenant::shared();
    let mut neighbour = tenant.socket("alice");
    // A masked text frame that announces 100 bytes and brings 5; then silence, then a cut.
    let mut half = tenant.socket("alice");
    half.write_bytes(&[0x81, 0x80 | 100, 1, 2, 3, 4, b'{', b'"', b'i', b'd', b'"']);
    neighbour.echoes();
    half.cut();
    neighbour.echoes();
    // A fragment that is never continued.
    let mut half = tenant.socket("alice");
    half.send_raw(Frame::message(b"{\"id\":".to_vec(), OpCode::Data(Data::Text), false));
    neighbour.echoes();
    half.cut();
    neighbour.echoes();
}

#[test]
fn text_that_is_no_utf_8_is_refused_or_ends_that_socket_alone() {
    let tenant = Tenant::shared();
    let mut neighbour = tenant.socket("alice");
    let mut socket = tenant.socket("alice");
    let bytes = b"{\"action\":\"core.\xff\xfe\"}".to_vec();
    socket.send_raw(Frame::message(bytes, OpCode::Data(Data::Text), true));
    match socket.next_within(tidegate_tests::SOON) {
        Incoming::Frame(frame) => {
            assert_eq!(frame["error"]["code"], "VALIDATION_ERROR", "{frame}");
            socket.echoes();
        }
        // RFC 6455, section 8.1: the connection fails with 1007.
        Incoming::Closed(code) => assert!(matches!(code, None | Some(1007)), "{code:?}"),
        Incoming::Nothing => panic!("no answer at all"),
    }
    neighbour.echoes();
}

#[test]
fn a_frame_beyond_what_the_platform_takes_ends_that_socket_alone() {
    let tenant = Tenant::shared();
    let mut neighbour = tenant.socket("alice");
    let mut socket = tenant.socket("alice");
    socket.send_text(&"x".repeat(3 * 1024 * 1024));
    match socket.next_within(tidegate_tests::SOON) {
        Incoming::Frame(frame) => assert_eq!(frame["error"]["code"], "PAYLOAD_TOO_LARGE", "{frame}"),
        Incoming::Closed(code) => assert!(matches!(code, None | Some(1006 | 1009)), "{code:?}"),
        Incoming::Nothing => panic!("no answer at all"),
    }
    neighbour.echoes();
}

#[test]
fn a_ping_is_answered_to_the_letter() {
    let tenant = Tenant::shared();
    let mut socket = tenant.socket("alice");
    for _ in 0..3 {
        socket.send_text(r#"{"type":"ping"}"#);
        match socket.next_within(Duration::from_secs(5)) {
            Incoming::Frame(frame) => assert_eq!(frame, json!({ "type": "pong" })),
            other => panic!("no pong: {other:?}"),
        }
    }
    socket.echoes();
}

#[test]
fn a_bad_body_gets_a_clear_problem() {
    let tenant = Tenant::shared();
    let client = tenant.client("alice");
    let json = [("content-type", "application/json")];
    let deep = format!(r#"{{"action":"core.echo","payload":{}}}"#, nested(100_000));
    for (body, status) in [
        (&b"{"[..], 400),
        (b"hello", 400),
        (b"{\"action\":\"core.echo\",\"payload\":\"\xff\xfe\"}", 400),
        (b"[]", 422),
        (b"{}", 422),
        (deep.as_bytes(), 422),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let answer = client.send("POST", "/v1/requests", &json, body);
        assert_eq!(answer.status, status, "{shown}: {}", answer.text());
        answer.problem(status, "VALIDATION_ERROR");
    }
    let answer = client.post("/v1/requests", &json!({ "actoin": "a", "mode": 1, "timeout_ms": 0 }));
    let problem = answer.problem(422, "VALIDATION_ERROR");
    assert_eq!(
        pointers(&problem),
        set(["/action", "/actoin", "/mode", "/timeout_ms"]),
        "{problem}"
    );
    client
        .post("/v1/requests", &json!({ "action": "no.such" }))
        .problem(404, "INVALID_ACTION");

    let huge = json!({ "action": "core.echo", "payload": "x".repeat(1024 * 1024) });
    client.post("/v1/requests", &huge).problem(413, "PAYLOAD_TOO_LARGE");
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "nonsense",
    ] {
        let answer = client.send(
            "POST",
            "/v1/requests",
            &[("content-type", kind)],
            br#"{"action":"core.echo"}"#,
        );
        answer.problem(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let answer = client.send(
        "POST",
        "/v1/requests",
        &[("content-type", "application/json; charset=utf-8")],
        br#"{"action":"core.echo","payload":"Gr\u00fc\u00dfe"}"#,
    );
    assert_eq!(answer.json(200)["data"], "Grüße");
}

#[test]
fn a_wrong_method_or_path_is_answered_as_http_says() {
    let tenant = Tenant::shared();
    let client = tenant.client("alice");
    for (method, path, allowed) in [
        ("GET", "/v1/requests", "POST"),
        ("DELETE", "/v1/requests", "POST"),
        ("PATCH", "/v1/objects/a", "PUT"),
        ("DELETE", "/healthz", "GET"),
        ("GET", "/v1/tickets", "POST"),
        ("GET", "/v1/jobs/job_00000000000000000:cancel", "POST"),
    ] {
        let answer = client.send(method, path, &[], &[]);
        answer.problem(405, "METHOD_NOT_ALLOWED");
        let allow = answer.header("allow");
        assert!(
            allow.split(',').any(|name| name.trim() == allowed),
            "{method} {path}: Allow: {allow}"
        );
    }
    for path in [
        "/",
        "/v1",
        "/v2/requests",
        "/v1/nothing",
        "/v1/jobs/not-an-id",
        "/favicon.ico",
        "/v1/requests/",
    ] {
        client.get(path).is_not_found();
    }
    let answer = client.send("GET", "/v1/connect", &[], &[]);
    assert!(
        matches!(answer.status, 400 | 426),
        "an upgrade is asked for: {}",
        answer.text()
    );
}
