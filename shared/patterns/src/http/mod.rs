//! The pattern `http`: a request to a configured upstream.
//!
//! Only hosts that the composition lists are called, only under the path it gives, and what a payload may add is listed
//! too. Redirects are not followed. Everything here is pure; the request itself is made by the [`Context`].

mod answer;
mod call;
mod config;
mod headers;
mod reliability;
mod request;
mod secrets;
mod settings;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use serde_json::Value;
use tidegate_engine::composition::{Manifest, Mode, Modes, Operation, Runs};
use tidegate_protocol::calls::executor::Sharing;
use tidegate_protocol::{Error, ErrorCode, Fault};

pub use answer::{RETRY_AFTER_MS_MAX, classify, result};
pub(crate) use answer::{is_json, parse_retry_after};
pub use config::{Config, Upstream};
pub use reliability::{Breaker, Fallback, Reliability};
pub(crate) use request::header_key;
pub use request::{ANSWER_BYTES_MAX, Around, prepare};
pub use secrets::referred;
pub use settings::{Accepts, Settings};
pub use tidegate_engine::outbound::{BaseUrl, Host, Scheme};

use crate::operation::{Context, Done, Invocation};

/// What the pattern offers.
pub const MANIFEST: Manifest = Manifest {
    pattern: "http",
    description: "Requests to configured upstreams.",
    operations: &[Operation {
        name: "call",
        description: "Makes one request to an upstream and gives its answer.",
        modes: Modes::ALL,
        // A quick upstream is answered on the spot, and a slow one holds nobody up.
        default_mode: Mode::Auto,
        // It waits, and computes next to nothing.
        runs_in_hub: true,
        runs: Runs::Executor,
        sharing: Sharing::Alone,
        check_settings,
    }],
    check_config,
};
const _: () = assert!(MANIFEST.is_sound());

fn check_config(config: &Value, pointer: &str, faults: &mut Vec<Fault>) {
    Config::read(config, pointer, faults);
}

fn check_settings(settings: &Value, config: &Value, pointer: &str, faults: &mut Vec<Fault>) {
    // The configuration's own faults are noted where it stands.
    let config = Config::read(config, "", &mut Vec::new());
    Settings::read(settings, &config, pointer, faults);
}

/// Runs an operation of the pattern.
///
/// Errors: `VALIDATION_ERROR` for a payload that cannot be sent; `UPSTREAM_ERROR` and `TIMEOUT` as the call went;
/// `SECRET_UNUSABLE` where a header refers to a secret that is not set; `CIRCUIT_OPEN` and `UNAVAILABLE` where the upstream's breaker or bulkhead lets no call through.
pub async fn run(context: &impl Context, call: &Invocation) -> Result<Done, Error> {
    if call.operation != "call" {
        return Err(Error::new(
            ErrorCode::InternalError,
            "The pattern has no such operation.",
        ));
    }
    let config = Config::parse(&call.config)?;
    let settings = Settings::parse(&call.settings, &config)?;
    call::call(context, call, &config, &settings).await.map(Done::Result)
}
