//! Responses: JSON, and problems after RFC 9457.

use serde::Serialize;
use tidegate_protocol::http::Problem;
use tidegate_protocol::ids::RequestId;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Method, Request, Response, Result};

use tidegate_durable_objects::platform::log_error;

use crate::cross_origin;

/// The refusal where the platform does not take a response.
pub fn broken(cause: worker::Error) -> Error {
    log_error("a response", cause);
    Error::new(ErrorCode::InternalError, "The answer could not be written.")
}

/// `value` as JSON.
///
/// Errors: `INTERNAL_ERROR` where it cannot be written.
pub fn json<T: Serialize>(value: &T, status: u16) -> core::result::Result<Response, Error> {
    let text = serde_json::to_string(value)
        .map_err(|_| Error::new(ErrorCode::InternalError, "The answer could not be written."))?;
    let response = Response::builder()
        .with_status(status)
        .with_header("content-type", "application/json")
        .and_then(|builder| builder.with_header("cache-control", "no-store"))
        .map_err(broken)?;
    Ok(response.fixed(text.into_bytes()))
}

/// `error` as a problem document.
///
/// Errors: the platform's.
pub fn problem(error: &Error, request_id: Option<RequestId>) -> Result<Response> {
    write_problem(error, &Problem::new(error, request_id))
}

/// A problem document with what is known around `error`.
///
/// Errors: the platform's.
pub fn write_problem(error: &Error, problem: &Problem) -> Result<Response> {
    let text = serde_json::to_string(problem).unwrap_or_default();
    let mut builder = Response::builder()
        .with_status(problem.status)
        .with_header("content-type", "application/problem+json")?
        .with_header("cache-control", "no-store")?;
    if let Some(ms) = error.retry_after_ms {
        builder = builder.with_header("retry-after", &ms.div_ceil(1000).to_string())?;
    }
    for (name, value) in error.limit.iter().flat_map(|limit| limit.header_fields()) {
        builder = builder.with_header(name, &value)?;
    }
    if error.code == ErrorCode::Unauthorized {
        builder = builder.with_header("www-authenticate", "Bearer realm=\"tidegate\"")?;
    }
    Ok(builder.fixed(text.into_bytes()))
}

fn allow(methods: &[Method]) -> String {
    let mut names: Vec<String> = methods.iter().map(Method::to_string).collect();
    if methods.contains(&Method::Get) {
        names.push("HEAD".into());
    }
    names.push("OPTIONS".into());
    names.join(", ")
}

/// The answer to `OPTIONS`, which may be a preflight.
///
/// Errors: the platform's.
pub fn options(request: &Request, methods: &[Method]) -> core::result::Result<Response, Error> {
    let allowed = allow(methods);
    let builder = Response::builder()
        .with_status(204)
        .with_header("allow", &allowed)
        .map_err(broken)?;
    cross_origin::preflight(request, &allowed, builder.empty())
}

/// The answer where there is nothing to say.
///
/// Errors: the platform's.
pub fn no_content() -> core::result::Result<Response, Error> {
    Ok(Response::builder().with_status(204).empty())
}

/// The answer to a method that the route does not take.
///
/// Errors: the platform's.
pub fn method_not_allowed(method: &Method, methods: &[Method]) -> core::result::Result<Response, Error> {
    let message = format!("{} is not a method of this path: it takes {}.", method, allow(methods));
    let error = Error::new(ErrorCode::MethodNotAllowed, message);
    let response = problem(&error, None).map_err(broken)?;
    response.headers().set("allow", &allow(methods)).map_err(broken)?;
    Ok(response)
}
