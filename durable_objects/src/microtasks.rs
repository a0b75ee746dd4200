//! How futures are woken: by promises, which the engine of JavaScript carries out itself.
//!
//! `wasm-bindgen` wakes them by `queueMicrotask` where there is one. workerd's makes an object of its own of every callback,
//! which was 8.5 % of the samples of a profile at 1,000 progress events a second; what follows from a settled promise is
//! 0.1 % of one, and runs at the same moment.

use js_sys::Reflect;
use wasm_bindgen::JsValue;
use worker::wasm_bindgen_futures::spawn_local;

/// Says on the global object that a first instance has started.
const STARTED: &str = "tidegateStarted";

/// Has all futures woken by promises. To be called when the module is loaded: a promise that is made while a request is
/// answered belongs to that request, and others must not wait for it. For an instance that takes the place of a broken
/// one, which is made then, nothing changes.
pub fn wake_by_promises() {
    let global = js_sys::global();
    let (started, name) = (JsValue::from_str(STARTED), JsValue::from_str("queueMicrotask"));
    // Nothing below can fail on an object that takes properties; on another one, all stays as it is.
    if Reflect::has(&global, &started).unwrap_or(true) || Reflect::set(&global, &started, &JsValue::TRUE).is_err() {
        return;
    }
    // The queue of futures is made for the first of them, and looks then, once, for what it is to use.
    if Reflect::set(&global, &name, &JsValue::UNDEFINED).is_ok() {
        spawn_local(async {});
        let _the_platforms_own_shows_again = Reflect::delete_property(&global, &name);
    }
}
