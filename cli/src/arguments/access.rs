//! The commands about secrets, and about who may come in.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidegate_sdk::UnixMs;

use super::{duration, moment};

/// `tidegate secret`
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Set a secret, or give it another value. The value is read from standard input, never from the command line.
    Set {
        /// Its name.
        name: String,
        /// Read the value from this file instead.
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
        /// How long the value before it stays good, such as 1h; 0s: not at all [default: 1d].
        #[arg(long, value_name = "DURATION", value_parser = duration_or_none)]
        overlap: Option<u64>,
    },
    /// List the secrets, without their values.
    List,
    /// Delete a secret. Actions that need it fail from then on.
    Delete {
        /// Its name.
        name: String,
    },
}

/// `tidegate key`
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key, and print its text. It is shown this once.
    Create {
        /// What people call it.
        name: String,
        /// Whom it speaks for.
        #[arg(long)]
        user: String,
        /// What it allows beyond the user's own things; can be given several times.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// When it is no longer good, such as 2027-01-01T00:00:00Z [default: it does not expire].
        #[arg(long, value_name = "TIME", value_parser = moment)]
        expires_at: Option<UnixMs>,
    },
    /// List the keys, without their texts.
    List,
    /// Give a key another text, and print that.
    Rotate {
        /// The key.
        id: String,
        /// How long its old text stays good, such as 1h; 0s: not at all [default: 1d].
        #[arg(long, value_name = "DURATION", value_parser = duration_or_none)]
        overlap: Option<u64>,
    },
    /// Delete a key. It is refused within a second.
    Delete {
        /// The key.
        id: String,
    },
}

/// `tidegate revoke`
#[derive(Debug, Args)]
#[group(skip)]
pub struct Revoke {
    /// Whose.
    #[command(flatten)]
    pub of: Whom,
    /// How long that has to be remembered, such as 30d: as long as the longest of your tokens lives [default: 400d].
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub remembered: Option<u64>,
}

/// Whose credentials are revoked.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Whom {
    /// The one token with this `jti`.
    #[arg(long, value_name = "JTI")]
    pub token_id: Option<String>,
    /// Whatever this user has by now.
    #[arg(long)]
    pub user: Option<String>,
    /// Whatever anybody of the tenant has by now, yours included.
    #[arg(long)]
    pub everyone: bool,
}

/// Reads a duration that may be none at all. Milliseconds.
pub(super) fn duration_or_none(text: &str) -> Result<u64, String> {
    match text {
        "0" | "0s" => Ok(0),
        text => duration(text),
    }
}
