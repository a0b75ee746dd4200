//! `/v1/admin/composition`: checks, keeps and activates a tenant's composition; and how a tenant is spread.

pub use tidegate_durable_objects::access::unexpected;
use tidegate_durable_objects::access::{Wanted, known};
use tidegate_durable_objects::platform::{log_error, unavailable};
use tidegate_durable_objects::{plans, remote};
use tidegate_engine::composition::{self, DEFAULT};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::spread::Spreads;
use tidegate_protocol::calls::tenant::{Call, Description, Reply, Scale};
use tidegate_protocol::http::Activated;
use tidegate_protocol::ids::{Revision, TenantId};
use tidegate_protocol::limits::COMPOSITION_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Request, Response};

use crate::answer;
use crate::audit::act;
use crate::requests::read_text;

/// What is active in a tenant, as its gate has it now.
///
/// Errors: `UNAVAILABLE` where the tenant's gate cannot be reached.
pub async fn describe(env: &Env, tenant: &TenantId) -> Result<Description, Error> {
    match remote::tenant(env, tenant, &Call::Describe).await? {
        Reply::Description(description) => Ok(description),
        _ => Err(unexpected()),
    }
}

/// How a tenant is spread over objects, and how its jobs were, as far as this isolate heard lately.
///
/// Errors: as [`describe`].
pub async fn spread(env: &Env, tenant: &TenantId) -> Result<(Scale, Spreads), Error> {
    let description = known(env, tenant, Wanted::Spread).await?;
    Ok((description.scale, description.spreads()))
}

/// How a tenant is spread over objects.
///
/// Errors: as [`describe`].
pub async fn scale(env: &Env, tenant: &TenantId) -> Result<Scale, Error> {
    Ok(known(env, tenant, Wanted::Spread).await?.scale)
}

/// How many objects may hold jobs of a tenant by now.
///
/// Errors: as [`describe`].
pub async fn reach(env: &Env, tenant: &TenantId) -> Result<u16, Error> {
    Ok(describe(env, tenant).await?.reach())
}

/// Errors: `FORBIDDEN` without the scope `admin`.
pub fn check_admin(principal: &Principal) -> Result<(), Error> {
    if principal.scopes.contains("admin") {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::Forbidden,
        "Administration takes the scope `admin`.",
    ))
}

/// `PUT`: checks the document, keeps it under its revision, and makes it the active one.
///
/// Errors: `FORBIDDEN`; `VALIDATION_ERROR` with every fault, as fewer shards than there are, or secrets that are not set;
/// `CONFLICT` for more shards while the tenant grows; `NOT_IMPLEMENTED` for another number of hubs of a tenant in use.
pub async fn activate(request: &mut Request, env: &Env, principal: &Principal) -> Result<Response, Error> {
    check_admin(principal)?;
    let document = read_text(request, COMPOSITION_BYTES_MAX).await?;
    let revision = put(request, env, principal, &principal.tenant, document).await?;
    answer::json(
        &Activated {
            revision: revision.to_string(),
        },
        200,
    )
}

/// Keeps a document under its revision, and makes it the active one of `tenant`, for `principal`.
///
/// Errors: as [`activate`], without `FORBIDDEN`.
pub async fn put(
    request: &Request,
    env: &Env,
    principal: &Principal,
    tenant: &TenantId,
    document: String,
) -> Result<Revision, Error> {
    let plan = composition::compile(&document, tidegate_patterns::MANIFESTS)?;
    let revision = plan.revision.clone();
    let mut secrets = tidegate_patterns::http::referred(&plan);
    secrets.extend(composition::webhook_secrets(&plan));
    // KV first: whoever hears of the revision finds its bytes.
    let kept = match env.kv("CONFIGURATION") {
        Ok(kv) => match kv.put(&plans::document_key(tenant, &revision), document.as_str()) {
            Ok(put) => put.execute().await,
            Err(cause) => Err(cause),
        },
        Err(cause) => {
            return Err(unavailable("the binding CONFIGURATION")(cause));
        }
    };
    if let Err(cause) = kept {
        // The gate keeps every document as well, and is asked where KV has none.
        log_error("KV", cause);
    }
    let call = Call::Activate {
        document,
        revision: revision.clone(),
        scale: plan.scale,
        schedules: plan.schedules,
        by: principal.user.to_string(),
        act: Some(Box::new(act(request, principal))),
        secrets,
    };
    remote::tenant(env, tenant, &call).await?;
    Ok(revision)
}

/// `GET`: the active document.
///
/// Errors: `FORBIDDEN`; `UNAVAILABLE`.
pub async fn composition(env: &Env, principal: &Principal) -> Result<Response, Error> {
    check_admin(principal)?;
    let text = match describe(env, &principal.tenant).await?.revision {
        None => DEFAULT.to_owned(),
        Some(revision) => match remote::tenant(env, &principal.tenant, &Call::Document { revision }).await? {
            Reply::Document(text) => text,
            _ => return Err(unexpected()),
        },
    };
    let builder = Response::builder()
        .with_header("content-type", "application/json")
        .map_err(answer::broken)?;
    Ok(builder.fixed(text.into_bytes()))
}
