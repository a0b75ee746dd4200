//! The HTTP door, spoken plainly: nothing is retried, followed or repaired.

use std::io::Read;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Method, Request};

use crate::SOON;

/// How long any answer may take: the longest `?wait` and what stands around it.
const ANSWER: Duration = Duration::from_secs(90);

/// A client with, perhaps, a token.
#[derive(Clone)]
pub struct Client {
    base: String,
    token: Option<String>,
    agent: ureq::Agent,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client of `base`, with `token` as its bearer token.
    pub fn new(base: &str, token: Option<&str>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .timeout_global(Some(ANSWER))
            .timeout_connect(Some(SOON))
            // An answer must not depend on which connection it comes over; and killed servers leave dead ones behind.
            .max_idle_connections(0)
            .proxy(None)
            .build();
        Self {
            base: base.to_owned(),
            token: token.map(str::to_owned),
            agent: config.new_agent(),
        }
    }

    /// Sends a request. `None` where no answer came: the server is gone.
    ///
    /// # Panics
    /// Where the request cannot be put into HTTP.
    pub fn try_send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        let (parts, body) = self.open(method, path, headers, body)?.into_parts();
        let mut bytes = Vec::new();
        body.into_reader().read_to_end(&mut bytes).ok()?;
        Some(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: bytes,
        })
    }

    /// `PUT` of `bytes` bytes that are made while they are sent, so that a large object is never held whole.
    ///
    /// # Panics
    /// Where no answer comes within `wait`.
    pub fn put_stream(
        &self,
        path: &str,
        content_type: &str,
        bytes: u64,
        body: impl Read + 'static,
        wait: Duration,
    ) -> Answer {
        let mut request = self.agent.put(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let sent = request
            .header("content-type", content_type)
            .header("content-length", bytes.to_string())
            .config()
            .timeout_global(Some(wait))
            .build()
            .send(ureq::SendBody::from_owned_reader(body));
        let (parts, body) = sent
            .unwrap_or_else(|error| panic!("no answer to PUT {path}: {error}"))
            .into_parts();
        let mut text = Vec::new();
        body.into_reader()
            .read_to_end(&mut text)
            .unwrap_or_else(|error| panic!("no whole answer to PUT {path}: {error}"));
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: text,
        }
    }

    /// Sends a request and leaves the body of the answer to be read. `None` where no answer came.
    ///
    /// # Panics
    /// Where the request cannot be put into HTTP.
    pub fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<ureq::http::Response<ureq::Body>> {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = if body.is_empty() {
            self.agent.run(request.body(()).expect("a request"))
        } else {
            self.agent.run(request.body(body).expect("a request"))
        };
        sent.ok()
    }

    /// `GET` of an event stream that may have no end: where it is given, its body is not read.
    ///
    /// # Panics
    /// Where no answer comes.
    pub fn send_for_a_stream(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let answer = self.open("GET", path, headers, &[]);
        let (parts, body) = answer.unwrap_or_else(|| panic!("no answer to GET {path}")).into_parts();
        let mut bytes = Vec::new();
        if parts.status.as_u16() != 200 {
            body.into_reader().read_to_end(&mut bytes).expect("a whole answer");
        }
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: bytes,
        }
    }

    /// Sends a request.
    ///
    /// # Panics
    /// Where no answer comes.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body)
            .unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// `GET`.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], &[])
    }

    /// `POST` with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body)
    }

    /// `POST` with a JSON body and further headers.
    pub fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send("POST", path, &all, body.to_string().as_bytes())
    }
}

impl Answer {
    /// The body as text, for messages.
    pub fn text(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.body))
    }

    /// The body as JSON, where the status is the one expected.
    ///
    /// # Panics
    /// For another status, or no JSON.
    pub fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// The header `name`, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The problem document, where status, code and media type are those of RFC 9457 and the protocol.
    ///
    /// # Panics
    /// For anything else.
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.json(status);
        assert_eq!(
            self.header("content-type").split(';').next(),
            Some("application/problem+json"),
            "{}",
            self.text()
        );
        assert_eq!(problem["code"], code, "{}", self.text());
        assert_eq!(problem["status"], status, "{}", self.text());
        assert!(problem["retryable"].is_boolean(), "{}", self.text());
        for member in ["type", "title", "detail"] {
            assert!(
                problem[member].as_str().is_some_and(|text| !text.is_empty()),
                "{member}: {}",
                self.text()
            );
        }
        problem
    }

    /// Checks that this is how a thing that is not there, or not to be seen, is answered.
    pub fn is_not_found(&self) {
        self.problem(404, "NOT_FOUND");
    }
}
