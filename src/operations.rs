//! What operators and tools ask for: is it alive, is it ready, what can it do.

use serde::Serialize;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Response};

use crate::routes::Route;
use crate::{answer, readiness};

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// Answers a route that takes no token.
///
/// Errors: `NOT_IMPLEMENTED` for what is not there yet.
pub async fn handle(env: &Env, route: &Route) -> Result<Response, Error> {
    match route {
        Route::Health => answer::json(&Health { status: "ok" }, 200),
        Route::Ready => readiness::show(env).await,
        Route::OpenApi => {
            let builder = Response::builder()
                .with_header("content-type", "application/json")
                .map_err(answer::broken)?;
            Ok(builder.fixed(include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json")).to_vec()))
        }
        Route::NotYet(what) => {
            let message = format!("`{what}` is part of the protocol, but not there yet.");
            Err(Error::new(ErrorCode::NotImplemented, message))
        }
        _ => Err(Error::not_found()),
    }
}
