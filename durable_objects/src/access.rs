//! What an isolate heard of its tenants: how each is spread, and who may not come in. A cache, bounded in size.

use std::cell::RefCell;
use std::rc::Rc;

use tidegate_engine::access;
use tidegate_engine::hearsay::{Heard, Step};
use tidegate_identity::api_key;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::tenant::{Call, Description, Reply};
use tidegate_protocol::ids::TenantId;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};
use worker::Env;

use crate::platform::{deployment_key, log_error, now, previous_deployment_key};
use crate::remote;
use tidegate_protocol::SortedMap;

/// How old may be what is known of who may come in. With a question that is under way, twice as old: together a second.
/// Milliseconds.
const ACCESS_MS: u64 = 500;
/// How old may be what is known of a tenant's spread: an old one costs a detour, no more. Milliseconds.
const SPREAD_MS: u64 = 30_000;
/// Tenants and revocations that are kept. Some 200 bytes each.
const KEPT_MAX: usize = 20_000;
/// API keys that are kept, good ones and bad ones. Some 500 bytes each.
const KEYS_MAX: usize = 2_048;

/// What is active in a tenant.
type Kept = Heard<Rc<Description>>;

/// What the gate said of a key while the tenant's description had this version.
type KeptKey = (u64, Option<Principal>);

thread_local! {
    static TENANTS: RefCell<SortedMap<TenantId, Kept>> = const { RefCell::new(SortedMap::new()) };
    static KEYS: RefCell<SortedMap<String, KeptKey>> = const { RefCell::new(SortedMap::new()) };
}

/// What is looked for in what an isolate knows of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Who may come in. To ask for that does not fix how the tenant is spread, nor does it make a tenant.
    Access,
    /// How it is spread, which is fixed by the first question.
    Spread,
}

/// What is active in a tenant, as this isolate heard lately: a second ago at most, or half a minute for its spread.
///
/// Errors: `UNAVAILABLE` where the gate cannot be reached and nothing was heard lately.
pub async fn known(env: &Env, tenant: &TenantId, wanted: Wanted) -> Result<Rc<Description>, Error> {
    let now = now();
    let age_ms = match wanted {
        Wanted::Access => ACCESS_MS,
        Wanted::Spread => SPREAD_MS,
    };
    let kept = TENANTS.with_borrow_mut(|tenants| {
        let kept = tenants.get_mut(tenant)?;
        // A tenant of which nobody has asked for its spread has no hubs yet.
        if wanted == Wanted::Spread && kept.value().scale.hubs == 0 {
            return None;
        }
        Some((kept.step(now, age_ms), kept.clone()))
    });
    let call = match &kept {
        Some((Step::Use, kept)) => return Ok(kept.value().clone()),
        Some((Step::Ask, kept)) => Call::Since {
            version: kept.value().version,
        },
        None if wanted == Wanted::Spread => Call::Describe,
        None => Call::Since { version: 0 },
    };
    match (remote::tenant(env, tenant, &call).await, kept) {
        (Ok(Reply::Description(description)), _) => Ok(keep(tenant, now, Rc::new(description))),
        (Ok(Reply::Same), Some((_, kept))) => Ok(keep(tenant, now, kept.value().clone())),
        (Err(error), Some((_, kept))) if kept.is_excused(now) => {
            log_error("a tenant's gate", error);
            Ok(kept.value().clone())
        }
        (Err(error), _) => Err(error),
        (Ok(_), _) => Err(unexpected()),
    }
}

fn keep(tenant: &TenantId, now: UnixMs, description: Rc<Description>) -> Rc<Description> {
    TENANTS.with_borrow_mut(|tenants| {
        match tenants.get_mut(tenant) {
            Some(kept) => kept.hear(description.clone(), now),
            None => drop(tenants.insert(tenant.clone(), Heard::new(description.clone(), now))),
        }
        let size = |kept: &Kept| 1 + kept.value().access.revocations.len();
        while tenants.len() > 1 && tenants.values().map(size).sum::<usize>() > KEPT_MAX {
            tenants.pop_first();
        }
    });
    description
}

/// Whether a principal whose credential is good by itself may come in, by what the gate said within the last second.
///
/// Errors: `TENANT_SUSPENDED`; `UNAUTHORIZED` where the credential was revoked; `UNAVAILABLE`.
pub async fn check(env: &Env, principal: &Principal) -> Result<(), Error> {
    let description = known(env, &principal.tenant, Wanted::Access).await?;
    access::check(&description.access, principal, now())
}

/// The principal of an API key. One that was never issued here costs no question.
///
/// Errors: `UNAUTHORIZED`; `UNAVAILABLE`.
pub async fn key_holder(env: &Env, text: &str) -> Result<Principal, Error> {
    let previous = previous_deployment_key(env)?;
    let tenant = api_key::open(&deployment_key(env)?, previous.as_ref(), text)
        .map_err(|error| Error::new(ErrorCode::Unauthorized, error.message()))?;
    let tenant = TenantId::parse(tenant.as_str()).ok_or_else(unknown_key)?;
    let version = known(env, &tenant, Wanted::Access).await?.version;
    let hash = api_key::hash(text);
    let kept = KEYS.with_borrow(|keys| keys.get(&hash).filter(|(of, _)| *of == version).cloned());
    let holder = match kept {
        Some((_, holder)) => holder,
        None => {
            let call = Call::Identify { hash: hash.clone() };
            let Reply::Principal(holder) = remote::tenant(env, &tenant, &call).await? else {
                return Err(unexpected());
            };
            let holder = holder.map(|holder| *holder);
            KEYS.with_borrow_mut(|keys| {
                if keys.len() >= KEYS_MAX {
                    keys.pop_first();
                }
                keys.insert(hash, (version, holder.clone()));
            });
            holder
        }
    };
    holder
        .filter(|holder| holder.tenant == tenant && now() < holder.expires_at)
        .ok_or_else(unknown_key)
}

fn unknown_key() -> Error {
    let message = "The API key is good no longer: it was deleted, or rotated, or has expired.";
    Error::new(ErrorCode::Unauthorized, message)
}

/// The refusal where the gate answered another question.
pub fn unexpected() -> Error {
    Error::new(ErrorCode::InternalError, "The gate answered another question.")
}
