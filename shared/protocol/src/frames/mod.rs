//! The frames on the socket: what a client may send, what it is sent, and what both sides know to the letter.

mod client;
mod server;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use client::{
    AttemptSaid, BadFrame, ClientFrame, Mode, OnDisconnect, REQUEST_FIELDS, Request, Start, Target, frame_too_large,
    reschedule,
};
pub use server::{Limits, ServerFrame, result_url};

/// The subprotocol's name.
pub const PROTOCOL: &str = "tidegate.v1";
/// The keep-alive of a client, to the letter. The platform answers it without waking the object.
pub const PING: &str = r#"{"type":"ping"}"#;
/// The answer to [`PING`], to the letter.
pub const PONG: &str = r#"{"type":"pong"}"#;

/// How a connection ends, and whether the client should come back (3000-3499) or stop (3500-3999).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseCode {
    /// Nothing more to say.
    Normal = 1000,
    /// Frames over the limit, repeatedly.
    FrameTooBig = 1009,
    /// The server restarts.
    Restart = 1012,
    /// The client does not read.
    SlowConsumer = 3008,
    /// The token expired; refresh it first.
    TokenExpired = 3011,
    /// The token is not good.
    Unauthorized = 3500,
    /// The token may not do this.
    Forbidden = 3501,
    /// The tenant is suspended.
    TenantSuspended = 3502,
    /// The client does not speak the protocol, repeatedly.
    ProtocolError = 3503,
    /// The user has as many connections as the tenant allows.
    TooManyConnections = 3505,
}

impl CloseCode {
    /// The number on the wire.
    pub const fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::FrameTooBig => 1009,
            Self::Restart => 1012,
            Self::SlowConsumer => 3008,
            Self::TokenExpired => 3011,
            Self::Unauthorized => 3500,
            Self::Forbidden => 3501,
            Self::TenantSuspended => 3502,
            Self::ProtocolError => 3503,
            Self::TooManyConnections => 3505,
        }
    }
}
