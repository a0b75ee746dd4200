//! `/v1/admin/webhook-secret`: what a tenant's endpoints verify signatures with, and changing it.

use tidegate_durable_objects::platform::{deployment_key, now};
use tidegate_durable_objects::{remote, signing};
use tidegate_identity::webhook;
use tidegate_protocol::Error;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::tenant::{Call, EndpointChange, Reply};
use tidegate_protocol::http::{WebhookSecret, parse_secret_rotation};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use worker::{Env, Request, Response};

use crate::answer;
use crate::audit::acting;
use crate::requests::read_text;
use crate::tenants::{check_admin, unexpected};

/// `GET`: the secret and the public key, and while both sign, those of before.
///
/// Errors: `FORBIDDEN`; `UNAVAILABLE` where the deployment has no key.
pub async fn secret(env: &Env, principal: &Principal) -> Result<Response, Error> {
    check_admin(principal)?;
    let tenant = &principal.tenant;
    // As the gate has it now, whatever this isolate heard: no version is so high.
    let description = match remote::tenant(
        env,
        tenant,
        &Call::Since {
            version: u64::MAX >> 11,
        },
    )
    .await?
    {
        Reply::Description(description) => description,
        _ => return Err(unexpected()),
    };
    let mut live = signing::generations(&description, now());
    let current = live.next().unwrap_or_default();
    let key = deployment_key(env)?;
    let secret_of = |generation| {
        webhook::WebhookSecret::of(&key, tenant.as_str(), generation)
            .text()
            .to_string()
    };
    let mut body = WebhookSecret {
        secret: secret_of(current),
        public_key: Some(signing::public_key(env, tenant, current).await?),
        old_secret: None,
        old_public_key: None,
        old_until: None,
    };
    if let Some(old) = live.next() {
        body.old_secret = Some(secret_of(old));
        body.old_public_key = Some(signing::public_key(env, tenant, old).await?);
        body.old_until = description.webhook_old_until;
    }
    answer::json(&body, 200)
}

/// `POST …:rotate`: from now on another secret signs, and for a while the one before as well. Neither is in the answer, so
/// that it can be kept for an idempotency key.
///
/// Errors: `FORBIDDEN`; `VALIDATION_ERROR` with every fault.
pub async fn rotate(request: &mut Request, env: &Env, principal: &Principal) -> Result<Response, Error> {
    check_admin(principal)?;
    let overlap_ms = parse_secret_rotation(&read_text(request, BODY_BYTES_MAX).await?)?;
    let call = Call::ChangeEndpoints {
        change: EndpointChange::Rotate { overlap_ms },
        caller: acting(request, principal),
    };
    match remote::tenant(env, &principal.tenant, &call).await? {
        Reply::Shown(rotated) => answer::json(&rotated, 200),
        _ => Err(unexpected()),
    }
}
