//! Whose a token is. The deployment's issuers are its secret; fetched keys are a cache of the isolate.

use std::cell::RefCell;
use std::pin::pin;

use futures_util::future::{Either, select};
use tidegate_engine::access::token_id;
use tidegate_engine::policies::keep_claims;
use tidegate_identity::key_cache::{Step, Wanted};
use tidegate_identity::{Issuers, KeyCache, KeySet, Reason, api_key, principal};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::calls::network::Network;
use tidegate_protocol::ids::{TenantId, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Fetch};

use crate::access;
use crate::platform::{log_error, not_configured, now};
use crate::remote::Asked;
use crate::timer::sleep;

/// How long a fetch may take. Milliseconds.
const FETCH_MS: u64 = 5_000;
/// Bytes of a key set. A few hundred keys.
const KEYS_BYTES_MAX: usize = 256 * 1024;

thread_local! {
    static ISSUERS: RefCell<Option<(String, Issuers)>> = const { RefCell::new(None) };
    static KEYS: RefCell<KeyCache> = const { RefCell::new(KeyCache::new()) };
}

/// The deployment's issuers, from the secret `TIDEGATE_ISSUERS`, parsed once.
///
/// Errors: `UNAVAILABLE` where it is not set or has faults; the log names them all.
pub fn issuers(env: &Env) -> Result<Issuers, Error> {
    let text = env
        .secret("TIDEGATE_ISSUERS")
        .map(|secret| secret.to_string())
        .map_err(|_| {
            log_error("configuration", "the secret TIDEGATE_ISSUERS is not set");
            not_configured()
        })?;
    ISSUERS.with_borrow_mut(|cached| {
        if let Some((of, issuers)) = cached
            && *of == text
        {
            return Ok(issuers.clone());
        }
        let issuers = Issuers::parse(&text).map_err(|faults| {
            for fault in faults {
                log_error("configuration: TIDEGATE_ISSUERS", fault);
            }
            not_configured()
        })?;
        *cached = Some((text, issuers.clone()));
        Ok(issuers)
    })
}

/// The principal of a token, or of an API key.
///
/// Errors: `UNAUTHORIZED` with the reason; `UNAVAILABLE` where the issuer's keys cannot be fetched, or the tenant's gate
/// not be asked.
pub fn verify<'a>(env: &'a Env, token: &'a str) -> Asked<'a, Principal> {
    Box::pin(async move {
        if api_key::is_api_key(token) {
            return access::key_holder(env, token).await;
        }
        let issuers = issuers(env)?;
        let Some(url) = issuers.needs(token).map(|url| url.as_str().to_owned()) else {
            return issuers
                .verify(token, now().0, None)
                .map_err(refusal)
                .and_then(|found| adopt(&found));
        };
        let keys = keys_at(&url, Wanted::Known).await?;
        match issuers.verify(token, now().0, Some(&keys)) {
            Err(error) if error.reason == Reason::KeyNotFound => {
                // The issuer may have rotated its keys since they were fetched.
                let keys = keys_at(&url, Wanted::Newer).await?;
                issuers
                    .verify(token, now().0, Some(&keys))
                    .map_err(refusal)
                    .and_then(|found| adopt(&found))
            }
            verified => verified.map_err(refusal).and_then(|found| adopt(&found)),
        }
    })
}

/// An `UNAUTHORIZED` with this message.
fn unauthorized(message: &'static str) -> Error {
    Error::new(ErrorCode::Unauthorized, message)
}

fn refusal(error: tidegate_identity::IdentityError) -> Error {
    if error.code() == ErrorCode::Unauthorized.as_str() {
        return Error::new(ErrorCode::Unauthorized, error.message());
    }
    log_error("identity", error);
    Error::new(ErrorCode::Unavailable, "The token cannot be checked right now.").retry_after(5000)
}

/// The principal in the protocol's own types.
///
/// Errors: `UNAUTHORIZED` for names that the protocol does not take.
fn adopt(found: &principal::Principal) -> Result<Principal, Error> {
    let tenant = TenantId::parse(found.tenant.as_str());
    let user = UserId::parse(found.user.as_str());
    let (Some(tenant), Some(user)) = (tenant, user) else {
        return Err(unauthorized("The token names a tenant or user that cannot be one."));
    };
    let (claims, claims_cut) = keep_claims(&found.claims, &found.scopes);
    Ok(Principal {
        tenant,
        user,
        scopes: found.scopes.iter().cloned().collect(),
        expires_at: UnixMs(found.expires_at_ms),
        credential: Credential::Token {
            id: found.token_id.as_deref().and_then(token_id),
            issued_at: found.issued_at_ms.map(UnixMs),
            claims,
            claims_cut,
        },
        network: Network::default(),
    })
}

/// The key set at `url`, fetched by one request at a time.
async fn keys_at(url: &str, wanted: Wanted) -> Result<KeySet, Error> {
    loop {
        match KEYS.with_borrow_mut(|keys| keys.step(url, now().0, wanted)) {
            Step::Use(keys) => return Ok(keys),
            Step::Wait(ms) => sleep(ms).await,
            Step::Fetch => {
                let fetched = match select(pin!(fetch(url)), pin!(sleep(FETCH_MS))).await {
                    Either::Left((fetched, _)) => fetched,
                    Either::Right(_) => Err(format!("no answer within {FETCH_MS} ms")),
                };
                let fetched = fetched.map_err(|cause| log_error("an issuer's keys", cause)).ok();
                KEYS.with_borrow_mut(|keys| keys.fetched(url, now().0, fetched));
            }
            Step::Unavailable { after_ms } => {
                let message = "The issuer's keys cannot be fetched right now.";
                return Err(Error::new(ErrorCode::Unavailable, message).retry_after(after_ms));
            }
        }
    }
}

async fn fetch(url: &str) -> Result<KeySet, String> {
    let url = url.parse().map_err(|_| String::from("the address is none"))?;
    let mut response = Fetch::Url(url).send().await.map_err(|cause| cause.to_string())?;
    if response.status_code() != 200 {
        return Err(format!("status {}", response.status_code()));
    }
    let text = response.text().await.map_err(|cause| cause.to_string())?;
    if text.len() > KEYS_BYTES_MAX {
        return Err("the key set is too large".into());
    }
    KeySet::parse_fetched(&text).map_err(|faults| format!("{} faults in the key set", faults.len()))
}
