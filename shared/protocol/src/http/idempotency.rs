//! The header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), and the form in which an answer is kept under
//! a key. What a key decides is no matter of this file.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::error::Error;
use crate::fault::Fault;
use crate::ids::IdempotencyKey;

/// The header that carries a key.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header that marks an answer which was given before.
pub const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";
/// Bytes of an answer's body that are kept under a key. A page of a hundred changed jobs takes half of it.
pub const KEPT_BODY_BYTES_MAX: usize = 64 * 1024;

/// Reads the value of an `Idempotency-Key` header: a string as RFC 9651 (section 3.3.3) writes it, in double quotes with
/// `\"` and `\\` escaped, or the bare key. What begins with a quote is the former. No parameter is known, and none is taken.
///
/// Errors: `VALIDATION_ERROR` for anything else. Its status over HTTP is 400, as the draft asks.
pub fn header_key(text: &str) -> Result<IdempotencyKey, Error> {
    let trimmed = text.trim();
    let key = match trimmed.strip_prefix('"') {
        Some(rest) => unquoted(rest),
        None => Some(trimmed.into()),
    };
    key.as_deref().and_then(IdempotencyKey::parse).ok_or_else(|| {
        let expected = format!(
            "{}, bare or in double quotes with \\\" and \\\\ escaped",
            IdempotencyKey::EXPECTED
        );
        let fault = Fault::new("/headers/idempotency-key", expected, text);
        Error::invalid("The header Idempotency-Key cannot be used.", vec![fault])
    })
}

/// What stands before the closing quote, where nothing follows that.
fn unquoted(rest: &str) -> Option<String> {
    let mut key = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return characters.as_str().is_empty().then_some(key),
            '\\' => key.push(characters.next().filter(|next| matches!(next, '"' | '\\'))?),
            character => key.push(character),
        }
    }
}

/// An answer as it is kept under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The status.
    pub status: u16,
    /// The headers that belong to the answer itself, each with its value.
    pub headers: Vec<(String, String)>,
    /// The body; `None` where it was longer than [`KEPT_BODY_BYTES_MAX`].
    pub body: Option<String>,
}

impl KeptAnswer {
    /// The answer as text, in the manner of HTTP: the status and a header a line, an empty line, and the body. Without an
    /// empty line there is no body to give again.
    pub fn write(&self) -> String {
        let mut text = format!("{}\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(name);
            text.push(':');
            text.push_str(value);
            text.push('\n');
        }
        if let Some(body) = self.body.as_ref().filter(|body| body.len() <= KEPT_BODY_BYTES_MAX) {
            text.push('\n');
            text.push_str(body);
        }
        text
    }

    /// Reads what [`KeptAnswer::write`] wrote. `None` for anything else.
    pub fn read(text: &str) -> Option<Self> {
        let (head, body) = match text.split_once("\n\n") {
            Some((head, body)) => (head, Some(body.into())),
            None => (text, None),
        };
        let mut lines = head.lines();
        let status = lines.next()?.parse().ok()?;
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            headers.push((name.into(), value.into()));
        }
        Some(Self { status, headers, body })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_key_is_read_quoted_or_bare_and_nothing_else_is() {
        let longest = "k".repeat(128);
        for (text, key) in [
            ("\"8e03978e-40d5\"", Some("8e03978e-40d5")),
            ("8e03978e-40d5", Some("8e03978e-40d5")),
            ("  bare  ", Some("bare")),
            (r#""a \"b\" \\ c""#, Some(r#"a "b" \ c"#)),
            ("order 4711", Some("order 4711")),
            (r"a\b", Some(r"a\b")),
            ("grün", Some("grün")),
            (longest.as_str(), Some(longest.as_str())),
            ("", None),
            ("\"\"", None),
            ("\"", None),
            ("\"open", None),
            (r#""open\""#, None),
            (r#""\n""#, None),
            (r#""a", "b""#, None),
            (r#""a";b=1"#, None),
            ("a\tb", None),
        ] {
            assert_eq!(
                header_key(text).ok().as_ref().map(IdempotencyKey::as_str),
                key,
                "{text}"
            );
        }
        for text in ["k".repeat(129), format!("\"{}\"", "k".repeat(129))] {
            let error = header_key(&text).unwrap_err();
            let [fault] = error.details.as_slice() else {
                panic!("{error}")
            };
            assert_eq!(fault.pointer, "/headers/idempotency-key");
            assert!(fault.expected.starts_with(IdempotencyKey::EXPECTED), "{fault}");
        }
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let header = |name: &str, value: &str| (name.to_string(), value.to_string());
        for (headers, body) in [
            (vec![], Some(String::new())),
            (
                vec![header("content-type", "application/json")],
                Some("{\"a\":\"b\"}\n\nc".into()),
            ),
            (
                vec![header("location", "/v1/jobs/a:b"), header("etag", "\"x\"")],
                Some("\n\n".into()),
            ),
            (vec![header("content-type", "application/json")], None),
            (vec![], None),
        ] {
            let answer = KeptAnswer {
                status: 202,
                headers,
                body,
            };
            assert_eq!(KeptAnswer::read(&answer.write()), Some(answer));
        }
        for text in ["", "x", "200 OK\n\n", "70000\n\n", "200\nno header\n\n{}"] {
            assert_eq!(KeptAnswer::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_body_that_is_too_long_is_left_out_and_the_rest_is_kept() {
        for (bytes, kept) in [(KEPT_BODY_BYTES_MAX, true), (KEPT_BODY_BYTES_MAX + 1, false)] {
            let answer = KeptAnswer {
                status: 200,
                headers: vec![("location".into(), "/".into())],
                body: Some("x".repeat(bytes)),
            };
            let read = KeptAnswer::read(&answer.write()).unwrap();
            assert_eq!((read.status, read.headers.len(), read.body.is_some()), (200, 1, kept));
        }
    }
}
