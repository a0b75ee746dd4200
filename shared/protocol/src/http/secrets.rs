//! Bodies about secrets of a tenant. A value comes in and never goes out, nor does a fault repeat any of it.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::access::{OVERLAP_MS, OVERLAP_MS_MAX};
use crate::error::Error;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::ids::SecretName;
use crate::time::UnixMs;

/// Bytes of a secret's value at most: a private key with its chain of certificates fits.
pub const SECRET_BYTES_MAX: usize = 16 * 1024;

/// What a secret is to be. Its `Debug` form does not show the value.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBody {
    /// The secret.
    pub name: SecretName,
    /// Its value.
    pub value: String,
    /// How long the value before it stays good. Milliseconds.
    pub overlap_ms: u64,
}

impl fmt::Debug for SecretBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBody({}, …)", self.name)
    }
}

impl SecretBody {
    /// Reads the body of `PUT /v1/admin/secrets/{name}`, and the name.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault of both.
    pub fn parse(name: &str, text: &str) -> Result<Self, Error> {
        const MESSAGE: &str = "The secret cannot be set.";
        let known_name = SecretName::parse(name);
        let bad_name = || Fault::new("/path/name", SecretName::EXPECTED, name);
        let Ok(mut fields) = Fields::split(text) else {
            let mut faults = vec![Fault::new("", "a JSON object with `value`", "something else")];
            faults.extend(known_name.is_none().then(bad_name));
            return Err(Error::invalid(MESSAGE, faults));
        };
        fields.refuse_others(&["value", "overlap_ms"]);
        let expected = "milliseconds, at most 2592000000 (30 days)";
        let overlap_ms = fields.optional_number("overlap_ms", expected, 0, OVERLAP_MS_MAX);
        // A value in the wrong place is no less of a secret.
        for fault in &mut fields.faults {
            fault.got = "another value".into();
        }
        let value = fields.raw("value").map(|raw| serde_json::from_str::<String>(raw.get()));
        let value = match value {
            Some(Ok(value)) if (1..=SECRET_BYTES_MAX).contains(&value.len()) => Some(value),
            value => {
                let got = match value {
                    None => "nothing",
                    Some(Ok(value)) if value.is_empty() => "an empty text",
                    Some(Ok(_)) => "a longer text",
                    Some(Err(_)) => "no text",
                };
                fields.fault("value", "a text of 1 to 16384 bytes", got);
                None
            }
        };
        if known_name.is_none() {
            fields.faults.push(bad_name());
        }
        fields.finish(MESSAGE)?;
        match (known_name, value) {
            (Some(name), Some(value)) => Ok(Self {
                name,
                value,
                overlap_ms: overlap_ms.unwrap_or(OVERLAP_MS),
            }),
            _ => Err(Error::not_found()),
        }
    }
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecretView {
    /// Its name.
    pub name: SecretName,
    /// How many values it has had.
    pub version: u64,
    /// When it was set first.
    pub created_at: UnixMs,
    /// When it was given another value last; absent: never yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<UnixMs>,
    /// Until when the value that it had before is good; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_value_until: Option<UnixMs>,
    /// True where what is kept was encrypted with a deployment key of before. Set it again before that key is taken away.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub old_deployment_key: bool,
}

/// The secrets of a tenant, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecretList {
    /// The secrets.
    pub secrets: Vec<SecretView>,
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use super::*;

    const _: () = assert!(SECRET_BYTES_MAX == 16384, "a message says so");

    #[test]
    fn a_secret_that_cannot_be_set_is_told_of_all_faults_and_never_repeated() {
        let longest = "é".repeat(SECRET_BYTES_MAX / 2);
        let body = SecretBody::parse("bank-token", &format!("{{\"value\":\"{longest}\"}}")).unwrap();
        assert_eq!((body.value.as_str(), body.overlap_ms), (longest.as_str(), OVERLAP_MS));
        let body = SecretBody::parse("a", r#"{"value":"line\n","overlap_ms":0}"#).unwrap();
        assert_eq!((body.value.as_str(), body.overlap_ms), ("line\n", 0));
        assert!(!format!("{body:?}").contains("line"));
        for (name, text, pointers) in [
            ("a", String::from("{}"), "/value"),
            ("a", r#"{"value":""}"#.into(), "/value"),
            ("a", r#"{"value":null}"#.into(), "/value"),
            ("a", r#"{"value":["hunter2"]}"#.into(), "/value"),
            ("a", format!("{{\"value\":\"hunter2{longest}\"}}"), "/value"),
            ("a", r#""hunter2""#.into(), ""),
            ("a", "hunter2".into(), ""),
            ("A", "[".repeat(9_000), ",/path/name"),
            ("a", r#"{"vaule":"hunter2"}"#.into(), "/vaule,/value"),
            ("a", r#"{"value":"x","value":"hunter2"}"#.into(), "/value"),
            (
                "A b",
                r#"{"value":1,"overlap_ms":"hunter2","more":"hunter2"}"#.into(),
                "/more,/overlap_ms,/value,/path/name",
            ),
            ("a", r#"{"value":"x","overlap_ms":2592000001}"#.into(), "/overlap_ms"),
        ] {
            let error = SecretBody::parse(name, &text).unwrap_err();
            let found: Vec<&str> = error.details.iter().map(|fault| fault.pointer.as_str()).collect();
            assert_eq!(found.join(","), pointers, "{text:.80}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
