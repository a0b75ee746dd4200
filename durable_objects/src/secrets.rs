//! Secrets of a tenant: sealed and opened here, and nowhere else. What the gate keeps, and what travels to it, is ciphertext.
//!
//! What was opened is kept in the isolate for a moment, so that not every call of an upstream asks the gate. A value is in
//! no log and in no error.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Array, Object, Promise, Reflect, Uint8Array};
use tidegate_engine::hearsay::{Heard, Step};
use tidegate_identity::sealing::{NONCE_BYTES, SealingKey, bound_to};
use tidegate_patterns::operation::SecretValue;
use tidegate_protocol::Error;
use tidegate_protocol::calls::secrets::Sealed;
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::ids::{SecretName, TenantId};
use tidegate_protocol::time::UnixMs;
use wasm_bindgen::prelude::*;
use worker::Env;
use worker::wasm_bindgen_futures::JsFuture;

use crate::access::unexpected;
use crate::bytes;
use crate::platform::{deployment_key, log_error, now, previous_deployment_key, secret_bytes, unavailable};
use crate::remote::{self, Asked};

/// How old may be what an isolate knows of a secret. With a question that is under way, twice as old: together four
/// seconds. Milliseconds.
const FRESH_MS: u64 = 2_000;
/// Secrets whose values are kept, two of 16 KiB each at most.
const KEPT_MAX: usize = 256;

struct Kept {
    tenant: TenantId,
    name: SecretName,
    values: Heard<Rc<[Rc<SecretValue>]>>,
}

thread_local! {
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(catch, js_namespace = ["crypto", "subtle"], js_name = importKey)]
    pub(crate) fn import_key(
        form: &str,
        key: &Uint8Array,
        name: &str,
        out: bool,
        uses: &Array,
    ) -> Result<Promise, JsValue>;
    #[wasm_bindgen(catch, js_namespace = ["crypto", "subtle"])]
    fn encrypt(how: &Object, key: &JsValue, data: &Uint8Array) -> Result<Promise, JsValue>;
    #[wasm_bindgen(catch, js_namespace = ["crypto", "subtle"])]
    fn decrypt(how: &Object, key: &JsValue, data: &Uint8Array) -> Result<Promise, JsValue>;
}

/// Which way bytes go through the cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// AES-256-GCM, by the platform. `Out` fails where anything is not what it was.
async fn cipher(way: Way, key: &SealingKey, nonce: &[u8], bound_to: &str, data: &[u8]) -> Result<Vec<u8>, JsValue> {
    let how = Object::new();
    let set = |name: &str, value: &JsValue| Reflect::set(&how, &name.into(), value).map(drop);
    set("name", &"AES-GCM".into())?;
    set("iv", &bytes::give(nonce))?;
    set("additionalData", &bytes::give(bound_to.as_bytes()))?;
    let usage = match way {
        Way::In => "encrypt",
        Way::Out => "decrypt",
    };
    let uses = Array::of1(&usage.into());
    let raw = bytes::give(key.bytes.as_slice());
    let key = JsFuture::from(import_key("raw", &raw, "AES-GCM", false, &uses)?).await?;
    let data = bytes::give(data);
    let done = match way {
        Way::In => encrypt(&how, &key, &data)?,
        Way::Out => decrypt(&how, &key, &data)?,
    };
    let done = JsFuture::from(done).await?;
    Ok(bytes::take(&Uint8Array::new(&done)))
}

/// The key with which secrets of a tenant are sealed now.
///
/// Errors: `UNAVAILABLE` where the deployment has none.
pub fn key(env: &Env, tenant: &TenantId) -> Result<SealingKey, Error> {
    Ok(SealingKey::of(&deployment_key(env)?, tenant.as_str()))
}

/// Seals a value as one version of a secret.
///
/// Errors: `UNAVAILABLE` where the deployment has no key, or the platform no chance.
pub fn seal<'a>(
    env: &'a Env,
    tenant: &'a TenantId,
    name: &'a SecretName,
    version: u64,
    value: &'a str,
) -> Asked<'a, Sealed> {
    Box::pin(async move {
        let key = key(env, tenant)?;
        let chance = secret_bytes()?;
        let nonce: [u8; NONCE_BYTES] = core::array::from_fn(|at| chance.get(at).copied().unwrap_or_default());
        let bound_to = bound_to(tenant.as_str(), name.as_str(), version);
        let ciphertext = cipher(Way::In, &key, &nonce, &bound_to, value.as_bytes()).await;
        let ciphertext = ciphertext.map_err(|thrown| unavailable("sealing a secret")(thrown.into()))?;
        Ok(Sealed {
            name: name.clone(),
            version,
            text: key.write(&nonce, &ciphertext),
        })
    })
}

/// Opens one version of a secret, be it sealed with the deployment's key of now or with the one before.
///
/// Errors: `SECRET_UNUSABLE` where it is of neither key, or is not what was sealed; `UNAVAILABLE` where the deployment has no
/// key.
pub fn open<'a>(env: &'a Env, tenant: &'a TenantId, sealed: &'a Sealed) -> Asked<'a, String> {
    Box::pin(async move {
        let now = key(env, tenant)?;
        let before = previous_deployment_key(env)?.map(|before| SealingKey::of(&before, tenant.as_str()));
        let of = [Some(now), before].into_iter().flatten();
        let mut of = of.filter_map(|key| {
            key.read(&sealed.text)
                .map(|(nonce, ciphertext)| (key, nonce, ciphertext))
        });
        let Some((key, nonce, ciphertext)) = of.next() else {
            let why = "was set under a deployment key that is gone; set it again";
            return Err(Error::secret_unusable(&sealed.name, why));
        };
        let bound_to = bound_to(tenant.as_str(), sealed.name.as_str(), sealed.version);
        let opened = cipher(Way::Out, &key, &nonce, &bound_to, &ciphertext).await;
        opened
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| Error::secret_unusable(&sealed.name, "does not open; set it again"))
    })
}

/// The versions of secrets that are good, as the gate has them now.
///
/// Errors: `UNAVAILABLE` where it cannot be reached.
pub fn live<'a>(env: &'a Env, tenant: &'a TenantId, names: Vec<SecretName>) -> Asked<'a, Vec<Sealed>> {
    Box::pin(async move {
        match remote::tenant(env, tenant, &Call::Secrets { names }).await? {
            Reply::Secrets(found) => Ok(found),
            _ => Err(unexpected()),
        }
    })
}

/// The current values of secrets, in the order of their names, as this isolate heard within the last seconds.
///
/// Errors: `SECRET_UNUSABLE` for one that is not set or cannot be opened; `UNAVAILABLE` where the gate cannot be reached and
/// nothing was heard lately.
pub fn values<'a>(env: &'a Env, tenant: &'a TenantId, names: &'a [SecretName]) -> Asked<'a, Vec<Rc<SecretValue>>> {
    Box::pin(async move {
        let found = heard(env, tenant, names).await?;
        let current = names.iter().zip(&found).map(|(name, values)| {
            let current = values.first().cloned();
            current.ok_or_else(|| Error::secret_unusable(name, "is not set"))
        });
        current.collect()
    })
}

/// The values of a secret that are good, for whoever verifies with it: the current one, and in an overlap the one before.
///
/// Errors: as [`values`].
pub fn good<'a>(env: &'a Env, tenant: &'a TenantId, name: &'a SecretName) -> Asked<'a, Rc<[Rc<SecretValue>]>> {
    Box::pin(async move {
        let found = heard(env, tenant, core::slice::from_ref(name)).await?;
        let found = found.into_iter().next();
        found.ok_or_else(|| Error::secret_unusable(name, "is not set"))
    })
}

/// The good values of secrets, in the order of their names, the current one first.
fn heard<'a>(env: &'a Env, tenant: &'a TenantId, names: &'a [SecretName]) -> Asked<'a, Vec<Rc<[Rc<SecretValue>]>>> {
    Box::pin(async move {
        let now = now();
        let known: Vec<Known> = names.iter().filter_map(|name| look_up(tenant, name, now)).collect();
        let is_known = known.len() == names.len();
        let of = |known: Vec<Known>| known.into_iter().map(|(_, heard)| heard.value().clone()).collect();
        if is_known && known.iter().all(|(step, _)| *step == Step::Use) {
            return Ok(of(known));
        }
        let found = match live(env, tenant, names.to_vec()).await {
            Ok(found) => found,
            Err(error) if is_known && known.iter().all(|(_, heard)| heard.is_excused(now)) => {
                log_error("a tenant's gate", error);
                return Ok(of(known));
            }
            Err(error) => return Err(error),
        };
        let mut values = Vec::with_capacity(names.len());
        for name in names {
            // The current version is the first of its name.
            let mut versions = found.iter().filter(|sealed| sealed.name == *name);
            let Some(current) = versions.next() else {
                forget(tenant, name);
                return Err(Error::secret_unusable(name, "is not set"));
            };
            let mut good = vec![Rc::new(SecretValue::new(open(env, tenant, current).await?))];
            for before in versions {
                // What a deployment key sealed that is gone is good for nothing, and holds up nobody who needs the current value.
                match open(env, tenant, before).await {
                    Ok(value) => good.push(Rc::new(SecretValue::new(value))),
                    Err(error) => log_error("the value that a secret had before", error),
                }
            }
            let good: Rc<[Rc<SecretValue>]> = good.into();
            keep(tenant, name, now, good.clone());
            values.push(good);
        }
        Ok(values)
    })
}

/// What is known of a secret, and what to do with it.
type Known = (Step, Heard<Rc<[Rc<SecretValue>]>>);

fn look_up(tenant: &TenantId, name: &SecretName, now: UnixMs) -> Option<Known> {
    KEPT.with_borrow_mut(|all| {
        let kept = all
            .iter_mut()
            .find(|kept| kept.name == *name && kept.tenant == *tenant)?;
        Some((kept.values.step(now, FRESH_MS), kept.values.clone()))
    })
}

fn forget(tenant: &TenantId, name: &SecretName) {
    KEPT.with_borrow_mut(|all| all.retain(|kept| kept.name != *name || kept.tenant != *tenant));
}

fn keep(tenant: &TenantId, name: &SecretName, now: UnixMs, values: Rc<[Rc<SecretValue>]>) {
    forget(tenant, name);
    KEPT.with_borrow_mut(|all| {
        if all.len() >= KEPT_MAX {
            all.remove(0);
        }
        all.push(Kept {
            tenant: tenant.clone(),
            name: name.clone(),
            values: Heard::new(values, now),
        });
    });
}
