//! The one door to the libraries that check signatures, those of RustCrypto: one call for each algorithm that may be
//! configured, and nothing else of them in the bundle.

use alloc::vec::Vec;
use core::fmt;

use hmac::Mac;
use hmac::digest::KeyInit;
use p256::ecdsa::signature::Verifier;
use rsa::{BigUint, Pkcs1v15Sign, RsaPublicKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;
use crate::deployment_key::Authenticator;

/// What a key is made of. Its `Debug` form shows nothing of it.
#[derive(Clone)]
pub(crate) enum Material {
    /// A shared secret.
    Secret(Zeroizing<Vec<u8>>),
    /// An RSA key, big-endian and without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// A point on P-256.
    P256(p256::ecdsa::VerifyingKey),
    /// A point on Ed25519.
    Ed25519(ed25519_dalek::VerifyingKey),
}

impl Material {
    /// The one algorithm for keys of this kind.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Secret(_) => Algorithm::Hs256,
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Whether `signature` is this key's for `message`. Never, where the numbers are no key.
    #[inline(never)]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Secret(secret) => hmac_sha256(secret, message, signature),
            Self::Rsa { n, e } => rsa_pkcs1_sha256(n, e, message, signature),
            Self::P256(key) => ecdsa_p256(key, message, signature),
            Self::Ed25519(key) => ed25519(key, message, signature),
        }
    }
}

/// RFC 7518, section 3.2. In constant time.
fn hmac_sha256(secret: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok(mut mac) = <Authenticator as KeyInit>::new_from_slice(secret) else {
        return false;
    };
    mac.update(message);
    mac.verify_slice(signature).is_ok()
}

/// RFC 7518, section 3.3.
fn rsa_pkcs1_sha256(n: &[u8], e: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = RsaPublicKey::new(BigUint::from_bytes_be(n), BigUint::from_bytes_be(e)) else {
        return false;
    };
    key.verify(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message), signature)
        .is_ok()
}

/// RFC 7518, section 3.4: the two numbers one after the other, 32 bytes each.
fn ecdsa_p256(key: &p256::ecdsa::VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    p256::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}

/// RFC 8037, section 3.1.
fn ed25519(key: &ed25519_dalek::VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    ed25519_dalek::Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
