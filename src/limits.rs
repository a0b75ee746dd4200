//! `/v1/admin/limits`: how often limits on requests have refused, and what is left of one for each of its keys.

use tidegate_durable_objects::remote;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::fault::{escape_pointer, shorten};
use tidegate_protocol::{Error, Fault};
use worker::{Env, Request, Response};

use crate::answer;
use crate::jobs::queries;
use crate::tenants::{check_admin, unexpected};

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
    let call = query(&queries(request)?)?;
    match remote::tenant(env, &principal.tenant, &call).await? {
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
