//! What expressions of a composition see of a request.

use alloc::string::String;
use core::cell::OnceCell;

use serde_json::Value;
use tidegate_protocol::SortedMap;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ActionName, ChannelName, UserId};

/// A request, as expressions see it. The payload is read only where one asks for it, and once.
pub struct Input<'a> {
    /// Who asks.
    pub user: &'a UserId,
    /// For what.
    pub action: &'a ActionName,
    /// The client's own notes.
    pub metadata: &'a SortedMap<String, String>,
    /// The id of the API key that the caller came with; `None` with a token.
    pub(super) api_key: Option<&'a str>,
    /// The channel that is published in; `None` for a request.
    pub(super) channel: Option<&'a str>,
    /// The network that the caller comes from, where that is known.
    pub(super) ip: Option<&'a str>,
    text: &'a JsonText,
    payload: OnceCell<Value>,
}

impl<'a> Input<'a> {
    /// A request of these parts.
    pub fn new(
        user: &'a UserId,
        action: &'a ActionName,
        metadata: &'a SortedMap<String, String>,
        payload: &'a JsonText,
    ) -> Self {
        Self {
            user,
            action,
            metadata,
            api_key: None,
            channel: None,
            ip: None,
            text: payload,
            payload: OnceCell::new(),
        }
    }

    /// A message that is to be published in `channel`; its data is the payload.
    pub fn in_channel(mut self, channel: &'a ChannelName) -> Self {
        self.channel = Some(channel.as_str());
        self
    }

    /// The request of a caller that is there, with what only such a one has.
    pub fn by(mut self, principal: &'a Principal) -> Self {
        self.api_key = match &principal.credential {
            Credential::Key { id, .. } => Some(id.as_str()),
            Credential::Token { .. } | Credential::Signature { .. } => None,
        };
        self.ip = principal.network.as_str();
        self
    }

    /// The payload.
    pub(super) fn payload(&self) -> &Value {
        self.payload
            .get_or_init(|| serde_json::from_str(self.text.as_str()).unwrap_or(Value::Null))
    }
}
