//! The issuers that a deployment trusts, and which tenant a token of theirs speaks for.

mod config;
#[cfg(feature = "schema")]
mod schema;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde_json::Value;

use crate::algorithm::Algorithm;
use crate::error::{IdentityError, Reason};
use crate::fault::Fault;
use crate::jws::Token;
use crate::jwt::{self, Checks, Claims};
use crate::keys::KeySet;
use crate::principal::{Principal, Tenant};

#[cfg(feature = "schema")]
pub use schema::schema;

/// The deployment's issuers. Each is there once.
#[derive(Debug, Clone)]
pub struct Issuers {
    entries: Vec<Issuer>,
}

/// One trusted issuer.
#[derive(Debug, Clone)]
struct Issuer {
    name: String,
    audiences: Vec<String>,
    tenant: TenantSource,
    keys: KeySource,
    algorithms: Vec<Algorithm>,
    leeway_seconds: u64,
    power: Power,
}

/// What an issuer's tokens can be good for at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    /// The tenant that they speak for.
    OneTenant,
    /// With the scope [`OPERATOR_SCOPE`], the tenants of the deployment.
    Deployment,
}

/// The scope of those who administer tenants: only tokens of an issuer that is configured for it can have it, since a
/// tenant may run its own issuer and write into its tokens what it likes.
pub const OPERATOR_SCOPE: &str = "operator";

/// What says which tenant a token speaks for.
#[derive(Debug, Clone)]
enum TenantSource {
    /// Every token of the issuer speaks for this one.
    Fixed(Tenant),
    /// The claim of this name says it.
    Claim(String),
}

/// Where an issuer's keys are.
#[derive(Debug, Clone)]
enum KeySource {
    /// In the configuration.
    Configured(KeySet),
    /// To be fetched, and passed to [`Issuers::verify`].
    Fetched(JwksUrl),
}

/// The address of an issuer's key set: `https`, or `http` to the machine itself, without credentials or fragment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JwksUrl(String);

impl JwksUrl {
    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Issuers {
    /// Reads the configuration: a JSON array of issuers.
    ///
    /// Errors: all faults of the document together.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        config::parse(text).map(|entries| Self { entries })
    }

    /// Where the keys are that `token` has to be checked with, if they have to be fetched. `None` also where the token
    /// will be refused without them.
    pub fn needs(&self, token: &str) -> Option<&JwksUrl> {
        let token = Token::read(token).ok()?;
        let issuer = self.issuer_of(&token).ok()?;
        match &issuer.keys {
            KeySource::Fetched(url) if issuer.algorithms.contains(&token.header().algorithm) => Some(url),
            _ => None,
        }
    }

    /// Every address that key sets are fetched from, for warming a cache and for bounding it.
    pub fn jwks_urls(&self) -> impl Iterator<Item = &JwksUrl> {
        self.entries.iter().filter_map(|issuer| match &issuer.keys {
            KeySource::Fetched(url) => Some(url),
            KeySource::Configured(_) => None,
        })
    }

    /// Verifies `token` at `now_ms` and says who it speaks for. `jwks` is the set behind [`Issuers::needs`]; where the
    /// configuration holds the keys, it is not looked at.
    ///
    /// Errors: `KeysUnavailable` where a set is needed and not given; `KeyNotFound` where the set lacks the token's
    /// key, so that fetching it again (not more than now and then) may help; else a reason to refuse the token.
    pub fn verify(&self, token: &str, now_ms: u64, jwks: Option<&KeySet>) -> Result<Principal, IdentityError> {
        let token = Token::read(token)?;
        let issuer = self.issuer_of(&token)?;
        let keys = match &issuer.keys {
            KeySource::Configured(keys) => keys,
            KeySource::Fetched(_) => jwks.ok_or(Reason::KeysUnavailable)?,
        };
        token.check_signature(keys, &issuer.algorithms)?;
        let claims = jwt::check_verified(&token, &issuer.checks(), now_ms)?;
        let (tenant, power) = (issuer.tenant_of(&claims)?, issuer.power);
        let Claims {
            issuer,
            user,
            mut scopes,
            expires_at_ms,
            issued_at_ms,
            token_id,
            all,
        } = claims;
        if power == Power::OneTenant {
            scopes.remove(OPERATOR_SCOPE);
        }
        Ok(Principal {
            tenant,
            user,
            scopes,
            expires_at_ms,
            issued_at_ms,
            token_id,
            issuer,
            claims: all,
        })
    }

    /// The entry that the token names: the only thing that is taken from it before its signature is checked.
    fn issuer_of(&self, token: &Token<'_>) -> Result<&Issuer, Reason> {
        let name = jwt::unverified_issuer(token)?;
        self.entries
            .iter()
            .find(|issuer| issuer.name == name)
            .ok_or(Reason::IssuerUnknown)
    }
}

impl Issuer {
    fn checks(&self) -> Checks<'_> {
        Checks {
            issuer: &self.name,
            audiences: &self.audiences,
            algorithms: &self.algorithms,
            leeway_seconds: self.leeway_seconds,
        }
    }

    fn tenant_of(&self, claims: &Claims) -> Result<Tenant, Reason> {
        match &self.tenant {
            TenantSource::Fixed(tenant) => Ok(tenant.clone()),
            TenantSource::Claim(name) => match claims.get(name) {
                Some(Value::String(id)) => Tenant::parse(id).ok_or(Reason::TenantInvalid),
                Some(_) => Err(Reason::TenantInvalid),
                None => Err(Reason::TenantMissing),
            },
        }
    }
}
