//! A tenant of one test's own, with its users, clients and composition.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::history::Observer;
use crate::http::{Answer, Client};
use crate::server::Server;
use crate::socket::Socket;
use crate::upstream::Upstream;
use crate::{token, unique};

/// A tenant that no other test uses.
pub struct Tenant {
    /// Its id.
    pub id: String,
    /// Where it lives.
    pub server: Arc<Server>,
    /// What was seen of its jobs.
    pub observer: Arc<Observer>,
}

/// The deadline of the actions that are declared `auto`. Milliseconds.
pub const DEADLINE_MS: u64 = 500;

impl Tenant {
    /// A new tenant on `server`, with the default composition.
    pub fn new(server: Arc<Server>) -> Self {
        Self {
            id: format!("t-{}", unique()),
            server,
            observer: Arc::default(),
        }
    }

    /// A new tenant on the server that the tests share.
    pub fn shared() -> Self {
        Self::new(crate::server::shared())
    }

    /// A token of `user` with `scope` (space-separated).
    pub fn token(&self, user: &str, scope: &str) -> String {
        token::mint(&self.id, user, scope)
    }

    /// An HTTP client of `user`, with no scope.
    pub fn client(&self, user: &str) -> Client {
        self.client_with(user, "")
    }

    /// An HTTP client of `user` with `scope`.
    pub fn client_with(&self, user: &str, scope: &str) -> Client {
        Client::new(&self.server.url(), Some(&self.token(user, scope)))
    }

    /// A connection of `user`, with no scope.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn socket(&self, user: &str) -> Socket {
        self.socket_with(&self.token(user, ""))
    }

    /// A connection with `token` in the `Authorization` header.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn socket_with(&self, token: &str) -> Socket {
        let header = format!("Bearer {token}");
        Socket::connect(
            self.server.port(),
            "/v1/connect",
            &[("authorization", &header)],
            &self.observer,
        )
        .expect("the connection is accepted")
    }

    /// Gives the tenant [`composition`].
    ///
    /// # Panics
    /// Where it is refused.
    pub fn compose(&self, upstream: Option<&Upstream>) {
        self.put_composition(&composition(upstream));
    }

    /// Activates `document`.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn put_composition(&self, document: &Value) {
        let activated = self.try_composition(document).json(200);
        assert!(activated["revision"].is_string(), "{activated}");
    }

    /// What an administrator is answered who puts `document`.
    pub fn try_composition(&self, document: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        let body = document.to_string();
        self.client_with("admin", "admin")
            .send("PUT", "/v1/admin/composition", &headers, body.as_bytes())
    }

    /// The names of the tenant's objects, each with its class.
    pub fn objects(&self) -> [(&'static str, String); 3] {
        [
            ("Hub", format!("t:{}:hub:0", self.id)),
            ("Jobs", format!("t:{}:jobs:0", self.id)),
            ("Tenant", format!("t:{}:gate", self.id)),
        ]
    }
}

/// What the tests' tenants can do. Leases are short, so that what a kill interrupted goes on soon.
pub fn composition(upstream: Option<&Upstream>) -> Value {
    let retry = json!({ "attempts": 2, "backoff": "constant", "initial": "1s" });
    let mut document = json!({
        "tidegate": 1,
        "scale": { "hubs": 1, "shards": 1 },
        "patterns": { "core": { "use": "core" }, "report": { "use": "report" } },
        "actions": {
            "core.echo": { "run": "core.echo", "mode": "sync" },
            "slow": { "run": "core.delay", "mode": "async", "lease": "2s" },
            "spill": { "run": "core.delay", "mode": "auto", "deadline": format!("{DEADLINE_MS}ms"), "lease": "2s" },
            "boom": { "run": "core.fail", "mode": "async", "lease": "2s", "retry": retry },
            "boom.sync": { "run": "core.fail", "mode": "sync" },
            "report.summarize": { "run": "report.summarize", "mode": "async", "lease": "2s" },
        },
    });
    if let Some(upstream) = upstream {
        let main = json!({ "base_url": upstream.url(), "allow_private": true, "timeout": "30s" });
        document["patterns"]["up"] = json!({ "use": "http", "config": { "upstreams": { "main": main } } });
        let with = json!({ "upstream": "main", "method": "POST", "path": "/hit" });
        let deadline = format!("{DEADLINE_MS}ms");
        for (name, mode) in [("hit.auto", "auto"), ("hit.sync", "sync"), ("hit.async", "async")] {
            document["actions"][name] = json!({ "run": "up.call", "mode": mode, "lease": "2s", "with": with });
        }
        document["actions"]["hit.auto"]["deadline"] = json!(deadline);
    }
    document
}
