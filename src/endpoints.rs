//! `/v1/admin/endpoints`: the endpoints of a tenant's customers. The gate decides what one may be and keeps them; here is
//! asked, and what was sent to one, or is to be sent again, is looked for among the jobs that send.

use tidegate_durable_objects::platform::{now, random};
use tidegate_durable_objects::remote;
use tidegate_protocol::calls::hooks::{ENDPOINT_KEY, HOOK_ACTION};
use tidegate_protocol::calls::jobs::{Call as JobsCall, Filter, ManyAction, Reply as JobsReply, Selection, Sort};
use tidegate_protocol::calls::tenant::{Call, EndpointChange, Reply};
use tidegate_protocol::calls::{Caller, Principal};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{BULK_JOBS_MAX, Endpoint, EndpointList, Replayed, parse_replay};
use tidegate_protocol::ids::{ActionName, EndpointId, ObjectName, ShardIndex};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Method, Request, Response};

use crate::answer;
use crate::audit::acting;
use crate::jobs::{filter, listed as listed_jobs, queries};
use crate::requests::read_text;
use crate::tenants::{check_admin, reach, unexpected};

/// Calls to objects that one replay makes at most: each is a turn, and the client waits for all of them.
const CALLS_MAX: usize = 16;

/// `GET` and `POST` of the list.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `VALIDATION_ERROR` with every fault; `CONFLICT` where there are too many.
pub async fn all(request: &mut Request, env: &Env, principal: &Principal, method: &Method) -> Result<Response, Error> {
    check_admin(principal)?;
    if *method == Method::Get {
        return answer::json(&listed(env, principal).await?, 200);
    }
    let body = read_text(request, BODY_BYTES_MAX).await?;
    let id = EndpointId::generate(now(), random());
    let endpoint = change(request, env, principal, EndpointChange::Create { id, body }).await?;
    answer::json(&endpoint, 201)
}

/// `GET`, `PATCH` and `DELETE` of one.
///
/// Errors: as [`all`]; `NOT_FOUND`.
pub async fn one(
    request: &mut Request,
    env: &Env,
    principal: &Principal,
    method: &Method,
    id: &str,
) -> Result<Response, Error> {
    check_admin(principal)?;
    let id = EndpointId::parse(id).ok_or_else(Error::not_found)?;
    match method {
        Method::Get => answer::json(&known(env, principal, &id).await?, 200),
        Method::Delete => {
            change(request, env, principal, EndpointChange::Delete { id }).await?;
            answer::no_content()
        }
        _ => {
            let body = read_text(request, BODY_BYTES_MAX).await?;
            let endpoint = change(request, env, principal, EndpointChange::Change { id, body }).await?;
            answer::json(&endpoint, 200)
        }
    }
}

/// `GET …/deliveries`: the messages to an endpoint, as jobs, newest first unless `sort` says otherwise.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `NOT_FOUND`; `VALIDATION_ERROR` with every fault of the query.
pub async fn deliveries(request: &Request, env: &Env, principal: &Principal, id: &str) -> Result<Response, Error> {
    check_admin(principal)?;
    let id = EndpointId::parse(id).ok_or_else(Error::not_found)?;
    let filter = of_endpoint(filter(&queries(request)?, &["status"])?, &id);
    known(env, principal, &id).await?;
    listed_jobs(env, principal, of_all(principal.caller()), filter).await
}

/// `POST …:replay`: sends again what was not delivered, the oldest of each object of the job queue first.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `NOT_FOUND`; `VALIDATION_ERROR` with every fault; `CONFLICT` for an endpoint
/// that is disabled.
pub async fn replay(request: &mut Request, env: &Env, principal: &Principal, id: &str) -> Result<Response, Error> {
    check_admin(principal)?;
    let id = EndpointId::parse(id).ok_or_else(Error::not_found)?;
    let since = parse_replay(&read_text(request, BODY_BYTES_MAX).await?)?;
    if !known(env, principal, &id).await?.enabled {
        let message = "The endpoint is disabled, so that nothing would be sent: enable it first.";
        return Err(Error::new(ErrorCode::Conflict, message));
    }
    let caller = of_all(acting(request, principal));
    let start = now();
    let filter = of_endpoint(
        Filter {
            created_after: since,
            // What fails again meanwhile is not of this replay.
            created_before: Some(start),
            limit: BULK_JOBS_MAX,
            sort: Sort::Oldest,
            ..Filter::default()
        },
        &id,
    );
    let mut done = Replayed {
        replayed: 0,
        more: false,
    };
    let mut calls = 0;
    for shard in 0..reach(env, &principal.tenant).await? {
        let object = ObjectName::Jobs(principal.tenant.clone(), ShardIndex(shard));
        let mut above = None;
        loop {
            if calls >= CALLS_MAX {
                done.more = true;
                return answer::json(&done, 200);
            }
            calls += 1;
            let call = JobsCall::Many {
                caller: caller.clone(),
                which: Selection::Filter(Filter {
                    above,
                    ..filter.clone()
                }),
                action: ManyAction::Redrive {
                    payload: None,
                    start,
                    interval_us: 0,
                },
                dry_run: false,
            };
            let JobsReply::Many { jobs, next } = remote::jobs(env, &object, call).await? else {
                return Err(unexpected());
            };
            let redriven = jobs.iter().filter(|job| job.redriven_to.is_some()).count();
            done.replayed += u64::try_from(redriven).unwrap_or(u64::MAX);
            // One for which there was no room is left, and so are those behind it.
            if redriven < jobs.len() {
                done.more = true;
                return answer::json(&done, 200);
            }
            above = next;
            if next.is_none() {
                break;
            }
        }
    }
    answer::json(&done, 200)
}

/// Whoever administers the tenant may see and send again what its endpoints are sent.
fn of_all(caller: Caller) -> Caller {
    Caller {
        reads_all: true,
        writes_all: true,
        ..caller
    }
}

/// Only messages to this endpoint.
fn of_endpoint(mut filter: Filter, id: &EndpointId) -> Filter {
    filter.action = ActionName::parse(HOOK_ACTION);
    filter.metadata.insert(ENDPOINT_KEY.into(), id.to_string());
    filter
}

async fn change(
    request: &Request,
    env: &Env,
    principal: &Principal,
    change: EndpointChange,
) -> Result<JsonText, Error> {
    let caller = acting(request, principal);
    match remote::tenant(env, &principal.tenant, &Call::ChangeEndpoints { change, caller }).await? {
        Reply::Shown(view) => Ok(view),
        _ => Err(unexpected()),
    }
}

async fn listed(env: &Env, principal: &Principal) -> Result<JsonText, Error> {
    match remote::tenant(env, &principal.tenant, &Call::Endpoints).await? {
        Reply::Shown(view) => Ok(view),
        _ => Err(unexpected()),
    }
}

/// The endpoint `id`.
///
/// Errors: `NOT_FOUND`.
async fn known(env: &Env, principal: &Principal, id: &EndpointId) -> Result<Endpoint, Error> {
    let text = listed(env, principal).await?;
    let list: EndpointList = serde_json::from_str(text.as_str()).map_err(|_| unexpected())?;
    let mut endpoints = list.endpoints.into_iter();
    endpoints
        .find(|endpoint| endpoint.endpoint_id == *id)
        .ok_or_else(Error::not_found)
}
