//! What callers are authenticated by, and who of a tenant may not come in any more.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

use crate::event::JsonText;
use crate::ids::{ApiKeyId, TokenId, UserId};
use crate::time::UnixMs;

/// What a caller was authenticated by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// A token of an issuer.
    Token {
        /// Its `jti`, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<TokenId>,
        /// Its `iat`, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        issued_at: Option<UnixMs>,
        /// What is kept of its claims, a JSON object, for policies. `None` where nothing is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claims: Option<JsonText>,
        /// Whether some of them were too large to be kept.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        claims_cut: bool,
    },
    /// An API key.
    Key {
        /// The key.
        id: ApiKeyId,
        /// When it was made.
        created_at: UnixMs,
    },
    /// The signature of a webhook.
    Signature {
        /// When it was made, where that is signed as well; else when it came.
        at: UnixMs,
    },
}

impl Default for Credential {
    /// What is known of a socket that was opened before credentials were kept.
    fn default() -> Self {
        Self::Token {
            id: None,
            issued_at: None,
            claims: None,
            claims_cut: false,
        }
    }
}

impl Credential {
    /// Since when it is there. `None` for a token that does not say.
    pub fn issued_at(&self) -> Option<UnixMs> {
        match self {
            Self::Token { issued_at, .. } => *issued_at,
            Self::Key { created_at, .. } => Some(*created_at),
            Self::Signature { at } => Some(*at),
        }
    }

    /// The API key, where it is one.
    pub fn key(&self) -> Option<&ApiKeyId> {
        match self {
            Self::Token { .. } | Self::Signature { .. } => None,
            Self::Key { id, .. } => Some(id),
        }
    }
}

/// Whose credentials are revoked.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    /// The one token with this id.
    Token(TokenId),
    /// One API key.
    Key(ApiKeyId),
    /// All that a user had at that moment.
    User(UserId),
    /// All that anybody of the tenant had at that moment.
    Everyone,
}

/// A revocation, as long as it has to be remembered.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Revocation {
    /// Whose credentials.
    pub of: Revoked,
    /// Since when. Of a user and of everyone, what was issued later is good.
    pub at: UnixMs,
    /// Until when: by then, what it revoked has expired by itself.
    pub until: UnixMs,
}

/// Who of a tenant may not come in. Told to every hub with the tenant's description.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Access {
    /// Since when nobody may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<UnixMs>,
    /// What is revoked.
    #[serde(default)]
    pub revocations: Vec<Revocation>,
    /// The budget that is spent for longest, and until when: no request is admitted before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<(String, UnixMs)>,
}

impl Access {
    /// Whether nobody is kept out, and nothing refused.
    pub fn is_open(&self) -> bool {
        self.suspended_at.is_none() && self.revocations.is_empty() && self.spent.is_none()
    }
}

/// An API key that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NewKey {
    /// What people call it.
    pub name: String,
    /// Whom it speaks for.
    pub user: UserId,
    /// What it allows beyond the user's own things.
    pub scopes: Vec<String>,
    /// When it is no longer good; `None`: it does not expire.
    pub expires_at: Option<UnixMs>,
}

/// A change of who may come in, by an administrator; of all of a tenant, by an operator of the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Change {
    /// Keep a new key.
    CreateKey {
        /// Its id.
        id: ApiKeyId,
        /// The hash of its text.
        hash: String,
        /// What it is.
        key: NewKey,
    },
    /// Let another text take the place of a key's, which stays good for a while.
    RotateKey {
        /// The key.
        id: ApiKeyId,
        /// The hash of its new text.
        hash: String,
        /// How long the old text stays good. Milliseconds.
        overlap_ms: u64,
    },
    /// Delete a key: it is refused from now on.
    RevokeKey {
        /// The key.
        id: ApiKeyId,
    },
    /// Refuse credentials from now on.
    Revoke {
        /// Whose.
        of: Revoked,
        /// For how long that has to be remembered. Milliseconds.
        for_ms: u64,
    },
    /// Let nobody in.
    Suspend,
    /// Let them in again.
    Resume,
}
