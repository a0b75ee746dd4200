//! How what a tenant's endpoints are sent is signed: Standard Webhooks, in its symmetric and its asymmetric form.
//!
//! Each tenant has a secret and a pair of keys of its own, derived from the deployment's key and stored nowhere. What is
//! signed is `<id>.<seconds>.<body>`: with HMAC-SHA256 here (`v1`), or with Ed25519 (`v1a`), which is the platform's. The
//! version and the generation are part of what is derived from, so that a later one is unrelated.

use alloc::format;
use alloc::string::String;
use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac;
use zeroize::Zeroizing;

use crate::deployment_key::{Authenticator, DeploymentKey};

/// The header that names the message, the same for each time that it is sent.
pub const ID_HEADER: &str = "webhook-id";
/// The header that says when it was sent: seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header that holds the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// The derivation in force.
const VERSION: u32 = 1;

/// The secret that a tenant's endpoints verify signatures with. Its `Debug` form does not show it.
#[derive(Clone)]
pub struct WebhookSecret {
    bytes: Zeroizing<[u8; 32]>,
}

impl WebhookSecret {
    /// The secret of a tenant, under the deployment's key, after so many changes.
    pub fn of(key: &DeploymentKey, tenant: &str, generation: u64) -> Self {
        // The first is the one from before there were several. A tenant's id has no space in it.
        let purpose = match generation {
            0 => format!("webhook v{VERSION} {tenant}"),
            later => format!("webhook v{VERSION} {tenant} {later}"),
        };
        Self {
            bytes: Zeroizing::new(key.derive(&purpose).finalize().into_bytes().into()),
        }
    }

    /// The secret as receivers' libraries take it: `whsec_` and base64.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("whsec_{}", STANDARD.encode(self.bytes.as_slice())))
    }

    /// The signature of a message, as the header holds it: `v1,` and base64.
    pub fn sign(&self, id: &str, seconds: u64, body: &str) -> String {
        signature(
            crate::deployment_key::authenticator(self.bytes.as_slice()),
            id,
            seconds,
            body,
        )
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// Bytes of a private key as PKCS #8.
const PRIVATE_KEY_BYTES: usize = 48;
/// What stands before the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410, section 7).
const PRIVATE_KEY_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The Ed25519 private key of a tenant, under the deployment's key, after so many changes: as PKCS #8, which platforms import.
pub fn private_key(key: &DeploymentKey, tenant: &str, generation: u64) -> Zeroizing<[u8; PRIVATE_KEY_BYTES]> {
    let purpose = format!("webhook ed25519 v{VERSION} {tenant} {generation}");
    let seed = Zeroizing::new(<[u8; 32]>::from(key.derive(&purpose).finalize().into_bytes()));
    let mut text = Zeroizing::new([0; PRIVATE_KEY_BYTES]);
    for (to, from) in text.iter_mut().zip(PRIVATE_KEY_HEAD.iter().chain(seed.iter())) {
        *to = *from;
    }
    text
}

/// What is signed with it.
pub fn signed_text(id: &str, seconds: u64, body: &str) -> String {
    format!("{id}.{seconds}.{body}")
}

/// A signature made with a [private key](private_key), as the header holds it: `v1a,` and base64.
pub fn asymmetric(signature: &[u8]) -> String {
    format!("v1a,{}", STANDARD.encode(signature))
}

/// The public key as receivers' libraries take it, `whpk_` and base64, of the form that a JSON Web Key has (RFC 8037).
pub fn public_key_text(x: &str) -> String {
    format!("whpk_{}=", x.replace('-', "+").replace('_', "/"))
}

fn signature(with: Authenticator, id: &str, seconds: u64, body: &str) -> String {
    let signed = with
        .chain_update(format!("{id}.{seconds}."))
        .chain_update(body)
        .finalize();
    format!("v1,{}", STANDARD.encode(signed.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(digit: &str, tenant: &str) -> WebhookSecret {
        WebhookSecret::of(&DeploymentKey::parse(&digit.repeat(64)).unwrap(), tenant, 0)
    }

    #[test]
    fn each_generation_has_a_secret_and_a_private_key_of_its_own() {
        let key = DeploymentKey::parse(&"1".repeat(64)).unwrap();
        let mut secrets = alloc::collections::BTreeSet::new();
        let mut keys = alloc::collections::BTreeSet::new();
        for tenant in ["acme", "acme2"] {
            for generation in 0..4 {
                let secret = WebhookSecret::of(&key, tenant, generation).text();
                assert!(secrets.insert(String::clone(&secret)));
                let private = private_key(&key, tenant, generation);
                assert_eq!(private[..16], PRIVATE_KEY_HEAD);
                assert!(keys.insert(private.to_vec()));
            }
        }
    }

    #[test]
    fn a_public_key_is_written_as_libraries_take_it() {
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        for byte in [0_u8, 0xfb, 0xff] {
            let x = URL_SAFE_NO_PAD.encode([byte; 32]);
            let expected = format!("whpk_{}", STANDARD.encode([byte; 32]));
            assert_eq!(public_key_text(&x), expected);
        }
        assert_eq!(asymmetric(&[0, 0, 0]), "v1a,AAAA");
        assert_eq!(signed_text("a", 1, "b"), "a.1.b");
    }

    #[test]
    fn a_signature_is_that_of_the_specifications_own_example() {
        // The example that Standard Webhooks and all its libraries are tested with.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let with = crate::deployment_key::authenticator(&key);
        let signed = signature(
            with,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_tenant_and_each_deployment_has_a_secret_of_its_own() {
        let own = secret("1", "acme").text();
        assert_eq!(own, secret("1", "acme").text());
        assert_ne!(own, secret("1", "acme2").text());
        assert_ne!(own, secret("2", "acme").text());
        let bytes = STANDARD.decode(own.strip_prefix("whsec_").unwrap()).unwrap();
        assert_eq!(bytes.len(), 32, "Standard Webhooks asks for 24 to 64");
        assert_eq!(format!("{:?}", secret("1", "acme")), "WebhookSecret(…)");
    }

    #[test]
    fn a_signature_holds_for_this_message_alone() {
        let secret = secret("1", "acme");
        let own = secret.sign("a", 1, "b");
        // With the secret as a receiver has it.
        let text = secret.text();
        let key = STANDARD.decode(text.strip_prefix("whsec_").unwrap()).unwrap();
        assert_eq!(own, signature(crate::deployment_key::authenticator(&key), "a", 1, "b"));
        for (id, seconds, body) in [("x", 1, "b"), ("a", 2, "b"), ("a", 1, "c"), ("a.1", 1, "b")] {
            assert_ne!(own, secret.sign(id, seconds, body));
        }
    }
}
