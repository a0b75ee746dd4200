//! Key sets (RFC 7517): which keys may check a signature, and with which algorithm.
//!
//! The type of a key decides its one algorithm. A public key can therefore never serve as a shared secret, whatever a
//! token's header says (RFC 8725, section 3.1).

mod member;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value;

use crate::algorithm::Algorithm;
use crate::error::Reason;
use crate::fault::{Fault, Faults, child, kind};
use crate::library::Material;
use crate::strict_json::{self, CONFIG_DEPTH_MAX};

/// Keys of one set. Issuers publish two to six; the rest is room for rotation.
pub const KEYS_MAX: usize = 64;
/// Bytes of a fetched set: 64 RSA keys of 4096 bits with their certificates, and as much again.
pub const KEY_SET_BYTES_MAX: usize = 512 * 1024;
/// Characters of a key's id.
pub const KID_CHARS_MAX: usize = 256;
/// Bytes of a shared secret: at least the size of the hash's output (RFC 7518, section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// Bits of an RSA modulus: the least that RFC 7518, section 3.3 allows, and the most that the library checks.
pub const RSA_BITS: core::ops::RangeInclusive<usize> = 2048..=4096;

/// A key that checks signatures. Its `Debug` form shows no key material.
#[derive(Debug, Clone)]
pub struct Jwk {
    kid: Option<String>,
    material: Material,
}

impl Jwk {
    /// The key's id.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm that this key may be used with.
    pub const fn algorithm(&self) -> Algorithm {
        self.material.algorithm()
    }

    pub(crate) const fn material(&self) -> &Material {
        &self.material
    }
}

/// The keys of one issuer.
#[derive(Debug, Clone)]
pub struct KeySet {
    keys: Vec<Jwk>,
}

/// Where a set comes from. What a person wrote is reported in full; of what another server sent, the usable part is used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Configured,
    Fetched,
}

impl KeySet {
    /// Reads a configured set.
    ///
    /// Keys of unknown types, and keys that are not for checking signatures, are skipped. Errors: all faults of the
    /// set together, a set without a usable key among them.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::default();
        let value = document(text, &mut faults);
        let set = value.and_then(|value| Self::read(&value, "", &mut faults));
        faults.or(set)
    }

    /// Reads a set that was fetched from an issuer's `jwks_url`.
    ///
    /// Keys that cannot be used are skipped (RFC 7517, section 5), and so is every shared secret and private key: what
    /// has been published is secret no more. Errors: no JSON, too large, or no usable key.
    pub fn parse_fetched(text: &str) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::default();
        let value = document(text, &mut faults);
        let set = value.and_then(|value| read_set(&value, "", &mut faults, Origin::Fetched));
        faults.or(set)
    }

    /// Reads the configured set that stands at `pointer` of a larger document.
    pub(crate) fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        read_set(value, pointer, faults, Origin::Configured)
    }

    /// The keys, in the order of the document.
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }

    /// The one key that a token with this header may have been signed with.
    ///
    /// Errors: `KeyNotFound` for a `kid` that is not there, `AlgorithmNotAllowed` where no key has that algorithm,
    /// `KeyAmbiguous` where several could be meant.
    pub fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&Jwk, Reason> {
        let named = |key: &&Jwk| kid.is_none() || key.kid() == kid;
        if !self.keys.iter().any(|key| named(&key)) {
            return Err(Reason::KeyNotFound);
        }
        let mut fitting = self
            .keys
            .iter()
            .filter(named)
            .filter(|key| key.algorithm() == algorithm);
        match (fitting.next(), fitting.next()) {
            (None, _) => Err(Reason::AlgorithmNotAllowed),
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(Reason::KeyAmbiguous),
        }
    }
}

fn document(text: &str, faults: &mut Faults) -> Option<Value> {
    if text.len() > KEY_SET_BYTES_MAX {
        faults.add(
            "",
            format!("at most {KEY_SET_BYTES_MAX} bytes"),
            format!("{} bytes", text.len()),
        );
        return None;
    }
    strict_json::parse(text.as_bytes(), CONFIG_DEPTH_MAX)
        .map_err(|error| faults.add("", "a JSON Web Key Set", error))
        .ok()
}

fn read_set(value: &Value, pointer: &str, faults: &mut Faults, origin: Origin) -> Option<KeySet> {
    let Value::Object(set) = value else {
        faults.add(pointer, "a JSON Web Key Set: an object with `keys`", kind(value));
        return None;
    };
    let pointer = child(pointer, "keys");
    let Some(Value::Array(values)) = set.get("keys") else {
        faults.add(
            &pointer,
            "an array of keys",
            set.get("keys").map_or("nothing".to_string(), kind),
        );
        return None;
    };
    if values.len() > KEYS_MAX {
        faults.add(
            &pointer,
            format!("at most {KEYS_MAX} keys"),
            format!("{} keys", values.len()),
        );
        return None;
    }
    let before = faults.0.len();
    let mut keys: Vec<Jwk> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let pointer = child(&pointer, &index.to_string());
        let mut of_key = Faults::default();
        let key = member::read_key(value, &pointer, &mut of_key, origin);
        match (origin, key) {
            (_, Some(key)) if of_key.0.is_empty() => {
                let twin = |other: &Jwk| other.kid == key.kid && other.algorithm() == key.algorithm();
                if origin == Origin::Configured && key.kid.is_some() && keys.iter().any(twin) {
                    faults.add(
                        &child(&pointer, "kid"),
                        "an id that no other key of this type has",
                        "one that is there twice",
                    );
                }
                keys.push(key);
            }
            (Origin::Configured, _) => faults.0.append(&mut of_key.0),
            (Origin::Fetched, _) => {}
        }
    }
    if keys.is_empty() && faults.0.len() == before {
        let expected = "at least one key that checks signatures: oct, RSA, EC with P-256, or OKP with Ed25519";
        faults.add(&pointer, expected, "none");
    }
    Some(KeySet { keys })
}
