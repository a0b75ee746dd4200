//! How what a tenant's endpoints are sent is signed: Standard Webhooks, the symmetric form.
//!
//! Each tenant has a secret of its own, derived from the deployment's key and stored nowhere. What is signed is
//! `<id>.<seconds>.<body>`, with HMAC-SHA256. The version is part of what is derived from, so that a later one is unrelated.

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
    /// The secret of a tenant, under the deployment's key.
    pub fn of(key: &DeploymentKey, tenant: &str) -> Self {
        let purpose = format!("webhook v{VERSION} {tenant}");
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
        WebhookSecret::of(&DeploymentKey::parse(&digit.repeat(64)).unwrap(), tenant)
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
