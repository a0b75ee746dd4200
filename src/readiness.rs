//! `GET /readyz`: whether what the deployment needs is there, and answers.
//!
//! It takes no token, so it says nothing of any tenant and repeats nothing of what is configured. What was found is good for a
//! second, for everyone who asks this isolate, so that asking costs the deployment next to nothing.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;

use futures_util::future::{Either, join_all, select};
use serde::Serialize;
use tidegate_durable_objects::platform::{deployment_key, log_error, now};
use tidegate_durable_objects::timer::sleep;
use tidegate_durable_objects::tokens::issuers;
use tidegate_durable_objects::{plans, remote, request_log};
use tidegate_engine::hearsay::{Heard, Step};
use tidegate_protocol::Error;
use tidegate_protocol::calls::directory::Call;
use worker::{Env, Response};

use crate::usage::prices;
use crate::{address_limits, answer};

/// How long what was found is good. Milliseconds.
const FRESH_MS: u64 = 1_000;
/// How long a part may take to answer. A load balancer waits for some seconds. Milliseconds.
const ANSWER_MS_MAX: u64 = 2_000;
/// What is looked for in the stores. It is nowhere.
const NOTHING: &str = "readyz";

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Pass,
    /// It works, and not as configured.
    Warn,
    Fail,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    checks: Vec<Check>,
}

thread_local! {
    static FOUND: RefCell<Option<Heard<Rc<Readiness>>>> = const { RefCell::new(None) };
}

/// Answers with 200 where all is there, else with 503.
///
/// Errors: the platform's.
pub async fn show(env: &Env) -> Result<Response, Error> {
    let now = now();
    let known = FOUND.with_borrow_mut(|found| {
        let found = found.as_mut()?;
        (found.step(now, FRESH_MS) == Step::Use).then(|| found.value().clone())
    });
    let readiness = match known {
        Some(known) => known,
        None => {
            let looked = Rc::new(look(env).await);
            FOUND.with_borrow_mut(|found| match found {
                Some(found) => found.hear(looked.clone(), now),
                None => *found = Some(Heard::new(looked.clone(), now)),
            });
            looked
        }
    };
    let is_ready = readiness.checks.iter().all(|check| check.ready);
    answer::json(&*readiness, if is_ready { 200 } else { 503 })
}

fn check(name: &'static str, ready: bool, remedy: &'static str) -> Check {
    Check {
        name,
        status: if ready { Status::Pass } else { Status::Fail },
        ready,
        remedy: if ready { None } else { Some(remedy) },
    }
}

/// What a part answered: nothing, or what is wrong.
type Answered<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

async fn look(env: &Env) -> Readiness {
    let kv: Answered<'_> = Box::pin(async {
        let kv = env.kv("CONFIGURATION").map_err(|cause| cause.to_string())?;
        let read = kv.get(NOTHING).text().await;
        read.map(drop).map_err(|cause| cause.to_string())
    });
    let bucket: Answered<'_> = Box::pin(async {
        let bucket = env.bucket("OBJECTS").map_err(|cause| cause.to_string())?;
        let head = bucket.head(NOTHING).await;
        head.map(drop).map_err(|cause| cause.to_string())
    });
    let directory: Answered<'_> = Box::pin(async {
        let call = Call::List {
            state: None,
            after: None,
            limit: 1,
        };
        let asked = remote::directory(env, &call).await;
        asked.map(drop).map_err(|error| error.to_string())
    });
    let parts = [
        (
            "configuration store",
            "Bind a KV namespace as CONFIGURATION; where it is bound, it does not answer, as the log tells.",
            kv,
        ),
        (
            "object storage",
            "Bind an R2 bucket as OBJECTS; where it is bound, it does not answer, as the log tells.",
            bucket,
        ),
        (
            "tenants",
            "Bind the class Tenant as TENANT; where it is bound, its objects do not answer, as the log tells.",
            directory,
        ),
    ];
    let answered = parts.map(|(name, remedy, answer)| async move {
        let why = match select(answer, pin!(sleep(ANSWER_MS_MAX))).await {
            Either::Left((Ok(()), _)) => return check(name, true, remedy),
            Either::Left((Err(why), _)) => why,
            Either::Right(_) => "no answer in time".into(),
        };
        log_error(name, why);
        check(name, false, remedy)
    });
    let mut checks = configured(env);
    checks.extend(join_all(answered).await);
    let status = match checks.iter().all(|check| check.ready) {
        true => "ready",
        false => "not ready",
    };
    Readiness { status, checks }
}

/// What can be seen without asking anybody.
fn configured(env: &Env) -> Vec<Check> {
    let mut log = check("request log", true, "");
    if request_log::fault(env).is_some() {
        log.status = Status::Warn;
        log.remedy = Some(
            "The variable TIDEGATE_REQUEST_LOG cannot be used: what holds without it does. The log names every fault of it.",
        );
    }
    let mut by_address = check("limits by address", true, "");
    if address_limits::BINDINGS
        .iter()
        .any(|(binding, _)| env.rate_limiter(binding).is_err())
    {
        by_address.status = Status::Warn;
        by_address.remedy = Some(
            "Bind rate limits as CONNECTS_BY_ADDRESS and REFUSALS_BY_ADDRESS, as wrangler.toml does: without them one address can \
             flood the objects.",
        );
    }
    vec![
        check(
            "deployment key",
            deployment_key(env).is_ok(),
            "Set the secret TIDEGATE_DEPLOYMENT_KEY to 32 random bytes in base64: `npx wrangler secret put TIDEGATE_DEPLOYMENT_KEY`.",
        ),
        check(
            "issuers",
            issuers(env).is_ok(),
            "Set the secret TIDEGATE_ISSUERS to a JSON list of issuers; the log names every fault of it.",
        ),
        check(
            "doorbells",
            env.queue("DOORBELLS").is_ok(),
            "Bind a queue as DOORBELLS.",
        ),
        check(
            "executor",
            env.service("EXECUTOR").is_ok(),
            "Bind a service as EXECUTOR, this Worker or another.",
        ),
        check("hubs", env.durable_object("HUB").is_ok(), "Bind the class Hub as HUB."),
        check(
            "jobs",
            env.durable_object("JOBS").is_ok(),
            "Bind the class Jobs as JOBS.",
        ),
        check(
            "prices",
            prices(env).is_ok(),
            "Set the variable TIDEGATE_PRICES to a JSON object with `currency` and `per_million`, or leave it out; the log names \
             every fault of it.",
        ),
        check(
            "default composition",
            plans::default_plan().is_ok(),
            "The build is broken: report it.",
        ),
        log,
        by_address,
    ]
}
