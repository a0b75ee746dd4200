//! The deployment's own secret, and the keys derived from it, one for each purpose.

use alloc::vec::Vec;
use core::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::{IdentityError, Reason};

/// Bytes of a deployment key at least: the strength of the hash behind everything derived from it.
pub const KEY_BYTES_MIN: usize = 32;
/// Bytes of a deployment key at most: more adds nothing, and is more likely another file than a key.
pub const KEY_BYTES_MAX: usize = 1024;

/// The salt of the extraction step: keys of other software derived from the same secret are unrelated.
const SALT: &[u8; 24] = b"tidegate deployment key ";

/// A derived key with which messages are authenticated.
pub(crate) type Authenticator = Hmac<Sha256>;

/// The deployment's secret. Its `Debug` form shows nothing of it.
#[derive(Clone)]
pub struct DeploymentKey {
    /// What HKDF extracted of the secret (RFC 5869, section 2.2); the secret itself is not kept.
    root: Zeroizing<[u8; 32]>,
}

impl DeploymentKey {
    /// Reads a key of 32 to 1,024 bytes: an even number of hexadecimal digits, or else base64 in either alphabet, with
    /// or without padding. White space around it is ignored.
    ///
    /// Errors: `DeploymentKeyMalformed`, `DeploymentKeyShort`.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let text = text.trim();
        if text.len() > 2 * KEY_BYTES_MAX {
            return Err(Reason::DeploymentKeyMalformed.into());
        }
        let secret = Zeroizing::new(
            hexadecimal(text)
                .or_else(|| base64_text(text))
                .ok_or(Reason::DeploymentKeyMalformed)?,
        );
        if secret.len() < KEY_BYTES_MIN {
            return Err(Reason::DeploymentKeyShort.into());
        }
        Ok(Self {
            root: extract(SALT, &secret),
        })
    }

    /// The key for one purpose: the first block of HKDF's expansion (RFC 5869, section 2.3).
    pub(crate) fn derive(&self, purpose: &str) -> Authenticator {
        authenticator(expand(&self.root, purpose.as_bytes()).as_slice())
    }
}

impl fmt::Debug for DeploymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeploymentKey(…)")
    }
}

fn extract(salt: &[u8], secret: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(authenticator(salt).chain_update(secret).finalize().into_bytes().into())
}

fn expand(root: &[u8; 32], purpose: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(
        authenticator(root)
            .chain_update(purpose)
            .chain_update([1])
            .finalize()
            .into_bytes()
            .into(),
    )
}

/// HMAC with a key of at most one block (64 bytes), which HMAC fills up with zeros (RFC 2104, section 2). Doing that
/// here keeps the construction infallible.
pub(crate) fn authenticator(key: &[u8]) -> Authenticator {
    let mut block = Zeroizing::new([0; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    <Authenticator as KeyInit>::new(&(*block).into())
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect();
    if rest.is_empty() { bytes } else { None }
}

fn base64_text(text: &str) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decode = |alphabet| GeneralPurpose::new(alphabet, CONFIG).decode(text).ok();
    decode(&alphabet::STANDARD).or_else(|| decode(&alphabet::URL_SAFE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn derivation_is_hkdf_as_rfc_5869_has_it() {
        // RFC 5869, appendix A.1: the pseudorandom key, and the first block of the output.
        let secret = [0x0b; 22];
        let salt = hexadecimal("000102030405060708090a0b0c").unwrap();
        let info = hexadecimal("f0f1f2f3f4f5f6f7f8f9").unwrap();
        let root = extract(&salt, &secret);
        let expected = "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5";
        assert_eq!(root.to_vec(), hexadecimal(expected).unwrap());
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        assert_eq!(expand(&root, &info).to_vec(), hexadecimal(expected).unwrap());
    }

    #[test]
    fn one_key_has_several_spellings() {
        let hex = "fbff".repeat(16);
        let roots: Vec<_> = [
            hex.clone(),
            hex.to_uppercase(),
            format!("  {hex}\n"),
            "-__7__v_-__7__v_-__7__v_-__7__v_-__7__v_-_8".into(),
            "+//7//v/+//7//v/+//7//v/+//7//v/+//7//v/+/8=".into(),
        ]
        .iter()
        .map(|text| DeploymentKey::parse(text).unwrap().root.to_vec())
        .collect();
        assert!(roots.iter().all(|root| root == &roots[0]));
    }

    #[test]
    fn a_short_or_strange_key_is_refused_and_never_printed() {
        for (text, reason) in [
            ("", Reason::DeploymentKeyShort),
            (&"ab".repeat(31), Reason::DeploymentKeyShort),
            (&"ab".repeat(1025), Reason::DeploymentKeyMalformed),
            (
                "correct horse battery staple correct horse battery",
                Reason::DeploymentKeyMalformed,
            ),
            (&"é".repeat(64), Reason::DeploymentKeyMalformed),
        ] {
            assert_eq!(DeploymentKey::parse(text).unwrap_err().reason, reason, "{text}");
        }
        let key = DeploymentKey::parse(&"ab".repeat(32)).unwrap();
        assert_eq!(format!("{key:?} {key:#?}"), "DeploymentKey(…) DeploymentKey(…)");
    }

    #[test]
    fn keys_of_different_purposes_are_unrelated() {
        let key = DeploymentKey::parse(&"ab".repeat(32)).unwrap();
        let tag = |purpose| key.derive(purpose).finalize().into_bytes();
        assert_ne!(tag("a"), tag("b"));
        assert_eq!(tag("a"), tag("a"));
    }
}
