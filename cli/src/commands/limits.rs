//! `tidegate limits` and `tidegate tenant limits`: how often limits on requests have refused, what is left of one, and what the
//! deployment allows a tenant.

use std::path::Path;

use tidegate_sdk::Client;
use tidegate_sdk::http::{Bucket, LimitCounts, Limits as View};

use crate::arguments::Limits;
use crate::commands::usage::read;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Shows a line for each limit that has refused, and one for each key of the limit that is named.
pub async fn limits(client: &Client, asked: Limits, output: Output) -> Result<Exit, Failure> {
    let view = client
        .http()
        .limits(asked.name.as_deref(), asked.cursor.as_deref())
        .await?;
    show(&view, output);
    Ok(Exit::Succeeded)
}

/// Shows the limits of a tenant that an operator names; where there is a file, sets what the deployment allows it before.
pub async fn of_tenant(
    client: &Client,
    tenant: &str,
    asked: Limits,
    set: Option<&Path>,
    output: Output,
) -> Result<Exit, Failure> {
    let http = client.http();
    let view = match set {
        Some(file) => http.set_limits(tenant, &read(file)?).await?,
        None => {
            http.limits_of(tenant, asked.name.as_deref(), asked.cursor.as_deref())
                .await?
        }
    };
    if view.deployment.is_none() && !output.is_json() {
        output.print("The deployment sets this tenant no limits.");
    }
    show(&view, output);
    Ok(Exit::Succeeded)
}

fn show(view: &View, output: Output) {
    if output.is_json() {
        return output.event("limits", view);
    }
    if let Some(deployment) = &view.deployment {
        output.print(&format!("The deployment allows  {}", tame(&deployment.to_string())));
    }
    if view.counts.is_empty() {
        output.say(
            "No limit, of the tenant's own or the deployment's, has refused anything since the tenant's gate started.",
        );
    }
    for (name, counts) in &view.counts {
        output.print(&tame(&counted(name, *counts)));
    }
    for bucket in &view.buckets {
        output.print(&tame(&left(bucket)));
    }
    if let Some(cursor) = &view.cursor {
        output.say(&format!("More: --cursor {}", tame(cursor)));
    }
}

fn counted(name: &str, counts: LimitCounts) -> String {
    match counts.would_have_refused {
        0 => format!("{name}  {} refused", counts.refused),
        would => format!("{name}  {} refused, {would} would have been", counts.refused),
    }
}

fn left(bucket: &Bucket) -> String {
    let Bucket {
        key,
        units,
        per_ms,
        remaining,
        reset_ms,
        ..
    } = bucket;
    let key = if key.is_empty() { "(all)" } else { key };
    let (per, reset) = (per_ms.div_ceil(1000), reset_ms.div_ceil(1000));
    format!("  {key}  {remaining} left of {units} in {per} s, all of them in {reset} s")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_says_what_was_refused_and_what_is_left() {
        let counts = serde_json::from_value(json!({ "refused": 3, "would_have_refused": 0 })).unwrap();
        assert_eq!(counted("daily", counts), "daily  3 refused");
        let counts = serde_json::from_value(json!({ "refused": 0, "would_have_refused": 7 })).unwrap();
        assert_eq!(counted("trial", counts), "trial  0 refused, 7 would have been");
        let bucket = json!({ "key": "", "units": 100, "per_ms": 60_000, "remaining": 40, "reset_ms": 35_001 });
        let bucket = serde_json::from_value(bucket).unwrap();
        assert_eq!(left(&bucket), "  (all)  40 left of 100 in 60 s, all of them in 36 s");
    }
}
