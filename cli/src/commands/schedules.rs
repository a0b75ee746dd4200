//! `tidegate schedules`: what the tenant's clock fires.

use serde_json::json;
use tidegate_sdk::http::ScheduleInfo;
use tidegate_sdk::{Client, UnixMs};

use crate::arguments::Schedules;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Runs one of the commands on schedules.
pub async fn schedules(client: &Client, command: Schedules, output: Output) -> Result<Exit, Failure> {
    let http = client.http();
    match command {
        Schedules::List => {
            let list = http.schedules().await?;
            if output.is_json() {
                output.event("schedules", &list);
            } else if list.schedules.is_empty() {
                output.say("The composition has no schedules.");
            }
            for info in list.schedules.iter().filter(|_| !output.is_json()) {
                output.print(&line(info));
            }
        }
        Schedules::Pause { name } => show(&http.pause_schedule(&name).await?, output),
        Schedules::Resume { name } => show(&http.resume_schedule(&name).await?, output),
        Schedules::Trigger { name, key } => {
            let triggered = http.trigger_schedule(&name, key.as_deref()).await?;
            if output.is_json() {
                output.event("triggered", &triggered);
            } else {
                output.print(&triggered.job_id.to_string());
                output.say(&format!("Follow it: tidegate job follow {}", triggered.job_id));
            }
        }
        Schedules::Backfill { name, from, to } => backfill(client, &name, from, to, output).await?,
    }
    Ok(Exit::Succeeded)
}

/// Goes on until the whole part of the past has its jobs.
async fn backfill(client: &Client, name: &str, from: UnixMs, to: UnixMs, output: Output) -> Result<(), Failure> {
    let (mut fired, mut known) = (0, 0);
    let mut next = Some(from);
    while let Some(from) = next {
        let done = client.http().backfill_schedule(name, from, to).await?;
        fired += done.fired;
        known += done.known;
        // Where nothing more is taken, the server says so with an error; a place that stays would ask for ever.
        next = done.rest_from.filter(|rest| *rest > from);
    }
    if output.is_json() {
        output.event("backfilled", &json!({"fired": fired, "known": known}));
    } else {
        output.print(&format!("{fired} fired, {known} had a job already"));
    }
    Ok(())
}

fn show(info: &ScheduleInfo, output: Output) {
    if output.is_json() {
        output.event("schedule", info);
    } else {
        output.print(&line(info));
    }
}

fn line(info: &ScheduleInfo) -> String {
    let next = match info.next.first() {
        Some(at) => format!("next {at}"),
        None if info.paused => "paused".to_owned(),
        None => "no time is left".to_owned(),
    };
    let last = info.last_job.map(|job| format!("  last {job}")).unwrap_or_default();
    let missed = if info.missed > 0 {
        format!("  missed {}", info.missed)
    } else {
        String::new()
    };
    tame(&format!(
        "{}  {} ({})  {}  {next}{last}{missed}",
        info.name, info.cron, info.time_zone, info.action
    ))
}
