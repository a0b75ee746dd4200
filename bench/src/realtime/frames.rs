//! WebSocket frames (RFC 6455) as a client sends and reads them: unfragmented, without extensions, which is what every server here
//! uses for a message. A swarm holds no buffer for a socket that is idle, which a library that serves one socket well would.

use anyhow::{Result, bail};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// A frame that is longer than this is no frame of these servers. Bytes.
const BYTES_MAX: u64 = 1 << 20;

/// A frame of the server.
#[derive(Debug, PartialEq)]
pub enum Frame<'a> {
    /// A message.
    Text(&'a str),
    /// The server asks whether the client is there.
    Ping(&'a [u8]),
    /// The answer to [`ping`].
    Pong,
    /// The end, with its code.
    Close(u16),
}

/// The first frame of `bytes` and its length; `None` while it is not all there.
///
/// Errors: what no server here sends.
pub fn first(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let [head, length, rest @ ..] = bytes else {
        return Ok(None);
    };
    let is_masked = *length & MASKED != 0;
    let (length, rest) = match (*length & !MASKED, rest) {
        (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest),
        (127, [a, b, c, d, e, f, g, h, rest @ ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest),
        (126 | 127, _) => return Ok(None),
        (length, rest) => (u64::from(length), rest),
    };
    if *head & FINAL == 0 || is_masked || length > BYTES_MAX {
        bail!("a frame in parts, masked, or of more than {BYTES_MAX} bytes");
    }
    let Some(payload) = rest.get(..usize::try_from(length)?) else {
        return Ok(None);
    };
    let frame = match *head & 0x0f {
        TEXT => Frame::Text(std::str::from_utf8(payload)?),
        PING => Frame::Ping(payload),
        PONG => Frame::Pong,
        CLOSE => Frame::Close(match payload {
            [a, b, ..] => u16::from_be_bytes([*a, *b]),
            _ => 1005,
        }),
        other => bail!("a frame of the type {other}"),
    };
    Ok(Some((frame, bytes.len() - rest.len() + payload.len())))
}

/// A message.
pub fn text(text: &str) -> Vec<u8> {
    frame(TEXT, text.as_bytes())
}

/// The question whether the server is there, which it has to answer by itself.
pub fn ping() -> Vec<u8> {
    frame(PING, &[])
}

/// The answer to [`Frame::Ping`].
pub fn pong(payload: &[u8]) -> Vec<u8> {
    frame(PONG, payload)
}

/// The mask is zero: it guards proxies between strangers, and costs the client nothing so.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![FINAL | kind];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => frame.push(MASKED | short),
        (_, Ok(long)) => {
            frame.push(MASKED | 126);
            frame.extend(long.to_be_bytes());
        }
        _ => {
            frame.push(MASKED | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frame `client` as a server would send it: without a mask.
    fn from_server(client: &[u8]) -> Vec<u8> {
        let wide = match client[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mut server = client[..2 + wide].to_vec();
        server[1] &= 0x7f;
        server.extend(&client[2 + wide + 4..]);
        server
    }

    #[test]
    fn frames_of_every_length_are_read_whole_and_never_before() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let message = "x".repeat(length);
            let mut bytes = from_server(&text(&message));
            let whole = bytes.len();
            assert_eq!(first(&bytes).unwrap(), Some((Frame::Text(&message), whole)));
            for cut in [0, 1, 2, whole / 2, whole - 1] {
                assert_eq!(first(&bytes[..cut.min(whole - 1)]).unwrap(), None, "{length} {cut}");
            }
            bytes.extend(b"next");
            assert_eq!(first(&bytes).unwrap().map(|(_, length)| length), Some(whole));
        }
    }

    /// RFC 6455, 5.7: a single-frame unmasked text message that contains "Hello".
    #[test]
    fn the_example_of_the_specification_is_read() {
        let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(first(&hello).unwrap(), Some((Frame::Text("Hello"), 7)));
    }

    #[test]
    fn control_frames_are_told_apart_and_what_nobody_sends_is_an_error() {
        assert_eq!(first(&[0x89, 1, b'a']).unwrap(), Some((Frame::Ping(b"a"), 3)));
        assert_eq!(first(&from_server(&ping())).unwrap(), Some((Frame::Ping(b""), 2)));
        assert_eq!(first(&from_server(&pong(b"ab"))).unwrap(), Some((Frame::Pong, 4)));
        assert_eq!(first(&[0x88, 2, 0x03, 0xf0]).unwrap(), Some((Frame::Close(1008), 4)));
        assert!(first(&[0x01, 1, b'a']).is_err(), "a part of a message");
        assert!(first(&[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0]).is_err(), "too long");
        assert!(first(&[0x81, 1, 0xff]).is_err(), "no UTF-8");
        assert!(
            first(&[0x81, 0x85, 0, 0, 0, 0, 1, 2, 3, 4, 5]).is_err(),
            "masked by a server"
        );
    }
}
