//! Typed calls to objects: one method, [`Callee::answer`], that takes and gives CBOR.
//!
//! A call of a method costs three fifths of a POST with the same bytes: no request, response, headers or streams are made for
//! it (ADR 25).

use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll, Waker};

use futures_util::future::LocalBoxFuture;
use js_sys::{Array, Function, Promise, Reflect, Uint8Array};
use tidegate_cbor::{Decode, Encode};
use tidegate_engine::directory::NAME as DIRECTORY;
use tidegate_protocol::calls::directory::{self, Erased};
use tidegate_protocol::calls::executor::Assignment;
use tidegate_protocol::calls::{Addressed, Answered, backup, channel, hub, jobs, tenant};
use tidegate_protocol::envelope;
use tidegate_protocol::ids::{ObjectName, TenantId};
use tidegate_protocol::{Error, ErrorCode};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use worker::wasm_bindgen_futures::{JsFuture, future_to_promise};
use worker::{Env, Stub};

use crate::platform::{log_error, unavailable};
use crate::{bytes, residence};

/// The stub of an object.
///
/// Errors: `UNAVAILABLE` where the binding is missing.
pub fn stub(env: &Env, name: &ObjectName) -> Result<Stub, Error> {
    let binding = match name {
        ObjectName::Hub(..) => "HUB",
        ObjectName::Jobs(..) => "JOBS",
        ObjectName::Tenant(_) => "TENANT",
        ObjectName::Channel(..) => "CHANNEL",
    };
    let namespace = env
        .durable_object(binding)
        .map_err(unavailable("an object's binding"))?;
    let namespace = match name.tenant().jurisdiction() {
        Some(jurisdiction) => residence::within(namespace, jurisdiction)?,
        None => namespace,
    };
    namespace
        .get_by_name(&name.to_string())
        .map_err(unavailable("an object's binding"))
}

#[wasm_bindgen]
extern "C" {
    /// What takes calls: an object's stub, or a binding to a service. What a call gives can be waited for as a promise can.
    type Callee;
    /// An object answers a call.
    #[wasm_bindgen(method, catch)]
    fn answer(this: &Callee, call: &Uint8Array) -> Result<Promise, JsValue>;
    /// An object forgets everything.
    #[wasm_bindgen(method, catch)]
    fn erase(this: &Callee, call: &Uint8Array) -> Result<Promise, JsValue>;
    /// An object does its part of a backup.
    #[wasm_bindgen(method, catch)]
    fn backup(this: &Callee, call: &Uint8Array) -> Result<Promise, JsValue>;
    /// The method itself.
    #[wasm_bindgen(method, getter, js_name = answer)]
    fn answer_method(this: &Callee) -> Function;
    /// The executor makes the attempts of an assignment.
    #[wasm_bindgen(method, catch)]
    fn execute(this: &Callee, assignment: &Uint8Array) -> Result<Promise, JsValue>;
}

/// The bytes of a call, and of its answer. What they mean is read and written by functions that are no part of an
/// asynchronous one: those are compiled again wherever they are used.
async fn exchange(env: &Env, name: &ObjectName, call: Vec<u8>) -> Result<Vec<u8>, Error> {
    exchanged(callee(env, name)?.answer(&bytes::give(&call))).await
}

/// What a call comes to. Boxed as what it gives: the code of a call is in the bundle once, and not in each crate and at each
/// place that waits for one.
pub type Asked<'a, T> = LocalBoxFuture<'a, Result<T, Error>>;

fn callee(env: &Env, name: &ObjectName) -> Result<Callee, Error> {
    Ok(stub(env, name)?.into_rpc())
}

async fn exchanged(answer: Result<Promise, JsValue>) -> Result<Vec<u8>, Error> {
    let answer = async { JsFuture::from(answer?).await };
    match answer.await {
        Ok(answer) => Ok(bytes::take(answer.unchecked_ref())),
        Err(thrown) => Err(unavailable("a call to an object")(thrown.into())),
    }
}

/// Has the executor make attempts, and waits until all of them have ended.
///
/// Errors: `UNAVAILABLE` where it cannot be reached, or broke.
pub async fn executor(env: &Env, assignment: &Assignment) -> Result<(), Error> {
    let service = env.service("EXECUTOR").map_err(unavailable("the binding EXECUTOR"))?;
    let callee: Callee = service.into_rpc();
    let assignment = bytes::give(&envelope::encode(assignment));
    let ended = async { JsFuture::from(callee.execute(&assignment)?).await };
    ended
        .await
        .map(drop)
        .map_err(|thrown| unavailable("the executor")(thrown.into()))
}

fn address(name: &ObjectName, call: &dyn Encode) -> Vec<u8> {
    let tenant = name.tenant().clone();
    envelope::encode(&Addressed { tenant, call })
}

macro_rules! wire {
    ($write:ident($call:ty), $read:ident -> $reply:ty) => {
        #[inline(never)]
        fn $write(name: &ObjectName, call: &$call) -> Vec<u8> {
            address(name, call)
        }

        #[inline(never)]
        fn $read(bytes: &[u8]) -> Result<$reply, Error> {
            envelope::decode(bytes)
        }
    };
}
wire!(write_hub(hub::Call), read_hub -> Answered<hub::Reply>);
wire!(write_tenant(tenant::Call), read_tenant -> Answered<tenant::Reply>);
wire!(write_jobs(jobs::Batch), read_jobs -> Vec<Answered<jobs::Reply>>);
wire!(write_channel(channel::Batch), read_channel -> channel::Replies);
wire!(write_erase(()), read_erased -> Answered<Erased>);
wire!(write_backup(backup::Call), read_backup -> Answered<backup::Reply>);

/// Calls a hub.
///
/// Errors: the hub's refusals, and `UNAVAILABLE`.
pub fn hub<'a>(env: &'a Env, name: &'a ObjectName, call: &'a hub::Call) -> Asked<'a, hub::Reply> {
    Box::pin(async move { read_hub(&exchange(env, name, write_hub(name, call)).await?)?.into_result() })
}

/// Calls a tenant's gate.
///
/// Errors: the gate's refusals, and `UNAVAILABLE`.
pub fn tenant<'a>(env: &'a Env, tenant: &'a TenantId, call: &'a tenant::Call) -> Asked<'a, tenant::Reply> {
    Box::pin(async move {
        let name = ObjectName::Tenant(tenant.clone());
        read_tenant(&exchange(env, &name, write_tenant(&name, call)).await?)?.into_result()
    })
}

/// Has an object of a tenant that is erased forget everything.
///
/// Errors: `UNAVAILABLE`.
pub fn erase<'a>(env: &'a Env, name: &'a ObjectName) -> Asked<'a, Erased> {
    Box::pin(async move {
        let call = write_erase(name, &());
        read_erased(&exchanged(callee(env, name)?.erase(&bytes::give(&call))).await?)?.into_result()
    })
}

/// Has an object of a tenant do its part of a backup.
///
/// Errors: the object's refusals, and `UNAVAILABLE`.
pub fn backup<'a>(env: &'a Env, name: &'a ObjectName, call: &'a backup::Call) -> Asked<'a, backup::Reply> {
    Box::pin(async move {
        let call = write_backup(name, call);
        read_backup(&exchanged(callee(env, name)?.backup(&bytes::give(&call))).await?)?.into_result()
    })
}

/// Calls the directory of tenants, which belongs to none of them.
///
/// Errors: the directory's refusals, and `UNAVAILABLE`.
pub fn directory<'a>(env: &'a Env, call: &'a directory::Call) -> Asked<'a, directory::Reply> {
    Box::pin(async move {
        let stub = env
            .durable_object("TENANT")
            .and_then(|namespace| namespace.get_by_name(DIRECTORY))
            .map_err(unavailable("an object's binding"))?;
        let callee: Callee = stub.into_rpc();
        let call = envelope::encode(call);
        let answer = exchanged(callee.answer(&bytes::give(&call))).await?;
        envelope::decode::<Answered<directory::Reply>>(&answer)?.into_result()
    })
}

/// Calls a `Jobs` object with several calls at once; each has its own answer, in order.
///
/// Errors: `UNAVAILABLE` for all of them.
pub fn jobs_batch<'a>(
    env: &'a Env,
    name: &'a ObjectName,
    batch: &'a jobs::Batch,
) -> Asked<'a, Vec<Answered<jobs::Reply>>> {
    Box::pin(async move { read_jobs(&exchange(env, name, write_jobs(name, batch)).await?) })
}

/// Calls a channel with several calls at once; each has its own answer, in order.
///
/// Errors: `UNAVAILABLE` for all of them.
pub fn channel<'a>(env: &'a Env, name: &'a ObjectName, batch: &'a channel::Batch) -> Asked<'a, channel::Replies> {
    Box::pin(async move { read_channel(&exchange(env, name, write_channel(name, batch)).await?) })
}

/// The way to one object, for many calls: its method is looked up once. It must not outlive the invocation that it was made
/// in; that of an object is its whole life.
pub struct Way {
    name: ObjectName,
    /// Looked up by the first call, and again by the one after a failure: a stub that has broken stays broken.
    answer: RefCell<Option<Function>>,
}

impl Way {
    /// The way to the object `name`.
    pub fn new(name: ObjectName) -> Self {
        Self {
            name,
            answer: RefCell::new(None),
        }
    }

    /// The object.
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    /// As [`jobs_batch`].
    pub async fn jobs_batch(&self, env: &Env, batch: &jobs::Batch) -> Result<Vec<Answered<jobs::Reply>>, Error> {
        read_jobs(&self.exchange(env, write_jobs(&self.name, batch)).await?)
    }

    /// As [`hub`].
    pub async fn hub(&self, env: &Env, call: &hub::Call) -> Result<hub::Reply, Error> {
        read_hub(&self.exchange(env, write_hub(&self.name, call)).await?)?.into_result()
    }

    async fn exchange(&self, env: &Env, call: Vec<u8>) -> Result<Vec<u8>, Error> {
        let kept = self.answer.borrow_mut().take();
        let answer = match kept {
            Some(answer) => answer,
            None => callee(env, &self.name)?.answer_method(),
        };
        let arguments = Array::of1(&bytes::give(&call));
        // Not by a method of the function itself: those of a stub are looked for in its object.
        let answered = Reflect::apply(&answer, &JsValue::UNDEFINED, &arguments);
        let bytes = exchanged(answered.map(JsCast::unchecked_into)).await?;
        *self.answer.borrow_mut() = Some(answer);
        Ok(bytes)
    }
}

/// Calls a `Jobs` object, and where that leads on to another, the other one. Each has a higher index than the one before.
///
/// Errors: the refusals of the last one, and `UNAVAILABLE`.
pub fn jobs<'a>(env: &'a Env, name: &'a ObjectName, mut call: jobs::Call) -> Asked<'a, jobs::Reply> {
    let mut name = name.clone();
    Box::pin(async move {
        loop {
            let replies = jobs_batch(env, &name, &jobs::Batch { calls: vec![call] }).await?;
            match replies.into_iter().next().map(Answered::into_result) {
                Some(Ok(jobs::Reply::Elsewhere { shard, call: again })) => {
                    name = ObjectName::Jobs(name.tenant().clone(), shard);
                    call = *again;
                }
                Some(answered) => return answered,
                None => return Err(Error::new(ErrorCode::InternalError, "An object answered nothing.")),
            }
        }
    })
}

/// Answers a call that reached the object `name`: at once where `answer` is ready at once, and with a promise otherwise.
///
/// Errors: what `answer` ends with, and `INTERNAL_ERROR` for a call of another tenant or one that cannot be read. They are
/// thrown at the caller.
pub fn respond<C, T, F>(
    call: &Uint8Array,
    name: Option<&ObjectName>,
    answer: impl FnOnce(C) -> F,
) -> Result<JsValue, JsValue>
where
    C: Decode,
    T: Encode,
    F: Future<Output = T> + 'static,
{
    let call = receive(&bytes::take(call), name).map_err(thrown)?;
    let answer = answer(call);
    let mut answer: LocalBoxFuture<'static, _> = Box::pin(async move { Ok(written(&answer.await)) });
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answered) => answered,
        Poll::Pending => Ok(promise(answer)),
    }
}

/// As [`respond`], where an object forgets everything. The work is boxed, so that this is in the bundle once and not for each
/// class.
///
/// Errors: as [`respond`].
pub fn respond_erased(
    call: &Uint8Array,
    name: Option<&ObjectName>,
    work: Asked<'static, Erased>,
) -> Result<JsValue, JsValue> {
    respond(call, name, |()| async move { Answered::from(work.await) })
}

/// An answer that is not ready. What makes a promise of it is in the bundle once, and not for each kind of call.
#[inline(never)]
pub fn promise(answer: LocalBoxFuture<'static, Result<JsValue, JsValue>>) -> JsValue {
    future_to_promise(AssertUnwindSafe(answer)).into()
}

/// What a caller wrote.
///
/// Errors: what cannot be read, to be thrown at the caller.
pub fn read<C: Decode>(call: &Uint8Array) -> Result<C, JsValue> {
    envelope::decode(&bytes::take(call)).map_err(thrown)
}

fn receive<C: Decode>(bytes: &[u8], name: Option<&ObjectName>) -> Result<C, Error> {
    envelope::decode::<Addressed<C>>(bytes)?.open(name)
}

/// What the caller reads.
pub fn written(value: &dyn Encode) -> JsValue {
    bytes::give(&envelope::encode(value)).into()
}

fn thrown(error: Error) -> JsValue {
    log_error("a call", &error);
    js_sys::Error::new(error.code.as_str()).into()
}
