//! `/v1/admin/webhook-secret`: what a tenant's endpoints verify signatures with.

use tidegate_durable_objects::platform::deployment_key;
use tidegate_identity::webhook;
use tidegate_protocol::Error;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::http::WebhookSecret;
use worker::{Env, Response};

use crate::answer;
use crate::tenants::check_admin;

/// `GET`: the secret.
///
/// Errors: `FORBIDDEN`; `UNAVAILABLE` where the deployment has no key.
pub fn secret(env: &Env, principal: &Principal) -> Result<Response, Error> {
    check_admin(principal)?;
    let secret = webhook::WebhookSecret::of(&deployment_key(env)?, principal.tenant.as_str());
    let body = WebhookSecret {
        secret: secret.text().to_string(),
    };
    answer::json(&body, 200)
}
