//! Typed calls to objects: one POST, one CBOR body each way.

use js_sys::Uint8Array;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_protocol::calls::{Addressed, Answered, hub, jobs, tenant};
use tidegate_protocol::envelope;
use tidegate_protocol::ids::{ObjectName, TenantId};
use tidegate_protocol::{Error, ErrorCode};
use wasm_bindgen::JsValue;
use worker::{Env, Method, Request, RequestInit, Response, Stub};

use crate::platform::unavailable;

/// The stub of an object.
///
/// Errors: `UNAVAILABLE` where the binding is missing.
pub fn stub(env: &Env, name: &ObjectName) -> Result<Stub, Error> {
    let binding = match name {
        ObjectName::Hub(..) => "HUB",
        ObjectName::Jobs(..) => "JOBS",
        ObjectName::Tenant(_) => "TENANT",
    };
    env.durable_object(binding)
        .and_then(|namespace| namespace.get_by_name(&name.to_string()))
        .map_err(unavailable("an object's binding"))
}

/// A POST with a binary body.
///
/// Errors: `INTERNAL_ERROR` where it cannot be made.
pub fn post(url: &str, body: &[u8]) -> Result<Request, Error> {
    let mut init = RequestInit::new();
    init.with_method(Method::Post)
        .with_body(Some(JsValue::from(Uint8Array::from(body))));
    Request::new_with_init(url, &init)
        .map_err(|_| Error::new(ErrorCode::InternalError, "A call between the parts could not be made."))
}

async fn exchange<C: Serialize, R: DeserializeOwned>(env: &Env, name: &ObjectName, call: C) -> Result<R, Error> {
    let addressed = Addressed {
        tenant: name.tenant().clone(),
        call,
    };
    let request = post("http://object/call", &envelope::encode(&addressed)?)?;
    let mut response = stub(env, name)?
        .fetch_with_request(request)
        .await
        .map_err(unavailable("a call to an object"))?;
    if response.status_code() != 200 {
        let status = response.status_code();
        return Err(unavailable("a call to an object")(worker::Error::RustError(format!(
            "status {status}"
        ))));
    }
    let bytes = response.bytes().await.map_err(unavailable("an object's reply"))?;
    envelope::decode(&bytes)
}

/// Calls a hub.
///
/// Errors: the hub's refusals, and `UNAVAILABLE`.
pub async fn hub(env: &Env, name: &ObjectName, call: &hub::Call) -> Result<hub::Reply, Error> {
    exchange::<_, Answered<hub::Reply>>(env, name, call)
        .await?
        .into_result()
}

/// Calls a tenant's gate.
///
/// Errors: the gate's refusals, and `UNAVAILABLE`.
pub async fn tenant(env: &Env, tenant: &TenantId, call: &tenant::Call) -> Result<tenant::Reply, Error> {
    let name = ObjectName::Tenant(tenant.clone());
    exchange::<_, Answered<tenant::Reply>>(env, &name, call)
        .await?
        .into_result()
}

/// Calls a `Jobs` object with several calls at once; each has its own answer, in order.
///
/// Errors: `UNAVAILABLE` for all of them.
pub async fn jobs_batch(
    env: &Env,
    name: &ObjectName,
    batch: &jobs::Batch,
) -> Result<Vec<Answered<jobs::Reply>>, Error> {
    exchange(env, name, batch).await
}

/// Calls a `Jobs` object.
///
/// Errors: its refusals, and `UNAVAILABLE`.
pub async fn jobs(env: &Env, name: &ObjectName, call: jobs::Call) -> Result<jobs::Reply, Error> {
    let replies = jobs_batch(env, name, &jobs::Batch { calls: vec![call] }).await?;
    match replies.into_iter().next() {
        Some(answered) => answered.into_result(),
        None => Err(Error::new(ErrorCode::InternalError, "An object answered nothing.")),
    }
}

/// Reads a call that is addressed to the object `name`, and refuses one that is meant for another tenant.
///
/// Errors: `INTERNAL_ERROR` for a call of another tenant or one that cannot be read.
pub async fn receive<C: DeserializeOwned>(request: &mut Request, name: Option<&ObjectName>) -> Result<C, Error> {
    let bytes = request.bytes().await.map_err(unavailable("a call's body"))?;
    let addressed: Addressed<C> = envelope::decode(&bytes)?;
    match name {
        Some(name) if *name.tenant() == addressed.tenant => Ok(addressed.call),
        _ => Err(Error::new(
            ErrorCode::InternalError,
            "A call reached the object of another tenant.",
        )),
    }
}

/// The response that carries `value`.
///
/// Errors: where it cannot be made.
pub fn respond<T: Serialize>(value: &T) -> worker::Result<Response> {
    match envelope::encode(value) {
        Ok(bytes) => Response::from_bytes(bytes),
        Err(error) => Response::error(error.code.as_str(), 500),
    }
}
