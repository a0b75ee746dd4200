//! The socket door: one connection, its frames, and the checks that every frame goes through.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::Frame;
use tungstenite::{Error, Message, WebSocket};

use crate::SOON;
use crate::history::{Observer, Stream, is_terminal};
use crate::unique;

/// A connection.
pub struct Socket {
    socket: WebSocket<TcpStream>,
    observer: Arc<Observer>,
    streams: HashMap<String, Stream>,
    /// Frames that came while another one was waited for.
    waiting: VecDeque<Value>,
    /// The first frame.
    pub welcome: Value,
    /// The subprotocol that the server chose.
    pub subprotocol: Option<String>,
}

/// What came of waiting for a frame.
#[derive(Debug)]
pub enum Incoming {
    /// A frame.
    Frame(Value),
    /// The connection has ended; with a close code where the server said one.
    Closed(Option<u16>),
    /// Nothing yet.
    Nothing,
}

/// An upgrade that was refused.
#[derive(Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// As much of the body as came with the head.
    pub body: String,
}

impl Socket {
    /// Connects to `path` (usually `/v1/connect`) on 127.0.0.1 with these headers.
    ///
    /// # Panics
    /// Where there is no server, or neither `welcome` nor `goodbye` comes.
    pub fn connect(
        port: u16,
        path: &str,
        headers: &[(&'static str, &str)],
        observer: &Arc<Observer>,
    ) -> Result<Self, Refused> {
        let mut request = format!("ws://127.0.0.1:{port}{path}")
            .into_client_request()
            .expect("an address");
        for (name, value) in headers {
            request
                .headers_mut()
                .append(*name, HeaderValue::from_str(value).expect("a header"));
        }
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_read_timeout(Some(SOON)).expect("a time limit");
        stream.set_nodelay(true).expect("no delay");
        let (socket, answer) = match tungstenite::client::client(request, stream) {
            Ok(connected) => connected,
            Err(HandshakeError::Failure(Error::Http(answer))) => {
                let body = answer.body().as_deref().unwrap_or_default();
                let body = String::from_utf8_lossy(body).into_owned();
                return Err(Refused {
                    status: answer.status().as_u16(),
                    body,
                });
            }
            Err(error) => panic!("the handshake failed: {error}"),
        };
        let subprotocol = answer.headers().get("sec-websocket-protocol");
        let mut connected = Self {
            socket,
            observer: Arc::clone(observer),
            streams: HashMap::new(),
            waiting: VecDeque::new(),
            welcome: Value::Null,
            subprotocol: subprotocol.and_then(|value| value.to_str().ok()).map(str::to_owned),
        };
        connected.welcome = connected.frame(|frame| frame["type"] == "welcome" || frame["type"] == "goodbye");
        Ok(connected)
    }

    /// Sends a frame. A connection that has gone is noticed on reading.
    pub fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string());
    }

    /// Sends text as it is.
    pub fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text));
    }

    /// Sends bytes in a binary frame.
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send_message(Message::binary(bytes.to_vec()));
    }

    fn send_message(&mut self, message: Message) {
        // A write waits for room; one that takes this long is a fault of the server.
        self.socket
            .get_ref()
            .set_write_timeout(Some(SOON))
            .expect("a time limit");
        let _ = self.socket.send(message);
    }

    /// Sends one WebSocket frame as it is: a fragment, or a text frame that is no UTF-8.
    pub fn send_raw(&mut self, frame: Frame) {
        self.send_message(Message::Frame(frame));
    }

    /// Writes bytes under the WebSocket protocol: what comes of half a frame.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        let _ = self.socket.get_mut().write_all(bytes);
    }

    /// Cuts the connection without a word.
    pub fn cut(self) {
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
    }

    /// The next thing that comes within `wait`, whatever it is; frames kept back come first.
    pub fn next_within(&mut self, wait: Duration) -> Incoming {
        match self.waiting.pop_front() {
            Some(frame) => Incoming::Frame(frame),
            None => self.read(Instant::now() + wait),
        }
    }

    fn read(&mut self, until: Instant) -> Incoming {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Incoming::Nothing;
            }
            self.socket
                .get_ref()
                .set_read_timeout(Some(left))
                .expect("a time limit");
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let frame = serde_json::from_str(text.as_str());
                    let frame: Value = frame.unwrap_or_else(|_| panic!("a frame that is no JSON: {text}"));
                    if let Some(request) = frame["request_id"].as_str() {
                        let stream = self.streams.entry(request.to_owned()).or_default();
                        stream.see(&self.observer, &frame);
                    }
                    return Incoming::Frame(frame);
                }
                Ok(Message::Close(close)) => return Incoming::Closed(close.map(|close| close.code.into())),
                Ok(_) => {}
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Incoming::Closed(None),
            }
        }
    }

    /// The first frame that `wanted` takes; the others are kept for later.
    ///
    /// # Panics
    /// Where none comes for [`SOON`], or the connection ends.
    pub fn frame(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(found) = self.waiting.iter().position(&wanted) {
            return self.waiting.remove(found).expect("it was just found");
        }
        let until = Instant::now() + SOON;
        loop {
            match self.read(until) {
                Incoming::Frame(frame) if wanted(&frame) => return frame,
                Incoming::Frame(frame) => self.waiting.push_back(frame),
                other => panic!("the frame never came ({other:?}); these did: {:#?}", self.waiting),
            }
        }
    }

    /// The next frame that answers `request`.
    pub fn answer(&mut self, request: &str) -> Value {
        self.frame(|frame| frame["request_id"] == request)
    }

    /// Sends `frame` with an id of its own, and gives the id.
    pub fn ask(&mut self, mut frame: Value) -> String {
        let id = format!("r-{}", unique());
        frame["id"] = json!(id);
        self.send(&frame);
        id
    }

    /// Sends a request that becomes a job; gives its id and the job's, once it is acknowledged.
    ///
    /// # Panics
    /// Where anything but an acknowledgment comes first.
    pub fn enqueue(&mut self, frame: Value) -> (String, String) {
        let id = self.ask(frame);
        let acknowledgment = self.answer(&id);
        assert_eq!(acknowledgment["type"], "acknowledgment", "{acknowledgment}");
        (id, job_of(&acknowledgment))
    }

    /// Reads what answers `request` up to the job's end, and gives all of it.
    pub fn until_end(&mut self, request: &str) -> Vec<Value> {
        let mut frames = vec![self.answer(request)];
        while !is_terminal(&frames[frames.len() - 1]) {
            frames.push(self.answer(request));
        }
        frames
    }

    /// The job's terminal event, in answer to `request`.
    pub fn end(&mut self, request: &str) -> Value {
        self.until_end(request).pop().expect("there is at least the end")
    }

    /// Attaches to `job`, after the event `after`; gives the id of the attach.
    pub fn attach(&mut self, job: &str, after: Option<u64>) -> String {
        let mut frame = json!({ "type": "attach", "job_id": job });
        if let Some(after) = after {
            frame["after"] = json!(after);
        }
        self.ask(frame)
    }

    /// The latest `seq` seen in answer to `request`.
    pub fn seq(&self, request: &str) -> Option<u64> {
        self.streams.get(request).and_then(Stream::seq)
    }

    /// Checks that an answer comes to an echo: the connection, and what is behind it, lives.
    pub fn echoes(&mut self) {
        let word = unique();
        let id = self.ask(json!({ "action": "core.echo", "mode": "sync", "payload": { "word": word } }));
        let answer = self.answer(&id);
        assert_eq!(answer["type"], "response", "{answer}");
        assert_eq!(answer["success"], true, "{answer}");
        assert!(answer["data"].to_string().contains(&word), "{answer}");
    }

    /// Waits for the end of the connection, passing over frames; gives the close code.
    ///
    /// # Panics
    /// Where it does not end within `wait`.
    pub fn closed_within(&mut self, wait: Duration) -> Option<u16> {
        let until = Instant::now() + wait;
        loop {
            match self.read(until) {
                Incoming::Closed(code) => return code,
                Incoming::Frame(frame) => self.waiting.push_back(frame),
                Incoming::Nothing => panic!("the connection did not end; these came: {:#?}", self.waiting),
            }
        }
    }
}

/// The job that a frame or body names.
///
/// # Panics
/// Where it names none.
pub fn job_of(value: &Value) -> String {
    value["job_id"]
        .as_str()
        .unwrap_or_else(|| panic!("no job_id in {value}"))
        .to_owned()
}
