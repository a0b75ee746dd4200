//! `/v1/admin/audit`: who changed what by hand; and what each change is told of the request that it comes from.

use tidegate_durable_objects::platform::{now, random};
use tidegate_durable_objects::remote;
use tidegate_engine::audit::PAGE_MAX;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::calls::audit::{Act, Via};
use tidegate_protocol::calls::tenant::{AuditQuery, Call, Reply};
use tidegate_protocol::calls::{Caller, Principal};
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
const CONDITIONS: [&str; 6] = ["what", "user", "from", "to", "limit", "cursor"];
const MOMENT: &str = "a time as RFC 3339 text";

/// The act that a request is. Its id is made here, so that no other request has it.
pub fn act(request: &Request, principal: &Principal) -> Act {
    let traceparent = request.headers().get("traceparent").ok().flatten();
    Act {
        request_id: RequestId::generate(now(), random()),
        via: match principal.credential {
            Credential::Token { .. } => Via::Token,
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
            "cursor" => match value.parse::<u64>() {
                Ok(number) if number < 1 << 53 => {
                    query.below = Some(number);
                    Ok(())
                }
                _ => Err("the cursor of an earlier page"),
            },
            other => {
                faults.push(Fault::new(pointer, "no such filter", value).suggest(other, CONDITIONS));
                continue;
            }
        };
        if let Err(expected) = set {
            faults.push(Fault::new(pointer, expected, value));
        }
    }
    if faults.is_empty() {
        return Ok(query);
    }
    Err(Error::invalid("The query cannot be used.", faults))
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
        ] {
            assert!(asked(name, good).is_ok(), "{name}");
            assert_eq!(asked(name, bad).map_err(|error| error.details.len()), Err(1), "{name}");
        }
        let error = asked("usr", "ann").unwrap_err();
        assert_eq!(error.details.len(), 1);
    }
}
