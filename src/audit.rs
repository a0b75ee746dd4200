//! `/v1/admin/audit`: who changed what by hand, and the archive of it; and what each change is told of the request that it comes from.

use tidegate_durable_objects::platform::{now, random, unavailable};
use tidegate_durable_objects::{remote, storage};
use tidegate_engine::audit::PAGE_MAX;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::calls::audit::{Act, Via};
use tidegate_protocol::calls::tenant::{AuditQuery, Call, Reply};
use tidegate_protocol::calls::{Caller, Principal};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::fault::{escape_pointer, shorten};
use tidegate_protocol::http::AuditWhat;
use tidegate_protocol::ids::{RequestId, TraceParent, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, Fault};
use worker::{Env, Request, Response};

use crate::answer;
use crate::jobs::queries;
use crate::tenants::{check_admin, unexpected};

/// Entries of a page, where the query does not say.
const PAGE: u32 = 50;
/// What can narrow a page.
const CONDITIONS: [&str; 7] = ["what", "user", "from", "to", "limit", "cursor", "after"];
const MOMENT: &str = "a time as RFC 3339 text";

/// The act that a request is. Its id is made here, so that no other request has it.
pub fn act(request: &Request, principal: &Principal) -> Act {
    let traceparent = request.headers().get("traceparent").ok().flatten();
    Act {
        request_id: RequestId::generate(now(), random()),
        via: match principal.credential {
            // What a webhook asks for is a job, and no act.
            Credential::Token { .. } | Credential::Signature { .. } => Via::Token,
            Credential::Key { .. } => Via::ApiKey,
        },
        traceparent: traceparent.and_then(|text| TraceParent::parse(text.trim())),
    }
}

/// Who asks, by a request that may change something.
pub fn acting(request: &Request, principal: &Principal) -> Caller {
    principal.acting(act(request, principal))
}

/// `GET`: a page of the audit trail, newest first.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `VALIDATION_ERROR` with every fault of the query.
pub async fn show(request: &Request, env: &Env, principal: &Principal) -> Result<Response, Error> {
    check_admin(principal)?;
    let query = query(&queries(request)?)?;
    match remote::tenant(env, &principal.tenant, &Call::Audit(query)).await? {
        Reply::Audit(page) => answer::json(&page, 200),
        _ => Err(unexpected()),
    }
}

fn query(pairs: &[(String, String)]) -> Result<AuditQuery, Error> {
    let mut query = AuditQuery {
        limit: PAGE,
        ..AuditQuery::default()
    };
    let mut faults = Vec::new();
    for (name, value) in pairs {
        let pointer = format!("/query/{}", escape_pointer(&shorten(name)));
        let set = match name.as_str() {
            "what" => AuditWhat::parse(value)
                .map(|what| query.what = Some(what.as_str().into()))
                .ok_or("an act, such as queue.paused"),
            "user" => UserId::parse(value)
                .map(|user| query.user = Some(user))
                .ok_or(UserId::EXPECTED),
            "from" => UnixMs::parse(value).map(|at| query.from = Some(at)).ok_or(MOMENT),
            "to" => UnixMs::parse(value).map(|at| query.to = Some(at)).ok_or(MOMENT),
            "limit" => match value.parse::<u32>() {
                Ok(limit @ 1..=PAGE_MAX) => {
                    query.limit = limit;
                    Ok(())
                }
                _ => Err("a whole number from 1 to 200"),
            },
            "cursor" => number(value)
                .map(|number| query.below = Some(number))
                .ok_or("the cursor of an earlier page"),
            "after" => number(value)
                .map(|number| query.after = Some(number))
                .ok_or("the number of an entry, or 0"),
            other => {
                faults.push(Fault::new(pointer, "no such filter", value).suggest(other, CONDITIONS));
                continue;
            }
        };
        if let Err(expected) = set {
            faults.push(Fault::new(pointer, expected, value));
        }
    }
    if let (Some(below), Some(_)) = (query.below, query.after) {
        let expected = "no cursor beside `after`, which itself goes on behind a page";
        faults.push(Fault::new("/query/cursor", expected, &below.to_string()));
    }
    if faults.is_empty() {
        return Ok(query);
    }
    Err(Error::invalid("The query cannot be used.", faults))
}

/// A number that a row can have.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| *number < 1 << 53)
}

/// `GET /v1/admin/audit/archive`: the segments of the archive, oldest first.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `VALIDATION_ERROR` for a query that cannot be used; `UNAVAILABLE`.
pub async fn segments(request: &Request, env: &Env, principal: &Principal) -> Result<Response, Error> {
    check_admin(principal)?;
    let mut faults = Vec::new();
    let mut after = None;
    for (name, value) in queries(request)? {
        let pointer = format!("/query/{}", escape_pointer(&shorten(&name)));
        match name.as_str() {
            "cursor" if ends(&value).is_some() => after = Some(value),
            "cursor" => faults.push(Fault::new(pointer, "the cursor of an earlier page", &value)),
            other => faults.push(Fault::new(pointer, "no such filter", &value).suggest(other, ["cursor"])),
        }
    }
    if !faults.is_empty() {
        return Err(Error::invalid("The query cannot be used.", faults));
    }
    let prefix = storage::audit(&principal.tenant);
    let bucket = env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))?;
    let list = bucket.list().prefix(prefix.as_str());
    let list = match after {
        Some(after) => list.start_after(format!("{prefix}{after}")),
        None => list,
    };
    let listed = list.execute().await.map_err(unavailable("listing the archive"))?;
    let mut last = String::new();
    let mut segments = Vec::new();
    for object in listed.objects() {
        let key = object.key();
        let Some((name, (first, end))) = key
            .strip_prefix(prefix.as_str())
            .and_then(|name| Some((name, ends(name)?)))
        else {
            continue;
        };
        let bytes = object.size();
        segments.push(format!(
            r#"{{"name":"{name}","first":{first},"last":{end},"bytes":{bytes}}}"#
        ));
        name.clone_into(&mut last);
    }
    let cursor = if listed.truncated() {
        format!(r#","cursor":"{last}""#)
    } else {
        String::new()
    };
    let page = format!(r#"{{"segments":[{}]{cursor}}}"#, segments.join(","));
    answer::json(&JsonText::parse(&page), 200)
}

/// The numbers of a segment's first and last entry, by its name: digits, so that it is safe to show as it is.
fn ends(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_suffix(".ndjson")?.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (storage::segment(first, last) == name).then_some((first, last))
}

/// `GET /v1/admin/audit/archive/{name}`: a segment, an entry a line.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `NOT_FOUND`; `UNAVAILABLE`.
pub async fn segment(env: &Env, principal: &Principal, name: &str) -> Result<Response, Error> {
    check_admin(principal)?;
    ends(name).ok_or_else(Error::not_found)?;
    let key = storage::audit(&principal.tenant) + name;
    let bucket = env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))?;
    let object = bucket
        .get(key)
        .execute()
        .await
        .map_err(unavailable("reading the archive"))?;
    let object = object.ok_or_else(Error::not_found)?;
    let body = object.body().ok_or_else(Error::not_found)?;
    let bytes = body.bytes().await.map_err(unavailable("reading the archive"))?;
    let response = Response::builder()
        .with_status(200)
        .with_header("content-type", "application/x-ndjson")
        .and_then(|builder| builder.with_header("cache-control", "no-store"))
        .map_err(answer::broken)?;
    Ok(response.fixed(bytes))
}

const _: () = assert!(PAGE_MAX == 200, "a message says so");

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, value: &str) -> Result<AuditQuery, Error> {
        query(&[(name.into(), value.into())])
    }

    #[test]
    fn a_query_takes_each_condition_in_its_own_form_and_no_other() {
        for (name, good, bad) in [
            ("what", "queue.paused", "queue"),
            ("user", "ann", ""),
            ("from", "2026-11-21T07:00:00Z", "yesterday"),
            ("to", "2026-11-21T07:00:00Z", "7"),
            ("limit", "200", "201"),
            ("cursor", "17", "x"),
            ("after", "0", "-1"),
        ] {
            assert!(asked(name, good).is_ok(), "{name}");
            assert_eq!(asked(name, bad).map_err(|error| error.details.len()), Err(1), "{name}");
        }
        let error = asked("usr", "ann").unwrap_err();
        assert_eq!(error.details.len(), 1);
        let both = [("after", "1"), ("cursor", "2")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(query(&both).unwrap_err().details.len(), 1);
    }

    #[test]
    fn a_name_of_a_segment_is_read_as_it_is_written_and_in_no_other_way() {
        let name = storage::segment(7, 206);
        assert_eq!(ends(&name), Some((7, 206)));
        for bad in [
            "",
            "7-206.ndjson",
            "../x.ndjson",
            &name.replace('-', "_"),
            &format!("{name}\""),
        ] {
            assert_eq!(ends(bad), None, "{bad}");
        }
    }
}
