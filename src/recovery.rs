//! `/v1/admin/tenants/{tenant}/recovery`: takes a tenant back to a time. The directory decides and drives it.

use tidegate_protocol::Error;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::directory::Call;
use tidegate_protocol::http::parse_recovery;
use tidegate_protocol::limits::BODY_BYTES_MAX;
use worker::{Env, Request, Response};

use crate::audit::acting;
use crate::directory;
use crate::requests::read_text;

/// `POST`: takes the tenant back.
///
/// Errors: `FORBIDDEN` without the scope `operator`; `NOT_FOUND`; `VALIDATION_ERROR` with every fault; `CONFLICT` where the tenant is
/// not suspended, is the one of whoever asks, or one of its objects cannot go back; `NOT_IMPLEMENTED` where the platform cannot;
/// `UNAVAILABLE`.
pub async fn handle(request: &mut Request, env: &Env, principal: &Principal, tenant: &str) -> Result<Response, Error> {
    let tenant = directory::of_operator(principal, tenant)?;
    directory::check_other(principal, &tenant)?;
    let at = parse_recovery(&read_text(request, BODY_BYTES_MAX).await?)?;
    let by = acting(request, principal);
    directory::show(env, &Call::Recover { tenant, at, by }, 200).await
}
