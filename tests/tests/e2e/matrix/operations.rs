//! The operations of the description of the API: how each is asked for, and how its answers are compared.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::server::Server;

use super::rows::{Body, PUBLIC, ROWS, Row, path};
use super::things::Things;

/// An operation of the description, with its row.
pub struct Operation {
    method: String,
    template: String,
    /// What it takes.
    pub row: &'static Row,
}

/// The operations of the description that take a token, in the order of the rows.
///
/// Fails for one that is neither among the rows nor among the public ones, and for a row that describes nothing.
pub fn operations() -> Vec<Operation> {
    let description: Value =
        serde_json::from_str(include_str!("../../../../docs/reference/openapi.json")).expect("the description is JSON");
    let (mut found, mut public) = (Vec::new(), BTreeSet::new());
    let mut unknown = Vec::new();
    for (template, methods) in description["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let id = operation["operationId"].as_str().expect("a name");
            let is_open = operation["security"] == json!([]);
            let row = ROWS.iter().find(|row| row.operation == id);
            let is_public = PUBLIC.iter().any(|(name, _)| *name == id);
            match row {
                Some(row) if !is_open && !is_public => found.push(Operation {
                    method: method.to_uppercase(),
                    template: template.clone(),
                    row,
                }),
                None if is_open && is_public => drop(public.insert(id)),
                _ => unknown.push(format!("{method} {template} ({id})")),
            }
        }
    }
    assert!(
        unknown.is_empty(),
        "say in tests/tests/e2e/matrix/rows.rs what these take: {unknown:#?}"
    );
    assert_eq!(
        (found.len(), public.len()),
        (ROWS.len(), PUBLIC.len()),
        "rows of nothing"
    );
    let place = |operation: &Operation| ROWS.iter().position(|row| row.operation == operation.row.operation);
    found.sort_by_key(place);
    found
}

/// A credential: the headers that carry it.
pub type Credential = Vec<(&'static str, String)>;

/// A token, as a header carries it.
pub fn by_token(token: &str) -> Credential {
    vec![("authorization", format!("Bearer {token}"))]
}

/// An API key, as a header carries it.
pub fn by_key(key: &str) -> Credential {
    vec![("x-api-key", key.to_owned())]
}

impl Operation {
    /// Asks for it, of `things`.
    pub fn ask(&self, server: &Server, credential: &Credential, things: &Things) -> Answer {
        self.ask_with(server, credential, things, "")
    }

    /// The same, with `query` behind the path.
    pub fn ask_with(&self, server: &Server, credential: &Credential, things: &Things, query: &str) -> Answer {
        let mut headers: Vec<(&str, &str)> = credential.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if self.row.operation == "listJobEvents" {
            // A page of them: the stream of a job that goes on has no end.
            headers.push(("accept", "application/json"));
        }
        if self.row.operation == "connect" {
            headers.extend([
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ]);
        }
        let body = match (self.row.body)(things) {
            Body::Nothing => Vec::new(),
            Body::Json(value) => {
                headers.push(("content-type", "application/json"));
                value.to_string().into_bytes()
            }
            Body::Bytes(bytes) => {
                headers.push(("content-type", "text/plain"));
                bytes.to_vec()
            }
        };
        let path = path(&self.template, self.row.operation, things) + query;
        let client = Client::new(&server.url(), None);
        if self.row.operation == "followChannel" {
            return client.send_for_a_stream(&path, &headers);
        }
        client.send(&self.method, &path, &headers, &body)
    }

    /// Whether its path or its body names a thing of a tenant.
    pub fn names_something(&self, things: &Things) -> bool {
        let body = match (self.row.body)(things) {
            Body::Json(value) => value.to_string(),
            Body::Nothing | Body::Bytes(_) => String::new(),
        };
        let path = path(&self.template, self.row.operation, things);
        things
            .names()
            .iter()
            .any(|name| path.contains(name) || body.contains(name))
    }

    /// Checks a refusal. An answer to HEAD has no body to look at.
    pub fn is_refused(&self, what: &str, answer: &Answer, status: u16, code: &str) {
        let cell = format!("{} × {what}: {}", self.row.operation, answer.text());
        assert_eq!(answer.status, status, "{cell}");
        assert_eq!(
            answer.header("www-authenticate").starts_with("Bearer"),
            status == 401,
            "{cell}"
        );
        if self.method != "HEAD" {
            assert_eq!(answer.problem(status, code)["code"], code, "{cell}");
        }
    }
}

/// What is left of an answer when the names in it, and what names the answer itself, are taken out.
pub fn plain(answer: &Answer, things: &Things) -> (u16, Vec<(String, String)>, String) {
    let without = |text: &str| {
        let blank = |text: String, name: &&str| text.replace(*name, "*");
        things.names().iter().fold(text.to_owned(), blank)
    };
    let body = without(&String::from_utf8_lossy(&answer.body));
    let body = match serde_json::from_str::<Value>(&body) {
        Ok(Value::Object(mut members)) => {
            members.retain(|name, _| !matches!(name.as_str(), "request_id" | "trace_id"));
            Value::Object(members).to_string()
        }
        _ => body,
    };
    let mut headers: Vec<(String, String)> = answer
        .headers
        .iter()
        // The connection is the server's affair: it closes one whose body it did not read.
        .filter(|(name, _)| !matches!(name.as_str(), "date" | "connection"))
        .map(|(name, value)| (name.to_string(), without(&String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    headers.sort();
    (answer.status, headers, body)
}
