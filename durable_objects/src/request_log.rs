//! The request log: where its lines go, and what this deployment wants written. Every decision is in
//! [`tidegate_engine::request_log`].

use std::cell::OnceCell;
use std::rc::Rc;

use tidegate_engine::hub::Logging;
use tidegate_engine::request_log::{Config, Record};
use tidegate_protocol::Error;
use worker::Env;

use crate::platform::log_error;
use crate::runtime::variable;

/// The variable with the configuration.
const VARIABLE: &str = "TIDEGATE_REQUEST_LOG";

/// What is written; and the faults of what is configured, where that cannot be used.
type Configured = (Config, Option<Error>);

thread_local! {
    /// A deployment's variables stay as they are while an isolate lives.
    static CONFIGURED: OnceCell<Rc<Configured>> = const { OnceCell::new() };
}

fn configured(env: &Env) -> Rc<Configured> {
    CONFIGURED.with(|configured| configured.get_or_init(|| Rc::new(read(env))).clone())
}

/// What is configured. Where it cannot be used, what holds without it does: no request fails for its log.
fn read(env: &Env) -> Configured {
    let Some(text) = variable(env, VARIABLE) else {
        return (Config::default(), None);
    };
    match Config::parse(&text) {
        Ok(config) => (config, None),
        Err(fault) => {
            log_error(VARIABLE, &fault);
            (Config::default(), Some(fault))
        }
    }
}

/// What is wrong with the configuration.
pub fn fault(env: &Env) -> Option<Error> {
    configured(env).1.clone()
}

/// What has to be kept of requests while they are under way.
pub fn level(env: &Env) -> Logging {
    let configured = configured(env);
    match &configured.0 {
        config if config.is_off() => Logging::Off,
        config if config.shows_payload => Logging::Frames,
        _ => Logging::Requests,
    }
}

/// Writes the line of a request, where the rules mean it.
pub fn write(env: &Env, record: &Record<'_>) {
    if let Some(line) = configured(env).0.line(record) {
        worker::console_log!("{line}");
    }
}
