//! `tidegate dead-letters`: looks at jobs that failed for good, does them again, or takes them out of the list.

use serde_json::json;
use tidegate_sdk::http::{Bulk, BulkAnswer, BulkItem, JobFilter};
use tidegate_sdk::{Client, Code, ErrorCode};

use super::{call, job};
use crate::arguments::{DeadLetters, LetterFilter, Letters};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Jobs of one call, as many as the server takes.
const CALL_JOBS_MAX: usize = 100;

/// Runs one of the commands on dead letters.
pub async fn letters(client: &Client, command: DeadLetters, output: Output) -> Result<Exit, Failure> {
    match command {
        DeadLetters::List { filter, limit, cursor } => {
            let filter = JobFilter {
                limit,
                cursor,
                ..conditions(&filter)
            };
            list(client, &filter, output).await
        }
        DeadLetters::Redrive { which, rate, payload } => {
            let payload = payload.map(|text| call::payload(Some(&text))).transpose()?;
            if payload.is_some() && which.ids.len() != 1 {
                let failure = Failure::new(Exit::Invalid, "Another payload is for one job.");
                return Err(failure.remedy("Name the job: tidegate dead-letters redrive ID --payload JSON"));
            }
            let bulk = Bulk {
                rate_per_second: rate,
                payload,
                ..selected(&which)?
            };
            change(client, bulk, true, output).await
        }
        DeadLetters::Discard { which } => change(client, selected(&which)?, false, output).await,
    }
}

fn conditions(filter: &LetterFilter) -> JobFilter {
    JobFilter {
        action: filter.action.clone(),
        user: filter.user.clone(),
        code: filter.code.clone(),
        batch: filter.batch.clone(),
        created_after: filter.created_after.clone(),
        created_before: filter.created_before.clone(),
        metadata: filter.metadata.iter().cloned().collect(),
        ..JobFilter::default()
    }
}

/// The jobs that a command is about: without ids, all that fit the filter have to be asked for by `--all`.
fn selected(which: &Letters) -> Result<Bulk, Failure> {
    if which.ids.is_empty() && !which.all {
        let failure = Failure::new(Exit::Invalid, "Which dead letters?");
        return Err(failure.remedy("Name their ids, or say --all, with filters where only some are meant."));
    }
    let ids = which.ids.iter().map(|id| job::parse(id)).collect::<Result<_, _>>()?;
    Ok(Bulk {
        ids,
        filter: conditions(&which.filter),
        dry_run: which.dry_run,
        ..Bulk::default()
    })
}

async fn list(client: &Client, filter: &JobFilter, output: Output) -> Result<Exit, Failure> {
    let page = client.http().dead_letters(filter).await?;
    if output.is_json() {
        for letter in &page.dead_letters {
            output.event("dead_letter", letter);
        }
        if let Some(cursor) = &page.cursor {
            output.event("page", &json!({"cursor": cursor}));
        }
        return Ok(Exit::Succeeded);
    }
    if page.dead_letters.is_empty() {
        output.say("No dead letters.");
    }
    for letter in &page.dead_letters {
        let lost = letter.doorbell.and_then(|doorbell| doorbell.last_at);
        let failed = letter
            .failed_at
            .or(lost)
            .map(|time| time.to_string())
            .unwrap_or_default();
        let line = format!(
            "{}  {failed:<24}  {}  {} attempts  {}  {}",
            letter.job_id.as_str(),
            letter.action,
            letter.attempts,
            letter.user,
            letter.error
        );
        output.print(&tame(&line));
    }
    if let Some(cursor) = &page.cursor {
        output.say(&format!("More: --cursor {}", tame(cursor)));
    }
    Ok(Exit::Succeeded)
}

/// Changes the jobs, a call after the other until nothing is left.
async fn change(client: &Client, mut bulk: Bulk, redrives: bool, output: Output) -> Result<Exit, Failure> {
    let ids = std::mem::take(&mut bulk.ids);
    let mut exit = Exit::Succeeded;
    if ids.is_empty() {
        loop {
            let answer = ask(client, &bulk, redrives).await?;
            let full = told(&answer, redrives, output, &mut exit);
            bulk.filter.cursor = answer.cursor;
            let Some(cursor) = &bulk.filter.cursor else { break };
            if full {
                output.say(&format!(
                    "The queue is full. What is left is found again by --all ({}).",
                    tame(cursor)
                ));
                break;
            }
        }
    }
    for some in ids.chunks(CALL_JOBS_MAX) {
        bulk.ids = some.to_vec();
        let answer = ask(client, &bulk, redrives).await?;
        told(&answer, redrives, output, &mut exit);
    }
    Ok(exit)
}

async fn ask(client: &Client, bulk: &Bulk, redrives: bool) -> Result<BulkAnswer, Failure> {
    let http = client.http();
    Ok(if redrives {
        http.redrive(bulk).await?
    } else {
        http.discard(bulk).await?
    })
}

/// Prints what became of each job; true where there was no more room for new ones.
fn told(answer: &BulkAnswer, redrives: bool, output: Output, exit: &mut Exit) -> bool {
    let mut full = false;
    for item in &answer.jobs {
        if output.is_json() {
            output.event("job", item);
        } else {
            output.print(&tame(&line(item, redrives, answer.dry_run)));
        }
        if let Some(error) = &item.error {
            *exit = Exit::of_code(&error.code);
            full |= error.code == Code::Known(ErrorCode::QueueFull);
        }
    }
    full
}

fn line(item: &BulkItem, redrives: bool, dry_run: bool) -> String {
    let id = item.job_id.as_str();
    match (&item.error, &item.redriven_to) {
        (Some(error), _) => format!("{id}  {error}"),
        (None, Some(next)) => format!("{id}  redriven as {next}"),
        (None, None) => {
            let would = if dry_run { "would be " } else { "" };
            let done = if redrives { "redriven" } else { "discarded" };
            format!("{id}  {would}{done}")
        }
    }
}
