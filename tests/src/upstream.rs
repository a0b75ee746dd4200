//! An upstream of the tests' own: it counts what reaches it, and answers when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// An HTTP server on 127.0.0.1 that answers every request with `{"hit":N}`, N being how many came so far.
pub struct Upstream {
    server: Arc<tiny_http::Server>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    hits: AtomicU64,
    delay_ms: AtomicU64,
}

impl Upstream {
    /// Starts it, answering after `delay`.
    pub fn start(delay: Duration) -> Self {
        let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").expect("a free port on 127.0.0.1"));
        let upstream = Self {
            server: Arc::clone(&server),
            state: Arc::default(),
        };
        upstream.answer_after(delay);
        let state = Arc::clone(&upstream.state);
        thread::spawn(move || {
            for request in server.incoming_requests() {
                let hit = state.hits.fetch_add(1, Ordering::SeqCst) + 1;
                let delay = Duration::from_millis(state.delay_ms.load(Ordering::SeqCst));
                thread::spawn(move || {
                    thread::sleep(delay);
                    let json = tiny_http::Header::from_bytes("content-type", "application/json").expect("a header");
                    let answer = tiny_http::Response::from_string(format!("{{\"hit\":{hit}}}")).with_header(json);
                    // A caller that has gone is part of what is tested.
                    let _ = request.respond(answer);
                });
            }
        });
        upstream
    }

    /// From now on, answers come after `delay`.
    pub fn answer_after(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).expect("a delay of a sane length");
        self.state.delay_ms.store(ms, Ordering::SeqCst);
    }

    /// How many requests have reached it.
    pub fn hits(&self) -> u64 {
        self.state.hits.load(Ordering::SeqCst)
    }

    /// Its origin.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.server_addr())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.unblock();
    }
}
