//! `.dev.vars`: the secrets of a local deployment, random, made once and never committed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::process::say;
use crate::project::Project;

fn path(project: &Project) -> PathBuf {
    project.root.join(".dev.vars")
}

/// Writes `.dev.vars` when it is missing: a deployment key, and one issuer whose key signs development tokens.
pub fn ensure(project: &Project) -> Result<()> {
    let path = path(project);
    if path.exists() {
        return Ok(());
    }
    say("writing .dev.vars with fresh random secrets (git ignores it)");
    let issuers = json!([{
        "issuer": "https://dev.tidegate.invalid",
        "audience": "tidegate",
        "tenant_claim": "tid",
        // Whoever has this file has the deployment key as well: tenants can be created and backed up here, too.
        "operator": true,
        "keys": { "keys": [{ "kty": "oct", "kid": "dev", "alg": "HS256", "k": random()? }] },
    }]);
    let text = format!(
        "TIDEGATE_DEPLOYMENT_KEY='{}'\nTIDEGATE_ISSUERS='{issuers}'\n",
        random()?
    );
    write_private(&path, &text)
}

/// 32 random bytes as base64url.
fn random() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("the system gives no random bytes: {error}"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    std::io::Write::write_all(&mut options.open(path)?, text.as_bytes())?;
    Ok(())
}
