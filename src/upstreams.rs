//! `/v1/admin/upstreams`: how the breakers of upstreams stand, and opening, closing and disabling them by hand.

use tidegate_durable_objects::{plans, remote};
use tidegate_engine::composition::Plan;
use tidegate_patterns::http;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::calls::upstreams::{BreakerChange, SetBreaker};
use tidegate_protocol::fault::{escape_pointer, shorten};
use tidegate_protocol::limits::ID_CHARS_MAX;
use tidegate_protocol::{Error, ErrorCode, Fault};
use worker::{Env, Request, Response};

use crate::answer;
use crate::audit::acting;
use crate::jobs::queries;
use crate::tenants::{check_admin, unexpected};

/// `GET`: every breaker that the tenant's gate has heard of. `POST`: changes the breaker of an upstream of the active
/// composition, or that of the key which the query names.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `VALIDATION_ERROR` with every fault of the query; `NOT_FOUND` for an upstream
/// that is not there; `CONFLICT` for one that has no breaker.
pub async fn handle(
    request: &Request,
    env: &Env,
    principal: &Principal,
    change: Option<(String, BreakerChange)>,
) -> Result<Response, Error> {
    check_admin(principal)?;
    let call = match change {
        None => Call::Upstreams,
        Some((upstream, change)) => {
            let key = key(&queries(request)?)?;
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

fn key(pairs: &[(String, String)]) -> Result<String, Error> {
    let mut key = String::new();
    let mut faults = Vec::new();
    for (name, value) in pairs {
        let pointer = format!("/query/{}", escape_pointer(&shorten(name)));
        match name.as_str() {
            "key" if value.chars().count() <= ID_CHARS_MAX => key.clone_from(value),
            "key" => faults.push(Fault::new(pointer, "at most 128 characters", value)),
            _ => faults.push(Fault::new(pointer, "no such condition", value)),
        }
    }
    if faults.is_empty() {
        return Ok(key);
    }
    Err(Error::invalid("The query cannot be used.", faults))
}

const _: () = assert!(ID_CHARS_MAX == 128, "a message says so");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_takes_a_key_and_nothing_else() {
        let asked = |name: &str, value: &str| key(&[(name.into(), value.into())]);
        assert_eq!(asked("key", "eu"), Ok("eu".into()));
        assert_eq!(key(&[]), Ok(String::new()));
        for (name, value) in [("keys", "eu"), ("key", &*"x".repeat(129))] {
            assert_eq!(
                asked(name, value).map_err(|error| error.details.len()),
                Err(1),
                "{name}"
            );
        }
    }
}
