//! `/v1/admin/secrets`: secrets of a tenant. A value is sealed here, before anything else sees it; the gate keeps what it
//! is given, and decides which version is good for how long.

use tidegate_durable_objects::{remote, secrets};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::http::SecretBody;
use tidegate_protocol::ids::SecretName;
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Request, Response};

use crate::answer;
use crate::audit::acting;
use crate::requests::read_text;
use crate::tenants::{check_admin, unexpected};

/// How often a secret is sealed anew because somebody else was quicker.
const TRIES_MAX: u32 = 3;

/// `GET`: what there is, without values.
///
/// Errors: `FORBIDDEN` without the scope `admin`.
pub async fn list(env: &Env, principal: &Principal) -> Result<Response, Error> {
    check_admin(principal)?;
    let key = secrets::key(env, &principal.tenant)?.beginning;
    match remote::tenant(env, &principal.tenant, &Call::ListSecrets { key }).await? {
        Reply::Shown(view) => answer::json(&view, 200),
        _ => Err(unexpected()),
    }
}

/// `PUT`: sets a secret, or gives it another value. The value that it has already changes nothing.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `VALIDATION_ERROR` with every fault; `CONFLICT` where there are too many,
/// or it is set by several at once.
pub async fn set(request: &mut Request, env: &Env, principal: &Principal, name: &str) -> Result<Response, Error> {
    check_admin(principal)?;
    let tenant = &principal.tenant;
    let text = read_text(request, BODY_BYTES_MAX).await?;
    let SecretBody {
        name,
        value,
        overlap_ms,
    } = SecretBody::parse(name, &text)?;
    let beginning = secrets::key(env, tenant)?.beginning;
    let mut tries = 0;
    loop {
        let current = secrets::live(env, tenant, vec![name.clone()]).await?.into_iter().next();
        let version = current.as_ref().map_or(1, |current| current.version + 1);
        // What an earlier deployment key sealed is sealed anew. What does not open is replaced.
        let same = match &current {
            Some(current) if current.text.starts_with(&beginning) => secrets::open(env, tenant, current)
                .await
                .is_ok_and(|known| known == value),
            _ => false,
        };
        let secret = match current.filter(|_| same) {
            Some(current) => current,
            None => secrets::seal(env, tenant, &name, version, &value).await?,
        };
        let call = Call::SetSecret {
            secret,
            overlap_ms,
            caller: acting(request, principal),
        };
        match remote::tenant(env, tenant, &call).await {
            Ok(Reply::Shown(view)) => return answer::json(&view, if version == 1 { 201 } else { 200 }),
            Ok(_) => return Err(unexpected()),
            Err(error) if error.code == ErrorCode::Conflict && tries < TRIES_MAX => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// `DELETE`: a secret with all its versions.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `NOT_FOUND`.
pub async fn delete(request: &Request, env: &Env, principal: &Principal, name: &str) -> Result<Response, Error> {
    check_admin(principal)?;
    let name = SecretName::parse(name).ok_or_else(Error::not_found)?;
    let caller = acting(request, principal);
    match remote::tenant(env, &principal.tenant, &Call::DeleteSecret { name, caller }).await? {
        Reply::Ended => answer::no_content(),
        _ => Err(unexpected()),
    }
}
