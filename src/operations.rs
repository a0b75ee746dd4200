//! What operators and tools ask for: is it alive, is it ready, what can it do.

use serde::Serialize;
use tidegate_durable_objects::plans;
use tidegate_durable_objects::platform::deployment_key;
use tidegate_durable_objects::tokens::issuers;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Response};

use crate::answer;
use crate::routes::Route;
use crate::usage::prices;

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    checks: Vec<Check>,
}

/// Answers a route that takes no token.
///
/// Errors: `NOT_IMPLEMENTED` for what is not there yet.
pub fn handle(env: &Env, route: &Route) -> Result<Response, Error> {
    match route {
        Route::Health => answer::json(&Health { status: "ok" }, 200),
        Route::Ready => ready(env),
        Route::OpenApi => {
            let builder = Response::builder()
                .with_header("content-type", "application/json")
                .map_err(answer::broken)?;
            Ok(builder.fixed(include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json")).to_vec()))
        }
        Route::NotYet(what) => {
            let message = format!("`{what}` is part of the protocol, but not there yet.");
            Err(Error::new(ErrorCode::NotImplemented, message))
        }
        _ => Err(Error::not_found()),
    }
}

fn ready(env: &Env) -> Result<Response, Error> {
    let check = |name, ready: bool, remedy| Check {
        name,
        ready,
        remedy: if ready { None } else { Some(remedy) },
    };
    let checks = vec![
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
            "configuration store",
            env.kv("CONFIGURATION").is_ok(),
            "Bind a KV namespace as CONFIGURATION.",
        ),
        check(
            "object storage",
            env.bucket("OBJECTS").is_ok(),
            "Bind an R2 bucket as OBJECTS.",
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
            "tenants",
            env.durable_object("TENANT").is_ok(),
            "Bind the class Tenant as TENANT.",
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
    ];
    let ready = checks.iter().all(|check| check.ready);
    let status = if ready { "ready" } else { "not ready" };
    answer::json(&Readiness { status, checks }, if ready { 200 } else { 503 })
}
