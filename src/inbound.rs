//! `/v1/webhooks/{tenant}/{source}/{tag}`: takes what sources of webhooks send; `/v1/admin/webhooks` shows their addresses.
//!
//! A sender has no token. The tag in the address is checked before anything of a tenant is asked, so that whoever makes
//! addresses up reaches no object, makes none, and learns nothing. Then the signature decides. What is right becomes a request of the
//! source's own user, admitted by the hub like any other.

use std::sync::Arc;

use tidegate_durable_objects::access::{Wanted, known};
use tidegate_durable_objects::platform::{deployment_key, log_error, now, previous_deployment_key};
use tidegate_durable_objects::{plans, remote, secrets};
use tidegate_engine::hub::hub_of;
use tidegate_engine::inbound::{self, Algorithm, Came, Encoding, SecretForm, Signed, Taken, Unsigned, Webhook};
use tidegate_identity::inbound as signatures;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::calls::hub::{Call, Prefer, Reply};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{WebhookList, WebhookOutcome, WebhookTaken, WebhookView};
use tidegate_protocol::ids::{JobId, ObjectName, TenantId, WebhookSource};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Context, Env, Request, Response};

use crate::requests::read_bytes;
use crate::routes::{Address, Route};
use crate::tenants::{check_admin, describe, scale};
use crate::{answer, identify, refusals};

/// When a sender may try again whose signature could not be looked at. Milliseconds.
const RETRY_MS: u64 = 60_000;

/// What needs the signature of a source.
///
/// Errors: those of [`receive`].
pub async fn handle(request: &mut Request, env: &Env, context: &Context, route: &Route) -> Result<Response, Error> {
    match route {
        Route::Webhook(address) => receive(request, env, context, address).await,
        _ => Err(Error::not_found()),
    }
}

/// `POST`: verifies a webhook, and makes its event a job.
///
/// Errors: `NOT_FOUND` for an address that is none; `PAYLOAD_TOO_LARGE`; `TENANT_SUSPENDED`; `UNAUTHORIZED` for a signature that is
/// not right, whatever is wrong with it; `VALIDATION_ERROR` for a body that cannot be passed on; what the hub refuses.
pub async fn receive(
    request: &mut Request,
    env: &Env,
    context: &Context,
    address: &Address,
) -> Result<Response, Error> {
    let (tenant, source) = open(env, address)?;
    let body = read_bytes(request, BODY_BYTES_MAX).await?;
    let webhook = find(env, &tenant, &source).await?;
    let header = |name: &str| request.headers().get(name).ok().flatten();
    let signed = match verify(env, &tenant, &webhook, header, &body).await? {
        Ok(signed) => signed,
        Err(why) => {
            refusals::note_webhook(env, context, tenant, &source, why);
            let message = "The webhook is not signed as it has to be.";
            return Err(Error::new(ErrorCode::Unauthorized, message));
        }
    };
    let came = Came {
        source: &source,
        tag: &address.tag,
        signed: &signed,
        body: &body,
        now: now(),
    };
    let (key, body) = match inbound::take(&webhook, came, header)? {
        Taken::Request { key, body } => (key, body),
        Taken::Challenge(answer) => return answer::json(&answer, 200),
        Taken::Ignored => return taken(WebhookOutcome::Ignored, None),
    };
    let principal = Principal {
        tenant: tenant.clone(),
        user: webhook.user.clone(),
        scopes: webhook.scopes.clone(),
        expires_at: Principal::NEVER,
        credential: Credential::Signature {
            at: signed.at().unwrap_or_else(now),
        },
        network: identify::network(request, env),
    };
    let answered = ask(request, env, principal, key, body).await;
    if let Err(error) = &answered {
        refusals::note(env, context, tenant, error.code);
    }
    match answered? {
        (job, true) => taken(WebhookOutcome::Duplicate, Some(job)),
        (job, false) => taken(WebhookOutcome::Accepted, Some(job)),
    }
}

/// The tenant and the source of an address, where it is one that was given out.
fn open(env: &Env, address: &Address) -> Result<(TenantId, WebhookSource), Error> {
    let Address { tenant, source, tag } = address;
    let previous = previous_deployment_key(env)?;
    let is_ours = signatures::is_tag(&deployment_key(env)?, previous.as_ref(), (tenant, source), tag);
    let names = TenantId::parse(tenant).zip(WebhookSource::parse(source));
    names.filter(|_| is_ours).ok_or_else(nowhere)
}

/// The refusal of an address that is none: the same, whatever is wrong with it.
fn nowhere() -> Error {
    Error::new(ErrorCode::NotFound, "There is no such webhook.")
}

async fn find(env: &Env, tenant: &TenantId, source: &WebhookSource) -> Result<Arc<Webhook>, Error> {
    let description = known(env, tenant, Wanted::Access).await?;
    if description.access.suspended_at.is_some() {
        let message = "The tenant is suspended. Its operator can say why.";
        return Err(Error::new(ErrorCode::TenantSuspended, message));
    }
    let plan = plans::of_revision(env, tenant, description.revision.as_ref()).await?;
    plan.webhooks.get(source).cloned().ok_or_else(nowhere)
}

/// Whether a webhook is signed with a secret that is good, and about now.
///
/// Errors: `UNAVAILABLE` where the secret cannot be had or used; within, what is wrong with the signature.
async fn verify(
    env: &Env,
    tenant: &TenantId,
    webhook: &Webhook,
    header: impl Fn(&str) -> Option<String>,
    body: &[u8],
) -> Result<Result<Signed, Unsigned>, Error> {
    let signed = match inbound::signed(&webhook.scheme, header) {
        Ok(signed) => signed,
        Err(why) => return Ok(Err(why)),
    };
    let keys = keys(env, tenant, webhook).await.map_err(|error| {
        log_error("the secret of a webhook", error);
        let message = "The signature cannot be looked at right now.";
        Error::new(ErrorCode::Unavailable, message).retry_after(RETRY_MS)
    })?;
    let scheme = &webhook.scheme;
    let hash = match scheme.algorithm {
        Algorithm::HmacSha256 => signatures::Hash::Sha256,
        Algorithm::HmacSha512 => signatures::Hash::Sha512,
    };
    let encoding = match scheme.encoding {
        Encoding::Hex => signatures::Encoding::Hex,
        Encoding::Base64 => signatures::Encoding::Base64,
    };
    let content = inbound::content_of(scheme, &signed, body);
    let given: Vec<&str> = signed.signatures.iter().map(String::as_str).collect();
    let is_good = |key: &signatures::Key| signatures::is_signed(hash, encoding, key, &content, &given);
    Ok(if keys.iter().any(is_good) {
        signed.is_of_now(now(), webhook.tolerance_ms).map(|()| signed)
    } else {
        Err(Unsigned::WrongSignature)
    })
}

/// The keys that a source may sign with now: two, while its secret is in an overlap.
///
/// Errors: `SECRET_UNUSABLE`; `UNAVAILABLE`.
async fn keys(env: &Env, tenant: &TenantId, webhook: &Webhook) -> Result<Vec<signatures::Key>, Error> {
    let is_encoded = webhook.scheme.secret == SecretForm::Base64;
    let values = secrets::good(env, tenant, &webhook.secret).await?;
    let keys: Vec<_> = values
        .iter()
        .filter_map(|value| signatures::key(value.text(), is_encoded))
        .collect();
    if keys.is_empty() {
        return Err(Error::secret_unusable(
            &webhook.secret,
            "is no base64, as this source's has to be",
        ));
    }
    Ok(keys)
}

/// Hands the request to the hub of the source's user: the job, and whether it was there before.
async fn ask(
    request: &Request,
    env: &Env,
    principal: Principal,
    key: String,
    body: String,
) -> Result<(JobId, bool), Error> {
    let hub = hub_of(&principal.user, scale(env, &principal.tenant).await?.hubs);
    let name = ObjectName::Hub(principal.tenant.clone(), hub);
    let call = Call::Request {
        principal,
        body,
        idempotency_key: Some(key),
        traceparent: request.headers().get("traceparent").ok().flatten(),
        prefer: Prefer::default(),
    };
    match remote::hub(env, &name, &call).await? {
        Reply::Accepted(accepted) => Ok((accepted.job_id, accepted.deduplicated)),
        // The job has ended, well or not: its event was taken.
        Reply::Answer {
            job: Some(job),
            deduplicated,
            ..
        } => Ok((job, deduplicated)),
        Reply::Answer { result: Err(error), .. } => Err(error),
        Reply::Answer { .. }
        | Reply::Batch { .. }
        | Reply::Delivered { .. }
        | Reply::Returned(_)
        | Reply::Places(_)
        | Reply::Heard(_)
        | Reply::HeardPresence(_)
        | Reply::Text(_)
        | Reply::Done => {
            let message = "The hub answered another question.";
            Err(Error::new(ErrorCode::InternalError, message))
        }
    }
}

fn taken(outcome: WebhookOutcome, job_id: Option<JobId>) -> Result<Response, Error> {
    let status = if outcome == WebhookOutcome::Accepted { 202 } else { 200 };
    written(JsonText::of(&WebhookTaken { outcome, job_id }), status)
}

fn written(answer: Option<JsonText>, status: u16) -> Result<Response, Error> {
    let answer = answer.ok_or_else(|| Error::new(ErrorCode::InternalError, "The answer could not be written."))?;
    answer::json(&answer, status)
}

/// `GET /v1/admin/webhooks`: the sources of the active composition, each with its address.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `UNAVAILABLE`.
pub async fn list(request: &Request, env: &Env, principal: &Principal) -> Result<Response, Error> {
    check_admin(principal)?;
    let (tenant, key) = (&principal.tenant, deployment_key(env)?);
    let description = describe(env, tenant).await?;
    let plan = plans::of_revision(env, tenant, description.revision.as_ref()).await?;
    let asked = request.inner().url();
    let origin = asked.split_once("/v1/").map_or("", |(origin, _)| origin);
    let mut webhooks = Vec::with_capacity(plan.webhooks.len());
    for (source, webhook) in &plan.webhooks {
        let tag = signatures::tag(&key, tenant.as_str(), source.as_str());
        let problem = keys(env, tenant, webhook).await.err();
        webhooks.push(WebhookView {
            source: source.clone(),
            url: format!("{origin}/v1/webhooks/{tenant}/{source}/{tag}"),
            action: webhook.action.clone(),
            user: webhook.user.clone(),
            secret: webhook.secret.clone(),
            problem: problem.map(|error| error.message.into_owned()),
        });
    }
    written(JsonText::of(&WebhookList { webhooks }), 200)
}
