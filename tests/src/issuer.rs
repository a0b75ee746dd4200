//! An issuer of the tests' own: it signs tokens with keys that come and go, publishes them, and counts who asks for them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};

use crate::token;

/// An issuer with a set of published Ed25519 keys.
pub struct Issuer {
    server: Arc<tiny_http::Server>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    published: Mutex<Vec<Value>>,
    asked: AtomicU64,
    away: AtomicBool,
}

/// How long it takes to answer: long enough that many ask meanwhile.
const ANSWERS_AFTER: Duration = Duration::from_millis(200);

impl Issuer {
    /// Starts it with one key, `first`.
    ///
    /// # Panics
    /// Where no port is free.
    pub fn start() -> Self {
        let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").expect("a free port on 127.0.0.1"));
        let issuer = Self {
            server: Arc::clone(&server),
            state: Arc::default(),
        };
        issuer.publish(&["first"]);
        let state = Arc::clone(&issuer.state);
        thread::spawn(move || {
            for request in server.incoming_requests() {
                state.asked.fetch_add(1, Ordering::SeqCst);
                let state = Arc::clone(&state);
                thread::spawn(move || {
                    thread::sleep(ANSWERS_AFTER);
                    let keys = json!({ "keys": *state.published.lock().expect("no panic") });
                    let status = if state.away.load(Ordering::SeqCst) { 503 } else { 200 };
                    let answer = tiny_http::Response::from_string(keys.to_string()).with_status_code(status);
                    // A caller that has gone is no concern of the issuer.
                    let _ = request.respond(answer);
                });
            }
        });
        issuer
    }

    /// Its entry in `TIDEGATE_ISSUERS`.
    pub fn entry(&self) -> Value {
        json!({
            "issuer": self.url(),
            "audience": token::AUDIENCE,
            "tenant_claim": "tid",
            "jwks_url": format!("{}/keys", self.url()),
            "algorithms": ["EdDSA"],
        })
    }

    fn url(&self) -> String {
        format!("http://{}", self.server.server_addr())
    }

    /// Publishes these keys, and no others.
    ///
    /// # Panics
    /// Where another thread has.
    pub fn publish(&self, names: &[&str]) {
        let key = |name: &&str| {
            let x = URL_SAFE_NO_PAD.encode(key(name).verifying_key().as_bytes());
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": name, "x": x })
        };
        *self.state.published.lock().expect("no panic") = names.iter().map(key).collect();
    }

    /// From now on, it is away, or back.
    pub fn is_away(&self, away: bool) {
        self.state.away.store(away, Ordering::SeqCst);
    }

    /// How often its keys were asked for.
    pub fn asked(&self) -> u64 {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// A token for `user` of `tenant`, signed with the key `name`.
    pub fn token(&self, tenant: &str, user: &str, name: &str) -> String {
        let mut claims = token::claims(tenant, user, "");
        claims["iss"] = json!(self.url());
        let signed = token::unsigned(&json!({ "alg": "EdDSA", "typ": "JWT", "kid": name }), &claims);
        let signature = key(name).sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.unblock();
    }
}

/// The private key of this name: for tests alone.
fn key(name: &str) -> SigningKey {
    let mut seed = [7; 32];
    for (place, byte) in seed.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    SigningKey::from_bytes(&seed)
}
