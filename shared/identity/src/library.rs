//! The one door to the library that checks signatures.
//!
//! There is one call, and each kind of key brings its own algorithm to it, so that the linker sees that the library's
//! other eight algorithms (and the code that signs) are never used: they would be 35 KB more of gzipped wasm. The
//! provider is named here, so that no other part of a program can install another one for the whole process.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::JwtVerifier;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;

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
    /// An uncompressed point on P-256 (SEC 1).
    P256([u8; 65]),
    /// A compressed point on Ed25519.
    Ed25519([u8; 32]),
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

    /// What checks signatures with this key. `None` where the numbers are no key.
    #[inline(never)]
    pub fn verifier(&self) -> Option<Box<dyn JwtVerifier>> {
        let (algorithm, key) = match self {
            Self::Secret(secret) => (jsonwebtoken::Algorithm::HS256, DecodingKey::from_secret(secret)),
            Self::Rsa { n, e } => (
                jsonwebtoken::Algorithm::RS256,
                DecodingKey::from_rsa_raw_components(n, e),
            ),
            Self::P256(point) => (jsonwebtoken::Algorithm::ES256, DecodingKey::from_ec_der(point)),
            Self::Ed25519(point) => (jsonwebtoken::Algorithm::EdDSA, DecodingKey::from_ed_der(point)),
        };
        (DEFAULT_PROVIDER.verifier_factory)(&algorithm, &key).ok()
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
