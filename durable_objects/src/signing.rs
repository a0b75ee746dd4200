//! Signatures of messages to a tenant's endpoints, after Standard Webhooks. Ed25519 is the platform's.

use js_sys::{Array, Promise, Reflect, Uint8Array};
use tidegate_identity::webhook::{self, WebhookSecret};
use tidegate_protocol::calls::tenant::Description;
use tidegate_protocol::http::Signature;
use tidegate_protocol::ids::TenantId;
use tidegate_protocol::time::UnixMs;
use wasm_bindgen::prelude::*;
use worker::Env;
use worker::wasm_bindgen_futures::JsFuture;

use crate::access::{self, Wanted};
use crate::bytes;
use crate::platform::{deployment_key, now, unavailable};
use crate::remote::Asked;
use crate::secrets::import_key;

/// The algorithm, as WebCrypto calls it.
const ED25519: &str = "Ed25519";

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(catch, js_namespace = ["crypto", "subtle"])]
    fn sign(how: &str, key: &JsValue, data: &Uint8Array) -> Result<Promise, JsValue>;
    #[wasm_bindgen(catch, js_namespace = ["crypto", "subtle"], js_name = exportKey)]
    fn export_key(form: &str, key: &JsValue) -> Result<Promise, JsValue>;
}

async fn imported(private: &[u8]) -> Result<JsValue, JsValue> {
    let uses = Array::of1(&"sign".into());
    // It can be taken out again, for its public half.
    JsFuture::from(import_key("pkcs8", &bytes::give(private), ED25519, true, &uses)?).await
}

async fn signed(private: &[u8], text: &str) -> Result<Vec<u8>, JsValue> {
    let key = imported(private).await?;
    let signature = JsFuture::from(sign(ED25519, &key, &bytes::give(text.as_bytes()))?).await?;
    Ok(bytes::take(&Uint8Array::new(&signature)))
}

async fn public_half(private: &[u8]) -> Result<String, JsValue> {
    let key = imported(private).await?;
    let shown = JsFuture::from(export_key("jwk", &key)?).await?;
    let x = Reflect::get(&shown, &"x".into())?;
    x.as_string().ok_or(JsValue::NULL)
}

/// Which generations of a tenant's secret sign at `now`, the current one first.
pub fn generations(description: &Description, now: UnixMs) -> impl Iterator<Item = u64> + use<> {
    let current = description.webhook_generation;
    let overlaps = description.webhook_old_until.is_some_and(|until| now < until);
    let before = current.checked_sub(1).filter(|_| overlaps);
    core::iter::once(current).chain(before)
}

/// The public key of one generation, as receivers take it.
///
/// Errors: `UNAVAILABLE` where the deployment has no key, or the platform does not sign.
pub fn public_key<'a>(env: &'a Env, tenant: &'a TenantId, generation: u64) -> Asked<'a, String> {
    Box::pin(async move {
        let private = webhook::private_key(&deployment_key(env)?, tenant.as_str(), generation);
        let x = public_half(private.as_slice()).await;
        let x = x.map_err(|thrown| unavailable("a public key")(thrown.into()))?;
        Ok(webhook::public_key_text(&x))
    })
}

/// The signatures of a message, one for each generation that signs now, as its header holds them.
///
/// Errors: `UNAVAILABLE` where the deployment has no key, the gate cannot be reached and nothing was heard lately, or the
/// platform does not sign.
pub fn signatures<'a>(
    env: &'a Env,
    tenant: &'a TenantId,
    how: Signature,
    (id, seconds, body): (&'a str, u64, &'a str),
) -> Asked<'a, String> {
    Box::pin(async move {
        let key = deployment_key(env)?;
        let description = access::known(env, tenant, Wanted::Access).await?;
        let mut all = Vec::with_capacity(2);
        for generation in generations(&description, now()) {
            all.push(match how {
                Signature::V1 => WebhookSecret::of(&key, tenant.as_str(), generation).sign(id, seconds, body),
                Signature::V1a => {
                    let private = webhook::private_key(&key, tenant.as_str(), generation);
                    let made = signed(private.as_slice(), &webhook::signed_text(id, seconds, body)).await;
                    webhook::asymmetric(&made.map_err(|thrown| unavailable("signing")(thrown.into()))?)
                }
            });
        }
        Ok(all.join(" "))
    })
}
