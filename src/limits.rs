//! `/v1/admin/limits`: how often limits on requests have refused, and what is left of one for each of its keys. And what the
//! deployment allows a tenant, which its operator alone can change: `/v1/admin/tenants/{tenant}/limits`.

use tidegate_durable_objects::remote;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::fault::{escape_pointer, shorten};
use tidegate_protocol::ids::TenantId;
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::{Error, Fault};
use worker::{Env, Method, Request, Response};

use crate::answer;
use crate::audit::acting;
use crate::jobs::queries;
use crate::requests::read_text;
use crate::tenants::{check_admin, unexpected};
use crate::usage::known;

/// Keys of a page, where the query does not say.
const PAGE: u32 = 50;
/// Keys of a page at most.
const PAGE_MAX: u32 = 200;
/// What the query can say.
const CONDITIONS: [&str; 3] = ["limit", "count", "cursor"];

/// `GET`: the counts of all limits, and the keys of the one that the query names.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `VALIDATION_ERROR` with every fault of the query.
pub async fn show(request: &Request, env: &Env, principal: &Principal) -> Result<Response, Error> {
    check_admin(principal)?;
    ask(env, &principal.tenant, &query(&queries(request)?)?).await
}

/// The limits of a tenant that an operator names: shows them as the tenant's own administrator sees them; with `PUT`, sets those
/// of the deployment before.
///
/// Errors: `FORBIDDEN` without the scope `operator`; `NOT_FOUND`; `VALIDATION_ERROR` with every fault; `UNAVAILABLE`.
pub async fn of_tenant(
    request: &mut Request,
    env: &Env,
    principal: &Principal,
    method: &Method,
    tenant: &str,
) -> Result<Response, Error> {
    let tenant = known(env, principal, tenant).await?;
    let call = query(&queries(request)?)?;
    if *method == Method::Put {
        let limits = read_text(request, BODY_BYTES_MAX).await?;
        set(request, env, principal, &tenant, limits).await?;
    }
    ask(env, &tenant, &call).await
}

/// Sets what the deployment allows a tenant.
///
/// Errors: `VALIDATION_ERROR` with every fault; `UNAVAILABLE`.
pub async fn set(
    request: &Request,
    env: &Env,
    principal: &Principal,
    tenant: &TenantId,
    limits: String,
) -> Result<(), Error> {
    let caller = acting(request, principal);
    remote::tenant(env, tenant, &Call::SetLimits { limits, caller }).await?;
    Ok(())
}

async fn ask(env: &Env, tenant: &TenantId, call: &Call) -> Result<Response, Error> {
    match remote::tenant(env, tenant, call).await? {
        Reply::Limits(view) => answer::json(&view, 200),
        _ => Err(unexpected()),
    }
}

fn query(pairs: &[(String, String)]) -> Result<Call, Error> {
    let (mut limit, mut from, mut count) = (String::new(), String::new(), PAGE);
    let mut faults = Vec::new();
    for (name, value) in pairs {
        let pointer = format!("/query/{}", escape_pointer(&shorten(name)));
        match name.as_str() {
            "limit" => limit.clone_from(value),
            "cursor" => from.clone_from(value),
            "count" => match value.parse::<u32>() {
                Ok(number @ 1..=PAGE_MAX) => count = number,
                _ => faults.push(Fault::new(pointer, "a whole number from 1 to 200", value)),
            },
            other => faults.push(Fault::new(pointer, "no such condition", value).suggest(other, CONDITIONS)),
        }
    }
    if faults.is_empty() {
        return Ok(Call::Limits { limit, from, count });
    }
    Err(Error::invalid("The query cannot be used.", faults))
}
