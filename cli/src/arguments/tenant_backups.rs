//! The commands about backups of tenants.

use std::path::PathBuf;

use clap::Subcommand;

/// `tidegate tenant backup`, and what goes with it.
#[derive(Debug, Subcommand)]
pub enum TenantBackups {
    /// Take a backup of a tenant, which goes on serving.
    Backup {
        /// Its id.
        tenant: String,
        /// Wait until the backup is whole.
        #[arg(long)]
        wait: bool,
    },
    /// List the backups of a tenant, the newest first.
    Backups {
        /// Its id.
        tenant: String,
    },
    /// Delete a backup of a tenant.
    DeleteBackup {
        /// The tenant's id.
        tenant: String,
        /// The backup's id.
        backup: String,
    },
    /// Take a backup of a tenant, and download it into a folder.
    Export {
        /// Its id.
        tenant: String,
        /// The folder, which is made where it is not there.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
        /// Download this backup instead of taking one.
        #[arg(long, value_name = "ID")]
        backup: Option<String>,
    },
    /// Restore a tenant from a folder that `tenant export` has written.
    Import {
        /// The folder.
        folder: PathBuf,
    },
    /// Restore a tenant that is erased, or was never there, from a backup. It comes back suspended.
    Restore {
        /// Its id.
        tenant: String,
        /// The backup's id.
        backup: String,
        /// Wait until the tenant is back.
        #[arg(long)]
        wait: bool,
    },
}
