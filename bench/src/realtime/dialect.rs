//! How each server is spoken with, so that all do the same work on the same data. What is measured knows none of this.

use anyhow::{Result, bail};

use super::swarm::Heard;

/// The channel that everybody follows: its messages are not kept.
pub const LIVE: &str = "live";
/// One whose messages are stored before they are told.
pub const STORED: &str = "stored";
/// The text that keeps a socket of an object open, and its answer.
const PING: &str = r#"{"type":"ping"}"#;
const PONG: &str = r#"{"type":"pong"}"#;
/// Begins the number that each payload carries: when it was sent.
const SENT: &str = r#""sent":"#;

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Ours.
    Tidegate,
    /// That of the objects in `bench/baseline/realtime`: our frames, without a welcome; who is connected follows.
    Room,
    /// The same, behind what the Agents SDK says first.
    Agent,
    /// The JSON protocol of Centrifuge.
    Centrifuge,
}

/// What a socket does with what it heard while it joins.
#[derive(Debug, PartialEq)]
pub enum Join {
    /// It waits for more.
    Wait,
    /// It says this, and waits for more.
    Say(String),
    /// It is there.
    There,
}

/// What a message means to a socket that has joined.
#[derive(Debug, PartialEq)]
pub enum Meaning {
    /// The payload that was sent at this time, in nanoseconds: an answer, or a message of the channel.
    Payload(u64),
    /// The answer to a ping.
    Pong,
    /// The server asks, and wants this for an answer.
    Answer(&'static str),
    /// Nothing that is counted.
    Other,
}

impl Dialect {
    /// Where sockets go.
    pub fn path(self) -> &'static str {
        match self {
            Self::Tidegate => "/v1/connect",
            Self::Room | Self::Agent => "/room",
            Self::Centrifuge => "/connection/websocket",
        }
    }

    /// The request for an upgrade.
    pub fn head(self, host: &str, token: Option<&str>) -> String {
        let token = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
        // The key is that of RFC 6455's example: it keeps caches away, which are not here.
        format!(
            "GET {} HTTP/1.1\r\nhost: {host}\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{token}\r\n",
            self.path()
        )
    }

    /// The next step of a socket that joins, and follows `channel` if there is one.
    pub fn join(self, heard: &Heard<'_>, channel: Option<&str>) -> Result<Join> {
        let text = match heard {
            Heard::Text(text) => *text,
            Heard::Pong => return Ok(Join::Wait),
            Heard::Upgraded => {
                return Ok(match self {
                    Self::Room => Join::There,
                    Self::Centrifuge => Join::Say(String::from(r#"{"id":1,"connect":{}}"#)),
                    Self::Tidegate | Self::Agent => Join::Wait,
                });
            }
        };
        // One that is there may be asked while others still come.
        if let Meaning::Answer(answer) = self.meaning(text)? {
            return Ok(Join::Say(answer.to_owned()));
        }
        let follow = |frame: String| channel.map_or(Join::There, |_| Join::Say(frame));
        let channel = channel.unwrap_or_default();
        Ok(match self {
            Self::Tidegate if text.starts_with(r#"{"type":"welcome""#) => {
                follow(format!(r#"{{"type":"subscribe","id":"s","channel":"{channel}"}}"#))
            }
            Self::Tidegate if text.starts_with(r#"{"type":"subscribed""#) => Join::There,
            // The last of what it says first.
            Self::Agent if text.contains("cf_agent_mcp_servers") => Join::There,
            Self::Centrifuge if text.contains(r#""connect":{"#) => {
                follow(format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#))
            }
            Self::Centrifuge if text.contains(r#""subscribe":{"#) => Join::There,
            _ => Join::Wait,
        })
    }

    /// A request that is answered with its payload.
    pub fn request(self, id: usize, sent: u64) -> String {
        let payload = payload(sent);
        match self {
            Self::Centrifuge => format!(r#"{{"id":{id},"rpc":{{"data":{payload}}}}}"#),
            _ => format!(r#"{{"type":"request","id":"{id}","action":"core.echo","payload":{payload}}}"#),
        }
    }

    /// A message for everybody who follows `channel`.
    pub fn publish(self, id: usize, channel: &str, sent: u64) -> String {
        let payload = payload(sent);
        match self {
            Self::Centrifuge => {
                format!(r#"{{"id":{id},"publish":{{"channel":"{channel}","data":{payload}}}}}"#)
            }
            _ => format!(r#"{{"type":"publish","id":"{id}","channel":"{channel}","data":{payload}}}"#),
        }
    }

    /// The text that asks whether the server is there; `None` where a control frame does.
    pub fn ping(self) -> Option<&'static str> {
        (self != Self::Centrifuge).then_some(PING)
    }

    /// What `text` means. Errors: it tells of one.
    pub fn meaning(self, text: &str) -> Result<Meaning> {
        if let Some(sent) = sent(text) {
            return Ok(Meaning::Payload(sent));
        }
        fail_of(text)?;
        Ok(match (self, text) {
            (_, PONG) => Meaning::Pong,
            (Self::Centrifuge, "{}") => Meaning::Answer("{}"),
            _ => Meaning::Other,
        })
    }
}

/// What is sent round: an order of some hundred bytes, with the time at which it was sent.
fn payload(sent: u64) -> String {
    format!(
        r#"{{"sent":{sent},"customer":"Example Trading Company","currency":"EUR","lines":[1,2,3,4],"note":"by noon"}}"#
    )
}

fn sent(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(SENT)?;
    let end = rest.find(|digit: char| !digit.is_ascii_digit())?;
    rest.get(..end)?.parse().ok()
}

/// An error of any of the servers. Figures of failures would be worth nothing.
fn fail_of(text: &str) -> Result<()> {
    let begins = [r#"{"type":"error""#, r#"{"type":"goodbye""#]
        .iter()
        .any(|begin| text.starts_with(begin));
    if begins || text.contains(r#""error":{"code""#) {
        bail!("the server answered {text}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_found_in_whatever_frame_it_comes() {
        for dialect in [Dialect::Tidegate, Dialect::Centrifuge] {
            for frame in [dialect.request(7, 12_345), dialect.publish(7, LIVE, 12_345)] {
                assert_eq!(dialect.meaning(&frame).unwrap(), Meaning::Payload(12_345), "{frame}");
                assert!(serde_json::from_str::<serde_json::Value>(&frame).is_ok(), "{frame}");
            }
        }
        let published = r#"{"type":"published","request_id":"1","channel":"live","epoch":"x","offset":1}"#;
        assert_eq!(Dialect::Tidegate.meaning(published).unwrap(), Meaning::Other);
    }

    #[test]
    fn an_error_of_a_server_is_never_counted() {
        for text in [
            r#"{"type":"error","request_id":"1","error":{"code":"RATE_LIMITED"}}"#,
            r#"{"type":"goodbye","code":3505,"reason":"x","reconnect":false}"#,
            r#"{"id":1,"error":{"code":103,"message":"permission denied"}}"#,
        ] {
            assert!(Dialect::Tidegate.meaning(text).is_err(), "{text}");
            assert!(Dialect::Centrifuge.join(&Heard::Text(text), None).is_err(), "{text}");
        }
    }

    #[test]
    fn each_joins_by_its_own_steps() {
        let step = |dialect: Dialect, heard, channel| dialect.join(&heard, channel).unwrap();
        assert_eq!(step(Dialect::Room, Heard::Upgraded, Some(LIVE)), Join::There);
        assert_eq!(step(Dialect::Tidegate, Heard::Upgraded, None), Join::Wait);
        let welcome = Heard::Text(r#"{"type":"welcome","connection_id":"con_1"}"#);
        assert_eq!(step(Dialect::Tidegate, welcome, None), Join::There);
        let welcome = Heard::Text(r#"{"type":"welcome","connection_id":"con_1"}"#);
        assert!(matches!(step(Dialect::Tidegate, welcome, Some(LIVE)), Join::Say(_)));
        let reply = r#"{"id":1,"connect":{"client":"x","ping":25,"pong":true}}"#;
        assert!(matches!(
            step(Dialect::Centrifuge, Heard::Text(reply), Some(LIVE)),
            Join::Say(_)
        ));
        let reply = r#"{"id":2,"subscribe":{}}"#;
        assert_eq!(step(Dialect::Centrifuge, Heard::Text(reply), Some(LIVE)), Join::There);
    }

    #[test]
    fn pings_are_told_from_the_rest() {
        assert_eq!(Dialect::Room.meaning(PONG).unwrap(), Meaning::Pong);
        assert_eq!(Dialect::Centrifuge.meaning("{}").unwrap(), Meaning::Answer("{}"));
        assert_eq!(Dialect::Tidegate.meaning("{}").unwrap(), Meaning::Other);
    }
}
