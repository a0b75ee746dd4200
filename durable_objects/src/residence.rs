//! Where the platform keeps a tenant's objects: in the jurisdiction that the tenant's id names.
//!
//! workerd, which runs on one's own machine, knows no jurisdictions and says so. Objects are made without one there, the log
//! and the directory of tenants say that, and it is the only case in which that happens.

use std::cell::Cell;

use tidegate_protocol::Error;
use tidegate_protocol::ids::TenantId;
use wasm_bindgen::prelude::*;
use worker::{Env, ObjectNamespace};

use crate::platform::unavailable;

#[wasm_bindgen]
extern "C" {
    type RawNamespace;
    /// The part of a namespace whose objects stay in a jurisdiction.
    #[wasm_bindgen(method, catch)]
    fn jurisdiction(this: &RawNamespace, name: &str) -> Result<JsValue, JsValue>;
}

/// What workerd throws.
const UNKNOWN: &str = "Jurisdiction restrictions are not implemented in workerd";

thread_local! {
    /// Whether the platform knows jurisdictions, as far as this isolate has tried.
    static KNOWN: Cell<Option<bool>> = const { Cell::new(None) };
}

/// The objects of `namespace` that stay in the jurisdiction; all of them, where the platform knows none.
///
/// Errors: `UNAVAILABLE` where the platform refuses for any other reason: nothing is kept elsewhere instead.
pub fn within(namespace: ObjectNamespace, jurisdiction: &str) -> Result<ObjectNamespace, Error> {
    if KNOWN.get() == Some(false) {
        return Ok(namespace);
    }
    let raw: &RawNamespace = AsRef::<JsValue>::as_ref(&namespace).unchecked_ref();
    match raw.jurisdiction(jurisdiction) {
        Ok(part) => {
            KNOWN.set(Some(true));
            Ok(part.unchecked_into())
        }
        Err(cause) if says_unknown(&cause) => {
            KNOWN.set(Some(false));
            worker::console_warn!("objects are kept in no jurisdiction: {UNKNOWN}");
            Ok(namespace)
        }
        Err(cause) => Err(unavailable("a jurisdiction")(cause.into())),
    }
}

fn says_unknown(cause: &JsValue) -> bool {
    let message = js_sys::Reflect::get(cause, &JsValue::from_str("message"));
    message
        .ok()
        .and_then(|text| text.as_string())
        .is_some_and(|text| text.contains(UNKNOWN))
}

/// Whether the platform keeps the objects of `tenant` in the jurisdiction that its id names.
///
/// Errors: as [`within`].
pub fn is_kept(env: &Env, tenant: &TenantId) -> Result<bool, Error> {
    let Some(jurisdiction) = tenant.jurisdiction() else {
        return Ok(false);
    };
    let namespace = env
        .durable_object("TENANT")
        .map_err(unavailable("an object's binding"))?;
    within(namespace, jurisdiction)?;
    Ok(KNOWN.get() == Some(true))
}
