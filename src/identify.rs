//! Who is calling: from the `Authorization` header, the subprotocol list, or a ticket. Never from anything else.

use std::cell::OnceCell;

use tidegate_durable_objects::access;
use tidegate_durable_objects::runtime::variable;
use tidegate_durable_objects::tokens::verify;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::network::Network;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Request};

/// The header in which Cloudflare says who connected. It takes one of that name out of what clients send.
const EDGE_HEADER: &str = "cf-connecting-ip";

thread_local! {
    /// Which header says where a request comes from. A deployment's variables stay as they are while an isolate lives.
    static ADDRESS_HEADER: OnceCell<String> = const { OnceCell::new() };
}

/// The principal of the `Authorization` header, or of `X-Api-Key`.
///
/// Errors: `UNAUTHORIZED` with the reason.
pub async fn header(request: &Request, env: &Env) -> Result<Principal, Error> {
    let has_token = request.headers().has("authorization").unwrap_or(false);
    let principal = match request.headers().get("x-api-key").ok().flatten() {
        Some(_) if has_token => Err(unauthorized(
            "Send either `Authorization` or `X-Api-Key`: with both, nobody can say who is meant.",
        )),
        Some(key) => access::key_holder(env, key.trim()).await,
        None => verify(env, &bearer(request)?).await,
    };
    principal.map(|principal| Principal {
        network: network(request, env),
        ..principal
    })
}

/// Where the request comes from, by the header that the edge sets.
pub fn network(request: &Request, env: &Env) -> Network {
    let address = ADDRESS_HEADER.with(|name| {
        let name = name.get_or_init(|| variable(env, "TIDEGATE_ADDRESS_HEADER").unwrap_or_else(|| EDGE_HEADER.into()));
        request.headers().get(name).ok().flatten()
    });
    address.map(|address| Network::of(&address)).unwrap_or_default()
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
