//! What a network may do before any object is asked: open sockets, and come with credentials that are refused. The platform counts,
//! in each of its locations by itself: this guards the objects, and is no limit of anybody's.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;

use js_sys::{Object, Promise, Reflect};
use tidegate_durable_objects::platform::{log_error, now};
use tidegate_engine::flood::{REFUSED_MS, Refused};
use tidegate_protocol::calls::network::Network;
use tidegate_protocol::{Error, ErrorCode, Fault};
use wasm_bindgen::prelude::*;
use worker::wasm_bindgen_futures::JsFuture;
use worker::{Env, RateLimiter};

#[wasm_bindgen]
extern "C" {
    /// A rate limit of the platform. That of the `worker` crate reads and writes its values by serde, which the bundle need not hold.
    type Limiter;
    #[wasm_bindgen(method, catch)]
    fn limit(this: &Limiter, of: &Object) -> Result<Promise, JsValue>;
}

/// The bindings, each with the limit's name.
pub const BINDINGS: [(&str, &str); 2] = [CONNECTS, REFUSALS];
const CONNECTS: (&str, &str) = ("CONNECTS_BY_ADDRESS", "connects_by_address");
const REFUSALS: (&str, &str) = ("REFUSALS_BY_ADDRESS", "refusals_by_address");

thread_local! {
    static REFUSED: RefCell<Refused> = const { RefCell::new(Refused::new()) };
}

/// Whether the network may open one more socket.
///
/// Errors: `RATE_LIMITED` where it has opened too many just now.
pub async fn check_connect(env: &Env, network: &Network) -> Result<(), Error> {
    match count(env, CONNECTS.0, network).await {
        true => Ok(()),
        false => Err(refusal(CONNECTS.1, "opens too many sockets", REFUSED_MS)),
    }
}

/// Whether credentials from the network are looked at.
///
/// Errors: `RATE_LIMITED` where too many of them were refused just now.
pub fn check_credentials(network: &Network) -> Result<(), Error> {
    match REFUSED.with_borrow(|refused| refused.of(network, now())) {
        None => Ok(()),
        Some(left_ms) => Err(refusal(
            REFUSALS.1,
            "sends too many credentials that are refused",
            left_ms,
        )),
    }
}

/// Counts that credentials from the network were refused.
pub async fn note_refused(env: &Env, network: &Network) {
    if !count(env, REFUSALS.0, network).await {
        REFUSED.with_borrow_mut(|refused| refused.add(network, now()));
    }
}

/// Counts one of the network, and says whether that is within the bound. Nobody is kept out by a binding that is missing or fails.
/// Boxed: the code is in the bundle once, and not at each place that waits for it.
fn count<'a>(env: &'a Env, binding: &'static str, network: &'a Network) -> Pin<Box<dyn Future<Output = bool> + 'a>> {
    Box::pin(async move {
        let (Some(network), Ok(limiter)) = (network.as_str(), env.rate_limiter(binding)) else {
            return true;
        };
        success(&limiter, network).await.unwrap_or_else(|thrown| {
            log_error(binding, worker::Error::from(thrown));
            true
        })
    })
}

async fn success(limiter: &RateLimiter, key: &str) -> Result<bool, JsValue> {
    let of = Object::new();
    Reflect::set(&of, &"key".into(), &key.into())?;
    let outcome = JsFuture::from(limiter.unchecked_ref::<Limiter>().limit(&of)?).await?;
    // What cannot be read keeps nobody out.
    Ok(Reflect::get(&outcome, &"success".into())?.as_bool().unwrap_or(true))
}

fn refusal(limit: &'static str, does: &'static str, after_ms: u64) -> Error {
    let message = format!("Your address {does}: the deployment's limit `{limit}` has no room for it.");
    let fault = Fault::new(format!("/limits/{limit}"), "fewer from one address", "too many");
    Error {
        details: vec![fault],
        ..Error::new(ErrorCode::RateLimited, message).retry_after(after_ms)
    }
}
