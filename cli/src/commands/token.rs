//! `tidegate token`: signs a development token with the key of an issuer that the local deployment trusts.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidegate_identity::mint::{NewToken, SigningKey};

use crate::arguments::Token;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::find_above;

const FILE: &str = ".dev.vars";
const VARIABLE: &str = "TIDEGATE_ISSUERS";
/// Everything there is: such a token is signed with a key of the local deployment's own, and is worth nothing elsewhere.
const SCOPES_DEFAULT: [&str; 4] = ["admin", "jobs:read", "jobs:write", "jobs:work"];
/// The issuer that `cargo xtask dev` writes.
const ISSUER_DEFAULT: &str = "https://dev.tidegate.invalid";

/// Prints a token.
pub fn mint(token: &Token, output: Output) -> Result<Exit, Failure> {
    let text = read(token)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let minted = sign(token, &text, now_ms)?;
    if output.is_json() {
        let expires_at = tidegate_sdk::UnixMs(now_ms / 1000 * 1000 + token.ttl / 1000 * 1000);
        output.event("token", &json!({"token": minted, "expires_at": expires_at}));
    } else {
        output.print(&minted);
    }
    Ok(Exit::Succeeded)
}

fn read(token: &Token) -> Result<String, Failure> {
    let folder = std::env::current_dir().map_err(|error| Failure::of_io("This folder cannot be read", &error))?;
    let path = match &token.key_file {
        Some(path) => path.clone(),
        None => find_above(&folder, FILE).ok_or_else(|| {
            Failure::new(Exit::Invalid, format!("There is no {FILE} in this folder or above.")).remedy(
                "`cargo xtask dev` writes one with a fresh key. Another file with a key can be named with --key-file.",
            )
        })?,
    };
    read_file(&path)
}

fn read_file(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::of_io(&format!("{} cannot be read", path.display()), &error))
}

/// What a token of an issuer has to say, and the key that signs it.
struct Signer {
    issuer: String,
    audience: String,
    /// The claim that names the tenant; absent where the issuer has one tenant only.
    tenant_claim: Option<String>,
    key: SigningKey,
}

fn sign(token: &Token, text: &str, now_ms: u64) -> Result<String, Failure> {
    let signer = signer(token, text)?;
    let scopes: BTreeSet<String> = match (token.no_scope, token.scopes.is_empty()) {
        (true, _) => BTreeSet::new(),
        (false, true) => SCOPES_DEFAULT.map(str::to_owned).into(),
        (false, false) => token
            .scopes
            .iter()
            .flat_map(|s| s.split_whitespace())
            .map(str::to_owned)
            .collect(),
    };
    let tenant = signer
        .tenant_claim
        .as_deref()
        .map(|claim| (claim, token.tenant.as_str()));
    let new = NewToken {
        issuer: &signer.issuer,
        audience: &signer.audience,
        user: &token.user,
        tenant,
        scopes,
        now_ms,
        lifetime_seconds: (token.ttl / 1000).max(1),
        token_id: None,
    };
    new.mint(&signer.key)
        .map_err(|error| Failure::new(Exit::Invalid, format!("The token cannot be signed: {error}.")))
}

/// Reads `.dev.vars`, a list of issuers, or a bare key.
fn signer(token: &Token, text: &str) -> Result<Signer, Failure> {
    let variable = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(VARIABLE)?.trim_start().strip_prefix('='));
    let json = variable.map_or(text, unquote).trim();
    let unusable = |what: String| {
        Failure::new(Exit::Invalid, format!("The file has no key to sign with: {what}.")).remedy(format!(
            "Expected a line {VARIABLE}='[…]', a JSON list of issuers, or a private JSON Web Key."
        ))
    };
    let value: Value = serde_json::from_str(json).map_err(|error| unusable(error.to_string()))?;
    let Value::Array(issuers) = &value else {
        let key = SigningKey::from_jwk(json).map_err(|error| unusable(error.to_string()))?;
        return Ok(Signer {
            issuer: token.issuer.clone().unwrap_or_else(|| ISSUER_DEFAULT.to_owned()),
            audience: token.audience.clone(),
            tenant_claim: Some(token.tenant_claim.clone()),
            key,
        });
    };
    let wanted = |issuer: &&Value| match &token.issuer {
        Some(name) => issuer.get("issuer").and_then(Value::as_str) == Some(name),
        None => true,
    };
    let found = issuers.iter().filter(wanted).find_map(of_issuer);
    let signer = found.ok_or_else(|| match &token.issuer {
        Some(name) => unusable(format!("no issuer `{name}` with a private key")),
        None => unusable("no issuer with a private key".to_owned()),
    })?;
    let fixed = issuers
        .iter()
        .find(|issuer| issuer.get("issuer").and_then(Value::as_str) == Some(&signer.issuer))
        .and_then(|issuer| issuer.get("tenant")?.as_str());
    match fixed {
        Some(tenant) if tenant != token.tenant => Err(Failure::new(
            Exit::Invalid,
            format!(
                "The issuer {} makes tokens for the tenant `{tenant}` only.",
                signer.issuer
            ),
        )
        .remedy(format!("Say --tenant {tenant}."))),
        _ => Ok(signer),
    }
}

fn of_issuer(issuer: &Value) -> Option<Signer> {
    let text = |name: &str| issuer.get(name).and_then(Value::as_str).map(str::to_owned);
    let audience = match issuer.get("audience")? {
        Value::Array(audiences) => audiences.first()?.as_str()?.to_owned(),
        audience => audience.as_str()?.to_owned(),
    };
    let keys = issuer.get("keys")?.get("keys")?.as_array()?;
    Some(Signer {
        issuer: text("issuer")?,
        audience,
        tenant_claim: text("tenant_claim"),
        key: keys
            .iter()
            .find_map(|key| SigningKey::from_jwk(&key.to_string()).ok())?,
    })
}

/// The value of a variable without its quotes, as dotenv files have them.
fn unquote(text: &str) -> &str {
    let text = text.trim();
    ['\'', '"', '`']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use tidegate_identity::{Algorithm, Issuers};

    const NOW_MS: u64 = 1_795_244_400_000;

    fn token(arguments: &[&str]) -> Token {
        let all = ["tidegate", "token"].iter().chain(arguments);
        match crate::arguments::Arguments::parse_from(all).command {
            crate::arguments::Command::Token(token) => token,
            other => panic!("{other:?}"),
        }
    }

    fn issuers(tenant: &Value) -> Value {
        let key = SigningKey::generate(Algorithm::Hs256, "dev", [7; 32]).unwrap();
        let mut issuer =
            json!({"issuer": ISSUER_DEFAULT, "audience": "tidegate", "keys": {"keys": [key.verifying_jwk()]}});
        let fields = issuer.as_object_mut().unwrap();
        fields.extend(tenant.as_object().unwrap().clone());
        json!([issuer])
    }

    #[test]
    fn a_minted_token_passes_the_servers_own_check() {
        let issuers = issuers(&json!({"tenant_claim": "tid"})).to_string();
        let vars = format!("OTHER=1\nTIDEGATE_ISSUERS='{issuers}'\n");
        let minted = sign(
            &token(&["--tenant", "acme", "--user", "ada", "--scope", "a b"]),
            &vars,
            NOW_MS,
        )
        .unwrap();
        let principal = check(&issuers, &minted);
        assert!(principal.contains("acme") && principal.contains("ada"), "{principal}");
    }

    fn check(issuers: &str, minted: &str) -> String {
        let issuers = Issuers::parse(issuers).unwrap();
        let principal = issuers.verify(minted, NOW_MS, None).unwrap();
        format!("{principal:?}")
    }

    #[test]
    fn an_issuer_of_one_tenant_signs_for_no_other() {
        let issuers = issuers(&json!({"tenant": "acme"})).to_string();
        assert!(sign(&token(&["--tenant", "acme"]), &issuers, NOW_MS).is_ok());
        assert_eq!(sign(&token(&[]), &issuers, NOW_MS).unwrap_err().exit, Exit::Invalid);
    }

    #[test]
    fn a_file_without_a_private_key_is_told() {
        for text in ["", "A=1", "[]", "{}", "TIDEGATE_ISSUERS='nonsense'"] {
            assert_eq!(
                sign(&token(&[]), text, NOW_MS).unwrap_err().exit,
                Exit::Invalid,
                "{text}"
            );
        }
    }
}
