//! The outside, as an operation sees it: the tenant's storage, configured upstreams, timers, and the job's reports.

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, LocalBoxFuture, join_all, select};
use futures_util::{FutureExt, StreamExt};
use tidegate_engine::composition::{Action, Plan, checkpoint_of};
use tidegate_engine::hub::Run;
use tidegate_engine::jobs::payload_name;
use tidegate_engine::progress::Thinner;
use tidegate_engine::upstreams::Edge;
use tidegate_patterns::endpoint;
use tidegate_patterns::operation::{
    Callback, Context, Done, Facts, Incoming, Invocation, Opened, Outgoing, SecretValue,
};
use tidegate_protocol::calls::executor::{Assignment, Execute, Outcome};
use tidegate_protocol::calls::jobs;
use tidegate_protocol::calls::reporting::MetadataPatch;
use tidegate_protocol::calls::upstreams::{Consult, Standing};
use tidegate_protocol::calls::versions::RevisionRule;
use tidegate_protocol::error::TimeLimit;
use tidegate_protocol::event::{JsonText, Payload, Progress};
use tidegate_protocol::http::Signature;
use tidegate_protocol::ids::{ActionName, FencingToken, JobId, ObjectName, SecretName, StreamName, TenantId, UserId};
use tidegate_protocol::limits::{RESULT_BYTES_MAX, RESULT_ROW_BYTES_MAX};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};
use worker::{AbortController, Bucket, Env, Fetch, Fetcher, Headers, Method, Request, RequestInit, RequestRedirect};

use crate::gathering::Gathering;
use crate::object_reader::ObjectReader;
use crate::platform::{log_error, now, random, unavailable};
use crate::reports::Reports;
use crate::{attempts, plans, secrets, signing, storage, timer, upstreams};

/// The attempt of a job, to which reports go.
struct Attempt {
    reports: Rc<Reports>,
    job: JobId,
    token: FencingToken,
    heartbeat_ms: u64,
    checkpoint: RefCell<Option<String>>,
    checkpoints: Cell<u64>,
    /// What the attempt does, where that is what the active composition says.
    work: Option<String>,
    thinner: RefCell<Thinner>,
    gathering: Gathering,
    reported_at: Cell<UnixMs>,
    stop: Cell<Stop>,
}

/// Whether an attempt is to bring itself to an end, because its job was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// It goes on.
    No,
    /// A report was answered so; the operation does not know yet.
    Asked,
    /// The operation knows. What it still reports is taken, so that it can tidy up.
    Told,
}

/// The outside of one run.
pub struct Runtime {
    env: Env,
    tenant: TenantId,
    attempt: Option<Attempt>,
}

impl Runtime {
    fn bucket(&self) -> Result<Bucket, Error> {
        self.env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))
    }

    /// Reports, with whatever is gathered. Says whether it got through: one that did not is followed by the next, and the
    /// lease says when it is too late.
    async fn report(
        &self,
        attempt: &Attempt,
        progress: Option<Progress>,
        checkpoint: Option<String>,
    ) -> Result<bool, Error> {
        attempt.reported_at.set(now());
        // Where much is written, no report would otherwise be left for progress that was held back.
        let progress = progress.or_else(|| attempt.thinner.borrow_mut().flush(now()));
        let notes = attempt.gathering.send();
        let number = notes.as_ref().map(|notes| notes.number);
        let call = jobs::Call::Report {
            job: attempt.job,
            token: attempt.token,
            progress,
            checkpoint,
            notes,
        };
        let answer = attempt.reports.call(call).await;
        let refused = |error: &Error| matches!(error.code, ErrorCode::LeaseLost | ErrorCode::ValidationError);
        match (number, &answer) {
            (Some(number), Ok(_)) => attempt.gathering.arrived(number),
            (Some(number), Err(error)) if refused(error) => attempt.gathering.arrived(number),
            (Some(_), Err(_)) => attempt.gathering.lost(),
            (None, _) => {}
        }
        if let Ok(jobs::Reply::Continue {
            cancelled_until: Some(_),
            ..
        }) = &answer
            && attempt.stop.get() == Stop::No
        {
            attempt.stop.set(Stop::Asked);
        }
        match answer {
            Ok(_) => Ok(true),
            Err(error) if refused(&error) => Err(error),
            Err(error) => {
                log_error("a report", error);
                Ok(false)
            }
        }
    }

    /// Tells the operation once that its job was cancelled.
    fn check_stop(attempt: &Attempt) -> Result<(), Error> {
        if attempt.stop.get() == Stop::Asked {
            attempt.stop.set(Stop::Told);
            return Err(Error::new(ErrorCode::Cancelled, "The job was cancelled."));
        }
        Ok(())
    }

    /// Signs of life while the operation itself is silent, and reports of what it has written. Ends where the lease is
    /// lost.
    async fn keep_alive(&self) -> Error {
        let Some(attempt) = &self.attempt else {
            return std::future::pending().await;
        };
        loop {
            let silence = pin!(timer::sleep(attempt.heartbeat_ms));
            let something = pin!(attempt.gathering.something());
            let beat = match select(silence, something).await {
                Either::Left(_) => self.beat(attempt).await,
                Either::Right(_) => self.send_gathered(attempt).await,
            };
            if let Err(error) = beat {
                return error;
            }
        }
    }

    async fn beat(&self, attempt: &Attempt) -> Result<(), Error> {
        let held = attempt.thinner.borrow_mut().flush(now());
        let silent = now().since(attempt.reported_at.get()) >= attempt.heartbeat_ms;
        if silent || held.is_some() {
            self.report(attempt, held, None).await?;
        }
        Ok(())
    }

    /// Sends what is gathered once its time has come, or waits for whoever is sending it already.
    async fn send_gathered(&self, attempt: &Attempt) -> Result<(), Error> {
        match attempt.gathering.due_at() {
            None => attempt.gathering.settled().await,
            Some(at) => {
                timer::sleep(at.since(now())).await;
                self.send_now(attempt).await?;
            }
        }
        Ok(())
    }

    /// Sends what is gathered. Where it does not get through, time passes before the next try.
    async fn send_now(&self, attempt: &Attempt) -> Result<(), Error> {
        if attempt.gathering.is_sending() {
            attempt.gathering.settled().await;
        } else if !attempt.gathering.is_empty() && !self.report(attempt, None, None).await? {
            timer::sleep(SEND_AGAIN_MS).await;
        }
        Ok(())
    }

    /// Waits until there is room for more.
    async fn make_room(&self, attempt: &Attempt) -> Result<(), Error> {
        while attempt.gathering.is_full() {
            self.send_now(attempt).await?;
        }
        Ok(())
    }

    /// Sends what is left when the operation has ended. A report that was under way counts as lost: nobody waits for it.
    async fn send_rest(&self) -> Result<(), Error> {
        let Some(attempt) = &self.attempt else { return Ok(()) };
        attempt.gathering.lost();
        let mut failures = 0;
        while !attempt.gathering.is_empty() && failures < FINISH_ATTEMPTS {
            if !self.report(attempt, None, None).await? {
                failures += 1;
                timer::sleep(SEND_AGAIN_MS).await;
            }
        }
        Ok(())
    }
}

impl Context for Runtime {
    type Reader = ObjectReader;

    fn now(&self) -> UnixMs {
        now()
    }

    async fn sleep(&self, ms: u64) {
        timer::sleep(ms).await;
    }

    async fn progress(&self, progress: Progress) -> Result<(), Error> {
        let Some(attempt) = &self.attempt else { return Ok(()) };
        let passes = attempt.thinner.borrow_mut().offer(now(), progress);
        if let Some(progress) = passes {
            self.report(attempt, Some(progress), None).await?;
        }
        Self::check_stop(attempt)
    }

    async fn output(&self, stream: &StreamName, chunk: &str) -> Result<(), Error> {
        let Some(attempt) = &self.attempt else { return Ok(()) };
        let mut rest = chunk;
        while !rest.is_empty() {
            rest = attempt.gathering.write(stream, rest)?;
            self.make_room(attempt).await?;
        }
        Self::check_stop(attempt)
    }

    async fn patch_metadata(&self, patches: Vec<MetadataPatch>) -> Result<(), Error> {
        let Some(attempt) = &self.attempt else { return Ok(()) };
        attempt.gathering.patch(patches)?;
        self.make_room(attempt).await?;
        Self::check_stop(attempt)
    }

    async fn checkpoint(&self) -> Result<Option<Vec<u8>>, Error> {
        let key = self
            .attempt
            .as_ref()
            .and_then(|attempt| attempt.checkpoint.borrow().clone());
        let Some(key) = key else { return Ok(None) };
        let object = storage::read(self.bucket()?.get(key))
            .await
            .map_err(unavailable("reading a checkpoint"))?;
        match object.as_ref().and_then(worker::Object::body) {
            Some(body) => body
                .bytes()
                .await
                .map(Some)
                .map_err(unavailable("reading a checkpoint")),
            None => Ok(None),
        }
    }

    async fn save_checkpoint(&self, bytes: Vec<u8>, progress: Progress) -> Result<(), Error> {
        let Some(attempt) = &self.attempt else { return Ok(()) };
        let number = attempt.checkpoints.get();
        attempt.checkpoints.set(number + 1);
        let key = storage::checkpoint(
            &self.tenant,
            attempt.job,
            attempt.token.0,
            number,
            attempt.work.as_deref(),
        );
        storage::write(self.bucket()?.put(key.as_str(), bytes))
            .await
            .map_err(unavailable("writing a checkpoint"))?;
        *attempt.checkpoint.borrow_mut() = Some(key.clone());
        self.report(attempt, Some(progress), Some(key)).await?;
        Self::check_stop(attempt)
    }

    async fn open(&self, key: &str, offset: u64, etag: Option<&str>) -> Result<Option<Opened<ObjectReader>>, Error> {
        let bucket = self.bucket()?;
        let key = storage::object(&self.tenant, key);
        if offset > 0 {
            // A range that begins at the end of an object is refused, so its length must be known first.
            let head = bucket
                .head(key.as_str())
                .await
                .map_err(unavailable("looking at an object"))?;
            let Some(head) = head else { return Ok(None) };
            if head.size() <= offset {
                return match etag {
                    Some(etag) if head.etag() != etag => Err(replaced()),
                    _ => Ok(Some(Opened {
                        size: head.size(),
                        etag: head.etag(),
                        reader: ObjectReader::empty(),
                    })),
                };
            }
        }
        let mut get = bucket.get(key);
        if offset > 0 {
            get = get.range(worker::Range::OffsetToEnd { offset });
        }
        let object = storage::read(get).await.map_err(unavailable("opening an object"))?;
        let Some(object) = object else { return Ok(None) };
        if etag.is_some_and(|etag| object.etag() != etag) {
            return Err(replaced());
        }
        let Some(body) = object.body() else { return Ok(None) };
        let reader = ObjectReader::new(body)?;
        Ok(Some(Opened {
            size: object.size(),
            etag: object.etag(),
            reader,
        }))
    }

    async fn put(&self, key: &str, content_type: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let metadata = worker::HttpMetadata {
            content_type: Some(content_type.into()),
            ..Default::default()
        };
        let key = storage::object(&self.tenant, key);
        let bucket = self.bucket()?;
        let put = storage::write(bucket.put(key, bytes).http_metadata(metadata));
        put.await.map(|_| ()).map_err(unavailable("writing an object"))
    }

    async fn fetch(&self, request: Outgoing) -> Result<Incoming, Error> {
        // Boxed as what it does, so that it is in the bundle once and not for each place where a pattern waits for it.
        let call: LocalBoxFuture<'_, _> = Box::pin(within(request, None));
        call.await
    }

    fn random(&self) -> u64 {
        random()
    }

    fn edge(&self, upstream: &str, key: &str) -> Rc<RefCell<Edge>> {
        upstreams::edge(&self.tenant, upstream, key)
    }

    async fn consult(&self, consult: Consult) -> Result<Standing, Error> {
        let call: LocalBoxFuture<'_, _> = Box::pin(upstreams::consult(&self.env, &self.tenant, consult));
        call.await
    }

    async fn fetch_worker(&self, binding: &str, request: Outgoing) -> Result<Incoming, Error> {
        let worker = self.env.service(binding).map_err(|cause| {
            log_error("a handler's binding", cause);
            Error::new(
                ErrorCode::UpstreamError,
                "The deployment has bound no Worker of this name.",
            )
        })?;
        within(request, Some(worker)).await
    }

    fn may_reach_loopback(&self) -> bool {
        variable(&self.env, "TIDEGATE_LOOPBACK_ENDPOINTS").as_deref() == Some("allow")
    }

    fn callback(&self, job: &Facts) -> Result<Option<Callback>, Error> {
        let Some(ObjectName::Jobs(_, shard)) = self.attempt.as_ref().map(|attempt| attempt.reports.object()) else {
            return Ok(None);
        };
        let attempt = attempts::Attempt {
            tenant: job.tenant.clone(),
            shard: *shard,
            job: job.id,
            token: job.token,
        };
        // It is good a while longer than the attempt, so that whoever is late is told that the lease is lost.
        let token = attempts::mint(&self.env, &attempt, job.deadline.plus(CALLBACK_GRACE_MS))?;
        let origin = variable(&self.env, "TIDEGATE_PUBLIC_URL").unwrap_or_default();
        Ok(Some(Callback {
            url: format!("{}/v1/attempts/{}", origin.trim_end_matches('/'), job.id),
            token,
        }))
    }

    async fn secrets(&self, names: &[SecretName]) -> Result<Vec<Rc<SecretValue>>, Error> {
        secrets::values(&self.env, &self.tenant, names).await
    }

    async fn sign(&self, how: Signature, id: &str, seconds: u64, body: &str) -> Result<String, Error> {
        signing::signatures(&self.env, &self.tenant, how, (id, seconds, body)).await
    }
}

/// How much longer than its attempt a callback's token is good. Milliseconds.
const CALLBACK_GRACE_MS: u64 = 3_600_000;

/// A variable of the deployment.
pub fn variable(env: &Env, name: &str) -> Option<String> {
    env.var(name).ok().map(|value| value.to_string())
}

/// Ends a request whose answer nobody waits for any more: it took too long, or another one came first.
struct AbortOnDrop(Option<AbortController>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(controller) = self.0.take() {
            controller.abort();
        }
    }
}

/// Makes a request of an upstream, or of a Worker, in the time that it may take.
async fn within(request: Outgoing, worker: Option<Fetcher>) -> Result<Incoming, Error> {
    let controller = AbortController::default();
    let signal = controller.signal();
    let mut aborted = AbortOnDrop(Some(controller));
    let call = pin!(exchange(&request, worker, &signal));
    let timer = pin!(timer::sleep(request.timeout_ms));
    match select(call, timer).await {
        Either::Left((answer, _)) => {
            aborted.0 = None;
            answer
        }
        Either::Right(((), _)) => Err(Error::timed_out(TimeLimit::Upstream, request.timeout_ms)),
    }
}

fn replaced() -> Error {
    Error::new(ErrorCode::Conflict, "The object was replaced while it was being read.")
}

async fn exchange(
    outgoing: &Outgoing,
    worker: Option<Fetcher>,
    signal: &worker::AbortSignal,
) -> Result<Incoming, Error> {
    let failed = |cause: worker::Error| {
        log_error("an upstream", cause);
        let error = Error::new(ErrorCode::UpstreamError, "The upstream cannot be reached.");
        error.with_retry(tidegate_protocol::error::Retry::Later)
    };
    let headers = Headers::new();
    for (name, value) in &outgoing.headers {
        headers.set(name, value).map_err(failed)?;
    }
    let mut init = RequestInit::new();
    init.with_method(Method::from(outgoing.method.clone()))
        .with_headers(headers)
        .with_redirect(RequestRedirect::Manual);
    if let Some(body) = &outgoing.body {
        init.with_body(Some(wasm_bindgen::JsValue::from_str(body)));
    }
    let request = Request::new_with_init(&outgoing.url, &init).map_err(failed)?;
    let mut response = match worker {
        Some(worker) => worker.fetch_request(request).await.map_err(failed)?,
        None => Fetch::Request(request).send_with_signal(signal).await.map_err(failed)?,
    };
    let header = |name: &str| response.headers().get(name).ok().flatten();
    let (content_type, retry_after) = (header("content-type"), header("retry-after"));
    let status = response.status_code();
    let mut body = Some(Vec::new());
    if let Ok(mut stream) = response.stream() {
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(failed)?;
            match &mut body {
                Some(kept) if kept.len() + chunk.len() <= outgoing.answer_bytes_max => kept.extend_from_slice(&chunk),
                _ => {
                    body = None;
                    break;
                }
            }
        }
    }
    Ok(Incoming {
        status,
        content_type,
        retry_after,
        body,
    })
}

fn invocation(plan: &Plan, action: &Action, payload: JsonText, user: UserId) -> Invocation {
    let config = plan
        .patterns
        .get(&action.instance)
        .map(|instance| instance.config.clone());
    Invocation {
        pattern: action.pattern.clone(),
        operation: action.operation.clone(),
        instance: action.instance.clone(),
        action: action.name.clone(),
        config: config.unwrap_or_else(JsonText::null),
        settings: action.settings.clone(),
        payload,
        user,
        attempt: 1,
        effect_key: None,
        traceparent: None,
        timeout_ms: action.policy.timeout_ms,
        job: None,
    }
}

/// What is run to send a message: no action of any plan.
fn telling(action: ActionName, payload: JsonText, user: UserId) -> Invocation {
    Invocation {
        pattern: String::new(),
        operation: String::new(),
        instance: String::new(),
        action,
        config: JsonText::null(),
        settings: JsonText::null(),
        payload,
        user,
        attempt: 1,
        effect_key: None,
        traceparent: None,
        timeout_ms: 0,
        job: None,
    }
}

/// Runs a synchronous action inside the object that asks.
///
/// Errors: the operation's own; `TIMEOUT` where it takes too long.
pub async fn run_here(env: Env, tenant: TenantId, plan: &Plan, run: Run) -> Result<JsonText, Error> {
    let runtime = Runtime {
        env,
        tenant,
        attempt: None,
    };
    let mut call = invocation(plan, &run.action, run.payload, run.user);
    call.timeout_ms = run.timeout_ms;
    // The object lives on where an operation panics: whoever asked is told, and nobody else notices.
    let work = pin!(AssertUnwindSafe(tidegate_patterns::run(&runtime, &call)).catch_unwind());
    let timer = pin!(runtime.sleep(run.timeout_ms));
    let ended = match select(work, timer).await {
        Either::Left((ended, rest)) => Either::Left((ended.unwrap_or_else(|_| Err(panicked())), rest)),
        Either::Right(late) => Either::Right(late),
    };
    match ended {
        Either::Left((Ok(Done::Result(result)), _)) => Ok(result),
        Either::Left((Ok(Done::Unfinished | Done::Snoozed { .. } | Done::HandedOver), _)) => Err(Error::new(
            ErrorCode::InternalError,
            "The operation did not end in one run.",
        )),
        Either::Left((Err(error), _)) => Err(error),
        Either::Right(((), _)) => Err(timed_out(run.timeout_ms)),
    }
}

fn panicked() -> Error {
    Error::new(ErrorCode::InternalError, "The action ended unexpectedly.")
}

fn timed_out(ms: u64) -> Error {
    Error::timed_out(TimeLimit::Action, ms)
}

/// How often an outcome is reported before it is left to the end of the lease.
const FINISH_ATTEMPTS: u32 = 6;
/// How long to wait before what did not get through is sent again. Milliseconds.
const SEND_AGAIN_MS: u64 = 500;

/// Makes attempts of jobs of one object, all at once, and reports the outcome of each until it is taken.
pub fn execute(env: Env, assignment: Assignment) -> LocalBoxFuture<'static, ()> {
    // Boxed as what it does, so that an attempt is in the bundle once, and not for each crate that has one made.
    Box::pin(async move {
        let Assignment {
            tenant,
            shard,
            attempts,
        } = assignment;
        let reports = Rc::new(Reports::new(env.clone(), ObjectName::Jobs(tenant.clone(), shard)));
        join_all(
            attempts
                .into_iter()
                .map(|one| see_through(&env, &tenant, &reports, one)),
        )
        .await;
    })
}

async fn see_through(env: &Env, tenant: &TenantId, reports: &Rc<Reports>, execute: Execute) {
    let (job, token) = (execute.job, execute.token);
    // One that panics ends by itself: the others in this invocation go on.
    let work = AssertUnwindSafe(attempt(env.clone(), tenant, reports.clone(), execute)).catch_unwind();
    let outcome = match work.await.unwrap_or_else(|_| Err(panicked())) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed { error },
    };
    for number in 0..FINISH_ATTEMPTS {
        let outcome = outcome.clone();
        match reports.call(jobs::Call::Finish { job, token, outcome }).await {
            Ok(_) => return,
            // Someone else has the job now, or it has ended: what this attempt says changes nothing.
            Err(error) if error.code == ErrorCode::LeaseLost => return,
            Err(error) => {
                log_error("an outcome", error);
                timer::sleep(100 << number).await;
            }
        }
    }
}

async fn attempt(env: Env, tenant: &TenantId, reports: Rc<Reports>, execute: Execute) -> Result<Outcome, Error> {
    let Execute { job, token, .. } = execute;
    let message = execute.message;
    let plan = match message {
        Some(_) => None,
        None => Some(match execute.runs {
            RevisionRule::Accepted => plans::plan(&env, tenant, Some(&execute.revision)).await?,
            RevisionRule::Latest => plans::active(&env, tenant).await?,
        }),
    };
    let (work, checkpoint) = match (&plan, execute.runs) {
        (Some(plan), RevisionRule::Latest) => {
            let work = plan.work(plan.action_of_attempt(&execute.action)?);
            let checkpoint = checkpoint_of(&work, execute.checkpoint);
            (Some(work), checkpoint)
        }
        _ => (None, execute.checkpoint),
    };
    // A cancelled attempt should hear of it well within its grace.
    let signs_ms = match execute.cancel_grace_ms {
        0 => execute.lease_ms,
        grace_ms => execute.lease_ms.min(grace_ms),
    };
    let attempt = Attempt {
        reports,
        job,
        token,
        heartbeat_ms: (signs_ms / 3).max(200),
        checkpoint: RefCell::new(checkpoint),
        work,
        checkpoints: Cell::new(0),
        thinner: RefCell::new(Thinner::new(execute.reporting)),
        gathering: Gathering::default(),
        reported_at: Cell::new(now()),
        stop: Cell::new(Stop::No),
    };
    let runtime = Runtime {
        env,
        tenant: tenant.clone(),
        attempt: Some(attempt),
    };
    let payload = load(&runtime, execute.payload).await?;
    let timeout_ms = execute.deadline.since(now());
    let mut call = match &plan {
        Some(plan) => invocation(plan, plan.action(&execute.action)?, payload, execute.user),
        None => telling(execute.action.clone(), payload, execute.user),
    };
    call.attempt = execute.attempt;
    call.effect_key = Some(format!("{job}"));
    call.traceparent = execute.traceparent;
    call.timeout_ms = timeout_ms;
    call.job = Some(Facts {
        tenant: tenant.clone(),
        id: job,
        token,
        action: execute.action,
        metadata: execute.metadata,
        deadline: execute.deadline,
    });

    let work = pin!(async {
        match &message {
            Some(message) => Box::pin(endpoint::tell(&runtime, &call, message)).await,
            None => tidegate_patterns::run(&runtime, &call).await,
        }
    });
    let alive = pin!(runtime.keep_alive());
    let timer = pin!(runtime.sleep(timeout_ms));
    let done = match select(work, select(alive, timer)).await {
        Either::Left((done, _)) => done,
        Either::Right((Either::Left((error, _)), _)) => return Err(error),
        Either::Right((Either::Right(((), _)), _)) => Err(timed_out(timeout_ms)),
    };
    runtime.send_rest().await?;
    let done = done?;
    match done {
        Done::Unfinished => Ok(Outcome::Unfinished),
        Done::Snoozed { ms } => Ok(Outcome::Snoozed { ms }),
        Done::HandedOver => Ok(Outcome::HandedOver),
        Done::Result(result) => Ok(Outcome::Succeeded {
            result: keep(&runtime.env, &runtime.tenant, job, token, result).await?,
        }),
    }
}

/// A payload, from the row or from object storage.
async fn load(runtime: &Runtime, payload: Payload) -> Result<JsonText, Error> {
    let key = match payload {
        Payload::Inline(value) => return Ok(value),
        Payload::Stored { key, .. } => key,
    };
    let object = storage::read(runtime.bucket()?.get(key))
        .await
        .map_err(unavailable("reading a payload"))?;
    let text = match object.as_ref().and_then(worker::Object::body) {
        Some(body) => body.text().await.map_err(unavailable("reading a payload"))?,
        None => return Err(Error::new(ErrorCode::InternalError, "The request's payload is gone.")),
    };
    JsonText::parse(&text).ok_or_else(|| Error::new(ErrorCode::InternalError, "The request's payload is damaged."))
}

/// A result, in the row where it is small, in object storage where it is large. The key names the content: the same
/// result kept twice is one object, and another never takes its place.
///
/// Errors: `PAYLOAD_TOO_LARGE`; `UNAVAILABLE` where the storage cannot be reached.
pub async fn keep(
    env: &Env,
    tenant: &TenantId,
    job: JobId,
    token: FencingToken,
    result: JsonText,
) -> Result<Payload, Error> {
    let bytes = result.as_str().len();
    if bytes <= RESULT_ROW_BYTES_MAX {
        return Ok(Payload::Inline(result));
    }
    if bytes > RESULT_BYTES_MAX {
        let message = format!("A result holds at most {RESULT_BYTES_MAX} bytes; this one has {bytes}.");
        return Err(Error::new(ErrorCode::PayloadTooLarge, message));
    }
    let key = storage::result(tenant, job, token.0, payload_name(job, result.as_str()));
    let bucket = env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))?;
    let put = storage::write(bucket.put(key.as_str(), result.as_str().as_bytes().to_vec())).await;
    put.map_err(unavailable("writing a result"))?;
    Ok(Payload::Stored {
        key,
        bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
    })
}
