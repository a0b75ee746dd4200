//! `POST /v1/admin/policies/explain`: what the active policies make of a request that is not made.

use tidegate_durable_objects::plans;
use tidegate_durable_objects::platform::now;
use tidegate_engine::policies::{self, Asked};
use tidegate_protocol::Error;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::limits::BODY_BYTES_MAX;
use worker::{Env, Request, Response};

use crate::answer;
use crate::requests::read_text;
use crate::tenants::check_admin;

/// Explains a decision. It counts under no limit and changes nothing.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `VALIDATION_ERROR` with every fault of the body; `INVALID_ACTION`;
/// `UNAVAILABLE`.
pub async fn explain(request: &mut Request, env: &Env, principal: &Principal) -> Result<Response, Error> {
    check_admin(principal)?;
    let body = read_text(request, BODY_BYTES_MAX).await?;
    let asked = Asked::parse(&body, principal, now())?;
    let plan = plans::active(env, &principal.tenant).await?;
    answer::json(&policies::explain(&plan, &asked)?, 200)
}
