//! One HTTP connection of the load, kept open: what a client or a worker does that has no socket.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// An open connection, with the token that its requests carry unless they bring their own.
pub struct Http {
    stream: BufReader<TcpStream>,
    address: String,
    token: String,
}

impl Http {
    /// Connects to `address`, a host with its port.
    pub async fn open(address: &str, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            address: address.to_owned(),
            token: token.to_owned(),
        })
    }

    /// Sends a body of JSON, and gives the answer's.
    ///
    /// Errors: the answer is no success, or no JSON.
    pub async fn json(&mut self, method: &str, path: &str, body: &str) -> Result<Value> {
        let token = self.token.clone();
        let (status, text) = self.send(method, path, &token, "application/json", body).await?;
        if !(200..300).contains(&status) {
            bail!("{method} {path} was answered {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("{method} {path} was answered no JSON: {text}"))
    }

    /// Sends a request with a token and a type of its own; gives the status and the text of the answer.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        content_type: &str,
        body: &str,
    ) -> Result<(u16, String)> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        // In one piece: a head that goes ahead of its body would wait for its acknowledgment.
        self.stream.write_all((head + body).as_bytes()).await?;
        self.answer()
            .await
            .with_context(|| format!("no answer to {method} {path}"))
    }

    async fn answer(&mut self) -> Result<(u16, String)> {
        let status = self.line().await?;
        let status = status.split(' ').nth(1).context("no status")?.parse()?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header without a value")?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse()?,
                "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
        let mut body = Vec::new();
        if !chunked {
            self.append(&mut body, length).await?;
        }
        while chunked {
            let size = usize::from_str_radix(&self.line().await?, 16).context("the size of a chunk")?;
            self.append(&mut body, size).await?;
            self.line().await?;
            chunked = size > 0;
        }
        Ok((status, String::from_utf8(body)?))
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }

    async fn append(&mut self, body: &mut Vec<u8>, bytes: usize) -> Result<()> {
        let before = body.len();
        body.resize(before + bytes, 0);
        let rest = body.get_mut(before..).unwrap_or_default();
        self.stream.read_exact(rest).await?;
        Ok(())
    }
}
