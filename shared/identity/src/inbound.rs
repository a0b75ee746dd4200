//! Webhooks that come in: the tag in the address of a source, and whether what a source has sent is signed.
//!
//! Whoever sends a webhook has no token. The tag, made with the deployment's key, is what lets a call in as far as the tenant's
//! objects: one that was never given out is known without asking anybody. Only the signature lets it do anything.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::api_key::digits;
use crate::deployment_key::DeploymentKey;

/// Characters of a tag: 119 bits, for nothing else keeps strangers out of a tenant's objects.
pub const TAG_CHARS: usize = 20;

const PURPOSE: &str = "webhook address v1";
/// What secrets begin with that are base64, as Standard Webhooks has them.
const SECRET_PREFIX: &str = "whsec_";

/// The hash of an HMAC (RFC 2104).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// The key of a source's signatures: wiped when it is dropped.
pub type Key = Zeroizing<Vec<u8>>;

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits, large or small.
    Hex,
    /// Base64 with the standard alphabet, padded (RFC 4648, section 4).
    Base64,
}

/// The tag in the address of a source of `tenant`.
pub fn tag(key: &DeploymentKey, tenant: &str, source: &str) -> String {
    let whole = key
        .derive(PURPOSE)
        .chain_update(format!("{tenant}/{source}"))
        .finalize()
        .into_bytes();
    digits(whole.get(..16).unwrap_or_default(), TAG_CHARS)
}

/// Whether `given` is the tag of a source: by the deployment's key, or by the one of before.
pub fn is_tag(
    key: &DeploymentKey,
    previous: Option<&DeploymentKey>,
    (tenant, source): (&str, &str),
    given: &str,
) -> bool {
    let matches = |key: &DeploymentKey| bool::from(tag(key, tenant, source).as_bytes().ct_eq(given.as_bytes()));
    matches(key) || previous.is_some_and(matches)
}

/// The key that the text of a secret stands for: its bytes, or with `decoded` those that its base64 says, behind `whsec_` or
/// without. `None` where it is no base64, or says nothing.
pub fn key(text: &str, decoded: bool) -> Option<Key> {
    let bytes = if decoded {
        STANDARD.decode(text.strip_prefix(SECRET_PREFIX).unwrap_or(text)).ok()?
    } else {
        text.as_bytes().to_vec()
    };
    Some(Zeroizing::new(bytes)).filter(|bytes| !bytes.is_empty())
}

/// Whether one of the signatures `given` is that of `content`, whose parts stand behind each other. The time it takes does not
/// say how much of one is right.
pub fn is_signed(hash: Hash, encoding: Encoding, key: &[u8], content: &[&[u8]], given: &[&str]) -> bool {
    let Some(signature) = signature(hash, encoding, key, content) else {
        return false;
    };
    let matches = given.iter().fold(Choice::from(0), |found, given| {
        let given = match encoding {
            Encoding::Hex => given.to_ascii_lowercase(),
            Encoding::Base64 => String::from(*given),
        };
        found | signature.as_bytes().ct_eq(given.as_bytes())
    });
    matches.into()
}

fn signature(hash: Hash, encoding: Encoding, key: &[u8], content: &[&[u8]]) -> Option<String> {
    let bytes = match hash {
        Hash::Sha256 => authenticate::<Hmac<Sha256>>(key, content),
        Hash::Sha512 => authenticate::<Hmac<Sha512>>(key, content),
    }?;
    Some(match encoding {
        Encoding::Hex => hexadecimal(&bytes),
        Encoding::Base64 => STANDARD.encode(&bytes),
    })
}

/// `None` where the algorithm takes no key of this length; HMAC takes every one.
fn authenticate<M: Mac + KeyInit>(key: &[u8], content: &[&[u8]]) -> Option<Vec<u8>> {
    let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
    for part in content {
        mac.update(part);
    }
    Some(mac.finalize().into_bytes().to_vec())
}

fn hexadecimal(bytes: &[u8]) -> String {
    use core::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string does not fail.
        let _written = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(byte: &str) -> DeploymentKey {
        DeploymentKey::parse(&byte.repeat(32)).unwrap()
    }

    #[test]
    fn a_tag_is_of_its_deployment_tenant_and_source_alone() {
        let (ours, theirs) = (deployment("ab"), deployment("cd"));
        let made = tag(&ours, "acme", "stripe");
        assert_eq!(made.len(), TAG_CHARS);
        assert!(made.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{made}");
        assert!(is_tag(&ours, None, ("acme", "stripe"), &made));
        assert!(is_tag(&theirs, Some(&ours), ("acme", "stripe"), &made), "a rotated key");
        assert!(!is_tag(&theirs, None, ("acme", "stripe"), &made));
        for other in [
            ("acme", "strip"),
            ("acm", "stripe"),
            ("acme2", "stripe"),
            ("stripe", "acme"),
        ] {
            assert!(!is_tag(&ours, None, other, &made), "{other:?}");
        }
        for at in 0..made.len() {
            let mut changed = made.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert!(!is_tag(
                &ours,
                None,
                ("acme", "stripe"),
                &String::from_utf8(changed).unwrap()
            ));
        }
        let shorter = made.strip_suffix(|_: char| true).unwrap();
        for bad in ["", shorter, &format!("{made}0"), &"a".repeat(5000)] {
            assert!(!is_tag(&ours, None, ("acme", "stripe"), bad));
        }
    }

    /// What the documentation of those who send publishes.
    #[test]
    fn signatures_are_those_that_are_published() {
        for (hash, encoding, key, content, expected) in [
            // RFC 4231, section 4.3.
            (
                Hash::Sha256,
                Encoding::Hex,
                "Jefe",
                "what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                Hash::Sha512,
                Encoding::Hex,
                "Jefe",
                "what do ya want for nothing?",
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
            // GitHub, "Validating webhook deliveries".
            (
                Hash::Sha256,
                Encoding::Hex,
                "It's a Secret to Everybody",
                "Hello, World!",
                "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            ),
            // Slack, "Verifying requests from Slack".
            (
                Hash::Sha256,
                Encoding::Hex,
                "8f742231b10e8888abcd99yyyzzz85a5",
                "v0:1531420618:token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
                &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=\
                https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
                &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
                "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            ),
        ] {
            assert!(
                is_signed(hash, encoding, key.as_bytes(), &[content.as_bytes()], &[expected]),
                "{key}"
            );
            let upper = expected.to_ascii_uppercase();
            assert!(is_signed(
                hash,
                encoding,
                key.as_bytes(),
                &[content.as_bytes()],
                &["x", &upper]
            ));
        }
        // The example that Standard Webhooks and all its libraries are tested with.
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true).unwrap();
        let content: [&[u8]; 2] = [b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.", br#"{"test": 2432232314}"#];
        let given = ["g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="];
        assert!(is_signed(Hash::Sha256, Encoding::Base64, &key, &content, &given));
    }

    #[test]
    fn a_signature_with_one_other_character_is_none_nor_is_one_of_other_content() {
        let (key, content): (&[u8], [&[u8]; 2]) = (b"key", [b"a.", b"body"]);
        for encoding in [Encoding::Hex, Encoding::Base64] {
            let good = signature(Hash::Sha256, encoding, key, &content).unwrap();
            assert!(is_signed(Hash::Sha256, encoding, key, &content, &[&good]));
            assert!(
                is_signed(Hash::Sha256, encoding, key, &[b"a.bo", b"dy"], &[&good]),
                "the same bytes"
            );
            for at in 0..good.len() {
                let mut changed = good.clone().into_bytes();
                changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
                let changed = String::from_utf8(changed).unwrap();
                assert!(
                    !is_signed(Hash::Sha256, encoding, key, &content, &[&changed]),
                    "{changed}"
                );
                let beginning = good.get(..at).unwrap();
                assert!(!is_signed(Hash::Sha256, encoding, key, &content, &[beginning]));
            }
            for (key, content) in [
                (&b"kez"[..], &content[..]),
                (key, &[b"a.", b"bodz"]),
                (key, &[b"a."]),
                (key, &[]),
            ] {
                assert!(!is_signed(Hash::Sha256, encoding, key, content, &[&good]));
            }
            assert!(!is_signed(Hash::Sha256, encoding, key, &content, &[]));
        }
    }

    #[test]
    fn a_secret_is_its_text_or_what_its_base64_says() {
        assert_eq!(key("whsec_YQ==", false).unwrap().as_slice(), b"whsec_YQ==");
        assert_eq!(key("whsec_YQ==", true).unwrap().as_slice(), b"a");
        assert_eq!(key("YQ==", true).unwrap().as_slice(), b"a");
        for none in ["whsec_", "whsec_YQ", "whsec_???", "é"] {
            assert!(key(none, true).is_none(), "{none}");
        }
        assert!(key("", false).is_none());
        // Longer than a block of the hash.
        let long = "k".repeat(200);
        assert!(signature(Hash::Sha256, Encoding::Hex, long.as_bytes(), &[b"x"]).is_some());
    }
}
