//! The executor: makes attempts of jobs, on behalf of a `Jobs` object, and reports what came of each.
//!
//! It is a method of the Worker's entry point (`entry.mjs`), which only a service binding can call: nothing that comes in
//! over HTTP reaches it.
//!
//! An outcome travels in a call of its own, not in the answer to the object's call: an object that restarts under a
//! running attempt has forgotten that it asked, and would run a finished attempt again.

use std::panic::AssertUnwindSafe;

use js_sys::Uint8Array;
use tidegate_durable_objects::{remote, runtime};
use wasm_bindgen::prelude::*;
use worker::Env;

/// Makes the attempts of an [`Assignment`](tidegate_protocol::calls::executor::Assignment), in CBOR. Ends when all of them
/// have.
///
/// Errors: an assignment that cannot be read.
#[wasm_bindgen(wasm_bindgen_futures = ::worker::wasm_bindgen_futures)]
pub async fn execute(assignment: Uint8Array, env: Env) -> Result<(), JsValue> {
    let work = AssertUnwindSafe(async move {
        let assignment = remote::read(&assignment)?;
        runtime::execute(env, assignment).await;
        Ok(())
    });
    work.await
}
