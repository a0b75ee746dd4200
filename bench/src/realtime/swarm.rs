//! Many sockets of one thread. One that is idle costs a descriptor and some hundred bytes here, and no buffer: what is held open is the
//! server's, and what comes for ten thousand sockets is read as fast as they are.

use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use tokio::net::TcpSocket;

use super::frames::{self, Frame};

/// What is read at once. Bytes.
const READ_BYTES: usize = 256 * 1024;
/// Events that are looked at between two looks at the clock.
const EVENTS: usize = 1024;
/// How long a server may leave a full connection unread.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// Addresses that connections come from, each swarm's from one. An address has some 28,000 ports on Linux, and a port that was closed
/// rests for a minute.
const SOURCES: u8 = 200;

/// What a socket says.
#[derive(Debug)]
pub enum Heard<'a> {
    /// It is a WebSocket from now on.
    Upgraded,
    /// A message, or a line of one: Centrifuge answers several in one.
    Text(&'a str),
    /// The answer to a ping.
    Pong,
}

/// Swarms so far.
static SWARMS: AtomicU8 = AtomicU8::new(0);

/// Some sockets to one server.
pub struct Swarm {
    /// The address that they come from, of those of loopback.
    source: u8,
    poll: Poll,
    sockets: Vec<Socket>,
    buffer: Vec<u8>,
    events: Events,
}

struct Socket {
    stream: TcpStream,
    upgraded: bool,
    /// The beginning of a frame that has not come whole.
    begun: Vec<u8>,
}

impl Swarm {
    /// One without sockets.
    pub fn new() -> Result<Self> {
        Ok(Self {
            source: SWARMS.fetch_add(1, Ordering::Relaxed) % SOURCES,
            poll: Poll::new()?,
            sockets: Vec::new(),
            buffer: vec![0; READ_BYTES],
            events: Events::with_capacity(EVENTS),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Connects one more, and sends `head`, the request for an upgrade.
    pub async fn connect(&mut self, to: SocketAddr, head: &str) -> Result<()> {
        let socket = TcpSocket::new_v4()?;
        // Linux has all of 127/8; elsewhere one address has to do.
        if cfg!(target_os = "linux") {
            let from = Ipv4Addr::new(127, 0, 1, 1 + self.source);
            socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
        }
        let stream = socket.connect(to).await.with_context(|| {
            let held = self.sockets.len();
            format!("no connection to {to} beside {held} others (`ulimit -n` bounds them)")
        })?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream.into_std()?);
        let token = Token(self.sockets.len());
        self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
        write(&mut stream, head.as_bytes())?;
        self.sockets.push(Socket {
            stream,
            upgraded: false,
            begun: Vec::new(),
        });
        Ok(())
    }

    /// Sends a message on a socket.
    pub fn say(&mut self, socket: usize, text: &str) -> Result<()> {
        self.write(socket, &frames::text(text))
    }

    /// Asks on a socket whether the server is there.
    pub fn ping(&mut self, socket: usize) -> Result<()> {
        self.write(socket, &frames::ping())
    }

    fn write(&mut self, socket: usize, bytes: &[u8]) -> Result<()> {
        let socket = self.sockets.get_mut(socket).context("no such socket")?;
        write(&mut socket.stream, bytes)
    }

    /// Hears what comes until `until`, or until something came. What `hear` gives is said on the same socket.
    ///
    /// Errors: a socket was closed, or what came is no WebSocket.
    pub fn hear(
        &mut self,
        until: Instant,
        hear: &mut dyn FnMut(usize, Heard<'_>) -> Result<Option<String>>,
    ) -> Result<()> {
        let wait = until.saturating_duration_since(Instant::now());
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        let mut buffer = mem::take(&mut self.buffer);
        for event in &events {
            let Token(index) = event.token();
            let socket = self.sockets.get_mut(index).context("no such socket")?;
            let heard = socket.read(index, &mut buffer, hear);
            heard.with_context(|| format!("socket {index}"))?;
        }
        self.events = events;
        self.buffer = buffer;
        Ok(())
    }
}

impl Socket {
    /// Reads what is there. The notice of readiness comes once for each time that something came.
    fn read(
        &mut self,
        index: usize,
        buffer: &mut [u8],
        hear: &mut dyn FnMut(usize, Heard<'_>) -> Result<Option<String>>,
    ) -> Result<()> {
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let fresh = buffer.get(..read).unwrap_or_default();
            if self.begun.is_empty() {
                let used = self.take(index, fresh, hear)?;
                self.begun = fresh.get(used..).unwrap_or_default().to_vec();
            } else {
                let mut all = mem::take(&mut self.begun);
                all.extend(fresh);
                let used = self.take(index, &all, hear)?;
                all.drain(..used);
                self.begun = all;
            }
            if read < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Hears every whole frame of `bytes`; gives how many bytes they were.
    fn take(
        &mut self,
        index: usize,
        bytes: &[u8],
        hear: &mut dyn FnMut(usize, Heard<'_>) -> Result<Option<String>>,
    ) -> Result<usize> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let heard = if self.upgraded {
                let Some((frame, length)) = frames::first(rest)? else {
                    return Ok(at);
                };
                at += length;
                match frame {
                    Frame::Text(text) => {
                        for line in text.lines() {
                            if let Some(answer) = hear(index, Heard::Text(line))? {
                                write(&mut self.stream, &frames::text(&answer))?;
                            }
                        }
                        continue;
                    }
                    Frame::Pong => Heard::Pong,
                    Frame::Ping(payload) => {
                        write(&mut self.stream, &frames::pong(payload))?;
                        continue;
                    }
                    Frame::Close(code) => bail!("the server closed the socket with {code}"),
                }
            } else {
                let Some(length) = upgraded(rest)? else {
                    return Ok(at);
                };
                at += length;
                self.upgraded = true;
                Heard::Upgraded
            };
            if let Some(answer) = hear(index, heard)? {
                write(&mut self.stream, &frames::text(&answer))?;
            }
        }
    }
}

/// The length of the head that accepts an upgrade; `None` while it is not all there.
fn upgraded(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    if !bytes.starts_with(b"HTTP/1.1 101 ") {
        bail!("the upgrade was answered: {}", String::from_utf8_lossy(bytes));
    }
    Ok(Some(end + 4))
}

/// Writes all of it. What is sent is small, so that a server which reads has room for it.
fn write(stream: &mut TcpStream, mut bytes: &[u8]) -> Result<()> {
    let until = Instant::now() + WRITE_MAX;
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("a frame could not be sent"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_is_taken_when_its_head_is_there_and_a_refusal_is_shown() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";
        assert_eq!(upgraded(head).unwrap(), Some(head.len()));
        assert_eq!(upgraded(&head[..head.len() - 1]).unwrap(), None);
        let refused = upgraded(b"HTTP/1.1 429 Too Many Requests\r\n\r\n").unwrap_err();
        assert!(refused.to_string().contains("429"), "{refused}");
    }

    /// A server that sends `pieces` one by one after the upgrade, and gives what it was sent.
    fn server(pieces: Vec<Vec<u8>>) -> (SocketAddr, std::thread::JoinHandle<Vec<u8>>) {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4];
            stream.read_exact(&mut head).unwrap();
            stream.write_all(b"HTTP/1.1 101 Yes\r\n\r\n").unwrap();
            for piece in pieces {
                std::thread::sleep(Duration::from_millis(20));
                stream.write_all(&piece).unwrap();
            }
            let mut answer = vec![0; 8];
            stream.read_exact(&mut answer).unwrap();
            answer
        });
        (address, thread)
    }

    #[tokio::test]
    async fn a_message_in_pieces_is_heard_once_and_answered() {
        let pieces = vec![vec![0x81], vec![2, b'h'], vec![b'i', 0x81, 1], vec![b'!']];
        let (address, thread) = server(pieces);
        let mut swarm = Swarm::new().unwrap();
        swarm.connect(address, "head").await.unwrap();
        let mut heard = Vec::new();
        while heard.len() < 3 {
            let until = Instant::now() + Duration::from_secs(5);
            swarm
                .hear(until, &mut |socket, message| {
                    assert_eq!(socket, 0);
                    let text = format!("{message:?}");
                    let answer = text.contains("hi").then(|| String::from("ok"));
                    heard.push(text);
                    Ok(answer)
                })
                .unwrap();
        }
        assert_eq!(heard, ["Upgraded", "Text(\"hi\")", "Text(\"!\")"]);
        assert_eq!(thread.join().unwrap(), frames::text("ok"));
    }
}
