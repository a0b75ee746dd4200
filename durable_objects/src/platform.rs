//! The clock, chance, and what the deployment is configured with.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;

use tidegate_identity::DeploymentKey;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, State};

/// The clock. It stands still between one input and the next.
pub fn now() -> UnixMs {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole milliseconds since 1970, far below 2^53"
    )]
    UnixMs(js_sys::Date::now() as u64)
}

/// Bytes of chance that are fetched at once: a call for each number costs more than all the rest of a small request.
const POOL_BYTES: usize = 512;

thread_local! {
    static POOL: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// 64 bits of chance.
pub fn random() -> u64 {
    POOL.with_borrow_mut(|pool| {
        if pool.is_empty() {
            pool.resize(POOL_BYTES, 0);
            if getrandom::fill(pool).is_err() {
                // The platform has a source of chance wherever events are handled. Should it fail, ids still differ.
                pool.clear();
                let count = COUNT.replace(COUNT.get().wrapping_add(1));
                return (now().0.wrapping_add(count)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            }
        }
        // What was given is taken out, so that it is never given again.
        let rest = pool.len().saturating_sub(8);
        pool.drain(rest..).fold(0, |number, byte| number << 8 | u64::from(byte))
    })
}

/// Writes a line to the log. Never a token, a payload or a secret.
pub fn log_error(what: &str, cause: impl core::fmt::Display) {
    worker::console_error!("{what}: {cause}");
}

/// An error of the platform, as a client may see it: nothing inside leaks out.
pub fn unavailable(what: &'static str) -> impl FnOnce(worker::Error) -> Error {
    move |cause| {
        log_error(what, cause);
        Error::new(
            ErrorCode::Unavailable,
            "A part of the deployment cannot be reached right now.",
        )
        .retry_after(1000)
    }
}

thread_local! {
    static KEY: RefCell<Option<(String, DeploymentKey)>> = const { RefCell::new(None) };
    static PREVIOUS_KEY: RefCell<Option<(String, DeploymentKey)>> = const { RefCell::new(None) };
}

/// 256 bits of chance for a secret.
///
/// Errors: `UNAVAILABLE` where the platform gives none.
pub fn secret_bytes() -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|cause| {
        log_error("chance", cause);
        Error::new(
            ErrorCode::Unavailable,
            "There is no chance to make a secret of right now.",
        )
        .retry_after(1000)
    })?;
    Ok(bytes)
}

/// The deployment's key, from the secret `TIDEGATE_DEPLOYMENT_KEY`.
///
/// Errors: `UNAVAILABLE` where it is not set or cannot be used; the log says which.
pub fn deployment_key(env: &Env) -> Result<DeploymentKey, Error> {
    let text = env
        .secret("TIDEGATE_DEPLOYMENT_KEY")
        .map(|secret| secret.to_string())
        .map_err(|_| {
            log_error("configuration", "the secret TIDEGATE_DEPLOYMENT_KEY is not set");
            not_configured()
        })?;
    KEY.with_borrow_mut(|cached| parsed(cached, text, "TIDEGATE_DEPLOYMENT_KEY"))
}

/// The key that the deployment had before, from the secret `TIDEGATE_PREVIOUS_DEPLOYMENT_KEY`, where there is one: what
/// was signed with it for long, as API keys are, stays good.
///
/// Errors: `UNAVAILABLE` where it cannot be used; the log says so.
pub fn previous_deployment_key(env: &Env) -> Result<Option<DeploymentKey>, Error> {
    let Ok(secret) = env.secret("TIDEGATE_PREVIOUS_DEPLOYMENT_KEY") else {
        return Ok(None);
    };
    let text = secret.to_string();
    PREVIOUS_KEY.with_borrow_mut(|cached| parsed(cached, text, "TIDEGATE_PREVIOUS_DEPLOYMENT_KEY").map(Some))
}

fn parsed(
    cached: &mut Option<(String, DeploymentKey)>,
    text: String,
    name: &'static str,
) -> Result<DeploymentKey, Error> {
    if let Some((of, key)) = cached
        && *of == text
    {
        return Ok(key.clone());
    }
    let key = DeploymentKey::parse(&text).map_err(|error| {
        log_error(name, error);
        not_configured()
    })?;
    *cached = Some((text, key.clone()));
    Ok(key)
}

/// Has an object do something beside its turns, and stay awake for it.
pub fn beside(state: &State, work: impl Future<Output = ()> + 'static) {
    // Boxed, so that what makes a promise of a future is in the bundle once, and not for each of them.
    let work: Pin<Box<dyn Future<Output = ()>>> = Box::pin(work);
    state.wait_until(work);
}

/// The refusal of a deployment that lacks a part of its configuration.
pub fn not_configured() -> Error {
    Error::new(
        ErrorCode::Unavailable,
        "This deployment is not configured yet: see /readyz.",
    )
}
