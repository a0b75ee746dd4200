//! An endpoint of the tests' own that does jobs, well or badly: what becomes of each request is the test's to say.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::eventually;
use crate::receiver::{Answer, Received};

/// An HTTP server on 127.0.0.1. Requests that are never answered stay open until it is dropped.
pub struct Handler {
    server: Arc<tiny_http::Server>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    unanswered: Vec<tiny_http::Request>,
}

impl Handler {
    /// Starts it. `behave` is told how many requests came before, and the request; it gives the answer, after as long as it
    /// likes, or none, which leaves the caller hanging.
    pub fn start(behave: impl Fn(usize, &Received) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").expect("a free port on 127.0.0.1"));
        let handler = Self {
            server: Arc::clone(&server),
            state: Arc::default(),
        };
        let (state, behave) = (Arc::clone(&handler.state), Arc::new(behave));
        thread::spawn(move || {
            for mut request in server.incoming_requests() {
                let received = read(&mut request);
                let before = {
                    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.received.push(received.clone());
                    state.received.len() - 1
                };
                let (state, behave) = (Arc::clone(&state), Arc::clone(&behave));
                thread::spawn(move || match behave(before, &received) {
                    // A caller that has gone is part of what is tested.
                    Some(answer) => drop(request.respond(response(answer))),
                    None => state
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .unanswered
                        .push(request),
                });
            }
        });
        handler
    }

    /// Its origin.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.server_addr())
    }

    /// What it was sent so far.
    pub fn received(&self) -> Vec<Received> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.received.clone()
    }

    /// Waits until it was sent `count` requests.
    ///
    /// # Panics
    /// Where they do not come.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        eventually("what the handler is sent", || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.server.unblock();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.unanswered.clear();
    }
}

fn read(request: &mut tiny_http::Request) -> Received {
    let mut body = String::new();
    // What cannot be read is no JSON either, which is where a test finds out.
    let _ = request.as_reader().read_to_string(&mut body);
    let headers = request.headers().iter();
    let headers = headers.map(|header| {
        let name = header.field.as_str().as_str().to_ascii_lowercase();
        (name, header.value.as_str().to_owned())
    });
    Received {
        path: request.url().to_owned(),
        headers: headers.collect(),
        body,
    }
}

fn response(answer: Answer) -> tiny_http::Response<impl std::io::Read> {
    let mut response = tiny_http::Response::from_string(answer.body).with_status_code(answer.status);
    let headers = answer.headers.into_iter();
    for (name, value) in headers.chain([("content-type", "application/json".to_owned())]) {
        response.add_header(tiny_http::Header::from_bytes(name, value).expect("a header"));
    }
    response
}
