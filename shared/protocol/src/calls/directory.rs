//! What the directory of a deployment's tenants can be asked, and how an object is told to forget everything.
//!
//! The directory belongs to no tenant, so that these calls are not addressed to one.

use alloc::string::String;

use tidegate_cbor::{Decode, Encode};

use super::Caller;
use crate::event::JsonText;
use crate::ids::{BackupId, TenantId};
use crate::time::UnixMs;

/// A call to the directory.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Call {
    /// A gate says that there is its tenant, and whether it is suspended. Answered by [`Reply::Standing`].
    Announce {
        /// The tenant.
        tenant: TenantId,
        /// The version of what the gate says; an older one changes nothing.
        version: u64,
        /// Since when the tenant is suspended.
        suspended_at: Option<UnixMs>,
        /// Whether the platform keeps the tenant's objects in its jurisdiction.
        #[serde(default)]
        resident: bool,
    },
    /// Enter a new tenant. Answered by [`Reply::Shown`], or refused: `CONFLICT`.
    Create {
        /// The tenant.
        tenant: TenantId,
        /// The template that its first composition comes from. With one, it is being created until [`Call::Created`].
        template: Option<String>,
        /// Whether the platform keeps the tenant's objects in its jurisdiction.
        #[serde(default)]
        resident: bool,
        /// Who does it.
        by: Caller,
    },
    /// The tenant has its first composition. Answered by [`Reply::Shown`].
    Created {
        /// The tenant.
        tenant: TenantId,
    },
    /// Show a tenant. Answered by [`Reply::Shown`].
    Show {
        /// The tenant.
        tenant: TenantId,
    },
    /// Show a page of the tenants, by id. Answered by [`Reply::Shown`].
    List {
        /// Only those in this state: a [`crate::http::TenantState`], as the API writes it.
        state: Option<String>,
        /// Only those behind this one.
        after: Option<TenantId>,
        /// At most so many.
        limit: u32,
    },
    /// Erase a tenant. Answered by [`Reply::Shown`].
    Erase {
        /// The tenant.
        tenant: TenantId,
        /// Who does it.
        by: Caller,
        /// Whether its backups stay.
        #[serde(default)]
        keep_backups: bool,
    },
    /// Something about backups of a tenant, or about what the platform keeps of it. Answered by [`Reply::Shown`].
    Backups {
        /// The tenant.
        tenant: TenantId,
        /// Which backup; absent: all of them.
        backup: Option<BackupId>,
        /// What is to be done with it.
        act: BackupAct,
        /// Who does it.
        by: Caller,
    },
}

/// What can be done with backups of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum BackupAct {
    /// Show it, or all.
    Show,
    /// Take it.
    Take,
    /// A part of it, which was taken elsewhere, is brought here.
    Bring,
    /// Restore the tenant from it.
    Restore,
    /// Delete it.
    Delete,
    /// Take the tenant back to this time, by what the platform keeps of it.
    Recover(UnixMs),
}

/// What the directory answers.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Reply {
    /// How a tenant stands.
    Standing {
        /// The lowest version that its gate may begin with, so that nothing takes it for what it was before it was erased.
        version: u64,
        /// Since when it is erased, or being erased.
        erased_at: Option<UnixMs>,
    },
    /// What was asked for, as the API shows it.
    Shown(JsonText),
}

/// What an object of an erased tenant held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Erased {
    /// Its rows; 0 where there was nothing to erase.
    pub rows: u64,
    /// Whether work of it may still be under way elsewhere, which could write something.
    #[serde(default)]
    pub busy: bool,
}
