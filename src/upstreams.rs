//! `/v1/admin/upstreams`: how the breakers of upstreams stand, and opening, closing and disabling them by hand.

use tidegate_durable_objects::{plans, remote};
use tidegate_engine::composition::Plan;
use tidegate_patterns::http;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::calls::upstreams::{BreakerChange, SetBreaker};
use tidegate_protocol::limits::ID_CHARS_MAX;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Request, Response};

use crate::answer;
use crate::audit::acting;
use crate::tenants::{check_admin, unexpected};

/// `GET`: every breaker that the tenant's gate has heard of. `POST`: changes the breaker of an upstream of the active
/// composition, or that of the key which the path names.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `NOT_FOUND` for an upstream that is not there, and a key that can be none;
/// `CONFLICT` for an upstream that has no breaker.
pub async fn handle(
    request: &Request,
    env: &Env,
    principal: &Principal,
    change: Option<(String, String, BreakerChange)>,
) -> Result<Response, Error> {
    check_admin(principal)?;
    let call = match change {
        None => Call::Upstreams,
        Some((upstream, key, change)) => {
            if key.chars().count() > ID_CHARS_MAX {
                return Err(Error::not_found());
            }
            check(&*plans::active(env, &principal.tenant).await?, &upstream)?;
            Call::SetBreaker(Box::new(SetBreaker {
                upstream,
                key,
                change,
                caller: acting(request, principal),
            }))
        }
    };
    match remote::tenant(env, &principal.tenant, &call).await? {
        Reply::Upstreams(view) => answer::json(&view, 200),
        _ => Err(unexpected()),
    }
}

fn check(plan: &Plan, name: &str) -> Result<(), Error> {
    let (instance, upstream) = name.rsplit_once('.').ok_or_else(Error::not_found)?;
    let instance = plan
        .patterns
        .get(instance)
        .filter(|instance| instance.pattern == "http");
    let config = http::Config::parse(&instance.ok_or_else(Error::not_found)?.config)?;
    let upstream = config.upstreams.get(upstream).ok_or_else(Error::not_found)?;
    if upstream.reliability.breaker.is_some() {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::Conflict,
        "The upstream has no breaker: nobody would ask how it stands.",
    ))
}
