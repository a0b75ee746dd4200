//! What an object is told of the act that a call is part of, for the audit trail.

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

use crate::ids::{RequestId, TraceParent};

/// How whoever did something was authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// By a bearer token that came with the request.
    Token,
    /// By an API key that came with the request.
    ApiKey,
    /// By a socket, which was opened with a token or a ticket.
    Socket,
}

/// What someone does with one request, however many calls it takes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Act {
    /// The request. Made by the server where it came over HTTP: no other act has it.
    pub request_id: RequestId,
    /// How whoever asks was authenticated.
    pub via: Via,
    /// Their trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
}
