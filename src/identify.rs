//! Who is calling: from the `Authorization` header, the subprotocol list, or a ticket. Never from anything else.

use tidegate_durable_objects::tokens::verify;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Request};

/// The principal of the `Authorization` header.
///
/// Errors: `UNAUTHORIZED` with the reason; `NOT_IMPLEMENTED` for an API key.
pub async fn header(request: &Request, env: &Env) -> Result<Principal, Error> {
    let has = |name: &str| request.headers().has(name).unwrap_or(false);
    if has("x-api-key") && !has("authorization") {
        let message = "API keys are not there yet: use a bearer token.";
        return Err(Error::new(ErrorCode::NotImplemented, message));
    }
    verify(env, &bearer(request)?).await
}

/// The token of the `Authorization` header, as it came.
///
/// Errors: `UNAUTHORIZED` where there is none.
pub fn bearer(request: &Request) -> Result<String, Error> {
    match request.headers().get("authorization").ok().flatten() {
        Some(value) => match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim().into()),
            _ => Err(unauthorized(
                "The Authorization header is not of the form `Bearer <token>`.",
            )),
        },
        None => Err(unauthorized("There is no token: send `Authorization: Bearer <token>`.")),
    }
}

/// An `UNAUTHORIZED` with this message.
pub fn unauthorized(message: &'static str) -> Error {
    Error::new(ErrorCode::Unauthorized, message)
}
