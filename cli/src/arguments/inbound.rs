//! `tidegate webhook`

use clap::Subcommand;

/// `tidegate webhook …`
#[derive(Debug, Subcommand)]
pub enum Webhook {
    /// List the sources of the active composition, each with the address that it sends to.
    List,
}
