//! What happens to jobs, as messages of the channels `tenant:jobs` and `user:<user>`.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::event::JobState;
use crate::ids::{ActionName, ChannelName, JobId, Seq, UserId};
use crate::time::UnixMs;

/// The channel in which the changes of all jobs of a tenant are told.
pub const TENANT_JOBS: &str = "tenant:jobs";
/// What stands before the name of a user who cannot be named in a channel as they are.
const ENCODED: &str = "b64:";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The channel of a user: `user:<user>`, or `user:b64:<user in base64url, no padding>` (RFC 4648, 5) where the user's name has
/// characters that no channel has, or begins with `b64:` itself. `None` where that is too long for a channel.
pub fn user_channel(user: &UserId) -> Option<ChannelName> {
    let name = user.as_str();
    let plain = ChannelName::parse(name).is_some() && !name.starts_with(ENCODED);
    let mut channel = String::from("user:");
    if plain {
        channel.push_str(name);
    } else {
        channel.push_str(ENCODED);
        for bytes in name.as_bytes().chunks(3) {
            let bits = bytes.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
            let bits = bits << (8 * (3 - bytes.len()));
            for digit in 0..=bytes.len() {
                let index = usize::try_from(bits >> (18 - 6 * digit) & 63).unwrap_or(0);
                channel.push(ALPHABET.get(index).copied().unwrap_or(b'A').into());
            }
        }
    }
    ChannelName::parse(&channel)
}

/// What happened to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was stored. `status` says whether it waits or runs already.
    Acknowledgment,
    /// An attempt began, or goes on after a wait.
    Started,
    /// It got on.
    Progress,
    /// An attempt failed, and another one follows.
    Retrying,
    /// It waits again: its lease was lost, its attempt put itself off, or it was resumed or given another time.
    Waiting,
    /// It is held back.
    Paused,
    /// It has succeeded.
    Complete,
    /// It has ended without a result: `status` and `code` say how.
    Error,
}

/// A change of a job: what a message in the channels of jobs says. It has no result and no payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobChange {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: ChangeKind,
    /// The job.
    pub job_id: JobId,
    /// The latest event of the job then: `attach` with it as `after` gives what came later.
    pub seq: Seq,
    /// The attempt under way, or the last one; 0 before the first.
    pub attempt: u32,
    /// The job's state then.
    pub status: JobState,
    /// What it runs.
    pub action: ActionName,
    /// Whose job it is.
    pub user: UserId,
    /// How far it is, with `progress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage: Option<f64>,
    /// Why, with `retrying` and `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// When.
    pub at: UnixMs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_channel_of_their_own() {
        let channel = |user: &str| user_channel(&UserId::parse(user).unwrap()).map(|name| name.as_str().into());
        for (user, expected) in [
            ("ann", Some("user:ann")),
            ("a:b.c_d-1", Some("user:a:b.c_d-1")),
            // The vectors of RFC 4648, 10 end in these characters; these are such as other tools give.
            ("auth0|1", Some("user:b64:YXV0aDB8MQ")),
            ("ann@example.com", Some("user:b64:YW5uQGV4YW1wbGUuY29t")),
            ("é~", Some("user:b64:w6l-")),
            ("?>~ÿ", Some("user:b64:Pz5-w78")),
            ("b64:YXV0aDB8MQ", Some("user:b64:YjY0OllYVjBhREI4TVE")),
        ] {
            assert_eq!(channel(user), expected.map(String::from), "{user}");
        }
        assert!(channel(&"a".repeat(123)).is_some_and(|name: String| name.len() == 128));
        assert_eq!(channel(&"a".repeat(124)), None);
        assert!(channel(&"@".repeat(89)).is_some());
        assert_eq!(channel(&"@".repeat(90)), None);
    }
}
