//! Signed tokens (RFC 7515, compact form): what a header may say, and whether a signature holds.
//!
//! Reading is strict on purpose: one token has one spelling, so that a token that was altered in any character is
//! refused. Header members that point to keys (`jku`, `x5u`, `jwk`, `x5c`) are never looked at: keys come from the
//! configuration alone.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::error::{IdentityError, Reason};
use crate::keys::{KID_CHARS_MAX, KeySet};
use crate::strict_json::{self, TOKEN_DEPTH_MAX};

/// Bytes of a token, as the protocol states.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a token's header says, of what matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The algorithm that the token claims to be signed with.
    pub algorithm: Algorithm,
    /// The id of the key.
    pub kid: Option<String>,
}

/// A token whose form has been read, and whose signature has not been checked.
pub struct Token<'a> {
    header: Header,
    signed: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// Errors: a reason for each thing that a header, or the form of a token, must not be.
    pub fn read(token: &'a str) -> Result<Self, IdentityError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Reason::TokenTooLarge.into());
        }
        let mut segments = token.split('.');
        let (header, payload, signature) = match (segments.next(), segments.next(), segments.next(), segments.count()) {
            (Some(header), Some(payload), Some(signature), 0) => (header, payload, signature),
            // The compact form of an encrypted token has five parts (RFC 7516, section 7.1).
            (Some(_), Some(_), Some(_), 2) => return Err(Reason::TokenEncrypted.into()),
            _ => return Err(Reason::TokenMalformed.into()),
        };
        let header = read_header(&decode(header)?)?;
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        let signed = token.rsplit_once('.').map_or("", |(signed, _)| signed);
        Ok(Self {
            header,
            signed,
            payload,
            signature,
        })
    }

    /// What the header says.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The payload, which anybody may have written until [`Token::check_signature`] has succeeded.
    pub fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// Checks the signature with the one key of `keys` that the header names, if its algorithm is among `allowed`.
    ///
    /// Errors: `AlgorithmNotAllowed`, `KeyNotFound`, `KeyAmbiguous`, `SignatureInvalid`.
    pub fn check_signature(&self, keys: &KeySet, allowed: &[Algorithm]) -> Result<(), IdentityError> {
        let Header { algorithm, kid } = &self.header;
        if !allowed.contains(algorithm) {
            return Err(Reason::AlgorithmNotAllowed.into());
        }
        let key = keys.select(kid.as_deref(), *algorithm)?;
        if key.material().verifies(self.signed.as_bytes(), &self.signature) {
            Ok(())
        } else {
            Err(Reason::SignatureInvalid.into())
        }
    }
}

/// Decodes base64url without padding; other characters and bits left over are refused (RFC 7515, section 2).
fn decode(segment: &str) -> Result<Vec<u8>, Reason> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| Reason::TokenMalformed)
}

fn read_header(text: &[u8]) -> Result<Header, Reason> {
    let Ok(Value::Object(header)) = strict_json::parse(text, TOKEN_DEPTH_MAX) else {
        return Err(Reason::HeaderMalformed);
    };
    let algorithm = read_algorithm(&header)?;
    if header.contains_key("enc") || header.contains_key("zip") {
        return Err(Reason::TokenEncrypted);
    }
    // No extension is understood here, so that every `crit` names one that is not. `b64` changes what is signed, and
    // may only stand beside `crit` (RFC 7797, section 6).
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(Reason::HeaderCritical);
    }
    check_type(&header)?;
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(text)) if text.chars().count() <= KID_CHARS_MAX => Some(text.to_string()),
        Some(_) => return Err(Reason::HeaderMalformed),
    };
    Ok(Header { algorithm, kid })
}

fn read_algorithm(header: &Map<String, Value>) -> Result<Algorithm, Reason> {
    match header.get("alg") {
        Some(Value::String(name)) if name.trim().eq_ignore_ascii_case("none") => Err(Reason::AlgorithmNone),
        Some(Value::String(name)) => Algorithm::parse(name).ok_or(Reason::AlgorithmUnsupported),
        _ => Err(Reason::HeaderMalformed),
    }
}

/// A token that says what it is must be an access token: other kinds (logout, event, proof tokens) are signed with the
/// same keys (RFC 8725, section 3.11; RFC 9068, section 2.1). A nested token would be one within `cty`.
fn check_type(header: &Map<String, Value>) -> Result<(), Reason> {
    if header.contains_key("cty") {
        return Err(Reason::TypeUnexpected);
    }
    match header.get("typ") {
        None => Ok(()),
        Some(Value::String(name)) => {
            let name = name.to_ascii_lowercase();
            let name = name.strip_prefix("application/").unwrap_or(&name);
            matches!(name, "jwt" | "at+jwt")
                .then_some(())
                .ok_or(Reason::TypeUnexpected)
        }
        Some(_) => Err(Reason::HeaderMalformed),
    }
}
