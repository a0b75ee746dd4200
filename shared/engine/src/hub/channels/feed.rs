//! A channel that sockets of this hub follow: how far all of them are, and what is kept for those who are about to follow.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use tidegate_protocol::SortedMap;
use tidegate_protocol::channels::{Cursor, Message};
use tidegate_protocol::frames::ServerFrame;
use tidegate_protocol::ids::{ChannelName, ConnectionId, Offset, RequestId};
use tidegate_protocol::presence::Roster;

use crate::hub::presence;

/// Messages that are kept for sockets that are about to follow, of one channel.
const RECENT_MAX: usize = 512;
/// Bytes of their data.
const RECENT_BYTES_MAX: usize = 1024 * 1024;
/// Batches that are kept until the first answer of a channel says where it is.
pub(super) const PARKED_MAX: usize = 16;

/// Messages of a channel, as they came.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) after: Cursor,
    pub(super) messages: Vec<Message>,
    pub(super) until: Offset,
}

/// A channel that sockets of this hub follow.
#[derive(Debug, Clone, Default)]
pub(in crate::hub) struct Feed {
    /// Every subscriber was sent everything up to here; `None`: the channel has not answered yet.
    pub(super) at: Option<Cursor>,
    /// Who follows, each from behind a message on: those before were sent to it by themselves.
    pub(super) subscribers: SortedMap<ConnectionId, Offset>,
    /// Calls that end in following.
    pub(super) waiting: usize,
    /// The latest messages, while anybody waits: an answer may be older than they are.
    pub(super) recent: VecDeque<Message>,
    pub(super) recent_bytes: usize,
    /// What came before the first answer.
    pub(super) parked: Vec<Batch>,
    pub(super) newest: Option<Message>,
    /// Whether no attachment says how far it is.
    pub(super) unsaved: bool,
    /// Who is there.
    pub(in crate::hub) attendance: presence::Attendance,
}

impl Feed {
    pub(super) fn remember(&mut self, message: &Message) {
        self.recent_bytes += message.data.as_str().len();
        self.recent.push_back(message.clone());
        while self.recent.len() > RECENT_MAX || self.recent_bytes > RECENT_BYTES_MAX {
            let Some(gone) = self.recent.pop_front() else { return };
            self.recent_bytes = self.recent_bytes.saturating_sub(gone.data.as_str().len());
        }
    }

    pub(super) fn forget_recent(&mut self) {
        self.recent.clear();
        self.recent_bytes = 0;
    }

    /// What the attachments keep of it is no longer so.
    pub(in crate::hub) fn change(&mut self) {
        self.unsaved = true;
    }

    pub(super) fn is_deserted(&self) -> bool {
        self.subscribers.is_empty() && self.waiting == 0
    }
}
pub(super) fn message_frame(channel: &ChannelName, at: &Cursor, message: &Message) -> ServerFrame {
    ServerFrame::Message {
        channel: channel.clone(),
        epoch: at.epoch.clone(),
        message: message.clone(),
    }
}

pub(in crate::hub) fn subscribed(
    request_id: Option<RequestId>,
    channel: &ChannelName,
    epoch_of: &Cursor,
    offset: Offset,
    recovered: bool,
    presence: Option<Roster>,
) -> ServerFrame {
    ServerFrame::Subscribed {
        request_id,
        channel: channel.clone(),
        epoch: epoch_of.epoch.clone(),
        offset,
        recovered,
        presence,
    }
}
