//! Timers of the platform.
//!
//! Our own, because the platform answers `setTimeout` with an object where its Node.js compatibility is on, and the
//! `worker` crate takes a number for granted: its timers cannot be cleared then, and panic in a build with assertions.

use futures_channel::oneshot;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(catch, js_name = setTimeout)]
    fn set_timeout(callback: &JsValue, ms: f64) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch, js_name = clearTimeout)]
    fn clear_timeout(timer: &JsValue) -> Result<(), JsValue>;
}

/// The longest that the platform's timers take: 31 bits of milliseconds. A longer sleep is made of several.
const SLEEP_MS_MAX: u64 = 1 << 30;

struct Timer {
    timer: JsValue,
    _callback: Closure<dyn FnMut()>,
}

impl Drop for Timer {
    fn drop(&mut self) {
        let _fired_already = clear_timeout(&self.timer);
    }
}

/// Waits. Dropping the future clears the timer.
pub async fn sleep(ms: u64) {
    let mut rest = ms;
    loop {
        let step = rest.min(SLEEP_MS_MAX);
        sleep_once(step).await;
        rest -= step;
        if rest == 0 {
            return;
        }
    }
}

async fn sleep_once(ms: u64) {
    let (sender, receiver) = oneshot::channel();
    let mut sender = Some(sender);
    let callback: Box<dyn FnMut()> = Box::new(move || {
        if let Some(sender) = sender.take() {
            let _nobody_waits = sender.send(());
        }
    });
    let callback = Closure::wrap_assert_unwind_safe(callback);
    #[expect(clippy::cast_precision_loss, reason = "at most 2^30")]
    let Ok(timer) = set_timeout(callback.as_ref(), ms as f64) else {
        return;
    };
    let _timer = Timer {
        timer,
        _callback: callback,
    };
    let _ended = receiver.await;
}
