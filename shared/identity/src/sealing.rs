//! What secrets of a tenant are encrypted with, and the form of what is kept of them.
//!
//! The cipher itself, AES-256-GCM, is the platform's (`crypto.subtle`). Here is the key, which is each tenant's own and
//! derived from the deployment's; what a ciphertext is bound to, so that it opens for this tenant, name and version alone
//! (RFC 5116, section 2.1: associated data); and the text that it is kept as: the key's id, a dot, and nonce and ciphertext
//! in base64url. The id tells which deployment key a text is of, and nothing about the key.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use zeroize::Zeroizing;

use crate::deployment_key::DeploymentKey;

/// Bytes of a nonce (NIST SP 800-38D, section 5.2.1.1: the length that GCM is made for).
pub const NONCE_BYTES: usize = 12;
/// Characters of a key's id.
const ID_CHARS: usize = 8;

/// The key that a tenant's secrets are encrypted with. Its `Debug` form does not show it.
#[derive(Clone)]
pub struct SealingKey {
    /// The key of AES-256.
    pub bytes: Zeroizing<[u8; 32]>,
    /// What texts that were sealed with it begin with.
    pub beginning: String,
}

impl SealingKey {
    /// The key of a tenant, under the deployment's key.
    pub fn of(key: &DeploymentKey, tenant: &str) -> Self {
        let derived = |purpose: &str| -> [u8; 32] {
            let purpose = format!("{purpose} {tenant}");
            key.derive(&purpose).finalize().into_bytes().into()
        };
        let mut beginning = String::with_capacity(ID_CHARS + 1);
        for byte in derived("secrets id v1").iter().take(ID_CHARS / 2) {
            beginning.push_str(&format!("{byte:02x}"));
        }
        beginning.push('.');
        Self {
            bytes: Zeroizing::new(derived("secrets v1")),
            beginning,
        }
    }

    /// The text that is kept of a nonce and a ciphertext.
    pub fn write(&self, nonce: &[u8; NONCE_BYTES], ciphertext: &[u8]) -> String {
        let bytes = [nonce.as_slice(), ciphertext].concat();
        format!("{}{}", self.beginning, URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The nonce and the ciphertext of a text that was sealed with this key; `None` for any other.
    pub fn read(&self, text: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(&self.beginning)?).ok()?;
        if bytes.len() < NONCE_BYTES {
            return None;
        }
        let ciphertext = bytes.split_off(NONCE_BYTES);
        Some((bytes, ciphertext))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(…)")
    }
}

/// What a ciphertext is bound to. None of the parts can hold a line's end, so no two triples read the same.
pub fn bound_to(tenant: &str, name: &str, version: u64) -> String {
    format!("tidegate secret v1\n{tenant}\n{name}\n{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: &str, tenant: &str) -> SealingKey {
        SealingKey::of(&DeploymentKey::parse(&byte.repeat(32)).unwrap(), tenant)
    }

    #[test]
    fn each_tenant_and_each_deployment_has_a_key_of_its_own() {
        let keys = [key("ab", "acme"), key("ab", "acmf"), key("cd", "acme")];
        for (at, one) in keys.iter().enumerate() {
            assert_eq!(one.beginning.len(), ID_CHARS + 1);
            for other in keys.iter().skip(at + 1) {
                assert_ne!(one.bytes.as_slice(), other.bytes.as_slice());
                assert_ne!(one.beginning, other.beginning);
            }
        }
        assert_eq!(
            key("ab", "acme").bytes.as_slice(),
            keys.first().unwrap().bytes.as_slice()
        );
        assert_eq!(format!("{:?}", key("ab", "acme")), "SealingKey(…)");
    }

    #[test]
    fn a_sealed_text_is_read_by_the_key_that_wrote_it_alone() {
        let (ours, theirs) = (key("ab", "acme"), key("cd", "acme"));
        let text = ours.write(&[7; NONCE_BYTES], b"ciphertext");
        assert_eq!(
            ours.read(&text),
            Some((alloc::vec![7; NONCE_BYTES], b"ciphertext".to_vec()))
        );
        assert_eq!(theirs.read(&text), None);
        for bad in [
            "",
            ".",
            &ours.beginning,
            &format!("{}AAAA", ours.beginning),
            &text.replace('.', ""),
        ] {
            assert_eq!(ours.read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_ciphertext_is_bound_to_is_told_apart() {
        let all = [
            ("a", "b", 1),
            ("a", "b", 11),
            ("ab", "b", 1),
            ("a", "bb", 1),
            ("b", "a", 1),
        ];
        let texts: alloc::collections::BTreeSet<String> = all.iter().map(|(t, n, v)| bound_to(t, n, *v)).collect();
        assert_eq!(texts.len(), all.len());
    }
}
