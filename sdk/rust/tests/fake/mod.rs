//! A server in the same process that says exactly what a test tells it to: HTTP by a function, sockets by hand.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it is part of the tests"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// No step of a test takes so long.
const STEP_MAX: Duration = Duration::from_secs(20);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An answer to give.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        let kind = if status < 400 {
            "application/json"
        } else {
            "application/problem+json"
        };
        Self {
            status,
            headers: vec![("content-type", kind.to_owned())],
            body: body.to_string().into_bytes(),
        }
    }

    pub fn problem(status: u16, code: &str) -> Self {
        Self::json(
            status,
            &json!({"status":status,"code":code,"detail":format!("This is {code}."),"retryable":false}),
        )
    }

    pub fn bytes(kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", kind.to_owned())],
            body: body.into(),
        }
    }
}

type Respond = dyn Fn(&Received) -> Option<Reply> + Send + Sync;

/// The server. Ends with the test's runtime.
pub struct Fake {
    pub url: String,
    sockets: mpsc::UnboundedReceiver<Socket>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Fake {
    /// A server that answers HTTP as `respond` says; `None` is `NOT_FOUND`, and on `/v1/connect` a socket.
    pub async fn start(respond: impl Fn(&Received) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, sockets) = mpsc::unbounded_channel();
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = received.clone();
        let respond: Arc<Respond> = Arc::new(respond);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, respond.clone(), sender.clone(), log.clone()));
            }
        });
        Self { url, sockets, received }
    }

    /// The next socket, before its `welcome`.
    pub async fn socket(&mut self) -> Socket {
        within(self.sockets.recv()).await.unwrap()
    }

    /// The next socket, welcomed with a heartbeat of a minute.
    pub async fn welcomed(&mut self) -> Socket {
        let mut socket = self.socket().await;
        socket.welcome(60_000).await;
        socket
    }

    /// Every HTTP request so far, upgrades included.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

/// Waits for a step of a test, with an end to it.
pub async fn within<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(STEP_MAX, step)
        .await
        .expect("a step took too long")
}

/// A socket from the server's side.
pub struct Socket {
    pub authorization: String,
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    pub async fn welcome(&mut self, heartbeat_ms: u64) {
        self.send(json!({"type":"welcome","connection_id":"con_1","protocol":"tidegate.v1","tenant":"acme","user":"ada",
            "server_time":"2026-11-21T07:00:00.000Z","limits":{"frame_bytes":262_144,"in_flight":64},"heartbeat_ms":heartbeat_ms}))
        .await;
    }

    pub async fn send(&mut self, frame: Value) {
        within(self.stream.send(Message::text(frame.to_string())))
            .await
            .unwrap();
    }

    /// The next text, to the letter.
    pub async fn text(&mut self) -> String {
        loop {
            match within(self.stream.next()).await {
                Some(Ok(Message::Text(text))) => return text.to_string(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("no text: {other:?}"),
            }
        }
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// Waits until the client has gone.
    pub async fn gone(&mut self) {
        while let Some(Ok(_)) = within(self.stream.next()).await {}
    }

    pub async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame {
            code: code.into(),
            reason: reason.to_owned().into(),
        };
        within(self.stream.close(Some(frame))).await.unwrap();
        self.gone().await;
    }
}

async fn serve(
    mut stream: TcpStream,
    respond: Arc<Respond>,
    sockets: mpsc::UnboundedSender<Socket>,
    log: Arc<Mutex<Vec<Received>>>,
) {
    // The head is looked at first and left where it is: a socket's handshake reads it itself.
    let Some(head) = peek_head(&stream).await else {
        return;
    };
    if head.path.starts_with("/v1/connect") {
        log.lock().unwrap().push(head.clone());
        if respond(&head).is_none() {
            let authorization = head.header("authorization").unwrap_or_default().to_owned();
            #[allow(clippy::result_large_err, reason = "the type is the library's")]
            let accept = |_: &Request, response: Response| -> Result<Response, ErrorResponse> { Ok(response) };
            if let Ok(stream) = tokio_tungstenite::accept_hdr_async(stream, accept).await {
                let _ = sockets.send(Socket { authorization, stream });
            }
            return;
        }
    }
    let mut kept = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut kept).await {
        if !request.path.starts_with("/v1/connect") {
            log.lock().unwrap().push(request.clone());
        }
        let reply = respond(&request).unwrap_or_else(|| Reply::problem(404, "NOT_FOUND"));
        let mut head = format!(
            "HTTP/1.1 {} Said\r\ncontent-length: {}\r\n",
            reply.status,
            reply.body.len()
        );
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let body = if request.method == "HEAD" { &[][..] } else { &reply.body };
        let sent = [head.as_bytes(), body].concat();
        if stream.write_all(&sent).await.is_err() {
            return;
        }
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

fn parse_head(bytes: &[u8]) -> Received {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let mut word = || first.next().unwrap_or_default().to_owned();
    let (method, path) = (word(), word());
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Received {
        method,
        path,
        headers: lines.filter_map(field).collect(),
        body: Vec::new(),
    }
}

async fn peek_head(stream: &TcpStream) -> Option<Received> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let length = stream.peek(&mut bytes).await.ok()?;
        if length == 0 {
            return None;
        }
        if let Some(end) = head_end(&bytes[..length]) {
            return Some(parse_head(&bytes[..end]));
        }
        tokio::task::yield_now().await;
    }
}

async fn read_request(stream: &mut TcpStream, kept: &mut Vec<u8>) -> Option<Received> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        if let Some(end) = head_end(kept) {
            let mut request = parse_head(&kept[..end]);
            let length = request
                .header("content-length")
                .map_or(0, |value| value.parse().unwrap());
            if kept.len() >= end + length {
                request.body = kept[end..end + length].to_vec();
                kept.drain(..end + length);
                return Some(request);
            }
        }
        match stream.read(&mut chunk).await {
            Ok(length) if length > 0 => kept.extend_from_slice(&chunk[..length]),
            _ => return None,
        }
    }
}
