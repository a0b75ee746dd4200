//! Presence: who is in a channel now. A member is a user, however many sockets of theirs follow it.

use alloc::format;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

use crate::event::JsonText;
use crate::fields::Fields;
use crate::ids::{UserId, fnv1a};
use crate::limits::PRESENCE_DATA_BYTES_MAX;
use crate::time::UnixMs;

/// A user who is in a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What the user says of themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<JsonText>,
    /// Since when.
    pub since: UnixMs,
}

impl Member {
    /// A hash of all of it. The wrapping sum over all members is the [`Mark::digest`] of a roster.
    pub fn hash(&self) -> u64 {
        let data = self.data.as_ref().map_or("", JsonText::as_str);
        fnv1a(&[
            self.user.as_str().as_bytes(),
            data.as_bytes(),
            &self.since.0.to_le_bytes(),
        ])
    }
}

/// A hash of a user. The wrapping sum over those of one hub tells whether hub and channel mean the same ones.
pub fn hash_of_user(user: &UserId) -> u64 {
    fnv1a(&[user.as_str().as_bytes()])
}

/// Who is in a channel: the answer of `GET /v1/channels/{channel}/presence`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Roster {
    /// The members by name; the first of them where there are very many.
    pub members: Vec<Member>,
    /// How many there are.
    pub count: u64,
}

/// A state of a channel's roster, by which a hub and the channel know whether they mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Mark {
    /// The instance of the channel that counts.
    pub life: u64,
    /// Changes that it has seen.
    pub version: u64,
    /// The wrapping sum of the members' hashes: the same members, the same sum, whichever instance says it.
    pub digest: u64,
}

/// What somebody who follows a channel wants of its presence.
#[derive(Debug, Clone, PartialEq)]
pub enum Attend {
    /// To be told who is there, and to be there.
    Member {
        /// What the user says of themselves.
        data: Option<JsonText>,
    },
    /// To be told who is there.
    Watcher,
}

impl Attend {
    /// Reads the field `presence` of a `subscribe` frame: `true`, or an object with `data` or with `"member": false`.
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        const NAME: &str = "presence";
        match fields.raw(NAME)?.get() {
            "true" => return Some(Self::Member { data: None }),
            "false" => return None,
            _ => {}
        }
        let expected = "true, false, or an object with `data` or `member`";
        let mut inner = fields.object(NAME, expected)?;
        inner.refuse_others(&["data", "member"]);
        let member = inner.optional("member", "true or false").unwrap_or(true);
        let data: Option<JsonText> = inner.any("data").map(Into::into);
        if let Some(data) = &data {
            let bytes = data.as_str().len();
            if bytes > PRESENCE_DATA_BYTES_MAX {
                let expected = format!("JSON of at most {PRESENCE_DATA_BYTES_MAX} bytes");
                inner.fault("data", expected, &format!("{bytes} bytes"));
            }
            if !member {
                inner.fault("data", "no data where one only watches", data.as_str());
            }
        }
        fields.take_faults(inner);
        Some(match member {
            true => Self::Member { data },
            false => Self::Watcher,
        })
    }
}

/// What has become of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// They are there, or say something else of themselves.
    Present,
    /// They are gone.
    Absent,
}

/// A change of a roster.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Change {
    /// Its number in this life of the channel.
    pub version: u64,
    /// Whose.
    pub member: Member,
    /// What.
    pub became: Became,
}

/// What a hub is told of a channel's presence.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum News {
    /// What has changed since the state that the hub has.
    Changes(Vec<Change>),
    /// All of it.
    Whole(Roster),
    /// How many there are, of a channel with too many to be named one by one.
    Count(u64),
}

/// What a channel tells a hub of its presence.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Told {
    /// The state that the hub has, as the channel believes. `None`: that does not matter.
    pub from: Option<Mark>,
    /// The state that it has then.
    pub to: Mark,
    /// What it is told.
    pub news: News,
    /// The wrapping sum of [`hash_of_user`] over those who are there by sockets of this hub. `None`: there are too many to look
    /// each time.
    pub own: Option<u64>,
}

/// What a hub answers.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Heard {
    /// Whether anybody there is told of changes.
    pub watched: Watched,
    /// Those who are there by sockets of this hub, where the sum was another.
    pub own: Option<Own>,
}

/// Those who are there by sockets of a hub.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Own {
    /// The channel has answered that they are.
    pub here: Vec<UserId>,
    /// They have asked to be, or their answer is on its way.
    pub coming: Vec<UserId>,
}

/// Whether sockets of a hub are told of a channel's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Watched {
    /// They are, and have this state; `None`: not the one that was told from.
    Yes(Option<Mark>),
    /// None is.
    No,
}
