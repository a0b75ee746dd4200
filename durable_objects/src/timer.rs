//! Timers of the platform.
//!
//! Our own, because the platform answers `setTimeout` with an object where its Node.js compatibility is on, and the
//! `worker` crate takes a number for granted: its timers cannot be cleared then, and panic in a build with assertions.
//!
//! One function of JavaScript serves all of them, and is told by a number which one is over: a function for each would be
//! garbage that has to be watched, for a timer that work gives way with a thousand times a second.

use std::cell::RefCell;

use futures_channel::oneshot;
use tidegate_protocol::SortedMap;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(catch, js_name = setTimeout)]
    fn set_timeout(callback: &JsValue, ms: f64, number: u32) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch, js_name = clearTimeout)]
    fn clear_timeout(timer: &JsValue) -> Result<(), JsValue>;
}

/// The longest that the platform's timers take: 31 bits of milliseconds. A longer sleep is made of several.
const SLEEP_MS_MAX: u64 = 1 << 30;

thread_local! {
    /// What timers call when they are over.
    static OVER: JsValue = {
        let over: Box<dyn FnMut(u32)> = Box::new(|number| {
            if let Some(sleeper) = SLEEPERS.with_borrow_mut(|sleepers| sleepers.waiting.remove(&number)) {
                let _nobody_waits = sleeper.send(());
            }
        });
        Closure::wrap_assert_unwind_safe(over).into_js_value()
    };
    static SLEEPERS: RefCell<Sleepers> = const {
        RefCell::new(Sleepers {
            last: 0,
            waiting: SortedMap::new(),
        })
    };
}

/// Who waits for a timer, by its number.
struct Sleepers {
    last: u32,
    waiting: SortedMap<u32, oneshot::Sender<()>>,
}

impl Sleepers {
    /// Another one, under a number that no one else has.
    fn add(&mut self, sleeper: oneshot::Sender<()>) -> u32 {
        self.last = self.last.wrapping_add(1);
        while self.waiting.contains_key(&self.last) {
            self.last = self.last.wrapping_add(1);
        }
        self.waiting.insert(self.last, sleeper);
        self.last
    }
}

/// A timer that has been set. Dropping it clears it.
struct Timer {
    number: u32,
    timer: JsValue,
}

impl Drop for Timer {
    fn drop(&mut self) {
        if SLEEPERS
            .with_borrow_mut(|sleepers| sleepers.waiting.remove(&self.number))
            .is_some()
        {
            let _unknown_to_the_platform = clear_timeout(&self.timer);
        }
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
    let number = SLEEPERS.with_borrow_mut(|sleepers| sleepers.add(sender));
    #[expect(clippy::cast_precision_loss, reason = "at most 2^30")]
    let set = OVER.with(|over| set_timeout(over, ms as f64, number));
    let Ok(timer) = set else {
        SLEEPERS.with_borrow_mut(|sleepers| sleepers.waiting.remove(&number));
        return;
    };
    let _timer = Timer { number, timer };
    let _ended = receiver.await;
}
