//! An issuer of the benchmark's own, and tokens signed with its key.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use serde_json::json;
use tidegate_identity::Algorithm;
use tidegate_identity::mint::{NewToken, SigningKey};

const ISSUER: &str = "https://bench.tidegate.invalid";
const AUDIENCE: &str = "tidegate";
const TENANT_CLAIM: &str = "tid";
const LIFETIME_SECONDS: u64 = 4 * 3600;

/// Signs the tokens that one server takes.
pub struct Issuer(SigningKey);

impl Issuer {
    /// An issuer with a random key.
    pub fn new() -> Result<Self> {
        let key = SigningKey::generate(Algorithm::Hs256, "bench", seed()?);
        Ok(Self(key.map_err(|error| anyhow!("no key: {error}"))?))
    }

    /// Writes the secrets of a server that trusts this issuer.
    pub fn write_vars(&self, path: &Path) -> Result<()> {
        let issuers = json!([{
            "issuer": ISSUER, "audience": AUDIENCE, "tenant_claim": TENANT_CLAIM,
            "keys": { "keys": [self.0.verifying_jwk()] },
        }]);
        // Any oct key of 32 bytes: its `k` is base64url, as the variable has to be.
        let other = SigningKey::generate(Algorithm::Hs256, "deployment", seed()?);
        let jwk = other.map_err(|error| anyhow!("no key: {error}"))?.private_jwk();
        let deployment = jwk.get("k").and_then(|k| k.as_str()).unwrap_or_default();
        fs::write(
            path,
            format!("TIDEGATE_DEPLOYMENT_KEY='{deployment}'\nTIDEGATE_ISSUERS='{issuers}'\n"),
        )?;
        Ok(())
    }

    /// A token of `user` of `tenant`.
    pub fn token(&self, tenant: &str, user: &str) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let token = NewToken {
            issuer: ISSUER,
            audience: AUDIENCE,
            user,
            tenant: Some((TENANT_CLAIM, tenant)),
            scopes: ["admin", "jobs:read", "jobs:work", "jobs:write"]
                .map(str::to_owned)
                .into(),
            now_ms: u64::try_from(now.as_millis())?,
            lifetime_seconds: LIFETIME_SECONDS,
            token_id: None,
        };
        token.mint(&self.0).map_err(|error| anyhow!("no token: {error}"))
    }
}

fn seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("the system gives no random bytes: {error}"))?;
    Ok(seed)
}
