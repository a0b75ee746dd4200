//! The commands about what is used.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tidegate_sdk::UnixMs;

use super::moment;

/// `tidegate usage`
#[derive(Debug, Args)]
pub struct Usage {
    /// How long the windows are: hour, day or month [default: day].
    #[arg(long)]
    pub window: Option<String>,
    /// From when on, such as 2026-11-01T00:00:00Z [default: a day, 30 days or a year back].
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Option<UnixMs>,
    /// Until when [default: now].
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<UnixMs>,
    /// Show what another tenant used (scope `operator`).
    #[arg(long, conflicts_with = "export")]
    pub tenant: Option<String>,
    /// Store it as an object of the tenant, and print that.
    #[arg(long, value_name = "FORMAT")]
    pub export: Option<Export>,
}

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Export {
    /// CSV, with a header.
    Csv,
    /// A line of JSON for each window.
    Ndjson,
}

/// `tidegate budgets`
#[derive(Debug, Args)]
pub struct Budgets {
    /// The tenant.
    pub tenant: String,
    /// A JSON object of budgets, by name; {} takes all of them away. - reads standard input.
    pub file: PathBuf,
}
