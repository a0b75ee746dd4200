//! The patterns `http-handler` and `worker-handler`: an endpoint of the tenant's own, or a Worker that the deployment has
//! bound, does the job.
//!
//! It is sent the job, signed, and answers with its result; or with 202, and goes on with the attempt elsewhere.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use serde::Serialize;
use serde_json::Value;
use tidegate_engine::composition::{Manifest, Mode, Modes, Object, Operation, Runs, takes_no_settings};
use tidegate_engine::outbound::{Target, check_path};
use tidegate_protocol::calls::executor::Sharing;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::Signature;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::{Message, answer, reachable, signed};
use crate::http::{ANSWER_BYTES_MAX, header_key};
use crate::operation::{Callback, Context, Done, Facts, Invocation};
use tidegate_protocol::SortedMap;

/// What `timeout` may be. Milliseconds.
const TIMEOUT_MS_RANGE: RangeInclusive<u64> = 1..=15 * 60_000;
/// What a binding's name looks like. `HANDLER_` stands before it in the deployment, so that no other binding can be meant.
const BINDING: &str = "a name of 1 to 48 of A-Z, 0-9 and '_': the deployment binds it with `HANDLER_` before it";
const BINDING_CHARS_MAX: usize = 48;

const MODES: Modes = Modes {
    // An answer on the spot has no job, which is what is handed over.
    sync: false,
    ..Modes::ALL
};

const fn handle_by(description: &'static str) -> Operation {
    Operation {
        name: "handle",
        description,
        modes: MODES,
        default_mode: Mode::Async,
        runs_in_hub: false,
        runs: Runs::Executor,
        sharing: Sharing::Alone,
        check_settings: takes_no_settings,
    }
}

/// What the pattern `http-handler` offers.
pub const HTTP: Manifest = Manifest {
    pattern: "http-handler",
    description: "An endpoint of your own does the job.",
    operations: &[handle_by(
        "Sends the job to the endpoint, signed; what that answers is the result.",
    )],
    check_config: |config, pointer, faults| {
        read(config, Some(false), pointer, faults);
    },
};
/// What the pattern `worker-handler` offers.
pub const WORKER: Manifest = Manifest {
    pattern: "worker-handler",
    description: "A Worker that the deployment has bound does the job.",
    operations: &[handle_by(
        "Sends the job to the Worker, signed; what that answers is the result.",
    )],
    check_config: |config, pointer, faults| {
        read(config, Some(true), pointer, faults);
    },
};
const _: () = assert!(HTTP.is_sound() && WORKER.is_sound());

/// Who does the job.
#[derive(Debug, PartialEq)]
struct Handler {
    /// The endpoint; for a Worker, where it would be.
    url: String,
    /// The Worker's name, where it is one.
    binding: Option<String>,
    timeout_ms: Option<u64>,
}

/// Reads a configuration, and notes every fault: that of a Worker, of an endpoint, or of whichever it is.
fn read(value: &Value, worker: Option<bool>, pointer: &str, faults: &mut Vec<Fault>) -> Option<Handler> {
    let mut fields = Object::read(value, pointer, faults)?;
    let timeout_ms = fields.duration("timeout", TIMEOUT_MS_RANGE);
    let handler = if worker.unwrap_or_else(|| fields.has("binding")) {
        fields.require("binding", BINDING);
        let binding = fields.text("binding", BINDING, |text| is_binding(text).then(|| text.to_string()));
        let path = fields.text("path", "a path that begins with '/'", |text| {
            (!text.is_empty() && check_path(text).is_ok()).then_some(text)
        });
        binding.map(|binding| Handler {
            url: format!("https://handler.internal{}", path.unwrap_or("/")),
            binding: Some(binding),
            timeout_ms,
        })
    } else {
        let url = fields.require("url", "the URL of the endpoint").map(|value| {
            let target = value.as_str().ok_or("a URL").and_then(Target::parse);
            target.map(|target| target.url().to_string())
        });
        if let Some(Err(expected)) = &url {
            // It may hold a secret, and is not repeated.
            fields.fault("url", *expected, "another URL");
        }
        url.and_then(Result::ok).map(|url| Handler {
            url,
            binding: None,
            timeout_ms,
        })
    };
    fields.finish();
    handler
}

fn is_binding(name: &str) -> bool {
    (1..=BINDING_CHARS_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// What a handler is sent.
#[derive(Serialize)]
struct Work<'a> {
    job_id: String,
    tenant: &'a str,
    action: &'a str,
    attempt: u32,
    payload: &'a JsonText,
    metadata: &'a SortedMap<String, String>,
    user: &'a str,
    effect_key: &'a str,
    deadline: UnixMs,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<Reports<'a>>,
}

/// Where a handler that answers 202 reports to.
#[derive(Serialize)]
struct Reports<'a> {
    url: &'a str,
    token: &'a str,
}

/// Has the job done by a handler.
///
/// Errors: `UPSTREAM_ERROR` as the handler answered; `TIMEOUT`; `INTERNAL_ERROR` for a run that is no job's, and for a
/// configuration that was never checked.
pub async fn handle(context: &impl Context, call: &Invocation) -> Result<Done, Error> {
    let config = serde_json::from_str(call.config.as_str()).unwrap_or_default();
    let handler = read(&config, None, "", &mut Vec::new());
    let (Some(handler), Some(job)) = (handler, call.job.as_ref()) else {
        let message = "The handler cannot be called.";
        return Err(Error::new(ErrorCode::InternalError, message));
    };
    let url = match handler.binding {
        Some(_) => handler.url,
        None => reachable(context, &handler.url)?,
    };
    let effect_key = call.effect_key.clone().unwrap_or_default();
    let own_ms = handler.timeout_ms.unwrap_or(u64::MAX);
    let mut request = signed(
        context,
        Message {
            url,
            // Every run is a message of its own; the key says which of them are the same work.
            id: format!("run_{}.{}", job.id, job.token.0),
            how: Signature::V1,
            body: body(call, job, &effect_key, context.callback(job)?.as_ref())?,
            answer_bytes_max: ANSWER_BYTES_MAX,
            timeout_ms: own_ms.min(call.timeout_ms),
        },
    )
    .await?;
    let mut header = |name: &str, value: String| request.headers.push((name.to_string(), value));
    header("accept", "application/json".into());
    header("idempotency-key", header_key(&effect_key));
    if let Some(trace) = &call.traceparent {
        header("traceparent", trace.to_string());
    }
    let given = match &handler.binding {
        Some(binding) => context.fetch_worker(&format!("HANDLER_{binding}"), request).await?,
        None => context.fetch(request).await?,
    };
    answer::done(&given, context.now())
}

fn body(call: &Invocation, job: &Facts, effect_key: &str, callback: Option<&Callback>) -> Result<String, Error> {
    let work = Work {
        job_id: job.id.to_string(),
        tenant: job.tenant.as_str(),
        action: job.action.as_str(),
        attempt: call.attempt,
        payload: &call.payload,
        metadata: &job.metadata,
        user: call.user.as_str(),
        effect_key,
        deadline: job.deadline,
        callback: callback.map(|callback| Reports {
            url: &callback.url,
            token: &callback.token,
        }),
    };
    let unwritten = |_| Error::new(ErrorCode::InternalError, "The job cannot be written.");
    serde_json::to_string(&work).map_err(unwritten)
}
