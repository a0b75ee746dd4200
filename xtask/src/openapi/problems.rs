//! The responses with a problem document: one component for each status and set of codes that some operation has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use tidegate_protocol::ErrorCode;
use tidegate_protocol::error::Retry;
use tidegate_protocol::http::Problem;

use super::schemas::Schemas;

/// A way in which an operation can be refused: a code, and the status that it has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The code of the problem document.
    pub code: ErrorCode,
}

/// `code` with its own status.
pub const fn of(code: ErrorCode) -> Refusal {
    let status = code.status();
    Refusal { status, code }
}

/// `VALIDATION_ERROR` with the faults of an input that is well formed.
pub const FAULTS: Refusal = Refusal {
    status: 422,
    code: ErrorCode::ValidationError,
};

/// The codes of one status, in the order of the catalogue.
type Codes = BTreeSet<ErrorCode>;

/// The components, by name: `404.NOT_FOUND`.
pub struct Problems(BTreeMap<String, (u16, Codes)>);

impl Problems {
    /// None yet.
    pub fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// References to the responses of `refusals`, by status.
    pub fn of(&mut self, refusals: &[Refusal]) -> BTreeMap<u16, Value> {
        let mut by_status = BTreeMap::<u16, Codes>::new();
        for Refusal { status, code } in refusals {
            by_status.entry(*status).or_default().insert(*code);
        }
        let named = by_status.into_iter().map(|(status, codes)| {
            let names: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
            let name = format!("{status}.{}", names.join("."));
            let reference = json!({ "$ref": format!("#/components/responses/{name}") });
            self.0.insert(name, (status, codes));
            (status, reference)
        });
        named.collect()
    }

    /// The components.
    pub fn responses(self, schemas: &mut Schemas) -> Map<String, Value> {
        let meanings = meanings(schemas);
        let problem = schemas.of::<Problem>();
        let one = |(name, (status, codes)): (String, (u16, Codes))| {
            let lines: Vec<String> = codes
                .iter()
                .map(|code| format!("`{}`: {}", code.as_str(), meanings[code.as_str()]))
                .collect();
            let names: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
            let narrowed = json!({ "properties": { "status": { "const": status }, "code": { "enum": names } } });
            let mut response = json!({
                "description": lines.join("\n\n"),
                "content": { "application/problem+json": { "schema": { "allOf": [problem, narrowed] } } },
            });
            let headers = headers(status, &codes);
            if !headers.is_empty() {
                response["headers"] = Value::Object(headers);
            }
            (name, response)
        };
        self.0.into_iter().map(one).collect()
    }
}

/// What each code means, in the words of the type.
fn meanings(schemas: &mut Schemas) -> BTreeMap<String, String> {
    let schema = schemas.inline::<ErrorCode>();
    let variants = schema["oneOf"].as_array().into_iter().flatten();
    let meaning = |variant: &Value| {
        Some((
            variant["const"].as_str()?.into(),
            variant["description"].as_str()?.into(),
        ))
    };
    variants.filter_map(meaning).collect()
}

fn headers(status: u16, codes: &Codes) -> Map<String, Value> {
    let mut headers = Map::new();
    let mut add = |name: &str, description: &str, kind: &str| {
        let header = json!({ "description": description, "schema": { "type": kind } });
        headers.insert(name.to_owned(), header);
    };
    match status {
        401 => add("WWW-Authenticate", "`Bearer`.", "string"),
        416 => add("Content-Range", "`bytes */<size>`: how long the object is.", "string"),
        _ => {}
    }
    if codes.iter().any(|code| code.retry() == Retry::Later) {
        add(
            "Retry-After",
            "When trying again makes sense, where that is known. Seconds.",
            "integer",
        );
    }
    headers
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::{Error, Fault};

    use super::*;

    #[test]
    fn each_code_has_a_meaning() {
        let meanings = meanings(&mut Schemas::new());
        for code in ErrorCode::ALL {
            assert!(meanings.contains_key(code.as_str()), "{}", code.as_str());
        }
    }

    #[test]
    fn a_refusal_has_the_status_that_the_worker_answers_with() {
        let faulty = Error::invalid("", vec![Fault::new("", "", "")]);
        assert_eq!((faulty.status(), faulty.code), (FAULTS.status, FAULTS.code));
        for code in ErrorCode::ALL {
            assert_eq!(Error::new(*code, "").status(), of(*code).status);
        }
    }
}
