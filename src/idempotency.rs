//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), once for every route that changes something. The gate
//! decides ([`tidegate_engine::idempotency`]); here a request is read, made, and its answer kept or given again. Which routes
//! it holds for is said by [`routes::keys`].
//!
//! A request with a key goes on when its client goes away: it is then that the client comes again.

use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;

use tidegate_durable_objects::platform::{log_error, random};
use tidegate_durable_objects::remote;
use tidegate_engine::idempotency::{digest, is_kept};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::http::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED, KeptAnswer, Problem, header_key};
use tidegate_protocol::ids::IdempotencyKey;
use tidegate_protocol::limits::{BODY_BYTES_MAX, COMPOSITION_BYTES_MAX};
use tidegate_protocol::{Error, ErrorCode};
use wasm_bindgen::JsValue;
use worker::wasm_bindgen_futures::{JsFuture, future_to_promise};
use worker::{Context, Env, Method, Request, Response, ResponseBody};

use crate::answer;
use crate::request_log::Served;
use crate::requests::read_bytes;
use crate::routes::{self, Keys, Route};
use crate::tenants::unexpected;

/// The headers of an answer that are kept with it.
const KEPT_HEADERS: [&str; 4] = ["content-type", "cache-control", "location", "etag"];
/// The headers that say under which condition something is to be done.
const CONDITIONS: [&str; 2] = ["if-match", "if-none-match"];
/// How often the gate is told of an end before its key is left to its lease.
const TELLS_MAX: u32 = 3;

/// A request, and who asks for what by it.
pub struct Asked {
    pub request: Request,
    pub env: Env,
    pub route: Route,
    pub method: Method,
    pub principal: Principal,
    pub served: Rc<Served>,
}

/// The key of a request.
///
/// Errors: `VALIDATION_ERROR` for one that cannot be read.
pub fn key(request: &Request) -> Result<Option<IdempotencyKey>, Error> {
    let header = request.headers().get(IDEMPOTENCY_KEY).ok().flatten();
    header.as_deref().map(header_key).transpose()
}

/// Marks an answer as that to an earlier request.
///
/// Errors: the platform's.
pub fn mark(response: &Response) -> Result<(), Error> {
    response
        .headers()
        .set(IDEMPOTENCY_REPLAYED, "true")
        .map_err(answer::broken)
}

/// Does what is asked for, once for each key.
///
/// Errors: those of the route; `IDEMPOTENCY_IN_PROGRESS`, `IDEMPOTENCY_MISMATCH` and `RATE_LIMITED` for a key, `GONE` for an
/// answer that was too long to be kept, `UNAVAILABLE` where the gate cannot be reached, and then nothing was done.
pub async fn serve(mut asked: Asked, context: &Context) -> Result<Response, Error> {
    let honoured = routes::keys(&asked.route, &asked.method);
    let key = match honoured {
        Keys::Nobody => None,
        Keys::Job | Keys::Route(_) => match key(&asked.request) {
            Ok(key) => key,
            Err(error) => return malformed(&error),
        },
    };
    let (Keys::Route(template), Some(key)) = (honoured, key) else {
        return asked.make().await;
    };
    let held = Held {
        name: asked.name(template, &key),
        token: random() >> 11,
    };
    let call = Call::Begin {
        name: held.name.clone(),
        fingerprint: asked.fingerprint().await?,
        token: held.token,
    };
    match remote::tenant(&asked.env, &asked.principal.tenant, &call).await? {
        Reply::Begun(None) => {}
        Reply::Begun(Some(answer)) => return again(&answer),
        _ => return Err(unexpected()),
    }
    // The runtime has it end even where nobody waits for it any more.
    let made = Rc::new(RefCell::new(None));
    let slot = made.clone();
    let promise = future_to_promise(AssertUnwindSafe(async move {
        let response = asked.make_and_end(held).await;
        *slot.borrow_mut() = Some(response);
        Ok(JsValue::UNDEFINED)
    }));
    let ended = JsFuture::from(promise.clone());
    context.wait_until(async move { drop(ended.await) });
    let ended = JsFuture::from(promise).await;
    let response = made.borrow_mut().take();
    match (ended, response) {
        (Ok(_), Some(response)) => response,
        _ => Err(Error::new(ErrorCode::InternalError, "The request came to nothing.")),
    }
}

/// The refusal of a header that cannot be read. It is no body that fails its schema: 400, as the draft says.
fn malformed(error: &Error) -> Result<Response, Error> {
    let problem = Problem {
        status: ErrorCode::ValidationError.status(),
        ..Problem::new(error, None)
    };
    answer::write_problem(error, &problem).map_err(answer::broken)
}

/// A key that a request holds.
struct Held {
    name: String,
    token: u64,
}

impl Asked {
    /// The key within what it belongs to: in the tenant, which has a gate of its own, the user, so that nobody is given
    /// what another was answered; the method; and the route.
    fn name(&self, template: &str, key: &IdempotencyKey) -> String {
        digest(&[
            self.principal.user.as_str().as_bytes(),
            self.method.as_ref().as_bytes(),
            template.as_bytes(),
            key.as_str().as_bytes(),
        ])
    }

    /// What tells the request from others with its key: path, query, conditions and body.
    ///
    /// Errors: `PAYLOAD_TOO_LARGE`.
    async fn fingerprint(&mut self) -> Result<String, Error> {
        let bytes_max = match self.route {
            Route::Composition => COMPOSITION_BYTES_MAX,
            _ => BODY_BYTES_MAX,
        };
        // The route reads the body once more.
        let mut copy = self.request.clone().map_err(answer::broken)?;
        let body = read_bytes(&mut copy, bytes_max).await?;
        let url = self.request.url().map_err(answer::broken)?;
        let header = |name| self.request.headers().get(name).ok().flatten().unwrap_or_default();
        let [if_match, if_none_match] = CONDITIONS.map(header);
        Ok(digest(&[
            url.path().as_bytes(),
            url.query().unwrap_or_default().as_bytes(),
            if_match.as_bytes(),
            if_none_match.as_bytes(),
            &body,
        ]))
    }

    /// Boxed, and no part of what asks for it: all that the routes do is in the bundle once.
    #[inline(never)]
    fn make(&mut self) -> Pin<Box<dyn Future<Output = Result<Response, Error>> + '_>> {
        let principal = self.principal.clone();
        Box::pin(crate::serve(
            &mut self.request,
            &self.env,
            self.route.clone(),
            self.method.clone(),
            principal,
            &self.served,
        ))
    }

    /// Does what is asked for, and tells the gate what came of it.
    async fn make_and_end(mut self, held: Held) -> Result<Response, Error> {
        let response = match self.make().await {
            Ok(response) => response,
            Err(error) => answer::problem(&error, None).map_err(answer::broken)?,
        };
        let answer = is_kept(response.status_code()).then(|| kept(&response).write());
        let call = Call::End {
            name: held.name,
            token: held.token,
            answer,
        };
        for _ in 0..TELLS_MAX {
            match remote::tenant(&self.env, &self.principal.tenant, &call).await {
                Ok(_) => break,
                Err(error) => log_error("the gate was not told of an end", error),
            }
        }
        Ok(response)
    }
}

fn kept(response: &Response) -> KeptAnswer {
    let header = |name: &str| {
        let value = response.headers().get(name).ok().flatten()?;
        Some((name.to_owned(), value))
    };
    KeptAnswer {
        status: response.status_code(),
        headers: KEPT_HEADERS.iter().filter_map(|name| header(name)).collect(),
        body: match response.body() {
            ResponseBody::Empty => Some(String::new()),
            ResponseBody::Body(bytes) => String::from_utf8(bytes.clone()).ok(),
            ResponseBody::Stream(_) => None,
        },
    }
}

/// The answer that was given before.
///
/// Errors: `GONE` where its body is not kept.
fn again(text: &str) -> Result<Response, Error> {
    let answer = KeptAnswer::read(text).ok_or_else(unexpected)?;
    let Some(body) = answer.body else {
        let message = format!(
            "The request with this key was done, and answered with {}. What it said was too long to be kept.",
            answer.status
        );
        return Err(Error::new(ErrorCode::Gone, message));
    };
    let mut builder = Response::builder().with_status(answer.status);
    for (name, value) in &answer.headers {
        builder = builder.with_header(name, value).map_err(answer::broken)?;
    }
    let response = if body.is_empty() {
        builder.empty()
    } else {
        builder.fixed(body.into_bytes())
    };
    mark(&response)?;
    Ok(response)
}
