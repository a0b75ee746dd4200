//! What browsers ask before a page of another origin may use the API, and read its answers (the Fetch standard, section 3.3).
//! Which origins a tenant lists is decided in [`tidegate_engine::composition::Origins`].
//!
//! A preflight comes without a token, so that nobody knows whose list it would be held against. It is answered yes for everyone,
//! and that gives nothing away: who is calling is said by a header that only the page itself can set. There are no cookies and no
//! other credentials that a browser would add by itself, and no answer allows any.

use tidegate_durable_objects::plans::lists_origin;
use tidegate_durable_objects::platform::log_error;
use tidegate_protocol::Error;
use tidegate_protocol::ids::TenantId;
use worker::{Env, Request, Response};

use crate::answer;

/// What clients send, beside what browsers allow by themselves.
const ALLOWED_HEADERS: &str = "authorization, content-type, idempotency-key, if-match, if-none-match, if-range, \
                               last-event-id, prefer, range, traceparent, x-api-key";
/// What clients read, beside what browsers show by themselves.
const EXPOSED_HEADERS: &str = "accept-ranges, content-range, etag, idempotency-replayed, location, preference-applied, \
                               ratelimit, ratelimit-policy, retry-after, www-authenticate";
/// How long a browser keeps the answer to a preflight: it changes with a release. Chromium keeps none longer. Seconds.
const PREFLIGHT_S: &str = "7200";

/// Where the page comes from that asks, if it is one.
pub fn origin(request: &Request) -> Option<String> {
    request.headers().get("origin").ok().flatten()
}

/// Makes the answer to `OPTIONS` one to a preflight, where it was one. `methods` as in `Allow`.
///
/// Errors: the platform's.
pub fn preflight(request: &Request, methods: &str, response: Response) -> Result<Response, Error> {
    let asks = |name: &str| request.headers().has(name).unwrap_or(false);
    if asks("origin") && asks("access-control-request-method") {
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-methods", methods),
            ("access-control-allow-headers", ALLOWED_HEADERS),
            ("access-control-max-age", PREFLIGHT_S),
        ] {
            response.headers().set(name, value).map_err(answer::broken)?;
        }
    }
    Ok(response)
}

/// Lets a page of `origin` read a response, where the tenant that asked lists it. A refusal of which no tenant is known says nothing
/// of any, and a page that cannot read it cannot tell an expired token from a broken network: everyone may.
pub async fn share(env: &Env, tenant: Option<&TenantId>, origin: &str, response: &Response) {
    let allowed = match tenant {
        Some(tenant) => match lists_origin(env, tenant, origin).await {
            Ok(is_listed) => is_listed.then_some(origin),
            Err(error) => {
                log_error("the origins of a tenant", error);
                None
            }
        },
        None => (response.status_code() >= 400).then_some("*"),
    };
    // The platform refuses no header with such a name.
    let set = |name, value| response.headers().append(name, value).unwrap_or_default();
    set("vary", "Origin");
    if let Some(allowed) = allowed {
        set("access-control-allow-origin", allowed);
        set("access-control-expose-headers", EXPOSED_HEADERS);
    }
}
