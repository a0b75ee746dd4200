//! `/v1/admin/keys`, `/v1/admin/revocations`, `/v1/admin/tenants`: who may come in. The gate decides and remembers; here
//! bodies are read, and the texts of keys are made and shown once.

use tidegate_durable_objects::platform::{deployment_key, now, random, secret_bytes};
use tidegate_durable_objects::remote;
use tidegate_engine::access::token_id;
use tidegate_identity::{Tenant, api_key};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::{Change, Credential, Revoked};
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{KeyMade, RevokeBody, RevokeWhom, TenantView, parse_new_key, parse_rotation};
use tidegate_protocol::ids::{ApiKeyId, TenantId};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Method, Request, Response};

use crate::answer;
use crate::audit::acting;
use crate::requests::read_text;
use crate::routes::{AccessRoute, Hold};
use crate::tenants::{check_admin, describe, unexpected};

/// Answers what is asked of these paths.
///
/// Errors: `FORBIDDEN` without the scope `admin`, or `operator` for another tenant; `VALIDATION_ERROR` with every fault of
/// a body; `NOT_FOUND`; `CONFLICT` where there are too many, and for what would lock out whoever asks.
pub async fn handle(
    request: &mut Request,
    env: &Env,
    principal: &Principal,
    method: &Method,
    route: AccessRoute,
) -> Result<Response, Error> {
    if let AccessRoute::Tenant(tenant, hold) = route {
        return hold_tenant(request, env, principal, &tenant, hold).await;
    }
    check_admin(principal)?;
    let is_read = *method == Method::Get;
    match route {
        AccessRoute::Keys if is_read => show(env, principal, &Call::Keys).await,
        AccessRoute::Revocations if is_read => show(env, principal, &Call::Revocations).await,
        AccessRoute::Keys => {
            let body = read_text(request, BODY_BYTES_MAX).await?;
            let (id, key) = (ApiKeyId::generate(now(), random()), parse_new_key(&body, now())?);
            make_key(request, env, principal, |hash| Change::CreateKey { id, hash, key }, 201).await
        }
        AccessRoute::KeyRotate(id) => {
            let body = read_text(request, BODY_BYTES_MAX).await?;
            let (id, overlap_ms) = (key_id(&id)?, parse_rotation(&body)?);
            let rotate = |hash| Change::RotateKey { id, hash, overlap_ms };
            make_key(request, env, principal, rotate, 200).await
        }
        AccessRoute::Key(id) => {
            let change = Change::RevokeKey { id: key_id(&id)? };
            make(request, env, principal, &principal.tenant, change).await?;
            answer::no_content()
        }
        AccessRoute::Revocations => {
            let body = read_text(request, BODY_BYTES_MAX).await?;
            let RevokeBody { of, for_ms } = RevokeBody::parse(&body)?;
            let of = revoked(of, principal)?;
            let view = make(
                request,
                env,
                principal,
                &principal.tenant,
                Change::Revoke { of, for_ms },
            )
            .await?;
            answer::json(&view, 201)
        }
        AccessRoute::Tenant(..) => Err(Error::not_found()),
    }
}

fn key_id(text: &str) -> Result<ApiKeyId, Error> {
    ApiKeyId::parse(text).ok_or_else(Error::not_found)
}

fn revoked(of: RevokeWhom, principal: &Principal) -> Result<Revoked, Error> {
    let undated = matches!(principal.credential, Credential::Token { issued_at: None, .. });
    match of {
        RevokeWhom::Token(jti) => token_id(&jti).map(Revoked::Token).ok_or_else(Error::not_found),
        // It would refuse what is issued later as well, for as long as it is remembered.
        RevokeWhom::User(_) | RevokeWhom::Everyone if undated => {
            let message = "The issuer's tokens do not say when they were issued (`iat`), so that new ones could not be told \
                from old ones: have it write that, or revoke by `token`.";
            Err(Error::new(ErrorCode::Conflict, message))
        }
        RevokeWhom::User(user) => Ok(Revoked::User(user)),
        RevokeWhom::Everyone => Ok(Revoked::Everyone),
    }
}

async fn show(env: &Env, principal: &Principal, call: &Call) -> Result<Response, Error> {
    match remote::tenant(env, &principal.tenant, call).await? {
        Reply::Shown(view) => answer::json(&view, 200),
        _ => Err(unexpected()),
    }
}

/// Has the gate of `tenant` make a change.
async fn make(
    request: &Request,
    env: &Env,
    principal: &Principal,
    tenant: &TenantId,
    change: Change,
) -> Result<JsonText, Error> {
    let caller = acting(request, principal);
    match remote::tenant(env, tenant, &Call::Access { change, caller }).await? {
        Reply::Shown(view) => Ok(view),
        _ => Err(unexpected()),
    }
}

/// Makes the text of a key, and has the gate keep its hash. The text is in this answer and nowhere else.
async fn make_key(
    request: &Request,
    env: &Env,
    principal: &Principal,
    change: impl FnOnce(String) -> Change,
    status: u16,
) -> Result<Response, Error> {
    let tenant = Tenant::parse(principal.tenant.as_str()).ok_or_else(Error::not_found)?;
    let text = api_key::mint(&deployment_key(env)?, &tenant, &secret_bytes()?);
    let change = change(api_key::hash(&text));
    let key = make(request, env, principal, &principal.tenant, change).await?;
    answer::json(&KeyMade { api_key: text, key }, status)
}

/// Shows, suspends and resumes a tenant of the deployment.
async fn hold_tenant(
    request: &Request,
    env: &Env,
    principal: &Principal,
    tenant: &str,
    hold: Hold,
) -> Result<Response, Error> {
    if !principal.scopes.contains("operator") {
        let message = "Tenants are administered with the scope `operator`, by tokens of an issuer that may give it.";
        return Err(Error::new(ErrorCode::Forbidden, message));
    }
    let tenant = TenantId::parse(tenant).ok_or_else(Error::not_found)?;
    let change = match hold {
        Hold::Show => None,
        Hold::Suspend if tenant == principal.tenant => {
            let message = "That is the tenant of your own token, which could not resume it any more.";
            return Err(Error::new(ErrorCode::Conflict, message));
        }
        Hold::Suspend => Some(Change::Suspend),
        Hold::Resume => Some(Change::Resume),
    };
    if let Some(change) = change {
        make(request, env, principal, &tenant, change).await?;
    }
    let suspended_at = describe(env, &tenant).await?.access.suspended_at;
    answer::json(&TenantView { tenant, suspended_at }, 200)
}
