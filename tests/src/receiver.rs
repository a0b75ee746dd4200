//! An endpoint of the tests' own: it keeps what it is sent, and answers as it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::eventually;

/// An HTTP server on 127.0.0.1.
pub struct Receiver {
    server: Arc<tiny_http::Server>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    answers: VecDeque<Answer>,
}

/// What it answers with.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers, beside that of JSON.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// An answer of this status and body.
    pub fn of(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }
}

/// What it was sent.
#[derive(Debug, Clone)]
pub struct Received {
    /// The path with its query.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Receiver {
    /// Starts it. It answers 204 unless it is told otherwise.
    pub fn start() -> Self {
        let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").expect("a free port on 127.0.0.1"));
        let receiver = Self {
            server: Arc::clone(&server),
            state: Arc::default(),
        };
        let state = Arc::clone(&receiver.state);
        thread::spawn(move || {
            for mut request in server.incoming_requests() {
                let mut body = String::new();
                let _ = request.as_reader().read_to_string(&mut body);
                let headers = request.headers().iter();
                let headers = headers.map(|header| {
                    let name = header.field.as_str().as_str().to_ascii_lowercase();
                    (name, header.value.as_str().to_owned())
                });
                let received = Received {
                    path: request.url().to_owned(),
                    headers: headers.collect(),
                    body,
                };
                let answer = {
                    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.received.push(received);
                    state.answers.pop_front().unwrap_or_else(|| Answer::of(204, ""))
                };
                let mut response = tiny_http::Response::from_string(answer.body).with_status_code(answer.status);
                response
                    .add_header(tiny_http::Header::from_bytes("content-type", "application/json").expect("a header"));
                for (name, value) in answer.headers {
                    response.add_header(tiny_http::Header::from_bytes(name, value).expect("a header"));
                }
                // A caller that has gone is part of what is tested.
                let _ = request.respond(response);
            }
        });
        receiver
    }

    /// The next requests get these answers, one each.
    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.answers.extend(answers);
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
        eventually("what the endpoint is sent", || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.unblock();
    }
}

impl Received {
    /// A header.
    ///
    /// # Panics
    /// Where it is missing.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or_else(|| panic!("no header {name}: {self:?}"), |(_, value)| value)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// Where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }

    /// Verifies the signature as Standard Webhooks says: with the key behind `whsec_`, over id, time and body; the time
    /// must be that of now.
    ///
    /// # Panics
    /// Where it does not hold.
    pub fn verify(&self, secret: &str) {
        let seconds: u64 = self.header("webhook-timestamp").parse().expect("whole seconds");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        assert!(now.abs_diff(seconds) < 300, "{seconds} is not now, {now}");
        let expected = sign(secret, self.header("webhook-id"), seconds, &self.body);
        let signatures = self.header("webhook-signature");
        assert!(
            signatures.split(' ').any(|signature| signature == expected),
            "{signatures} is not {expected}"
        );
    }
}

fn sign(secret: &str, id: &str, seconds: u64, body: &str) -> String {
    let key = STANDARD
        .decode(secret.strip_prefix("whsec_").expect("a secret of Standard Webhooks"))
        .expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length");
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_verified() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let signed = sign(
            secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
