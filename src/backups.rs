//! `/v1/admin/tenants/{tenant}/backups` and `…/recovery`: backups of a tenant, and what the platform keeps of it, for the operators of the
//! deployment. The directory decides and
//! drives them; here their parts go out and come in.

use tidegate_durable_objects::platform::{now, random, unavailable};
use tidegate_durable_objects::{remote, storage};
use tidegate_engine::directory::backups::part_name;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::directory::{BackupAct, Call, Reply};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::parse_recovery;
use tidegate_protocol::ids::{BackupId, TenantId};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode, Fault};
use worker::{Env, Method, Request, Response};

use crate::audit::acting;
use crate::requests::read_text;
use crate::routes::BackupRoute;
use crate::tenants::unexpected;
use crate::{answer, directory};

/// Bytes of a part at most, in a request: a piece of a large object, or the manifest.
const PART_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The number of the last part at most.
const PARTS_MAX: u64 = 99_999_999;

/// Answers what is asked of these paths.
///
/// Errors: `FORBIDDEN` without the scope `operator`; `NOT_FOUND`; `CONFLICT` where the state of the tenant or the backup does
/// not allow it; `VALIDATION_ERROR`, `PAYLOAD_TOO_LARGE`; `NOT_IMPLEMENTED` where the platform cannot recover; `UNAVAILABLE`.
pub async fn handle(
    request: &mut Request,
    env: &Env,
    principal: &Principal,
    method: &Method,
    (tenant, route): (String, BackupRoute),
) -> Result<Response, Error> {
    let tenant = directory::of_operator(principal, &tenant)?;
    let of = |id: &str| BackupId::parse(id).ok_or_else(Error::not_found);
    let (backup, act, status) = match (&route, method) {
        (BackupRoute::All, Method::Post) => (Some(BackupId::generate(now(), random())), BackupAct::Take, 202),
        (BackupRoute::All, _) => (None, BackupAct::Show, 200),
        (BackupRoute::Recovery, _) => {
            directory::check_other(principal, &tenant)?;
            let at = parse_recovery(&read_text(request, BODY_BYTES_MAX).await?)?;
            (None, BackupAct::Recover(at), 200)
        }
        (BackupRoute::One(id), Method::Delete) => (Some(of(id)?), BackupAct::Delete, 202),
        (BackupRoute::One(id), _) => (Some(of(id)?), BackupAct::Show, 200),
        (BackupRoute::Restore(id), _) => (Some(of(id)?), BackupAct::Restore, 202),
        (BackupRoute::Part(id, part), _) => {
            let id = of(id)?;
            let number = part.parse::<u64>().ok().filter(|number| *number <= PARTS_MAX);
            let number = number.ok_or_else(Error::not_found)?;
            let key = format!("{}{}", storage::backup(&tenant, &id), part_name(number));
            if *method == Method::Get {
                ask(request, env, principal, tenant, Some(id), BackupAct::Show).await?;
                return download(env, &key).await;
            }
            check_length(request)?;
            let shown = ask(request, env, principal, tenant, Some(id), BackupAct::Bring).await?;
            upload(request, env, &key).await?;
            return answer::json(&shown, 200);
        }
    };
    let shown = ask(request, env, principal, tenant, backup, act).await?;
    answer::json(&shown, status)
}

async fn ask(
    request: &Request,
    env: &Env,
    principal: &Principal,
    tenant: TenantId,
    backup: Option<BackupId>,
    act: BackupAct,
) -> Result<JsonText, Error> {
    let by = acting(request, principal);
    let call = Call::Backups {
        tenant,
        backup,
        act,
        by,
    };
    match remote::directory(env, &call).await? {
        Reply::Shown(view) => Ok(view),
        Reply::Standing { .. } => Err(unexpected()),
    }
}

async fn download(env: &Env, key: &str) -> Result<Response, Error> {
    let bucket = env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))?;
    let found = storage::read(bucket.get(key))
        .await
        .map_err(unavailable("reading a part"))?;
    let found = found.ok_or_else(Error::not_found)?;
    let body = found.body().ok_or_else(Error::not_found)?;
    let body = body.response_body().map_err(unavailable("reading a part"))?;
    let response = Response::builder()
        .with_header("content-type", "application/octet-stream")
        .and_then(|builder| builder.with_header("cache-control", "no-store"))
        .and_then(|builder| builder.with_header("content-length", &found.size().to_string()))
        .map_err(answer::broken)?;
    Ok(response.body(body))
}

fn check_length(request: &Request) -> Result<(), Error> {
    let length = request.headers().get("content-length").ok().flatten();
    let Some(length) = length.and_then(|length| length.parse::<u64>().ok()) else {
        let fault = Fault::new("/headers/content-length", "the length of the part", "nothing");
        return Err(Error::invalid("An upload says its length first.", vec![fault]));
    };
    if length > PART_BYTES_MAX {
        return Err(Error::new(ErrorCode::PayloadTooLarge, "A part has 64 MiB at most."));
    }
    Ok(())
}

async fn upload(request: &Request, env: &Env, key: &str) -> Result<(), Error> {
    let bucket = env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))?;
    let put = match request.inner().body() {
        Some(stream) => bucket.put(key, stream),
        None => bucket.put(key, worker::Data::Empty),
    };
    storage::write(put)
        .await
        .map(drop)
        .map_err(unavailable("storing a part"))
}
