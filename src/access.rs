//! `/v1/admin/keys`, `/v1/admin/revocations`, and suspending tenants: who may come in. The gate decides and remembers; here
//! bodies are read, and the texts of keys are made and shown once.

use tidegate_durable_objects::platform::{deployment_key, now, random, secret_bytes};
use tidegate_durable_objects::{remote, residence};
use tidegate_engine::access::token_id;
use tidegate_identity::{Tenant, api_key};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::{Change, Credential, Revoked};
use tidegate_protocol::calls::directory::Call as Telling;
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{KeyMade, RevokeBody, RevokeWhom, parse_new_key, parse_rotation};
use tidegate_protocol::ids::{ApiKeyId, TenantId};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Method, Request, Response};

use crate::answer;
use crate::audit::acting;
use crate::directory;
use crate::requests::read_text;
use crate::routes::{AccessRoute, Hold};
use crate::tenants::{check_admin, unexpected};

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
    match route {
        AccessRoute::Tenants => return directory::handle(request, env, principal, method).await,
        AccessRoute::Tenant(tenant, hold) => {
            let tenant = directory::of_operator(principal, &tenant)?;
            let change = match hold {
                Hold::Itself => return directory::handle_one(request, env, principal, method, tenant).await,
                Hold::Suspend => Change::Suspend,
                Hold::Resume => Change::Resume,
            };
            return hold_tenant(request, env, principal, tenant, change).await;
        }
        _ => {}
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
        AccessRoute::Tenants | AccessRoute::Tenant(..) => Err(Error::not_found()),
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

/// Suspends and resumes a tenant of the deployment. Its gate tells the directory by itself; it is told here as well, so that
/// whoever asked finds there what was done.
async fn hold_tenant(
    request: &Request,
    env: &Env,
    principal: &Principal,
    tenant: TenantId,
    change: Change,
) -> Result<Response, Error> {
    if change == Change::Suspend {
        directory::check_other(principal, &tenant)?;
    }
    make(request, env, principal, &tenant, change).await?;
    // Not by a question that fixes how the tenant is spread.
    let (version, suspended_at) = match remote::tenant(env, &tenant, &Call::Since { version: 0 }).await? {
        Reply::Description(description) => (description.version, description.access.suspended_at),
        _ => (0, None),
    };
    let telling = Telling::Announce {
        resident: residence::is_kept(env, &tenant)?,
        tenant: tenant.clone(),
        version,
        suspended_at,
    };
    remote::directory(env, &telling).await?;
    directory::show(env, &Telling::Show { tenant }, 200).await
}
