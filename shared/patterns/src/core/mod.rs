//! The pattern `core`: operations that show and test what every other relies on.

mod count;
mod pause;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use serde::Deserialize;
use serde_json::json;
use tidegate_engine::composition::{Manifest, Mode, Modes, Operation, Runs, takes_no_settings, takes_nothing};
use tidegate_protocol::calls::executor::Sharing;
use tidegate_protocol::event::{JsonText, Progress};
use tidegate_protocol::fields::Fields;
use tidegate_protocol::{Error, ErrorCode};

use crate::operation::{Context, Done, Invocation};

/// What the pattern offers.
pub const MANIFEST: Manifest = Manifest {
    pattern: "core",
    description: "Operations that show and test what every other relies on.",
    operations: &[
        Operation {
            name: "echo",
            description: "Gives its payload back.",
            modes: Modes::ALL,
            default_mode: Mode::Sync,
            runs_in_hub: true,
            runs: Runs::Executor,
            sharing: Sharing::Shared,
            check_settings: takes_no_settings,
        },
        Operation {
            name: "delay",
            description: "Waits for `ms` milliseconds, with progress on the way.",
            modes: Modes::ALL,
            default_mode: Mode::Async,
            runs_in_hub: true,
            runs: Runs::Executor,
            sharing: Sharing::Shared,
            check_settings: takes_no_settings,
        },
        Operation {
            name: "pause",
            description: "Waits for `ms` milliseconds without holding a place: it puts itself off.",
            modes: Modes::ASYNC,
            default_mode: Mode::Async,
            runs_in_hub: false,
            runs: Runs::Executor,
            sharing: Sharing::Alone,
            check_settings: takes_no_settings,
        },
        Operation {
            name: "count",
            description: "Counts to `to` in `ms` milliseconds, and writes each number to the stream `stream`.",
            modes: Modes::ASYNC,
            default_mode: Mode::Async,
            runs_in_hub: false,
            runs: Runs::Executor,
            sharing: Sharing::Alone,
            check_settings: takes_no_settings,
        },
        Operation {
            name: "fail",
            description: "Fails, for tests: `message`, `retryable`, `times`, `panic`.",
            modes: Modes::ALL,
            default_mode: Mode::Async,
            runs_in_hub: true,
            runs: Runs::Executor,
            sharing: Sharing::Shared,
            check_settings: takes_no_settings,
        },
    ],
    check_config: takes_nothing,
};
const _: () = assert!(MANIFEST.is_sound());

/// The longest a delay may be told to take: a day. Milliseconds.
const DELAY_MS_MAX: u64 = 24 * 3_600_000;
/// The most steps of a delay.
const STEPS_MAX: u64 = 1000;

/// Runs an operation of the pattern.
///
/// Errors: `VALIDATION_ERROR` for a payload that cannot be used; whatever `fail` is told to fail with.
pub async fn run(context: &impl Context, call: &Invocation) -> Result<Done, Error> {
    match call.operation.as_str() {
        "echo" => Ok(Done::Result(call.payload.clone())),
        // Boxed, so that an echo is not as large as it.
        "delay" => Box::pin(delay(context, call.payload.as_str())).await,
        "pause" => Box::pin(pause::pause(context, call.payload.as_str())).await,
        "count" => Box::pin(count::count(context, call.payload.as_str())).await,
        "fail" => fail(call),
        other => Err(Error::new(
            ErrorCode::InternalError,
            format!("The pattern core has no operation `{other}`."),
        )),
    }
}

async fn delay(context: &impl Context, payload: &str) -> Result<Done, Error> {
    let mut fields = Fields::split(payload)?;
    fields.refuse_others(&["ms", "steps"]);
    if fields.raw("ms").is_none() {
        fields.fault("ms", "milliseconds to wait, at most a day", "nothing");
    }
    let ms = fields
        .optional_number("ms", "milliseconds to wait, at most a day", 0, DELAY_MS_MAX)
        .unwrap_or(0);
    let steps = fields
        .optional_number("steps", "a whole number from 1 to 1000", 1, STEPS_MAX)
        .unwrap_or(10);
    fields.finish("The payload cannot be used.")?;
    let started = context.now();
    context.progress(at(0, steps)).await?;
    for step in 1..=steps {
        // The steps keep their pace whatever each of them costs.
        let due = started.plus(ms * step / steps);
        let now = context.now();
        if due > now {
            context.sleep(due.since(now)).await;
        }
        context.progress(at(step, steps)).await?;
    }
    Ok(Done::Result(
        JsonText::of(&json!({ "waited_ms": ms })).unwrap_or_else(JsonText::null),
    ))
}

fn at(step: u64, steps: u64) -> Progress {
    #[expect(clippy::cast_precision_loss, reason = "at most 1000")]
    let percentage = step as f64 * 100.0 / steps as f64;
    Progress {
        percentage,
        message: Some(format!("step {step} of {steps}")),
        metadata: None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    #[serde(default)]
    message: Option<String>,
    /// Whether trying again may help.
    #[serde(default)]
    retryable: bool,
    /// Attempts that fail, before one succeeds; all of them where it is missing.
    #[serde(default)]
    times: Option<u32>,
    /// Panics instead of failing, to show that neighbours live on.
    #[serde(default)]
    panic: bool,
}

fn fail(call: &Invocation) -> Result<Done, Error> {
    let failure: Failure = serde_json::from_str(call.payload.as_str()).map_err(|fault| {
        Error::new(
            ErrorCode::ValidationError,
            format!("The payload cannot be used: {fault}."),
        )
    })?;
    if failure.times.is_some_and(|times| call.attempt > times) {
        return Ok(Done::Result(
            JsonText::of(&json!({ "attempt": call.attempt })).unwrap_or_else(JsonText::null),
        ));
    }
    #[expect(
        clippy::panic,
        reason = "asked for, by an operation that is in no default composition"
    )]
    if failure.panic {
        panic!("core.fail was asked to panic");
    }
    let message = failure
        .message
        .unwrap_or_else(|| String::from("This action always fails."));
    let mut error = Error::new(ErrorCode::ProcessingFailed, message);
    error.retryable = failure.retryable;
    Err(error)
}
