//! The pattern `report`: what is in a table, as a page to send on and as data.
//!
//! [`Profile`] is pure: bytes in, a [`Summary`] out, and a checkpoint at any byte.

mod column;
mod csv;
mod distinct;
mod error;
mod grid;
mod hash;
mod histogram;
mod html;
mod instant;
mod kinds;
pub mod limits;
mod moments;
mod ndjson;
mod profile;
mod sketch;
mod sniff;
mod summarize;
mod summary;
mod table;
mod top;
mod value;

#[cfg(test)]
mod tests;

pub use error::ReportError;
pub use histogram::{Bin, Histogram};
pub use html::render_html;
pub use profile::{Format, Options, Profile};
pub use summary::{
    ColumnSummary, ColumnType, Distinct, KindCount, NumbersSummary, Quantiles, Summary, TextsSummary, TimeQuantiles,
    TimesSummary, TopValue,
};
pub use table::BrokenRow;

use alloc::format;

use tidegate_engine::composition::{Manifest, Mode, Modes, Operation, Runs, takes_no_settings, takes_nothing};
use tidegate_protocol::calls::executor::Sharing;
use tidegate_protocol::{Error, ErrorCode};

use crate::operation::{Context, Done, Invocation};

/// What the pattern offers.
pub const MANIFEST: Manifest = Manifest {
    pattern: "report",
    description: "Reports on the tenant's objects.",
    operations: &[Operation {
        name: "summarize",
        description: "Reads a table, CSV or NDJSON, and writes a page and JSON on its columns.",
        modes: Modes::ASYNC,
        default_mode: Mode::Async,
        runs_in_hub: false,
        runs: Runs::Executor,
        sharing: Sharing::Alone,
        check_settings: takes_no_settings,
    }],
    check_config: takes_nothing,
};
const _: () = assert!(MANIFEST.is_sound());

/// Runs an operation of the pattern.
///
/// Errors: `VALIDATION_ERROR` for a payload that cannot be used, `NOT_FOUND` for an object that is not there,
/// `PROCESSING_FAILED` for one that is no table, and the context's own.
pub async fn run(context: &impl Context, call: &Invocation) -> Result<Done, Error> {
    match call.operation.as_str() {
        "summarize" => {
            let request = summarize::Request::read(call.payload.as_str())?;
            summarize::summarize(context, request, summarize::PACE).await
        }
        other => Err(Error::new(
            ErrorCode::InternalError,
            format!("The pattern report has no operation `{other}`."),
        )),
    }
}
