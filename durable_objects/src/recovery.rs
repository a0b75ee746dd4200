//! How an object goes back to a time, by the platform's point-in-time recovery. When one does is decided in
//! [`tidegate_engine::directory::recovery`].
//!
//! workerd, which runs on one's own machine, has none and says so.

use js_sys::{Array, Promise};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};
use wasm_bindgen::prelude::*;
use worker::State;
use worker::wasm_bindgen_futures::JsFuture;

use crate::platform::log_error;
use crate::remote::Asked;

#[wasm_bindgen]
extern "C" {
    /// Of `src/entry.mjs`: with a time, the platform's bookmarks of then and of now; with a bookmark, what has the object go back there.
    #[wasm_bindgen(catch, js_name = tidegateGoBack)]
    fn raw_go_back(state: &JsValue, to: &JsValue) -> Result<Promise, JsValue>;
}

/// The moment of an object that is about to start again as what it was before: it answers nothing any more.
pub const LEAVING: u64 = u64::MAX;
/// What workerd throws.
const LACKING: &str = "does not implement point-in-time recovery";

/// What the platform calls the object at a time, and now. Nothing changes.
///
/// Errors: as [`go_back`].
pub fn bookmarks(state: &State, at: UnixMs) -> Asked<'_, Vec<String>> {
    #[expect(clippy::cast_precision_loss, reason = "a date, far below 2^53")]
    go_back(state, JsValue::from_f64(at.0 as f64))
}

/// Has the object be what it was at a bookmark, from its next start on, which comes by itself.
///
/// Errors: `NOT_IMPLEMENTED` where the platform has no recovery; `CONFLICT` where it refuses this one.
pub fn go_back(state: &State, to: JsValue) -> Asked<'_, Vec<String>> {
    Box::pin(async move {
        let given = async { JsFuture::from(raw_go_back(state.as_raw().as_ref(), &to)?).await };
        let thrown = match given.await {
            Ok(given) => return Ok(Array::from(&given).iter().filter_map(|text| text.as_string()).collect()),
            Err(thrown) => worker::Error::from(thrown).to_string(),
        };
        if thrown.contains(LACKING) {
            let message = "The platform that this deployment runs on cannot take objects back to a time. Cloudflare's can; \
                everywhere, backups can be restored.";
            return Err(Error::new(ErrorCode::NotImplemented, message));
        }
        log_error("point-in-time recovery", thrown);
        Err(Error::new(ErrorCode::Conflict, "The platform refuses."))
    })
}
