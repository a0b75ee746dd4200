//! The effects by which a socket is told something.

use alloc::vec::Vec;

use tidegate_protocol::Error;
use tidegate_protocol::frames::{CloseCode, ServerFrame};
use tidegate_protocol::ids::{ConnectionId, RequestId};
use tidegate_protocol::time::UnixMs;

use super::Effect;

/// A frame.
pub(super) fn send(to: &ConnectionId, frame: &ServerFrame) -> Effect {
    Effect::Send {
        to: to.clone(),
        frame: frame.encode(),
    }
}

/// An error frame that belongs to no job.
pub(super) fn send_error(to: &ConnectionId, request_id: Option<RequestId>, error: Error, timestamp: UnixMs) -> Effect {
    send(
        to,
        &ServerFrame::Error {
            request_id,
            job_id: None,
            seq: None,
            error,
            timestamp,
        },
    )
}

/// A goodbye, and the close that it announces.
pub(super) fn close(
    to: &ConnectionId,
    code: CloseCode,
    reason: &'static str,
    reconnect: bool,
    effects: &mut Vec<Effect>,
) {
    let goodbye = ServerFrame::Goodbye {
        code: code.number(),
        reason,
        reconnect,
        after_ms: None,
    };
    effects.push(send(to, &goodbye));
    effects.push(Effect::Close {
        to: to.clone(),
        code,
        reason,
    });
}
