//! The first-party patterns: what an action can do.
//!
//! Each pattern has a folder: what it offers (its manifest), its operations, its tests. A pattern sees the outside
//! through [`operation::Context`] alone.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod core;
pub mod endpoint;
pub mod http;
pub mod operation;
pub mod pull;
pub mod report;
#[cfg(test)]
mod testing;

use alloc::boxed::Box;
use alloc::format;

use tidegate_engine::composition::Manifest;
use tidegate_protocol::{Error, ErrorCode};

use crate::operation::{Context, Done, Invocation};

/// What the patterns offer, all of them.
pub const MANIFESTS: &[Manifest] = &[
    core::MANIFEST,
    http::MANIFEST,
    report::MANIFEST,
    pull::MANIFEST,
    endpoint::HTTP,
    endpoint::WORKER,
];

/// Runs an operation.
///
/// Errors: the operation's own; `INTERNAL_ERROR` for a pattern that is not there, which a checked composition excludes.
pub async fn run(context: &impl Context, call: &Invocation) -> Result<Done, Error> {
    // Boxed, because this future is as large as the largest in it, and the smallest are made for every frame.
    match call.pattern.as_str() {
        "core" => core::run(context, call).await,
        "http" => Box::pin(http::run(context, call)).await,
        "report" => Box::pin(report::run(context, call)).await,
        "http-handler" | "worker-handler" => Box::pin(endpoint::handle(context, call)).await,
        other => Err(Error::new(
            ErrorCode::InternalError,
            format!("There is no pattern `{other}`."),
        )),
    }
}
