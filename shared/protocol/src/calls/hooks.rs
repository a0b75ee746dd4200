//! Who is told that a job has ended, and what the job is that tells it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};

use super::executor::Policy;
use crate::event::JobState;
use crate::http::Signature;
use crate::ids::EndpointId;

/// The action of the jobs that tell endpoints of ends. No composition has it, and no request can ask for it.
pub const HOOK_ACTION: &str = "tidegate.hook";
/// The note on such a job that names the endpoint, where it is one that is kept.
pub const ENDPOINT_KEY: &str = "endpoint_id";
/// What the names of the system's own actions begin with.
pub const OWN_ACTIONS: &str = "tidegate.";

/// Who is told of a job's end. Frozen when the job is accepted.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct OnEnd {
    /// The endpoint, checked.
    pub url: String,
    /// Of which ends.
    pub events: Vec<JobState>,
    /// Whether a small result is told as well.
    pub include_result: bool,
    /// How the telling is tried.
    pub policy: Policy,
}

/// A message of the system to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Message {
    /// The endpoint, checked.
    pub url: String,
    /// Names the message: the same for each time that it is sent.
    pub id: String,
    /// The endpoint, where it is one that is kept. What is known of it when the message is sent holds, and not `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointId>,
    /// How the message is signed.
    #[serde(default)]
    pub signature: Signature,
    /// Why the message is not sent now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// What a job has to do with messages. A job that tells is told of to nobody.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// An endpoint is told of its end.
    OnEnd(Box<OnEnd>),
    /// It tells an endpoint of another job's end, which is its payload.
    Tells(Message),
}

impl Hook {
    /// The message that a job is there to send.
    pub fn message(&self) -> Option<&Message> {
        match self {
            Self::OnEnd(_) => None,
            Self::Tells(message) => Some(message),
        }
    }
}
