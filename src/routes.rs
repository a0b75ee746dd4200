//! Which path is which route, and which methods it takes. Pure, so that it is tested without a runtime.

use tidegate_protocol::calls::upstreams::BreakerChange;
use worker::Method;

/// What a path means. Ids and keys are as they came, percent-decoded and not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v1/connect`
    Connect,
    /// `/v1/requests`
    Requests,
    /// `/v1/requests:batch`
    Batch,
    /// `/v1/batches/{id}`
    BatchView(String),
    /// `/v1/batches/{id}:cancel`
    BatchCancel(String),
    /// `/v1/jobs`
    Jobs,
    /// `/v1/jobs/{id}`
    Job(String),
    /// `/v1/jobs/{id}/events`
    JobEvents(String),
    /// `/v1/jobs/{id}/result`
    JobResult(String),
    /// `/v1/jobs/{id}:cancel`
    JobCancel(String),
    /// `/v1/jobs/{id}/why`
    JobWhy(String),
    /// `/v1/jobs/{id}/output/{stream}`
    JobOutput(String, String),
    /// `/v1/queue`
    Queue,
    /// `/v1/queue:pause`
    QueuePause,
    /// `/v1/queue:resume`
    QueueResume,
    /// `/v1/schedules`
    Schedules,
    /// `/v1/schedules/{name}:pause`
    /// `/v1/schedules/{name}:resume`
    /// `/v1/schedules/{name}:trigger`
    /// `/v1/schedules/{name}:backfill`
    Schedule(String, Change),
    /// `/v1/jobs/{id}:retry`
    JobRetry(String),
    /// `/v1/jobs/{id}:pause`
    JobPause(String),
    /// `/v1/jobs/{id}:resume`
    JobResume(String),
    /// `/v1/jobs/{id}:reschedule`
    JobReschedule(String),
    /// `/v1/jobs:cancel`
    JobsCancel,
    /// `/v1/dead-letters`
    DeadLetters,
    /// `/v1/dead-letters:redrive`
    Redrive,
    /// `/v1/dead-letters:discard`
    Discard,
    /// `/v1/workers/{pool}:lease`
    Lease(String),
    /// `/v1/attempts/{id}/payload`
    AttemptPayload(String),
    /// `/v1/attempts/{id}:report`
    AttemptReport(String),
    /// `/v1/attempts/{id}:finish`
    AttemptFinish(String),
    /// `/v1/tickets`
    Tickets,
    /// `/v1/objects/{key}`
    Object(String),
    /// `/v1/admin/composition`
    Composition,
    /// `/v1/admin/audit`
    Audit,
    /// `/v1/admin/audit/archive`
    /// `/v1/admin/audit/archive/{name}`
    AuditArchive(Option<String>),
    /// `/v1/admin/usage`
    /// `/v1/admin/tenants/{tenant}/usage`
    Usage(Option<String>),
    /// `/v1/admin/usage/export`
    UsageExport,
    /// `/v1/admin/tenants/{tenant}/budgets`
    Budgets(String),
    /// `/v1/admin/tenants/{tenant}/backups` and what is below it; and the recovery to a time beside it
    Backups(String, BackupRoute),
    /// `/v1/admin/limits`
    Limits,
    /// `/v1/admin/tenants/{tenant}/limits`
    DeploymentLimits(String),
    /// `/v1/admin/upstreams`
    Upstreams,
    /// `/v1/admin/upstreams/{name}:open`
    /// `/v1/admin/upstreams/{name}:close`
    /// `/v1/admin/upstreams/{name}:disable`
    /// and each with `/{key}` behind the name
    Upstream(String, String, BreakerChange),
    /// `/v1/admin/webhook-secret`
    WebhookSecret,
    /// `/v1/webhooks/{tenant}/{source}/{tag}`
    Webhook(Address),
    /// `/v1/admin/webhooks`
    Webhooks,
    /// `/v1/admin/webhook-secret:rotate`
    WebhookSecretRotate,
    /// `/v1/admin/endpoints`
    Endpoints,
    /// `/v1/admin/endpoints/{id}`
    Endpoint(String),
    /// `/v1/admin/endpoints/{id}/deliveries`
    EndpointDeliveries(String),
    /// `/v1/admin/endpoints/{id}:replay`
    EndpointReplay(String),
    /// `/v1/admin/secrets`
    Secrets,
    /// `/v1/admin/secrets/{name}`
    Secret(String),
    /// `/v1/channels/{channel}/messages`
    ChannelMessages(String),
    /// `/v1/channels/{channel}/presence`
    ChannelPresence(String),
    /// `/v1/admin/policies/explain`
    PolicyExplanation,
    /// `/v1/admin/health`
    AdminHealth,
    /// `/v1/admin/keys`, `/v1/admin/revocations`, `/v1/admin/tenants` and what is below them
    Access(AccessRoute),
    /// `/healthz`
    Health,
    /// `/readyz`
    Ready,
    /// `/openapi.json`
    OpenApi,
    /// Named by the protocol, and not there yet.
    NotYet(&'static str),
}

/// The address of a source of webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Whose source.
    pub tenant: String,
    /// Which.
    pub source: String,
    /// What shows that the address was given out by this deployment.
    pub tag: String,
}

/// What can be done to a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `:pause`
    Pause,
    /// `:resume`
    Resume,
    /// `:trigger`
    Trigger,
    /// `:backfill`
    Backfill,
}

/// The paths about who may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessRoute {
    /// `/v1/admin/keys`
    Keys,
    /// `/v1/admin/keys/{id}`
    Key(String),
    /// `/v1/admin/keys/{id}:rotate`
    KeyRotate(String),
    /// `/v1/admin/revocations`
    Revocations,
    /// `/v1/admin/tenants`
    Tenants,
    /// `/v1/admin/tenants/{tenant}`
    /// `/v1/admin/tenants/{tenant}:suspend`
    /// `/v1/admin/tenants/{tenant}:resume`
    Tenant(String, Hold),
}

/// The paths about backups of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupRoute {
    /// `/v1/admin/tenants/{tenant}/backups`
    All,
    /// `/v1/admin/tenants/{tenant}/recovery`
    Recovery,
    /// `/v1/admin/tenants/{tenant}/backups/{backup}`
    One(String),
    /// `/v1/admin/tenants/{tenant}/backups/{backup}:restore`
    Restore(String),
    /// `/v1/admin/tenants/{tenant}/backups/{backup}/parts/{part}`
    Part(String, String),
}

/// What is done to a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nothing: it is shown, or erased, by the method.
    Itself,
    /// `:suspend`
    Suspend,
    /// `:resume`
    Resume,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone: it says nothing about any tenant.
    Everyone,
    /// Whoever has a token.
    Token,
    /// Whoever makes the attempt, by the token of that attempt.
    Attempt,
    /// Whoever signs with the secret of the source that the address names.
    Signature,
}

/// Who honours the `Idempotency-Key` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// The Worker, around the whole route: see [`crate::idempotency`]. By the path's template, which is part of what a key
    /// belongs to.
    Route(&'static str),
    /// What does the work, in one transaction with it, for as long as there is a job of that key; of a message, for ten minutes.
    Job,
    /// Nobody: a key is passed over. [`keys`] says why.
    Nobody,
}

/// The route of `path`.
pub fn find(path: &str) -> Option<Route> {
    match path {
        "/healthz" => return Some(Route::Health),
        "/readyz" => return Some(Route::Ready),
        "/openapi.json" => return Some(Route::OpenApi),
        "/asyncapi.json" => return Some(Route::NotYet("/asyncapi.json")),
        "/metrics" => return Some(Route::NotYet("/metrics")),
        _ => {}
    }
    let rest = path.strip_prefix("/v1/")?;
    match rest {
        "connect" => return Some(Route::Connect),
        "requests" => return Some(Route::Requests),
        "requests:batch" => return Some(Route::Batch),
        "jobs" => return Some(Route::Jobs),
        "queue" => return Some(Route::Queue),
        "queue:pause" => return Some(Route::QueuePause),
        "queue:resume" => return Some(Route::QueueResume),
        "schedules" => return Some(Route::Schedules),
        "jobs:cancel" => return Some(Route::JobsCancel),
        "tickets" => return Some(Route::Tickets),
        "dead-letters" => return Some(Route::DeadLetters),
        "dead-letters:redrive" => return Some(Route::Redrive),
        "dead-letters:discard" => return Some(Route::Discard),
        "admin/composition" => return Some(Route::Composition),
        "admin/audit" => return Some(Route::Audit),
        "admin/audit/archive" => return Some(Route::AuditArchive(None)),
        "admin/limits" => return Some(Route::Limits),
        "admin/health" => return Some(Route::AdminHealth),
        "admin/usage" => return Some(Route::Usage(None)),
        "admin/usage/export" => return Some(Route::UsageExport),
        "admin/upstreams" => return Some(Route::Upstreams),
        "admin/secrets" => return Some(Route::Secrets),
        "admin/webhooks" => return Some(Route::Webhooks),
        "admin/webhook-secret" => return Some(Route::WebhookSecret),
        "admin/webhook-secret:rotate" => return Some(Route::WebhookSecretRotate),
        "admin/endpoints" => return Some(Route::Endpoints),
        "admin/policies/explain" => return Some(Route::PolicyExplanation),
        "admin/keys" => return Some(Route::Access(AccessRoute::Keys)),
        "admin/revocations" => return Some(Route::Access(AccessRoute::Revocations)),
        "admin/tenants" => return Some(Route::Access(AccessRoute::Tenants)),
        _ => {}
    }
    if let Some(key) = rest.strip_prefix("objects/") {
        return percent_decode(key).filter(|key| !key.is_empty()).map(Route::Object);
    }
    if let Some(job) = rest.strip_prefix("jobs/") {
        return job_route(job);
    }
    if let Some(batch) = rest.strip_prefix("batches/") {
        return batch_route(batch);
    }
    if let Some(segment) = rest.strip_prefix("admin/audit/archive/") {
        return Some(Route::AuditArchive(Some(segment.into())));
    }
    if let Some(pool) = rest.strip_prefix("workers/") {
        return pool.strip_suffix(":lease").map(|pool| Route::Lease(pool.into()));
    }
    if let Some(attempt) = rest.strip_prefix("attempts/") {
        return attempt_route(attempt);
    }
    if let Some(schedule) = rest.strip_prefix("schedules/") {
        return schedule_route(schedule);
    }
    if let Some(upstream) = rest.strip_prefix("admin/upstreams/") {
        return upstream_route(upstream);
    }
    if let Some(key) = rest.strip_prefix("admin/keys/") {
        return key_route(key).map(Route::Access);
    }
    if let Some(endpoint) = rest.strip_prefix("admin/endpoints/") {
        return endpoint_route(endpoint);
    }
    if let Some(name) = rest.strip_prefix("admin/secrets/") {
        let name = percent_decode(name)?;
        return (!name.is_empty() && !name.contains('/')).then_some(Route::Secret(name));
    }
    if let Some(address) = rest.strip_prefix("webhooks/") {
        return webhook_route(address).map(Route::Webhook);
    }
    if let Some(tenant) = rest.strip_prefix("admin/tenants/") {
        match tenant.split_once('/') {
            Some((tenant, "usage")) => return Some(Route::Usage(Some(tenant.into()))),
            Some((tenant, "budgets")) => return Some(Route::Budgets(tenant.into())),
            Some((tenant, "limits")) => return Some(Route::DeploymentLimits(tenant.into())),
            Some((tenant, below)) => return Some(Route::Backups(tenant.into(), backup_route(below)?)),
            None => {}
        }
        return tenant_route(tenant).map(Route::Access);
    }
    if let Some((channel, what)) = rest.strip_prefix("channels/").and_then(|rest| rest.split_once('/')) {
        let route = match what {
            "messages" => Route::ChannelMessages,
            "presence" => Route::ChannelPresence,
            _ => return Some(Route::NotYet("/v1/channels")),
        };
        let channel = percent_decode(channel)?;
        return (!channel.is_empty() && !channel.contains('/')).then(|| route(channel));
    }
    if rest.starts_with("channels/") {
        return Some(Route::NotYet("/v1/channels"));
    }
    if rest.starts_with("admin/") {
        return Some(Route::NotYet("/v1/admin"));
    }
    None
}

fn job_route(rest: &str) -> Option<Route> {
    let (job, below) = match rest.split_once('/') {
        Some((job, below)) => (job, Some(below)),
        None => (rest, None),
    };
    match (job.split_once(':'), below) {
        (None, None) if !job.is_empty() => Some(Route::Job(job.into())),
        (Some((job, "cancel")), None) => Some(Route::JobCancel(job.into())),
        (Some((job, "retry")), None) => Some(Route::JobRetry(job.into())),
        (Some((job, "pause")), None) => Some(Route::JobPause(job.into())),
        (Some((job, "resume")), None) => Some(Route::JobResume(job.into())),
        (Some((job, "reschedule")), None) => Some(Route::JobReschedule(job.into())),
        (None, Some("events")) => Some(Route::JobEvents(job.into())),
        (None, Some("result")) => Some(Route::JobResult(job.into())),
        (None, Some("why")) => Some(Route::JobWhy(job.into())),
        (None, Some(below)) => {
            let stream = percent_decode(below.strip_prefix("output/")?)?;
            Some(Route::JobOutput(job.into(), stream))
        }
        _ => None,
    }
}

fn batch_route(rest: &str) -> Option<Route> {
    match rest.split_once(':') {
        None if !rest.is_empty() && !rest.contains('/') => Some(Route::BatchView(rest.into())),
        Some((batch, "cancel")) => Some(Route::BatchCancel(batch.into())),
        _ => None,
    }
}

fn attempt_route(rest: &str) -> Option<Route> {
    if let Some(job) = rest.strip_suffix("/payload") {
        return Some(Route::AttemptPayload(job.into()));
    }
    let (job, what) = rest.split_once(':')?;
    match what {
        "report" => Some(Route::AttemptReport(job.into())),
        "finish" => Some(Route::AttemptFinish(job.into())),
        _ => None,
    }
}

fn schedule_route(rest: &str) -> Option<Route> {
    let (name, change) = rest.split_once(':')?;
    let change = match change {
        "pause" => Change::Pause,
        "resume" => Change::Resume,
        "trigger" => Change::Trigger,
        "backfill" => Change::Backfill,
        _ => return None,
    };
    Some(Route::Schedule(name.into(), change))
}

fn upstream_route(rest: &str) -> Option<Route> {
    let (breaker, change) = rest.rsplit_once(':')?;
    let (name, key) = match breaker.split_once('/') {
        Some((name, key)) => (name, percent_decode(key)?),
        None => (breaker, String::new()),
    };
    let change = match change {
        "open" => BreakerChange::Open,
        "close" => BreakerChange::Close,
        "disable" => BreakerChange::Disable,
        _ => return None,
    };
    Some(Route::Upstream(name.into(), key, change))
}

fn webhook_route(rest: &str) -> Option<Address> {
    let (tenant, rest) = rest.split_once('/')?;
    let (source, tag) = rest.split_once('/')?;
    let fits = !tenant.is_empty() && !source.is_empty() && !tag.is_empty() && !tag.contains('/');
    fits.then(|| Address {
        tenant: tenant.into(),
        source: source.into(),
        tag: tag.into(),
    })
}

fn key_route(rest: &str) -> Option<AccessRoute> {
    match rest.split_once(':') {
        None if !rest.is_empty() && !rest.contains('/') => Some(AccessRoute::Key(rest.into())),
        Some((key, "rotate")) => Some(AccessRoute::KeyRotate(key.into())),
        _ => None,
    }
}

fn endpoint_route(rest: &str) -> Option<Route> {
    if let Some(id) = rest.strip_suffix("/deliveries") {
        return Some(Route::EndpointDeliveries(id.into()));
    }
    if let Some(id) = rest.strip_suffix(":replay") {
        return Some(Route::EndpointReplay(id.into()));
    }
    (!rest.is_empty() && !rest.contains(['/', ':'])).then(|| Route::Endpoint(rest.into()))
}

fn backup_route(rest: &str) -> Option<BackupRoute> {
    match rest {
        "backups" => return Some(BackupRoute::All),
        "recovery" => return Some(BackupRoute::Recovery),
        _ => {}
    }
    let rest = rest.strip_prefix("backups/")?;
    let is_name = |text: &str| !text.is_empty() && !text.contains(['/', ':']);
    if let Some((backup, part)) = rest.split_once("/parts/") {
        return (is_name(backup) && is_name(part)).then(|| BackupRoute::Part(backup.into(), part.into()));
    }
    match rest.strip_suffix(":restore") {
        Some(backup) => is_name(backup).then(|| BackupRoute::Restore(backup.into())),
        None => is_name(rest).then(|| BackupRoute::One(rest.into())),
    }
}

fn tenant_route(rest: &str) -> Option<AccessRoute> {
    let (tenant, hold) = match rest.split_once(':') {
        None => (rest, Hold::Itself),
        Some((tenant, "suspend")) => (tenant, Hold::Suspend),
        Some((tenant, "resume")) => (tenant, Hold::Resume),
        Some(_) => return None,
    };
    let fits = !tenant.is_empty() && !tenant.contains('/');
    fits.then(|| AccessRoute::Tenant(tenant.into(), hold))
}

/// Whether a hub, which is told of every revocation at once, looks at whoever asks for `route`. All others are looked at by
/// the Worker, by what the gate said within the last second.
pub fn asks_a_hub(route: &Route) -> bool {
    matches!(
        route,
        Route::Requests | Route::Batch | Route::ChannelMessages(_) | Route::ChannelPresence(_)
    )
}

/// Who may ask for `route`.
pub fn access(route: &Route) -> Access {
    match route {
        Route::Health | Route::Ready | Route::OpenApi | Route::NotYet("/metrics" | "/asyncapi.json") => {
            Access::Everyone
        }
        Route::AttemptPayload(_) | Route::AttemptReport(_) | Route::AttemptFinish(_) => Access::Attempt,
        Route::Webhook(_) => Access::Signature,
        _ => Access::Token,
    }
}

/// The methods of `route`. `HEAD` goes with `GET`, and `OPTIONS` with everything.
pub fn allowed(route: &Route) -> &'static [Method] {
    const READ: &[Method] = &[Method::Get];
    const WRITE: &[Method] = &[Method::Post];
    match route {
        Route::ChannelPresence(_)
        | Route::Connect
        | Route::Jobs
        | Route::Job(_)
        | Route::BatchView(_)
        | Route::JobEvents(_)
        | Route::JobResult(_)
        | Route::JobWhy(_)
        | Route::JobOutput(..)
        | Route::Queue
        | Route::Schedules
        | Route::DeadLetters
        | Route::AttemptPayload(_)
        | Route::WebhookSecret
        | Route::EndpointDeliveries(_)
        | Route::Audit
        | Route::AuditArchive(_)
        | Route::Usage(_)
        | Route::Limits
        | Route::Upstreams
        | Route::Secrets
        | Route::AdminHealth
        | Route::Webhooks
        | Route::Health
        | Route::Ready
        | Route::OpenApi => READ,
        Route::Requests
        | Route::JobCancel(_)
        | Route::BatchCancel(_)
        | Route::QueuePause
        | Route::QueueResume
        | Route::Schedule(..)
        | Route::Upstream(..)
        | Route::Batch
        | Route::JobRetry(_)
        | Route::JobPause(_)
        | Route::JobResume(_)
        | Route::JobReschedule(_)
        | Route::JobsCancel
        | Route::Redrive
        | Route::Discard
        | Route::Lease(_)
        | Route::AttemptReport(_)
        | Route::AttemptFinish(_)
        | Route::PolicyExplanation
        | Route::Webhook(_)
        | Route::UsageExport
        | Route::WebhookSecretRotate
        | Route::Backups(_, BackupRoute::Recovery)
        | Route::EndpointReplay(_)
        | Route::Tickets => WRITE,
        Route::Endpoints | Route::Access(AccessRoute::Keys | AccessRoute::Revocations | AccessRoute::Tenants) => {
            &[Method::Get, Method::Post]
        }
        Route::ChannelMessages(_) => &[Method::Get, Method::Post],
        Route::Budgets(_) => &[Method::Put],
        Route::Backups(_, BackupRoute::All) => &[Method::Get, Method::Post],
        Route::Backups(_, BackupRoute::One(_)) => &[Method::Get, Method::Delete],
        Route::Backups(_, BackupRoute::Restore(_)) => WRITE,
        Route::Backups(_, BackupRoute::Part(..)) => &[Method::Get, Method::Put],
        Route::Endpoint(_) => &[Method::Get, Method::Patch, Method::Delete],
        Route::Secret(_) => &[Method::Put, Method::Delete],
        Route::Access(AccessRoute::Key(_)) => &[Method::Delete],
        Route::Access(AccessRoute::Tenant(_, Hold::Itself)) => &[Method::Get, Method::Delete],
        Route::Access(AccessRoute::KeyRotate(_) | AccessRoute::Tenant(..)) => WRITE,
        Route::Composition | Route::DeploymentLimits(_) => &[Method::Get, Method::Put],
        Route::Object(_) => &[Method::Get, Method::Put, Method::Delete],
        Route::NotYet(_) => &[Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete],
    }
}

/// Who honours the `Idempotency-Key` of a request for `route`. Everything that changes something says so here.
pub fn keys(route: &Route, method: &Method) -> Keys {
    match route {
        Route::Requests | Route::Batch | Route::Schedule(_, Change::Trigger) => Keys::Job,
        Route::ChannelMessages(_) if *method == Method::Post => Keys::Job,
        Route::BatchCancel(_) => Keys::Route("/v1/batches/{id}:cancel"),
        Route::JobCancel(_) => Keys::Route("/v1/jobs/{id}:cancel"),
        Route::JobRetry(_) => Keys::Route("/v1/jobs/{id}:retry"),
        Route::JobPause(_) => Keys::Route("/v1/jobs/{id}:pause"),
        Route::JobResume(_) => Keys::Route("/v1/jobs/{id}:resume"),
        Route::JobReschedule(_) => Keys::Route("/v1/jobs/{id}:reschedule"),
        Route::JobsCancel => Keys::Route("/v1/jobs:cancel"),
        Route::Redrive => Keys::Route("/v1/dead-letters:redrive"),
        Route::Discard => Keys::Route("/v1/dead-letters:discard"),
        Route::QueuePause => Keys::Route("/v1/queue:pause"),
        Route::QueueResume => Keys::Route("/v1/queue:resume"),
        Route::Schedule(_, Change::Pause) => Keys::Route("/v1/schedules/{name}:pause"),
        Route::Schedule(_, Change::Resume) => Keys::Route("/v1/schedules/{name}:resume"),
        Route::Schedule(_, Change::Backfill) => Keys::Route("/v1/schedules/{name}:backfill"),
        Route::Composition if *method == Method::Put => Keys::Route("/v1/admin/composition"),
        Route::Upstream(_, _, BreakerChange::Open) => Keys::Route("/v1/admin/upstreams/{name}:open"),
        Route::Upstream(_, _, BreakerChange::Close) => Keys::Route("/v1/admin/upstreams/{name}:close"),
        Route::Upstream(_, _, BreakerChange::Disable) => Keys::Route("/v1/admin/upstreams/{name}:disable"),
        Route::Access(AccessRoute::Key(_)) => Keys::Route("/v1/admin/keys/{id}"),
        Route::Secret(_) if *method == Method::Delete => Keys::Route("/v1/admin/secrets/{name}"),
        Route::Access(AccessRoute::Revocations) if *method == Method::Post => Keys::Route("/v1/admin/revocations"),
        Route::Access(AccessRoute::Tenants) if *method == Method::Post => Keys::Route("/v1/admin/tenants"),
        Route::Access(AccessRoute::Tenant(_, Hold::Itself)) if *method == Method::Delete => {
            Keys::Route("/v1/admin/tenants/{tenant}")
        }
        Route::Access(AccessRoute::Tenant(_, Hold::Suspend)) => Keys::Route("/v1/admin/tenants/{tenant}:suspend"),
        Route::Access(AccessRoute::Tenant(_, Hold::Resume)) => Keys::Route("/v1/admin/tenants/{tenant}:resume"),
        Route::UsageExport => Keys::Route("/v1/admin/usage/export"),
        Route::Budgets(_) => Keys::Route("/v1/admin/tenants/{tenant}/budgets"),
        Route::DeploymentLimits(_) if *method == Method::Put => Keys::Route("/v1/admin/tenants/{tenant}/limits"),
        Route::Backups(_, BackupRoute::All) if *method == Method::Post => {
            Keys::Route("/v1/admin/tenants/{tenant}/backups")
        }
        Route::Backups(_, BackupRoute::One(_)) if *method == Method::Delete => {
            Keys::Route("/v1/admin/tenants/{tenant}/backups/{backup}")
        }
        Route::Backups(_, BackupRoute::Restore(_)) => {
            Keys::Route("/v1/admin/tenants/{tenant}/backups/{backup}:restore")
        }
        Route::Backups(_, BackupRoute::Recovery) => Keys::Route("/v1/admin/tenants/{tenant}/recovery"),
        Route::WebhookSecretRotate => Keys::Route("/v1/admin/webhook-secret:rotate"),
        Route::Endpoints if *method == Method::Post => Keys::Route("/v1/admin/endpoints"),
        Route::Endpoint(_) if *method != Method::Get => Keys::Route("/v1/admin/endpoints/{id}"),
        Route::EndpointReplay(_) => Keys::Route("/v1/admin/endpoints/{id}:replay"),
        Route::Object(_) if *method == Method::Delete => Keys::Route("/v1/objects/{key}"),
        // An upload is a stream that is never held whole, so that two of them cannot be compared before one is stored. The
        // same bytes stored twice are one object, and `If-Match` and `If-None-Match` keep it from taking another's place.
        Route::Object(_) |
        // Likewise, and the same part uploaded twice is there once.
        Route::Backups(_, BackupRoute::Part(..)) |
        // What is leased are the jobs that wait now, with tokens that are good for as long as a lease.
        Route::Lease(_) |
        // A report renews a lease, and an outcome said twice counts once.
        Route::AttemptReport(_) | Route::AttemptFinish(_) |
        // It changes nothing, and what it answers is a secret that is stored nowhere.
        Route::Tickets |
        // What they answer holds a secret that is shown once and stored nowhere.
        Route::Access(AccessRoute::Keys | AccessRoute::KeyRotate(_)) |
        // The fingerprint of a request is a plain hash, by which a short secret could be guessed. The same value set twice is
        // there once.
        Route::Secret(_) |
        // Senders know of no such key. The event's own id, or its body, is the key of its job.
        Route::Webhook(_) |
        // It changes nothing: the body only says what is asked.
        Route::PolicyExplanation |
        // There is nothing behind it.
        Route::NotYet(_) => Keys::Nobody,
        // These are only read.
        Route::Connect
        | Route::ChannelMessages(_)
        | Route::ChannelPresence(_)
        | Route::Jobs
        | Route::Job(_)
        | Route::BatchView(_)
        | Route::JobEvents(_)
        | Route::JobResult(_)
        | Route::JobWhy(_)
        | Route::JobOutput(..)
        | Route::Queue
        | Route::Schedules
        | Route::DeadLetters
        | Route::AttemptPayload(_)
        | Route::WebhookSecret
        | Route::Endpoints
        | Route::Endpoint(_)
        | Route::EndpointDeliveries(_)
        | Route::Audit
        | Route::AuditArchive(_)
        | Route::Usage(_)
        | Route::Backups(..)
        | Route::Limits
        | Route::DeploymentLimits(_)
        | Route::Upstreams
        | Route::Secrets
        | Route::Webhooks
        | Route::Access(AccessRoute::Revocations | AccessRoute::Tenants | AccessRoute::Tenant(_, Hold::Itself))
        | Route::Composition
        | Route::AdminHealth
        | Route::Health
        | Route::Ready
        | Route::OpenApi => Keys::Nobody,
    }
}

/// Decodes percent-encoded UTF-8. `None` where an escape is broken or the bytes are no text.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
            let (high, low) = (digit()?, digit()?);
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_of_the_protocol_is_a_route() {
        let id = || String::from("job_1");
        for (path, route) in [
            ("/v1/connect", Some(Route::Connect)),
            ("/v1/requests", Some(Route::Requests)),
            ("/v1/requests:batch", Some(Route::Batch)),
            ("/v1/batches/bat_1", Some(Route::BatchView("bat_1".into()))),
            ("/v1/batches/bat_1:cancel", Some(Route::BatchCancel("bat_1".into()))),
            ("/v1/batches/", None),
            ("/v1/batches/bat_1/jobs", None),
            ("/v1/batches/bat_1:retry", None),
            ("/v1/jobs", Some(Route::Jobs)),
            ("/v1/jobs/job_1", Some(Route::Job(id()))),
            ("/v1/jobs/job_1:cancel", Some(Route::JobCancel(id()))),
            ("/v1/jobs/job_1/events", Some(Route::JobEvents(id()))),
            ("/v1/jobs/job_1/result", Some(Route::JobResult(id()))),
            ("/v1/schedules", Some(Route::Schedules)),
            (
                "/v1/schedules/nightly:trigger",
                Some(Route::Schedule("nightly".into(), Change::Trigger)),
            ),
            ("/v1/schedules/nightly", None),
            ("/v1/schedules/nightly:fire", None),
            ("/v1/objects/a/b%20c.csv", Some(Route::Object("a/b c.csv".into()))),
            ("/v1/jobs/job_1/why", Some(Route::JobWhy(id()))),
            (
                "/v1/jobs/job_1/output/a%2Fb",
                Some(Route::JobOutput(id(), "a/b".into())),
            ),
            ("/v1/jobs/job_1/output", None),
            ("/v1/jobs/job_1:cancel/output/log", None),
            ("/v1/queue", Some(Route::Queue)),
            ("/v1/queue:pause", Some(Route::QueuePause)),
            ("/v1/queue:resume", Some(Route::QueueResume)),
            ("/v1/jobs/job_1:retry", Some(Route::JobRetry(id()))),
            ("/v1/jobs/job_1:pause", Some(Route::JobPause(id()))),
            ("/v1/jobs/job_1:resume", Some(Route::JobResume(id()))),
            ("/v1/jobs/job_1:reschedule", Some(Route::JobReschedule(id()))),
            ("/v1/jobs:cancel", Some(Route::JobsCancel)),
            ("/v1/dead-letters", Some(Route::DeadLetters)),
            ("/v1/dead-letters:redrive", Some(Route::Redrive)),
            ("/v1/dead-letters:discard", Some(Route::Discard)),
            ("/v1/workers/gpu:lease", Some(Route::Lease("gpu".into()))),
            ("/v1/workers/gpu", None),
            ("/v1/attempts/job_1/payload", Some(Route::AttemptPayload(id()))),
            ("/v1/admin/webhook-secret", Some(Route::WebhookSecret)),
            ("/v1/admin/webhook-secret:rotate", Some(Route::WebhookSecretRotate)),
            ("/v1/admin/endpoints", Some(Route::Endpoints)),
            ("/v1/admin/endpoints/end_1", Some(Route::Endpoint("end_1".into()))),
            (
                "/v1/admin/endpoints/end_1/deliveries",
                Some(Route::EndpointDeliveries("end_1".into())),
            ),
            (
                "/v1/admin/endpoints/end_1:replay",
                Some(Route::EndpointReplay("end_1".into())),
            ),
            ("/v1/admin/endpoints/", None),
            ("/v1/admin/endpoints/end_1:enable", None),
            ("/v1/admin/endpoints/end_1/messages", None),
            ("/v1/admin/audit", Some(Route::Audit)),
            ("/v1/admin/policies/explain", Some(Route::PolicyExplanation)),
            ("/v1/admin/audit/archive", Some(Route::AuditArchive(None))),
            (
                "/v1/admin/audit/archive/1-2",
                Some(Route::AuditArchive(Some("1-2".into()))),
            ),
            ("/v1/admin/limits", Some(Route::Limits)),
            ("/v1/admin/health", Some(Route::AdminHealth)),
            ("/v1/admin/usage", Some(Route::Usage(None))),
            ("/v1/admin/usage/export", Some(Route::UsageExport)),
            ("/v1/admin/tenants/acme/usage", Some(Route::Usage(Some("acme".into())))),
            ("/v1/admin/tenants/acme/budgets", Some(Route::Budgets("acme".into()))),
            (
                "/v1/admin/tenants/acme/limits",
                Some(Route::DeploymentLimits("acme".into())),
            ),
            ("/v1/admin/tenants/acme/quotas", None),
            (
                "/v1/admin/tenants/acme/backups",
                Some(Route::Backups("acme".into(), BackupRoute::All)),
            ),
            (
                "/v1/admin/tenants/acme/backups/bak_1",
                Some(Route::Backups("acme".into(), BackupRoute::One("bak_1".into()))),
            ),
            (
                "/v1/admin/tenants/acme/backups/bak_1:restore",
                Some(Route::Backups("acme".into(), BackupRoute::Restore("bak_1".into()))),
            ),
            (
                "/v1/admin/tenants/acme/backups/bak_1/parts/0",
                Some(Route::Backups(
                    "acme".into(),
                    BackupRoute::Part("bak_1".into(), "0".into()),
                )),
            ),
            (
                "/v1/admin/tenants/acme/recovery",
                Some(Route::Backups("acme".into(), BackupRoute::Recovery)),
            ),
            ("/v1/admin/tenants/acme/recovery/x", None),
            ("/v1/admin/tenants/acme/backups/", None),
            ("/v1/admin/tenants/acme/backups/bak_1/parts", None),
            ("/v1/admin/tenants/acme/backups/bak_1/parts/1/2", None),
            ("/v1/admin/tenants/acme/backups/bak_1:delete", None),
            ("/v1/admin/keys", Some(Route::Access(AccessRoute::Keys))),
            (
                "/v1/admin/keys/key_1",
                Some(Route::Access(AccessRoute::Key("key_1".into()))),
            ),
            (
                "/v1/admin/keys/key_1:rotate",
                Some(Route::Access(AccessRoute::KeyRotate("key_1".into()))),
            ),
            ("/v1/admin/secrets", Some(Route::Secrets)),
            ("/v1/admin/secrets/bank", Some(Route::Secret("bank".into()))),
            ("/v1/admin/secrets/a%20b", Some(Route::Secret("a b".into()))),
            ("/v1/admin/webhooks", Some(Route::Webhooks)),
            (
                "/v1/webhooks/eu.acme/shop/tag",
                Some(Route::Webhook(Address {
                    tenant: "eu.acme".into(),
                    source: "shop".into(),
                    tag: "tag".into(),
                })),
            ),
            ("/v1/webhooks/acme/shop", None),
            ("/v1/webhooks/acme/shop/", None),
            ("/v1/webhooks//shop/tag", None),
            ("/v1/webhooks/acme/shop/tag/x", None),
            ("/v1/admin/secrets/", None),
            ("/v1/admin/secrets/a/b", None),
            ("/v1/admin/keys/key_1:show", None),
            ("/v1/admin/keys/", None),
            ("/v1/admin/revocations", Some(Route::Access(AccessRoute::Revocations))),
            (
                "/v1/admin/tenants/eu.acme",
                Some(Route::Access(AccessRoute::Tenant("eu.acme".into(), Hold::Itself))),
            ),
            ("/v1/admin/tenants", Some(Route::Access(AccessRoute::Tenants))),
            ("/v1/admin/tenants/", None),
            (
                "/v1/admin/tenants/acme:suspend",
                Some(Route::Access(AccessRoute::Tenant("acme".into(), Hold::Suspend))),
            ),
            ("/v1/admin/tenants/acme:erase", None),
            ("/v1/admin/tenants/a/b", None),
            ("/v1/admin/upstreams", Some(Route::Upstreams)),
            (
                "/v1/admin/upstreams/bank.main:open",
                Some(Route::Upstream("bank.main".into(), String::new(), BreakerChange::Open)),
            ),
            (
                "/v1/admin/upstreams/bank.main/a%3Ab:close",
                Some(Route::Upstream("bank.main".into(), "a:b".into(), BreakerChange::Close)),
            ),
            ("/v1/admin/upstreams/bank.main:shut", None),
            ("/v1/attempts/job_1:report", Some(Route::AttemptReport(id()))),
            ("/v1/attempts/job_1:finish", Some(Route::AttemptFinish(id()))),
            ("/v1/attempts/job_1", None),
            ("/v1/attempts/job_1:end", None),
            (
                "/v1/channels/c%3Ad/messages",
                Some(Route::ChannelMessages("c:d".into())),
            ),
            ("/v1/channels/c/presence", Some(Route::ChannelPresence("c".into()))),
            ("/v1/channels/c%2Fd/messages", None),
            ("/v1/channels//messages", None),
            ("/v1/channels/c/events", Some(Route::NotYet("/v1/channels"))),
            ("/v1/objects/", None),
            ("/v1/objects/%zz", None),
            ("/v1/objects/%ff", None),
            ("/v1/jobs/", None),
            ("/v1/jobs/job_1/other", None),
            ("/v1/jobs/job_1:cancel/events", None),
            ("/v2/jobs", None),
            ("/internal/execute", None),
            ("/", None),
        ] {
            assert_eq!(find(path), route, "{path}");
        }
    }

    #[test]
    fn whatever_changes_something_honours_a_key_or_says_why_not() {
        // The paths of the table, with what it takes to fill their parameters in.
        let source = include_str!("routes.rs");
        let variants = ["pub enum Route {", "pub enum AccessRoute {", "pub enum BackupRoute {"].map(|head| {
            let (_, variants) = source.split_once(head).unwrap();
            variants.split_once("\n}").unwrap().0
        });
        let templates = variants
            .iter()
            .flat_map(|variants| variants.lines())
            .filter_map(|line| line.trim().strip_prefix("/// `")?.strip_suffix('`'));
        let (mut around, mut excused) = (0, Vec::new());
        for template in templates {
            let path = template
                .replace("{id}", "x_1")
                .replace("{name}", "x")
                .replace("{pool}", "x")
                .replace("{tenant}", "x")
                .replace("{source}", "x")
                .replace("{backup}", "x")
                .replace("{part}", "1")
                .replace("{tag}", "x");
            let path = path.replace("{key}", "x").replace("{stream}", "x");
            let route = find(&path).unwrap_or_else(|| panic!("{template}"));
            assert_eq!(crate::templates::template(&route), template);
            for method in allowed(&route) {
                match keys(&route, method) {
                    Keys::Route(named) => {
                        assert_eq!(named, template);
                        assert_ne!(*method, Method::Get);
                        around += 1;
                    }
                    Keys::Job => assert_eq!(*method, Method::Post),
                    Keys::Nobody if *method != Method::Get => excused.push(format!("{method} {template}")),
                    Keys::Nobody => {}
                }
            }
        }
        assert_eq!(around, 38);
        assert_eq!(
            excused,
            [
                "POST /v1/workers/{pool}:lease",
                "POST /v1/attempts/{id}:report",
                "POST /v1/attempts/{id}:finish",
                "POST /v1/tickets",
                "PUT /v1/objects/{key}",
                "POST /v1/webhooks/{tenant}/{source}/{tag}",
                "PUT /v1/admin/secrets/{name}",
                "POST /v1/admin/policies/explain",
                "POST /v1/admin/keys",
                "POST /v1/admin/keys/{id}:rotate",
                "PUT /v1/admin/tenants/{tenant}/backups/{backup}/parts/{part}",
            ]
        );
    }
}
