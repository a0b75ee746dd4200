//! The HTTP API: requests, jobs, and what is sent and read beside them.

mod access;
mod again;
mod audit;
mod backups;
mod batch;
mod body;
mod channels;
mod endpoints;
mod health;
mod inbound;
mod limits;
mod objects;
mod policies;
mod queue;
mod recovery;
mod schedules;
mod secrets;
mod tenants;
mod types;
mod upstreams;
mod usage;
mod workers;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request as HttpRequest, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::Seq;
use tokio::time::{sleep, timeout};

pub use self::access::{NewKey, Revocation};
pub use self::again::{AttemptError, Bulk, BulkAnswer, BulkItem, DeadLetter, DeadLetterPage, LostDoorbell};
pub use self::audit::{AuditArchive, AuditCounts, AuditEntry, AuditFilter, AuditPage, AuditSegment, AuditWho};
pub use self::backups::Backup;
pub use self::batch::{BatchAnswer, BatchItem, BatchStatus};
pub use self::body::Download;
pub use self::channels::MessagePage;
pub use self::endpoints::EndpointSettings;
pub use self::health::{Health, HealthReason, QueueHealth, UpstreamHealth};
pub use self::limits::{Bucket, LimitCounts, Limits};
pub use self::objects::ObjectHead;
pub use self::policies::{PolicyDecision, PolicyExplanation, PolicyResult, PolicyTold};
pub use self::queue::{
    ActionPattern, ActionQueue, Cause, Pause, PauseScope, Pool, Queue, Reason, Scope, Why, WorkerSeen,
};
pub use self::recovery::{RecoveredObject, Recovery};
pub use self::tenants::{Erasure, KeptBackups, NewTenant, Tenant, TenantFilter, TenantPage};
pub use self::types::{
    Accepted, Activated, Answer, EventPage, Job, JobFilter, JobPage, JobProgress, ObjectInfo, OutputPage, Posted,
    Prefer, Ticket, WebhookSecret,
};
pub use self::upstreams::{Breaker, BreakerChange, BreakerChanged, Upstreams};
pub use self::usage::{UsageFilter, UsageFormat};
pub use self::workers::{Lease, LeasedJob, LeasedJobs, Outcome as AttemptOutcome, RenewedLease};
pub use tidegate_protocol::calls::schedules::Overlap;
pub use tidegate_protocol::http::{
    Backfilled, BudgetView, BudgetsView, Endpoint, EndpointEvent, EndpointList, KeyList, KeyMade, KeyView, Meters,
    Replayed, RevocationView, ScheduleInfo, ScheduleList, SecretList, SecretView, Signature, Triggered, UsageExported,
    UsageView, WebhookList, WebhookSecretRotated, WebhookView,
};

use self::body::{Body, empty, whole};
use self::types::escape;
use crate::backoff::full_jitter;
use crate::error::{ApiError, Error};
use crate::ids::JobId;
use crate::options::{CallOptions, Request};
use crate::random;
use crate::socket::{Site, bearer, retry_after};

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long an answer may take, beside what the request itself asks to be waited for.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// An answer that is read whole: a page of jobs with their results is the largest.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often a request is sent when no answer comes.
const TRIES_MAX: u32 = 3;

/// The HTTP API of one server. Cloning is cheap; clones share connections.
#[derive(Clone)]
pub struct Http {
    site: Site,
    client: HyperClient<HttpsConnector<HttpConnector>, Body>,
}

/// A request that can be sent again, unless it says otherwise: every route but the upload of a stream.
struct Ask<'a> {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<&'a str>,
    wait: Duration,
    tries_max: u32,
}

impl<'a> Ask<'a> {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: None,
            wait: Duration::ZERO,
            tries_max: TRIES_MAX,
        }
    }

    /// The same request, sent once: where a second one would do more than the first.
    fn once(mut self) -> Self {
        self.tries_max = 1;
        self
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn json(mut self, body: &'a str) -> Self {
        self.body = Some(body);
        self.header(CONTENT_TYPE.as_str(), "application/json")
    }
}

impl Http {
    pub(crate) fn new(site: Site) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_MAX));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config((*site.tls).clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Self {
            site,
            client: HyperClient::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// `POST /v1/requests`: runs `action` on `payload`, with the caller's idempotency key or a random one.
    ///
    /// Errors: [`Error::Api`] where the server refuses or the action fails, [`Error::Unreachable`].
    pub async fn request(
        &self,
        action: &str,
        payload: &impl Serialize,
        options: &CallOptions,
        prefer: Prefer,
    ) -> Result<Posted, Error> {
        let payload = JsonText::of(payload).ok_or_else(|| Error::Invalid("The payload is no JSON.".to_owned()))?;
        let key = match &options.idempotency_key {
            Some(key) => key.clone(),
            None => random::name("key_")?,
        };
        let body = Request::new(&random::name("call_")?, action, &key, &payload, options).encode();
        let mut ask = Ask::new(Method::POST, "/v1/requests").json(&body);
        match prefer {
            Prefer::Unsaid => {}
            Prefer::RespondAsync => ask = ask.header("prefer", "respond-async"),
            Prefer::Wait(seconds) => {
                ask = ask.header("prefer", format!("wait={seconds}"));
                ask.wait = Duration::from_secs(seconds);
            }
        }
        let response = self.send(ask).await?;
        let accepted = response.status().as_u16() == 202;
        let bytes = read(response).await?;
        if accepted {
            parse(&bytes).map(Posted::Accepted)
        } else {
            parse(&bytes).map(Posted::Answered)
        }
    }

    /// `GET /v1/jobs/{id}`: the job; with `wait_s`, as soon as it has ended or so many seconds have passed.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn job(&self, job: &JobId, wait_s: Option<u64>) -> Result<Job, Error> {
        let query = wait_s.map(|seconds| format!("?wait={seconds}")).unwrap_or_default();
        let mut ask = Ask::new(Method::GET, format!("/v1/jobs/{job}{query}"));
        ask.wait = Duration::from_secs(wait_s.unwrap_or(0));
        self.fetch(ask).await
    }

    /// `GET /v1/jobs`: a page of jobs, newest first.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn jobs(&self, filter: &JobFilter) -> Result<JobPage, Error> {
        self.fetch(Ask::new(Method::GET, format!("/v1/jobs{}", filter.query())))
            .await
    }

    /// `POST /v1/jobs/{id}:cancel`: asks that the job ends. Its outcome tells whether it did.
    ///
    /// Errors: [`Error::Api`] (`CONFLICT` where it has ended already), [`Error::Unreachable`].
    pub async fn cancel(&self, job: &JobId) -> Result<(), Error> {
        self.send(Ask::new(Method::POST, format!("/v1/jobs/{job}:cancel")))
            .await?;
        Ok(())
    }

    /// `GET /v1/jobs/{id}/events` as JSON: a page of the stored events after `after`.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn events(&self, job: &JobId, after: Option<Seq>) -> Result<EventPage, Error> {
        let mut ask = Ask::new(Method::GET, format!("/v1/jobs/{job}/events")).header("accept", "application/json");
        if let Some(Seq(after)) = after {
            ask = ask.header("last-event-id", after.to_string());
        }
        self.fetch(ask).await
    }

    /// `GET /v1/jobs/{id}/output/{stream}`: the text of a stream from a byte on. Where there is none yet, the answer waits
    /// for something to happen to the job, up to `wait_s` seconds.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn output(&self, job: &JobId, stream: &str, offset: u64, wait_s: u64) -> Result<OutputPage, Error> {
        let stream = escape(stream, b"");
        let path = format!("/v1/jobs/{job}/output/{stream}?offset={offset}&wait={wait_s}");
        let mut ask = Ask::new(Method::GET, path);
        ask.wait = Duration::from_secs(wait_s);
        self.fetch(ask).await
    }

    /// `GET /v1/jobs/{id}/result`: the result, to be read as a stream.
    ///
    /// Errors: [`Error::Api`] (`GONE` past its retention), [`Error::Unreachable`].
    pub async fn result(&self, job: &JobId) -> Result<Download, Error> {
        let response = self
            .send(Ask::new(Method::GET, format!("/v1/jobs/{job}/result")))
            .await?;
        Ok(Download::new(response))
    }

    /// `POST /v1/tickets`: a ticket for one WebSocket, good once and for 30 s.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn ticket(&self) -> Result<Ticket, Error> {
        self.fetch(Ask::new(Method::POST, "/v1/tickets")).await
    }

    /// `GET /healthz`: whether the server is there.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn healthz(&self) -> Result<(), Error> {
        self.send(Ask::new(Method::GET, "/healthz")).await?;
        Ok(())
    }

    /// `PUT /v1/admin/composition`: checks the document and makes it the tenant's active revision.
    ///
    /// Errors: [`Error::Api`] with every fault of the document, [`Error::Unreachable`].
    pub async fn put_composition(&self, document: &str) -> Result<Activated, Error> {
        self.fetch(Ask::new(Method::PUT, "/v1/admin/composition").json(document))
            .await
    }

    /// `GET /v1/admin/composition`: the tenant's active document.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn composition(&self) -> Result<JsonText, Error> {
        self.fetch(Ask::new(Method::GET, "/v1/admin/composition")).await
    }

    /// `GET /v1/admin/webhook-secret`: what the tenant's endpoints verify signatures with.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn webhook_secret(&self) -> Result<WebhookSecret, Error> {
        self.fetch(Ask::new(Method::GET, "/v1/admin/webhook-secret")).await
    }

    async fn fetch<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T, Error> {
        parse(&read(self.send(ask).await?).await?)
    }

    /// Sends a request, up to [`TRIES_MAX`] times where no answer comes: each of them may come twice without harm, but for one
    /// that is sent [once](Ask::once).
    async fn send(&self, ask: Ask<'_>) -> Result<Response<Incoming>, Error> {
        let mut failures = 0;
        loop {
            let body = ask.body.map_or_else(empty, whole);
            let request = self.build(&ask.method, &ask.path, &ask.headers, body)?;
            let answer = match timeout(ANSWER_MAX + ask.wait, self.client.request(request)).await {
                Ok(Ok(response)) => return accept(response).await,
                Ok(Err(error)) => unreachable_server(&error),
                Err(_) => return Err(Error::Unreachable("no answer in time".to_owned())),
            };
            failures += 1;
            if failures >= ask.tries_max {
                return Err(answer);
            }
            sleep(Duration::from_millis(full_jitter(failures, random::roll()?))).await;
        }
    }

    fn build(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&'static str, String)],
        body: Body,
    ) -> Result<HttpRequest<Body>, Error> {
        let invalid = |what: String| Error::Invalid(format!("The request cannot be made: {what}."));
        let mut request = HttpRequest::builder()
            .method(method)
            .uri(format!("{}{path}", self.site.address.http));
        // An attempt has a token of its own.
        if !headers.iter().any(|(name, _)| *name == AUTHORIZATION.as_str()) {
            request = request.header(AUTHORIZATION, bearer(&self.site.token())?);
        }
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).map_err(|error| invalid(error.to_string()))?;
            request = request.header(*name, value);
        }
        request.body(body).map_err(|error| invalid(error.to_string()))
    }

    /// Sends a request whose body is a stream, once.
    async fn send_stream(&self, request: HttpRequest<Body>) -> Result<Response<Incoming>, Error> {
        match self.client.request(request).await {
            Ok(response) => accept(response).await,
            Err(error) => Err(unreachable_server(&error)),
        }
    }
}

/// The whole chain of causes: the outermost alone says only that a request failed.
fn unreachable_server(error: &dyn std::error::Error) -> Error {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        why = format!("{why}: {error}");
        cause = error.source();
    }
    Error::Unreachable(why)
}

async fn accept(response: Response<Incoming>) -> Result<Response<Incoming>, Error> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status().as_u16();
    let after_ms = retry_after(response.headers());
    let body = read(response).await.unwrap_or_default();
    let mut error = ApiError::from_http(status, &body);
    error.retry_after_ms = error.retry_after_ms.or(after_ms);
    Err(error.into())
}

async fn read(response: Response<Incoming>) -> Result<Bytes, Error> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
    match timeout(ANSWER_MAX, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(Error::Unreachable(format!("the answer broke off: {error}"))),
        Err(_) => Err(Error::Unreachable("the answer did not end in time".to_owned())),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Protocol(error.to_string()))
}
