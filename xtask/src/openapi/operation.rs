//! One operation of the HTTP API, put together a part at a time.

use serde_json::{Value, json};
use tidegate_protocol::ErrorCode::{InternalError, NotImplemented, Unauthorized, Unavailable};

use super::problems::{Refusal, of};

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Everyone,
    /// Whoever has a token.
    Token,
    /// Whoever has a token, wherever a socket's client can put it, or a ticket.
    Socket,
    /// Whoever has a token, or a ticket.
    Ticket,
    /// Whoever makes the attempt, by its own token.
    Attempt,
}

/// One method of one path.
pub struct Operation {
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// The method, in lower case.
    pub method: &'static str,
    /// The name for generated clients.
    pub id: &'static str,
    /// The group.
    pub tag: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// What else there is to know.
    pub description: String,
    /// Who may ask.
    pub access: Access,
    /// Parameters of path, query and header.
    pub parameters: Vec<Value>,
    /// The body.
    pub body: Option<Value>,
    /// The answers that are no problem documents.
    pub answers: Vec<(u16, Value)>,
    /// How it can be refused.
    pub refusals: Vec<Refusal>,
}

/// What each operation with a token can be refused with: a token that is not good, an API key or a jurisdiction, which
/// are not there yet, and what goes wrong with ourselves.
const TOKEN: [Refusal; 4] = [of(Unauthorized), of(NotImplemented), of(InternalError), of(Unavailable)];
impl Operation {
    /// An operation that takes a token, with no answer yet.
    pub fn new(
        path: &'static str,
        method: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            path,
            method,
            id,
            tag,
            summary,
            description: String::new(),
            access: Access::Token,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            refusals: TOKEN.to_vec(),
        }
    }

    /// What else there is to know.
    pub fn about(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// The operation takes no token.
    pub fn open(mut self) -> Self {
        self.access = Access::Everyone;
        self.refusals.clear();
        self
    }

    /// The operation takes the token of an attempt, and no other.
    pub fn by_attempt(mut self) -> Self {
        self.access = Access::Attempt;
        self.refusals = vec![of(Unauthorized), of(InternalError), of(Unavailable)];
        self
    }

    /// Adds a parameter of `path`, `query` or `header`.
    pub fn parameter(mut self, place: &str, name: &str, schema: Value, description: impl Into<String>) -> Self {
        let description: String = description.into();
        let mut parameter = json!({ "in": place, "name": name, "schema": schema, "description": description });
        if place == "path" {
            parameter["required"] = json!(true);
        }
        self.parameters.push(parameter);
        self
    }

    /// Says what the body is.
    pub fn body(mut self, media: &str, schema: Value, description: impl Into<String>) -> Self {
        let description: String = description.into();
        self.body = Some(json!({
            "required": true,
            "description": description,
            "content": { media: { "schema": schema } },
        }));
        self
    }

    /// Adds another media type in which the body may come.
    pub fn or_body(mut self, media: &str, schema: Value) -> Self {
        if let Some(body) = &mut self.body {
            body["content"][media] = json!({ "schema": schema });
        }
        self
    }

    /// Says what the body is, where there is one.
    pub fn body_or_none(self, media: &str, schema: Value, description: impl Into<String>) -> Self {
        let mut operation = self.body(media, schema, description);
        if let Some(body) = &mut operation.body {
            body["required"] = json!(false);
        }
        operation
    }

    /// Adds an answer in JSON.
    pub fn answer(self, status: u16, description: &str, schema: Value) -> Self {
        self.answer_as(status, description, &[("application/json", schema)])
    }

    /// Adds an answer in each of several media types; none for an answer without content.
    pub fn answer_as(mut self, status: u16, description: &str, contents: &[(&str, Value)]) -> Self {
        let mut answer = json!({ "description": description });
        for (media, schema) in contents {
            answer["content"][media] = json!({ "schema": schema });
        }
        self.answers.push((status, answer));
        self
    }

    /// Adds a header to the last answer.
    pub fn with_header(mut self, name: &str, description: &str, kind: &str) -> Self {
        if let Some((_, answer)) = self.answers.last_mut() {
            answer["headers"][name] = json!({ "description": description, "schema": { "type": kind } });
        }
        self
    }

    /// Adds ways in which it can be refused.
    pub fn refused(mut self, refusals: &[Refusal]) -> Self {
        self.refusals.extend_from_slice(refusals);
        self
    }
}
