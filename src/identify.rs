//! Who is calling: from the `Authorization` header, the subprotocol list, or a ticket. Never from anything else.

use tidegate_durable_objects::access;
use tidegate_durable_objects::tokens::verify;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Request};

/// The principal of the `Authorization` header, or of `X-Api-Key`.
///
/// Errors: `UNAUTHORIZED` with the reason.
pub async fn header(request: &Request, env: &Env) -> Result<Principal, Error> {
    let has_token = request.headers().has("authorization").unwrap_or(false);
    match request.headers().get("x-api-key").ok().flatten() {
        Some(_) if has_token => Err(unauthorized(
            "Send either `Authorization` or `X-Api-Key`: with both, nobody can say who is meant.",
        )),
        Some(key) => access::key_holder(env, key.trim()).await,
        None => verify(env, &bearer(request)?).await,
    }
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
        None => Err(unauthorized(
            "There is no token: send `Authorization: Bearer <token>`, or an API key as `X-Api-Key`.",
        )),
    }
}

/// An `UNAUTHORIZED` with this message.
pub fn unauthorized(message: &'static str) -> Error {
    Error::new(ErrorCode::Unauthorized, message)
}
