//! API keys: `tgk_<tenant>_<secret><tag>`.
//!
//! The prefix lets scanners of leaked secrets find them. The tag is made with the deployment's key over everything before
//! it: a key with a typing mistake, and one that was never issued here, is known without asking anybody. What the
//! tenant's gate keeps of a key is its hash; the secret's 178 bits of chance make a slow hash needless (OWASP's guides
//! ask for one where people choose the secret).

use alloc::format;
use alloc::string::String;

use hmac::Mac;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::deployment_key::DeploymentKey;
use crate::error::{IdentityError, Reason};
use crate::principal::Tenant;

/// What every API key begins with. No JWT does: theirs is the base64 of a brace.
pub const PREFIX: &str = "tgk_";
/// Characters of a key at most, with the longest tenant's id.
pub const KEY_CHARS_MAX: usize = 128;
/// Bytes of chance that a secret is made of.
pub const CHANCE_BYTES: usize = 32;

const PURPOSE: &str = "api key v1";
const SECRET_CHARS: usize = 30;
const TAG_CHARS: usize = 8;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether `token` means to be an API key.
pub fn is_api_key(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// Makes a key of 256 bits of chance.
pub fn mint(key: &DeploymentKey, tenant: &Tenant, chance: &[u8; CHANCE_BYTES]) -> String {
    let (left, right) = chance.split_at(CHANCE_BYTES / 2);
    let half = |bytes: &[u8]| digits(bytes, SECRET_CHARS / 2);
    let body = format!("{PREFIX}{tenant}_{}{}", half(left), half(right));
    let tag = tag(key, &body);
    body + &tag
}

/// Reads a key and says whose it claims to be. Nothing is looked up: a key that passes was made here, and may have been
/// revoked since. `previous` is the deployment's key of before, where it was rotated.
///
/// Errors: `ApiKeyMalformed` for one that is too short, too long, mistyped, or was never made here.
pub fn open(key: &DeploymentKey, previous: Option<&DeploymentKey>, text: &str) -> Result<Tenant, IdentityError> {
    let malformed = || IdentityError::from(Reason::ApiKeyMalformed);
    if text.len() > KEY_CHARS_MAX {
        return Err(malformed());
    }
    let (tenant, secret) = text
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('_'))
        .ok_or_else(malformed)?;
    let tenant = Tenant::parse(tenant).ok_or_else(malformed)?;
    if secret.len() != SECRET_CHARS + TAG_CHARS || !secret.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(malformed());
    }
    let (body, given) = text
        .split_at_checked(text.len().saturating_sub(TAG_CHARS))
        .ok_or_else(malformed)?;
    let matches = |key: &DeploymentKey| bool::from(tag(key, body).as_bytes().ct_eq(given.as_bytes()));
    if matches(key) || previous.is_some_and(matches) {
        Ok(tenant)
    } else {
        Err(malformed())
    }
}

/// What is kept of a key: its SHA-256 hash in hexadecimal.
pub fn hash(text: &str) -> String {
    use core::fmt::Write;
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a string does not fail.
        let _written = write!(hex, "{byte:02x}");
    }
    hex
}

fn tag(key: &DeploymentKey, body: &str) -> String {
    let tag = key
        .derive(PURPOSE)
        .chain_update(body.as_bytes())
        .finalize()
        .into_bytes();
    digits(tag.get(..8).unwrap_or_default(), TAG_CHARS)
}

/// The number that `bytes` are, at most 16, as its lowest `count` digits in base 62.
pub(crate) fn digits(bytes: &[u8], count: usize) -> String {
    let mut number = bytes
        .iter()
        .fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let mut text = String::with_capacity(count);
    for _ in 0..count {
        let digit = usize::try_from(number % 62).unwrap_or_default();
        number /= 62;
        text.push(char::from(ALPHABET.get(digit).copied().unwrap_or(b'0')));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    fn deployment(byte: &str) -> DeploymentKey {
        DeploymentKey::parse(&byte.repeat(32)).unwrap()
    }

    fn acme() -> Tenant {
        Tenant::parse("acme").unwrap()
    }

    #[test]
    fn a_key_names_its_tenant_and_opens_with_the_key_that_made_it_alone() {
        let (ours, theirs) = (deployment("ab"), deployment("cd"));
        for tenant in ["acme", "eu.acme-2", &"a".repeat(48)] {
            let tenant = Tenant::parse(tenant).unwrap();
            let text = mint(&ours, &tenant, &[7; 32]);
            assert!(is_api_key(&text) && text.len() <= KEY_CHARS_MAX, "{text}");
            assert_eq!(open(&ours, None, &text).unwrap(), tenant);
            assert_eq!(open(&theirs, Some(&ours), &text).unwrap(), tenant);
            assert_eq!(open(&theirs, None, &text).unwrap_err().reason, Reason::ApiKeyMalformed);
        }
    }

    #[test]
    fn a_key_with_one_other_character_is_none() {
        let ours = deployment("ab");
        let text = mint(&ours, &acme(), &core::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        for at in 0..text.len() {
            for other in ['0', 'z', '_', '-'] {
                let mut changed: Vec<char> = text.chars().collect();
                if changed[at] == other {
                    continue;
                }
                changed[at] = other;
                let changed: String = changed.into_iter().collect();
                assert!(open(&ours, None, &changed).is_err(), "{changed}");
            }
            assert!(open(&ours, None, &text.chars().take(at).collect::<String>()).is_err());
        }
        for bad in [
            "",
            "tgk_",
            "tgk__",
            "tgk_acme_",
            "tgk_acme",
            "tgk_ä_x",
            &(text + "0"),
            &"t".repeat(5000),
        ] {
            assert!(open(&ours, None, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn chance_makes_keys_that_differ_in_every_part() {
        let ours = deployment("ab");
        let keys: Vec<String> = (0..32)
            .map(|place| {
                let mut chance = [0; 32];
                chance[place] = 1;
                mint(&ours, &acme(), &chance)
            })
            .collect();
        let distinct: alloc::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), 32);
    }

    #[test]
    fn what_is_kept_is_the_hash_of_the_whole_key() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash("abc"), expected.to_string());
    }
}
