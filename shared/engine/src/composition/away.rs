//! What becomes of a job that nobody follows any more: the fields `on_disconnect` and `disconnect_grace` of an action.

use tidegate_protocol::frames::OnDisconnect;

use super::defaults::{DISCONNECT_GRACE_MS, DISCONNECT_GRACE_MS_RANGE};
use super::manifest::Mode;
use super::object::Object;

/// What becomes of an action's jobs that nobody follows any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwayRules {
    /// Where the request does not say it.
    pub on_disconnect: OnDisconnect,
    /// How long a job may be without followers that is cancelled for want of them. Milliseconds.
    pub grace_ms: u64,
}

impl Default for AwayRules {
    fn default() -> Self {
        Self {
            on_disconnect: OnDisconnect::Continue,
            grace_ms: DISCONNECT_GRACE_MS,
        }
    }
}

impl AwayRules {
    /// For how long nobody may follow a job whose request asked for `requested`; `None`: it goes on without. Milliseconds.
    pub fn max_ms(self, requested: Option<OnDisconnect>) -> Option<u64> {
        match requested.unwrap_or(self.on_disconnect) {
            OnDisconnect::Continue => None,
            OnDisconnect::Cancel => Some(self.grace_ms),
        }
    }
}

/// Reads the fields. What is wrong has been noted.
pub(super) fn read_away(fields: &mut Object<'_, '_>, mode: Option<Mode>) -> AwayRules {
    if mode == Some(Mode::Sync) {
        for name in ["on_disconnect", "disconnect_grace"] {
            if fields.take(name).is_some() {
                fields.fault(name, "this field only where the mode is `async` or `auto`", "sync");
            }
        }
        return AwayRules::default();
    }
    let on_disconnect = match fields.one_of("on_disconnect", &["continue", "cancel"]) {
        Some("cancel") => OnDisconnect::Cancel,
        _ => OnDisconnect::Continue,
    };
    let grace_ms = fields.duration("disconnect_grace", DISCONNECT_GRACE_MS_RANGE);
    AwayRules {
        on_disconnect,
        grace_ms: grace_ms.unwrap_or(DISCONNECT_GRACE_MS),
    }
}
