//! The executor: makes attempts of jobs, on behalf of a `Jobs` object, and reports what came of each.
//!
//! An outcome travels in a call of its own, not in the answer to the object's call: an object that restarts under a
//! running attempt has forgotten that it asked, and would run a finished attempt again.

use tidegate_durable_objects::platform::{deployment_key, unavailable};
use tidegate_durable_objects::runtime;
use tidegate_identity::internal::executor_tag;
use tidegate_protocol::calls::INTERNAL_HEADER;
use tidegate_protocol::calls::executor::Assignment;
use tidegate_protocol::{Error, envelope};
use worker::{Env, Request, Response};

/// The path of the deployment's own calls.
pub const PATH: &str = "/internal/execute";

/// Makes the attempts. Whoever does not bring the deployment's own tag is told that there is nothing here.
///
/// Errors: `NOT_FOUND` for a call from outside.
pub async fn handle(mut request: Request, env: Env) -> Result<Response, Error> {
    let key = deployment_key(&env)?;
    let tag = request
        .headers()
        .get(INTERNAL_HEADER)
        .ok()
        .flatten()
        .unwrap_or_default();
    if !executor_tag(&key).matches(&tag) {
        return Err(Error::not_found());
    }
    let bytes = request.bytes().await.map_err(unavailable("an attempt"))?;
    let assignment: Assignment = envelope::decode(&bytes)?;
    runtime::execute(env, assignment).await;
    Ok(Response::builder().with_status(204).empty())
}
