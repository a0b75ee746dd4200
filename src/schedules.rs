//! `/v1/schedules`: what a tenant's clock fires, and what can be done to it by hand.
//!
//! A schedule is the tenant's, not a user's. Seeing them takes what seeing every job takes; holding one back or firing one
//! takes `jobs:write`. The scope `admin` does as well: whoever has it can put any schedule into the composition.

use tidegate_durable_objects::remote;
use tidegate_protocol::calls::audit::Act;
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::calls::{Caller, Principal};
use tidegate_protocol::http::{BackfillBody, Triggered};
use tidegate_protocol::ids::{ObjectName, ScheduleName, ShardIndex};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, fields::Fields};
use worker::{Env, Request, Response};

use crate::requests::read_text;
use crate::routes::Change;
use crate::{answer, audit, idempotency};

fn caller(principal: &Principal, act: Option<Act>) -> Caller {
    let admin = principal.scopes.contains("admin");
    let caller = principal.caller();
    Caller {
        reads_all: caller.reads_all || admin,
        writes_all: caller.writes_all || admin,
        act: act.map(Box::new),
        ..caller
    }
}

/// Schedules lie in the first object of the job queue, however many there are.
async fn ask(env: &Env, principal: &Principal, call: Call) -> Result<Reply, Error> {
    let name = ObjectName::Jobs(principal.tenant.clone(), ShardIndex(0));
    remote::jobs(env, &name, call).await
}

fn unexpected() -> Error {
    Error::new(ErrorCode::InternalError, "The job queue answered another question.")
}

/// `GET /v1/schedules`.
///
/// Errors: `FORBIDDEN`.
pub async fn list(env: &Env, principal: &Principal) -> Result<Response, Error> {
    let caller = caller(principal, None);
    match ask(env, principal, Call::Schedules { caller }).await? {
        Reply::Schedules(list) => answer::json(&list, 200),
        _ => Err(unexpected()),
    }
}

/// `POST /v1/schedules/{name}:pause`, `:resume`, `:trigger` and `:backfill`.
///
/// Errors: `FORBIDDEN`; `NOT_FOUND`; `VALIDATION_ERROR` for a body or a key that cannot be used; `QUEUE_FULL`.
pub async fn change(
    request: &mut Request,
    env: &Env,
    principal: &Principal,
    name: &str,
    change: Change,
) -> Result<Response, Error> {
    let name = ScheduleName::parse(name).ok_or_else(Error::not_found)?;
    let caller = caller(principal, Some(audit::act(request, principal)));
    let call = match change {
        Change::Pause => Call::PauseSchedule { name, caller },
        Change::Resume => Call::ResumeSchedule { name, caller },
        Change::Trigger => Call::TriggerSchedule {
            name,
            caller,
            key: idempotency::key(request)?,
        },
        Change::Backfill => {
            let BackfillBody { from, to } = backfill_body(&read_text(request, BODY_BYTES_MAX).await?)?;
            Call::Backfill { name, caller, from, to }
        }
    };
    match ask(env, principal, call).await? {
        Reply::Schedules(info) => answer::json(&info, 200),
        Reply::Acknowledged { job, deduplicated, .. } => {
            let triggered = Triggered {
                job_id: job,
                deduplicated,
            };
            let response = answer::json(&triggered, 202)?;
            let location = format!("/v1/jobs/{job}");
            response.headers().set("location", &location).map_err(answer::broken)?;
            if deduplicated {
                idempotency::mark(&response)?;
            }
            Ok(response)
        }
        Reply::Backfilled(done) => answer::json(&done, 202),
        _ => Err(unexpected()),
    }
}

fn backfill_body(text: &str) -> Result<BackfillBody, Error> {
    const MOMENT: &str = "a time as RFC 3339 text";
    let mut fields = Fields::split(text)?;
    fields.refuse_others(&["from", "to"]);
    let from = fields.required_text("from", MOMENT, UnixMs::parse);
    let to = fields.required_text("to", MOMENT, UnixMs::parse);
    fields.finish("The body cannot be used.")?;
    match from.zip(to) {
        Some((from, to)) => Ok(BackfillBody { from, to }),
        None => Err(unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backfill_names_a_part_of_the_past_and_nothing_else() {
        let good = r#"{"from":"2026-11-21T07:00:00Z","to":"2026-11-22T07:00:00+01:00"}"#;
        assert!(backfill_body(good).is_ok());
        for (text, faults) in [
            ("{}", 2),
            (r#"{"from":"yesterday","to":1}"#, 2),
            (
                r#"{"from":"2026-11-21T07:00:00Z","to":"2026-11-22T07:00:00Z","dry_run":true}"#,
                1,
            ),
        ] {
            let error = backfill_body(text).unwrap_err();
            assert_eq!(
                (error.code, error.details.len()),
                (ErrorCode::ValidationError, faults),
                "{text}"
            );
        }
    }
}
