//! Makes development tokens, for the command line and for tests. Native only: a deployment verifies, and never signs.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{borrow::ToOwned, format};
use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{EncodingKey, crypto::JwtSigner};
use p256::pkcs8::EncodePrivateKey;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use serde_json::{Map, Value, json};

use crate::algorithm::Algorithm;

/// Why a token was not made. It repeats no key material.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MintError {
    /// The key is not a private JSON Web Key of a known type.
    KeyMalformed,
    /// The member of the key that is missing or not base64url.
    KeyMember(&'static str),
    /// The numbers of the key do not belong together.
    KeyInvalid,
    /// The library did not sign.
    Signing,
}

impl fmt::Display for MintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyMalformed => {
                f.write_str("not a private JSON Web Key of type oct, RSA, EC (P-256) or OKP (Ed25519)")
            }
            Self::KeyMember(name) => write!(f, "the key's `{name}` is missing or not base64url"),
            Self::KeyInvalid => f.write_str("the key's numbers do not belong together"),
            Self::Signing => f.write_str("signing failed"),
        }
    }
}

impl core::error::Error for MintError {}

/// A key that signs. Its `Debug` form shows no key material.
#[derive(Clone)]
pub struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
    /// The private key as a JSON Web Key.
    jwk: Map<String, Value>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, …)", self.algorithm)
    }
}

impl SigningKey {
    /// Makes a key. The same `seed` gives the same key, so that it has to be random wherever the key is to be secret.
    pub fn generate(algorithm: Algorithm, kid: &str, seed: [u8; 32]) -> Result<Self, MintError> {
        let mut random = rand_chacha::ChaCha20Rng::from_seed(seed);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = match algorithm {
            Algorithm::Hs256 => {
                let mut secret = [0; 32];
                random.fill_bytes(&mut secret);
                json!({"kty": "oct", "k": encode(&secret), "kid": kid})
            }
            Algorithm::Es256 => {
                let secret = p256::SecretKey::random(&mut random);
                json!({"kty": "EC", "crv": "P-256", "d": encode(&secret.to_bytes()), "kid": kid})
            }
            Algorithm::EdDsa => {
                let mut secret = [0; 32];
                random.fill_bytes(&mut secret);
                json!({"kty": "OKP", "crv": "Ed25519", "d": encode(&secret), "kid": kid})
            }
            Algorithm::Rs256 => {
                let secret = rsa::RsaPrivateKey::new(&mut random, 2048).map_err(|_| MintError::KeyInvalid)?;
                let number = |number: &rsa::BigUint| encode(&number.to_bytes_be());
                let [p, q] = secret.primes() else {
                    return Err(MintError::KeyInvalid);
                };
                json!({"kty": "RSA", "n": number(secret.n()), "e": number(secret.e()), "d": number(secret.d()),
                    "p": number(p), "q": number(q), "kid": kid})
            }
        };
        Self::from_jwk(&jwk.to_string())
    }

    /// Reads a private JSON Web Key: `k` for oct; `n`, `e`, `d`, `p`, `q` for RSA; `d` for EC and OKP.
    pub fn from_jwk(text: &str) -> Result<Self, MintError> {
        let Ok(Value::Object(jwk)) = serde_json::from_str(text) else {
            return Err(MintError::KeyMalformed);
        };
        let member = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &'static str| -> Result<Vec<u8>, MintError> {
            let text = member(name).ok_or(MintError::KeyMember(name))?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| MintError::KeyMember(name))
        };
        let mut public: Vec<(&str, Vec<u8>)> = Vec::new();
        let (algorithm, key) = match (member("kty"), member("crv")) {
            (Some("oct"), _) => (Algorithm::Hs256, EncodingKey::from_secret(&bytes("k")?)),
            (Some("RSA"), _) => {
                let number = |name| bytes(name).map(|bytes| rsa::BigUint::from_bytes_be(&bytes));
                let primes = [number("p")?, number("q")?].to_vec();
                let secret = rsa::RsaPrivateKey::from_components(number("n")?, number("e")?, number("d")?, primes)
                    .map_err(|_| MintError::KeyInvalid)?;
                let der = secret.to_pkcs1_der().map_err(|_| MintError::KeyInvalid)?;
                (Algorithm::Rs256, EncodingKey::from_rsa_der(der.as_bytes()))
            }
            (Some("EC"), Some("P-256")) => {
                let secret = p256::SecretKey::from_slice(&bytes("d")?).map_err(|_| MintError::KeyInvalid)?;
                let point = p256::ecdsa::SigningKey::from(&secret)
                    .verifying_key()
                    .to_encoded_point(false);
                for (name, coordinate) in [("x", point.x()), ("y", point.y())] {
                    public.push((name, coordinate.ok_or(MintError::KeyInvalid)?.to_vec()));
                }
                let der = secret.to_pkcs8_der().map_err(|_| MintError::KeyInvalid)?;
                (Algorithm::Es256, EncodingKey::from_ec_der(der.as_bytes()))
            }
            (Some("OKP"), Some("Ed25519")) => {
                let seed = <[u8; 32]>::try_from(bytes("d")?).map_err(|_| MintError::KeyInvalid)?;
                let secret = ed25519_dalek::SigningKey::from_bytes(&seed);
                public.push(("x", secret.verifying_key().to_bytes().to_vec()));
                let der = secret.to_pkcs8_der().map_err(|_| MintError::KeyInvalid)?;
                (Algorithm::EdDsa, EncodingKey::from_ed_der(der.as_bytes()))
            }
            _ => return Err(MintError::KeyMalformed),
        };
        let mut jwk = jwk;
        for (name, bytes) in public {
            jwk.insert(name.to_owned(), URL_SAFE_NO_PAD.encode(bytes).into());
        }
        Ok(Self { algorithm, key, jwk })
    }

    /// The algorithm it signs with.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key's id.
    pub fn kid(&self) -> Option<&str> {
        self.jwk.get("kid").and_then(Value::as_str)
    }

    /// The private key, to be kept in a file that only its owner reads.
    pub fn private_jwk(&self) -> Value {
        Value::Object(self.jwk.clone())
    }

    /// What an issuer's configuration needs to check this key's tokens: the public part, or, for HS256, the secret.
    pub fn verifying_jwk(&self) -> Value {
        let members: &[&str] = match self.algorithm {
            Algorithm::Hs256 => &["kty", "k", "kid"],
            Algorithm::Rs256 => &["kty", "n", "e", "kid"],
            Algorithm::Es256 => &["kty", "crv", "x", "y", "kid"],
            Algorithm::EdDsa => &["kty", "crv", "x", "kid"],
        };
        let member = |name: &&str| Some(((*name).to_string(), self.jwk.get(*name)?.clone()));
        let mut public: Map<String, Value> = members.iter().filter_map(member).collect();
        public.insert("alg".to_owned(), self.algorithm.name().into());
        public.insert("use".to_owned(), "sig".into());
        Value::Object(public)
    }

    /// Signs any header and claims, the `alg` and `kid` of the header being the caller's to choose.
    pub fn sign(&self, header: &Value, claims: &Value) -> Result<String, MintError> {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let signer = self.signer()?;
        let signature = signer.try_sign(message.as_bytes()).map_err(|_| MintError::Signing)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn signer(&self) -> Result<alloc::boxed::Box<dyn JwtSigner>, MintError> {
        let algorithm = match self.algorithm {
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        };
        (DEFAULT_PROVIDER.signer_factory)(&algorithm, &self.key).map_err(|_| MintError::Signing)
    }
}

/// What a development token says.
#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// `aud`.
    pub audience: &'a str,
    /// `sub`.
    pub user: &'a str,
    /// The claim that names the tenant, and the tenant, where the issuer's configuration asks for it.
    pub tenant: Option<(&'a str, &'a str)>,
    /// `scope`.
    pub scopes: BTreeSet<String>,
    /// `iat`, unix ms.
    pub now_ms: u64,
    /// From `iat` to `exp`, seconds.
    pub lifetime_seconds: u64,
    /// `jti`.
    pub token_id: Option<&'a str>,
}

impl NewToken<'_> {
    /// The claims as JSON.
    pub fn claims(&self) -> Value {
        let issued = self.now_ms / 1000;
        let mut claims = json!({
            "iss": self.issuer, "aud": self.audience, "sub": self.user,
            "iat": issued, "exp": issued.saturating_add(self.lifetime_seconds),
        });
        let scope = self.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let optional = [
            self.tenant.map(|(claim, tenant)| (claim, tenant.to_string())),
            (!scope.is_empty()).then_some(("scope", scope)),
            self.token_id.map(|id| ("jti", id.to_string())),
        ];
        if let Value::Object(claims) = &mut claims {
            claims.extend(
                optional
                    .into_iter()
                    .flatten()
                    .map(|(name, text)| (name.to_string(), Value::from(text))),
            );
        }
        claims
    }

    /// The signed token.
    ///
    /// Errors: `Signing`, where the library refuses the key.
    pub fn mint(&self, key: &SigningKey) -> Result<String, MintError> {
        let mut header = json!({"alg": key.algorithm.name(), "typ": "JWT"});
        if let (Value::Object(header), Some(kid)) = (&mut header, key.kid()) {
            header.insert("kid".to_string(), kid.into());
        }
        key.sign(&header, &self.claims())
    }
}
