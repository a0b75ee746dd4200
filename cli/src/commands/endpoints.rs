//! `tidegate endpoint` and `webhook-secret`: who is told of ends, and how they know that we told them.

use tidegate_sdk::Client;
use tidegate_sdk::http::{Endpoint as Shown, EndpointSettings, Job, JobFilter};

use crate::arguments::{Endpoint, WebhookSecret, WebhookSecretCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Runs one of the commands on endpoints.
pub async fn endpoints(client: &Client, command: Endpoint, output: Output) -> Result<Exit, Failure> {
    let http = client.http();
    let enabled = |enabled| EndpointSettings {
        enabled: Some(enabled),
        ..EndpointSettings::default()
    };
    match command {
        Endpoint::Create { url, settings } => {
            let made = http.create_endpoint(&settings.with(Some(url))).await?;
            if output.is_json() {
                output.event("endpoint", &made);
            } else {
                output.print(made.endpoint_id.as_str());
            }
        }
        Endpoint::List => {
            let list = http.endpoints().await?;
            if list.endpoints.is_empty() {
                output.say("No endpoints.");
            }
            for endpoint in &list.endpoints {
                show(endpoint, output);
            }
        }
        Endpoint::Show { id } => show(&http.endpoint(&id).await?, output),
        Endpoint::Change { id, url, settings } => {
            show(&http.change_endpoint(&id, &settings.with(url)).await?, output);
        }
        Endpoint::Enable { id } => show(&http.change_endpoint(&id, &enabled(true)).await?, output),
        Endpoint::Disable { id } => show(&http.change_endpoint(&id, &enabled(false)).await?, output),
        Endpoint::Delete { id } => {
            http.delete_endpoint(&id).await?;
            output.say(&format!("Deleted {}.", tame(&id)));
        }
        Endpoint::Deliveries { id, status, limit } => {
            let filter = JobFilter {
                status,
                limit,
                ..JobFilter::default()
            };
            let page = http.deliveries(&id, &filter).await?;
            if page.jobs.is_empty() {
                output.say("No messages.");
            }
            for job in &page.jobs {
                if output.is_json() {
                    output.event("delivery", job);
                } else {
                    output.print(&tame(&delivery(job)));
                }
            }
        }
        Endpoint::Replay { id, since } => {
            let done = http.replay_endpoint(&id, since).await?;
            if output.is_json() {
                output.event("replayed", &done);
            } else {
                let more = if done.more {
                    " There are more: run it again."
                } else {
                    ""
                };
                output.say(&format!("{} messages are sent again.{more}", done.replayed));
            }
        }
    }
    Ok(Exit::Succeeded)
}

fn show(endpoint: &Shown, output: Output) {
    if output.is_json() {
        output.event("endpoint", endpoint);
    } else {
        output.print(&tame(&line(endpoint)));
    }
}

fn line(endpoint: &Shown) -> String {
    let events: Vec<String> = endpoint.events.iter().map(name).collect();
    let mut line = format!(
        "{}  {}  {}  {}",
        endpoint.endpoint_id,
        endpoint.url,
        name(&endpoint.signature),
        events.join(",")
    );
    if endpoint.ordered {
        line.push_str("  in order");
    }
    if let Some(filter) = &endpoint.filter {
        line.push_str(&format!("  filter {filter}"));
    }
    if !endpoint.description.is_empty() {
        line.push_str(&format!("  {}", endpoint.description));
    }
    if !endpoint.enabled {
        let since = endpoint
            .disabled_at
            .map(|at| format!(" since {at}"))
            .unwrap_or_default();
        let why = endpoint.disabled_reason.as_deref().unwrap_or_default();
        line.push_str(&format!("  disabled{since}: {why}"));
    }
    line
}

/// A message: its event, how it stands, and what its last attempt came to.
fn delivery(job: &Job) -> String {
    let note = |name: &str| job.metadata.get(name).map_or("", String::as_str);
    let mut line = format!(
        "{}  {}  {}  {}  attempt {}",
        job.job_id,
        job.status,
        note("event"),
        note("job_id"),
        job.attempt
    );
    if let Some(at) = job.ended_at.or(job.created_at) {
        line.push_str(&format!("  {at}"));
    }
    if let Some(result) = &job.result {
        line.push_str(&format!("  {}", result.as_str()));
    }
    if let Some(error) = &job.error {
        line.push_str(&format!("  {}", error.message));
    }
    line
}

/// A value as the API calls it.
fn name(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// Shows the secret of the tenant's webhooks, or changes it.
pub async fn webhook_secret(client: &Client, command: WebhookSecret, output: Output) -> Result<Exit, Failure> {
    if let Some(WebhookSecretCommand::Rotate { overlap }) = command.command {
        let rotated = client.http().rotate_webhook_secret(overlap).await?;
        if output.is_json() {
            output.event("rotated", &rotated);
        } else {
            let until = match rotated.old_until {
                Some(at) => format!("Messages are signed with the old one as well until {at}."),
                None => "The old one signs no longer.".to_owned(),
            };
            output.say(&format!(
                "Another secret signs. {until} `tidegate webhook-secret` shows it."
            ));
        }
        return Ok(Exit::Succeeded);
    }
    let answer = client.http().webhook_secret().await?;
    if output.is_json() {
        output.event("webhook_secret", &answer);
        return Ok(Exit::Succeeded);
    }
    output.print(&answer.secret);
    if let Some(key) = &answer.public_key {
        output.say(&format!(
            "The public key, for endpoints that are signed to with v1a: {}",
            tame(key)
        ));
    }
    if let (Some(old), Some(until)) = (&answer.old_secret, answer.old_until) {
        output.say(&format!(
            "Until {until} messages are signed with the one before as well: {}",
            tame(old)
        ));
    }
    Ok(Exit::Succeeded)
}
