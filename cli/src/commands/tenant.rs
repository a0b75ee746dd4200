//! `tidegate tenant`: the tenants of a deployment.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_sdk::Client;
use tidegate_sdk::http::{KeptBackups, NewTenant, Tenant, TenantFilter};

use super::{backups, recovery};
use crate::arguments::{Limits, Tenant as Command};
use crate::commands::limits;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// How often an erasure that is waited for is looked at.
const LOOK_MS: u64 = 1_000;

/// Runs one of the commands on tenants.
pub async fn tenant(client: &Client, command: Command, output: Output) -> Result<Exit, Failure> {
    let http = client.http();
    let shown = match command {
        Command::Create {
            tenant,
            jurisdiction,
            template,
        } => {
            let new = NewTenant {
                tenant,
                jurisdiction,
                template,
            };
            http.create_tenant(&new).await?
        }
        Command::List { state, limit, cursor } => {
            let page = http.tenants(&TenantFilter { state, limit, cursor }).await?;
            if page.tenants.is_empty() {
                output.say("There is no such tenant.");
            }
            for one in &page.tenants {
                show(one, output);
            }
            if let Some(cursor) = &page.cursor {
                if output.is_json() {
                    output.event("page", &json!({ "cursor": cursor }));
                } else {
                    output.say(&format!("More: --cursor {}", tame(cursor)));
                }
            }
            return Ok(Exit::Succeeded);
        }
        Command::Show { tenant } => http.tenant(&tenant).await?,
        Command::Limits {
            tenant,
            name,
            cursor,
            set,
        } => {
            let asked = Limits { name, cursor };
            return limits::of_tenant(client, &tenant, asked, set.as_deref(), output).await;
        }
        Command::Suspend { tenant } => http.suspend_tenant(&tenant).await?,
        Command::Resume { tenant } => http.resume_tenant(&tenant).await?,
        Command::Recover { tenant, at } => return recovery::recover(client, &tenant, &at, output).await,
        Command::Backups(command) => return backups::backups(client, command, output).await,
        Command::Erase {
            tenant,
            confirm,
            keep_backups,
            wait,
        } => {
            if tenant != confirm {
                let message = format!("`--confirm` has to repeat the id `{tenant}`.");
                return Err(
                    Failure::new(Exit::Invalid, message).remedy("What is erased comes back from a backup alone.")
                );
            }
            let kept = if keep_backups {
                KeptBackups::All
            } else {
                KeptBackups::None
            };
            let mut shown = http.erase_tenant(&tenant, kept).await?;
            while wait && shown.state == "erasing" {
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
                shown = http.tenant(&tenant).await?;
            }
            shown
        }
    };
    show(&shown, output);
    Ok(Exit::Succeeded)
}

fn show(tenant: &Tenant, output: Output) {
    if output.is_json() {
        return output.event("tenant", tenant);
    }
    output.print(&tame(&line(tenant)));
    if let Some(erasure) = erasure_line(tenant) {
        output.print(&tame(&erasure));
    }
}

fn line(tenant: &Tenant) -> String {
    let since = tenant.created_at.map(|at| format!("  since {at}")).unwrap_or_default();
    let text = |name: &str| tenant.more.get(name).and_then(Value::as_str);
    let template = text("template")
        .map(|name| format!("  template {name}"))
        .unwrap_or_default();
    let jurisdiction = match (text("jurisdiction"), tenant.more.get("jurisdiction_enforced")) {
        (Some(name), Some(Value::Bool(false))) => format!("  {name} (not enforced here)"),
        (Some(name), _) => format!("  {name}"),
        (None, _) => String::new(),
    };
    format!("{}  {}{since}{template}{jurisdiction}", tenant.tenant, tenant.state)
}

fn erasure_line(tenant: &Tenant) -> Option<String> {
    let erasure = tenant.erasure.as_ref()?;
    let count = |name: &str| erasure.more.get(name).and_then(Value::as_u64).unwrap_or(0);
    let verified = match erasure.verified_at {
        Some(at) => format!("nothing found at {at}"),
        None => "not verified yet".into(),
    };
    Some(format!(
        "  erased: {} objects, {} rows, {} keys, {} stored objects ({} bytes); {verified}",
        count("objects"),
        count("rows"),
        count("keys"),
        count("stored_objects"),
        count("stored_bytes"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_a_tenant_stands_and_what_was_erased() {
        let tenant: Tenant = serde_json::from_value(json!({
            "tenant": "eu.acme", "state": "erased", "created_at": "2026-11-21T07:00:00.000Z", "template": "free",
            "jurisdiction": "eu", "jurisdiction_enforced": false,
            "erasure": { "asked_at": "2026-11-22T07:00:00.000Z", "objects": 3, "rows": 40, "keys": 1, "stored_objects": 2,
                "stored_bytes": 99, "passes": 2, "verified_at": "2026-11-22T07:00:09.000Z" },
        }))
        .unwrap();
        assert_eq!(
            line(&tenant),
            "eu.acme  erased  since 2026-11-21T07:00:00.000Z  template free  eu (not enforced here)"
        );
        assert_eq!(
            erasure_line(&tenant).unwrap(),
            "  erased: 3 objects, 40 rows, 1 keys, 2 stored objects (99 bytes); nothing found at 2026-11-22T07:00:09.000Z"
        );
        let tenant: Tenant = serde_json::from_value(json!({ "tenant": "acme", "state": "active" })).unwrap();
        assert_eq!((line(&tenant).as_str(), erasure_line(&tenant)), ("acme  active", None));
    }
}
