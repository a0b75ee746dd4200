//! The members of one key: what they may say, and whether the numbers in them are fit to check signatures with.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Jwk, KID_CHARS_MAX, Origin, RSA_BITS, SECRET_BYTES_MIN};
use crate::algorithm::Algorithm;
use crate::fault::{Faults, child, kind, show};
use crate::library::Material;

/// Reads one key. `None` without a fault: a key that this set does not need.
pub(super) fn read_key(value: &Value, pointer: &str, faults: &mut Faults, origin: Origin) -> Option<Jwk> {
    let Value::Object(object) = value else {
        faults.add(pointer, "a key: an object", kind(value));
        return None;
    };
    let members = Members { object, pointer };
    let kty = members.required(faults, "kty", "a key type: oct, RSA, EC or OKP")?;
    let curve = match kty {
        "EC" | "OKP" => Some(members.required(faults, "crv", "a curve: P-256 for EC, Ed25519 for OKP")?),
        _ => None,
    };
    let algorithm = match (kty, curve) {
        ("oct", _) if origin == Origin::Configured => Algorithm::Hs256,
        ("RSA", _) => Algorithm::Rs256,
        ("EC", Some("P-256")) => Algorithm::Es256,
        ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
        _ => return None,
    };
    if !members.is_for_verifying(faults) {
        return None;
    }
    members.check_algorithm(faults, algorithm);
    members.check_public(faults, algorithm);
    let kid = members.kid(faults);
    let material = members.material(faults, algorithm)?;
    Some(Jwk { kid, material })
}

/// The members of one key, and where it stands.
struct Members<'a> {
    object: &'a Map<String, Value>,
    pointer: &'a str,
}

impl<'a> Members<'a> {
    fn at(&self, name: &str) -> String {
        child(self.pointer, name)
    }

    fn required(&self, faults: &mut Faults, name: &str, expected: &str) -> Option<&'a str> {
        match self.object.get(name) {
            Some(Value::String(text)) => Some(text),
            other => {
                faults.add(&self.at(name), expected, other.map_or("nothing".to_string(), kind));
                None
            }
        }
    }

    /// Whether `use` and `key_ops`, where they are there, allow the checking of signatures.
    fn is_for_verifying(&self, faults: &mut Faults) -> bool {
        let for_signatures = match self.object.get("use") {
            None => true,
            Some(Value::String(text)) => text == "sig",
            Some(other) => {
                faults.add(&self.at("use"), "`sig` or `enc`", kind(other));
                false
            }
        };
        let may_verify = match self.object.get("key_ops") {
            None => true,
            Some(Value::Array(operations)) if operations.iter().all(Value::is_string) => {
                operations.iter().any(|operation| operation == "verify")
            }
            Some(other) => {
                faults.add(
                    &self.at("key_ops"),
                    "an array of operations, `verify` among them",
                    kind(other),
                );
                false
            }
        };
        for_signatures && may_verify
    }

    fn check_algorithm(&self, faults: &mut Faults, algorithm: Algorithm) {
        match self.object.get("alg") {
            None => {}
            Some(Value::String(text)) if text == algorithm.name() => {}
            Some(other) => {
                let expected = format!("`{algorithm}`, the only algorithm for a key of this type");
                faults.add(&self.at("alg"), expected, show(other));
            }
        }
    }

    /// A set that checks signatures has no use for a private key, and whoever can read the set could sign with it.
    fn check_public(&self, faults: &mut Faults, algorithm: Algorithm) {
        if algorithm != Algorithm::Hs256 && self.object.contains_key("d") {
            faults.add(&self.at("d"), "a public key, without its private part", "a private key");
        }
    }

    fn kid(&self, faults: &mut Faults) -> Option<String> {
        match self.object.get("kid") {
            None => None,
            Some(Value::String(text)) if (1..=KID_CHARS_MAX).contains(&text.chars().count()) => Some(text.clone()),
            Some(other) => {
                faults.add(
                    &self.at("kid"),
                    format!("a key id of 1 to {KID_CHARS_MAX} characters"),
                    kind(other),
                );
                None
            }
        }
    }

    fn material(&self, faults: &mut Faults, algorithm: Algorithm) -> Option<Material> {
        match algorithm {
            Algorithm::Hs256 => {
                let secret = self.bytes(faults, "k")?;
                if secret.len() < SECRET_BYTES_MIN {
                    let expected = format!("a secret of at least {SECRET_BYTES_MIN} bytes");
                    faults.add(&self.at("k"), expected, format!("{} bytes", secret.len()));
                    return None;
                }
                Some(Material::Secret(secret))
            }
            Algorithm::Rs256 => {
                let (modulus, exponent) = (self.bytes(faults, "n"), self.bytes(faults, "e"));
                let modulus = modulus.filter(|n| self.check_modulus(faults, n));
                let exponent = exponent.filter(|e| self.check_exponent(faults, e));
                Some(Material::Rsa {
                    n: significant(&modulus?).to_vec(),
                    e: significant(&exponent?).to_vec(),
                })
            }
            Algorithm::Es256 => {
                let (x, y) = (self.coordinate(faults, "x"), self.coordinate(faults, "y"));
                let mut point = [4; 65];
                for (to, from) in point.iter_mut().skip(1).zip(x?.iter().chain(&y?)) {
                    *to = *from;
                }
                let Ok(key) = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point) else {
                    faults.add(
                        self.pointer,
                        "a point on the curve P-256",
                        "`x` and `y` of no such point",
                    );
                    return None;
                };
                Some(Material::P256(key))
            }
            Algorithm::EdDsa => {
                let x = self.coordinate(faults, "x")?;
                let key = ed25519_dalek::VerifyingKey::from_bytes(&x).ok();
                let Some(key) = key.filter(|key| !key.is_weak()) else {
                    faults.add(
                        &self.at("x"),
                        "a public key on Ed25519 that is not of small order",
                        "another point",
                    );
                    return None;
                };
                Some(Material::Ed25519(key))
            }
        }
    }

    /// The octets of a base64url member.
    fn bytes(&self, faults: &mut Faults, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        let text = self.required(faults, name, "base64url text")?;
        match URL_SAFE_NO_PAD.decode(text) {
            Ok(bytes) => Some(Zeroizing::new(bytes)),
            Err(_) => {
                faults.add(
                    &self.at(name),
                    "base64url text without padding",
                    "other characters, or bits left over",
                );
                None
            }
        }
    }

    /// A coordinate: exactly 32 octets (RFC 7518, section 6.2.1.2; RFC 8037, section 2).
    fn coordinate(&self, faults: &mut Faults, name: &str) -> Option<[u8; 32]> {
        let bytes = self.bytes(faults, name)?;
        let octets = <[u8; 32]>::try_from(bytes.as_slice()).ok();
        if octets.is_none() {
            faults.add(&self.at(name), "32 bytes", format!("{} bytes", bytes.len()));
        }
        octets
    }

    fn check_modulus(&self, faults: &mut Faults, modulus: &[u8]) -> bool {
        let bits = bits(modulus);
        let odd = modulus.last().is_some_and(|byte| byte % 2 == 1);
        let fits = RSA_BITS.contains(&bits) && odd;
        if !fits {
            let expected = format!("an odd modulus of {} to {} bits", RSA_BITS.start(), RSA_BITS.end());
            faults.add(&self.at("n"), expected, format!("one of {bits} bits"));
        }
        fits
    }

    fn check_exponent(&self, faults: &mut Faults, exponent: &[u8]) -> bool {
        let odd = exponent.last().is_some_and(|byte| byte % 2 == 1);
        let fits = odd && (2..=33).contains(&bits(exponent));
        if !fits {
            faults.add(
                &self.at("e"),
                "an odd exponent from 3 to 2^33 - 1",
                format!("one of {} bits", bits(exponent)),
            );
        }
        fits
    }
}

/// A big-endian number without its leading zeros.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// The length of a big-endian number in bits.
fn bits(number: &[u8]) -> usize {
    let number = significant(number);
    let unused = number
        .first()
        .map_or(0, |byte| usize::try_from(byte.leading_zeros()).unwrap_or(0));
    number.len() * 8 - unused
}
