//! How an object goes back to a time, by the platform's point-in-time recovery. When one does is decided in
//! [`tidegate_engine::directory::recovery`].
//!
//! workerd, which runs on one's own machine, has none and says so.

use js_sys::Promise;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};
use wasm_bindgen::prelude::*;
use worker::State;
use worker::wasm_bindgen_futures::JsFuture;

use crate::platform::log_error;

#[wasm_bindgen]
extern "C" {
    /// An object's storage, as far as it goes back.
    type History;
    #[wasm_bindgen(method, catch, js_name = getBookmarkForTime)]
    fn bookmark_for_time(this: &History, at: f64) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch, js_name = getCurrentBookmark)]
    fn current_bookmark(this: &History) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch, js_name = onNextSessionRestoreBookmark)]
    fn restore_next(this: &History, bookmark: &str) -> Result<Promise, JsValue>;

    /// An object, as far as it can end itself.
    type Session;
    #[wasm_bindgen(method, getter, structural)]
    fn abort(this: &Session) -> Abort;
    type Abort;
    #[wasm_bindgen(method)]
    fn bind(this: &Abort, session: &Session, reason: &str) -> Abort;
    #[wasm_bindgen(catch, js_name = setTimeout)]
    fn set_timeout(callback: &Abort, ms: f64) -> Result<JsValue, JsValue>;
}

/// The moment of an object that is about to start again as what it was before: it answers nothing any more.
pub const LEAVING: u64 = u64::MAX;
/// How long after it was told an object starts again: long enough for its answer to be on its way. Milliseconds.
const LEAVING_MS: f64 = 100.0;
/// What workerd throws.
const LACKING: &str = "does not implement point-in-time recovery";

/// What the platform calls the object at a time, and now. Nothing changes.
///
/// Errors: `NOT_IMPLEMENTED` where the platform has no recovery; `CONFLICT` where it refuses this one.
pub async fn bookmarks(state: &State, at: UnixMs) -> Result<Vec<String>, Error> {
    let history = history(state);
    #[expect(clippy::cast_precision_loss, reason = "a date, far below 2^53")]
    let bookmark = text(history.bookmark_for_time(at.0 as f64)).await?;
    Ok(vec![bookmark, text(history.current_bookmark()).await?])
}

/// Has the object be what it was at a bookmark, from its next start on, which comes by itself.
///
/// Errors: as [`bookmarks`].
pub async fn go_back(state: &State, bookmark: &str) -> Result<(), Error> {
    text(history(state).restore_next(bookmark)).await?;
    let session: Session = AsRef::<JsValue>::as_ref(state.as_raw()).clone().unchecked_into();
    // By a timer of JavaScript alone: what ends the object must not end in the middle of our own code.
    let abort = session
        .abort()
        .bind(&session, "The object goes back to an earlier time.");
    set_timeout(&abort, LEAVING_MS)
        .map(drop)
        .map_err(|thrown| refused(&thrown))
}

fn history(state: &State) -> History {
    AsRef::<JsValue>::as_ref(state.storage().as_raw())
        .clone()
        .unchecked_into()
}

async fn text(promise: Result<Promise, JsValue>) -> Result<String, Error> {
    let given = async { JsFuture::from(promise?).await };
    match given.await {
        Ok(text) => Ok(text.as_string().unwrap_or_default()),
        Err(thrown) => Err(refused(&thrown)),
    }
}

fn refused(thrown: &JsValue) -> Error {
    let cause = worker::Error::from(thrown.clone()).to_string();
    if cause.contains(LACKING) {
        let message = "The platform that this deployment runs on cannot take objects back to a time. Cloudflare's can; \
            everywhere, backups can be restored.";
        return Error::new(ErrorCode::NotImplemented, message);
    }
    log_error("point-in-time recovery", &cause);
    Error::new(ErrorCode::Conflict, "the platform refuses")
}
