//! One WebSocket of the load, which reads of each frame only what it needs.

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::server::Target;

/// An open socket.
pub struct Connection(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// A frame of the server.
pub struct Incoming(Utf8Bytes);

/// What the load reads of a frame.
#[derive(Deserialize)]
pub struct Head<'a> {
    /// `type`.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The request that it answers.
    #[serde(default)]
    pub request_id: &'a str,
}

impl Connection {
    /// Connects, and waits for the `welcome` of a server that sends one.
    pub async fn open(target: &Target) -> Result<Self> {
        let mut request = target.url.as_str().into_client_request()?;
        if let Some(token) = &target.token {
            let value = format!("Bearer {token}").parse()?;
            request.headers_mut().insert("authorization", value);
        }
        let (socket, _) = tokio_tungstenite::connect_async_with_config(request, None, true)
            .await
            .with_context(|| format!("no connection to {}", target.url))?;
        let mut connection = Self(socket);
        if target.token.is_some() {
            let first = connection.next().await?;
            if first.head()?.kind != "welcome" {
                bail!("the first frame was {}", first.0);
            }
        }
        Ok(connection)
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: String) -> Result<()> {
        Ok(self.0.send(Message::text(frame)).await?)
    }

    /// The next text frame. An `error` frame is an error here: figures of failures would be worth nothing.
    /// Giving it up while it waits loses nothing.
    pub async fn next(&mut self) -> Result<Incoming> {
        let incoming = self.next_of_any_kind().await?;
        if incoming.head()?.kind == "error" {
            bail!("the server answered {}", incoming.0);
        }
        Ok(incoming)
    }

    /// The next text frame, whatever it says.
    pub async fn next_of_any_kind(&mut self) -> Result<Incoming> {
        loop {
            match self.0.next().await.context("the server closed the socket")?? {
                Message::Text(text) => return Ok(Incoming(text)),
                Message::Close(frame) => bail!("the server closed the socket: {frame:?}"),
                _ => {}
            }
        }
    }
}

impl Incoming {
    /// Its type and request.
    pub fn head(&self) -> Result<Head<'_>> {
        serde_json::from_str(&self.0).with_context(|| format!("a frame that cannot be read: {}", self.0))
    }

    /// All of it.
    pub fn value(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.0)?)
    }
}
