//! `tidegate job`: looks at jobs, says what they wait for, follows and cancels them, tries them again, reads their
//! results.

use serde_json::json;
use tidegate_protocol::event::JobState;
use tidegate_protocol::fault::closest;
use tidegate_sdk::http::{Job as JobView, JobFilter};
use tidegate_sdk::{ApiError, Client, Fault, JobId, Seq, Status, Target};

use super::{call, history, objects, queue};
use crate::arguments::Job;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{Following, follow};
use crate::output::{Output, pretty, tame};

/// The longest that the server waits in one request. Seconds.
const WAIT_S_MAX: u64 = tidegate_protocol::limits::WAIT_SECONDS_MAX;

/// Runs one of the commands on jobs.
pub async fn job(client: &Client, job: Job, output: Output) -> Result<Exit, Failure> {
    match job {
        Job::Show { id, wait } => show(client, &parse(&id)?, wait, output).await,
        Job::List {
            status,
            action,
            user,
            batch,
            created_after,
            created_before,
            metadata,
            sort,
            limit,
            cursor,
        } => {
            if let Some(status) = &status {
                known_status(status)?;
            }
            let filter = JobFilter {
                status,
                action,
                user,
                code: None,
                batch,
                created_after,
                created_before,
                metadata: metadata.into_iter().collect(),
                limit,
                cursor,
                sort,
            };
            list(client, &filter, output).await
        }
        Job::Retry { id, payload } => {
            let asked = parse(&id)?;
            let payload = payload.map(|text| call::payload(Some(&text))).transpose()?;
            let job = client.http().retry(&asked, payload.as_ref()).await?;
            if output.is_json() {
                output.event("job", &job);
                return Ok(Exit::Succeeded);
            }
            let tried = &job.job_id;
            output.print(tried.as_str());
            let what = if *tried == asked {
                "is due now"
            } else {
                "is done again by a new job"
            };
            output.say(&format!(
                "{asked} {what} ({}). Follow it with: tidegate job follow {tried}",
                job.status
            ));
            Ok(Exit::Succeeded)
        }
        Job::Pause { id } => {
            let job = client.http().pause_job(&parse(&id)?).await?;
            let what = format!("To let it go: tidegate job resume {}", job.job_id);
            changed(&job, output, &what)
        }
        Job::Resume { id } => {
            let job = client.http().resume_job(&parse(&id)?).await?;
            changed(&job, output, "It waits where it waited.")
        }
        Job::Reschedule { id, after, at } => {
            let id = parse(&id)?;
            let job = match (after, at) {
                (_, Some(at)) => client.http().reschedule_at(&id, &at).await?,
                (after, None) => client.http().reschedule_after(&id, after.unwrap_or(0)).await?,
            };
            changed(&job, output, "It starts not before its time.")
        }
        Job::Cancel { id } => {
            let job = parse(&id)?;
            client.http().cancel(&job).await?;
            output.say(&format!("Asked to end. Its outcome: tidegate job show {job}"));
            if output.is_json() {
                output.event("ok", &json!({"job_id": job}));
            }
            Ok(Exit::Succeeded)
        }
        Job::Why { id } => queue::why(client, &parse(&id)?, output).await,
        Job::Follow { id, after, timeout } => {
            let handle = client.follow(Target::Job(parse(&id)?), after.map(Seq))?;
            let following = Following {
                shown: true,
                timeout_ms: timeout,
                again: None,
            };
            follow(client, handle, &following, output).await
        }
        Job::Output {
            id,
            stream,
            offset,
            follow,
        } => history::output(client, &parse(&id)?, &stream, offset, follow, output).await,
        Job::Events { id, after } => history::events(client, &parse(&id)?, after.map(Seq), output).await,
        Job::Result { id, file } => {
            let mut download = client.http().result(&parse(&id)?).await?;
            objects::save(&mut download, file.as_deref(), output).await
        }
    }
}

/// Says how a job stands after a change.
fn changed(job: &JobView, output: Output, what: &str) -> Result<Exit, Failure> {
    if output.is_json() {
        output.event("job", job);
    } else {
        output.say(&format!("{} is {} now. {what}", job.job_id, job.status));
    }
    Ok(Exit::Succeeded)
}

/// Reads a job's id. Errors: it is none.
pub fn parse(id: &str) -> Result<JobId, Failure> {
    JobId::parse(id).ok_or_else(|| {
        let mut failure = Failure::new(Exit::Invalid, "This is no job's id.");
        failure.faults = vec![Fault::new("", "a job's id, such as job_0abc…", id)];
        failure.remedy("`tidegate job list` shows the ids.")
    })
}

fn known_status(status: &str) -> Result<(), Failure> {
    let names = || JobState::ALL.iter().map(|state| state.as_str());
    if names().any(|name| name == status) {
        return Ok(());
    }
    let known: Vec<&str> = names().collect();
    let expected = format!("one of {}", known.join(", "));
    let mut failure = Failure::new(Exit::Invalid, "There is no such state of a job.");
    let mut fault = Fault::new("/status", expected, status);
    fault.suggestion = closest(status, names()).map(str::to_owned);
    failure.faults = vec![fault];
    Err(failure)
}

async fn show(client: &Client, id: &JobId, wait_ms: Option<u64>, output: Output) -> Result<Exit, Failure> {
    let mut left_s = wait_ms.map(|ms| ms.div_ceil(1000));
    let job = loop {
        let wait_s = left_s.map(|left| left.min(WAIT_S_MAX));
        let job = client.http().job(id, wait_s).await?;
        left_s = left_s.map(|left| left.saturating_sub(WAIT_S_MAX));
        if job.status.is_ended() || left_s.unwrap_or(0) == 0 {
            break job;
        }
    };
    if output.is_json() {
        output.event("job", &job);
    } else {
        output.print(&describe(&job));
    }
    Ok(match wait_ms {
        None => Exit::Succeeded,
        Some(_) => outcome(&job.status, job.error.as_ref()),
    })
}

/// The exit code that tells how a job stands.
fn outcome(status: &Status, error: Option<&ApiError>) -> Exit {
    match status {
        Status::Known(JobState::Succeeded) => Exit::Succeeded,
        Status::Known(JobState::Failed) => error.map_or(Exit::Failed, |error| Exit::of_code(&error.code)),
        Status::Known(JobState::Cancelled) => Exit::Cancelled,
        Status::Known(
            JobState::Expired
            | JobState::Scheduled
            | JobState::Queued
            | JobState::Retrying
            | JobState::Running
            | JobState::Paused,
        )
        | Status::Other(_) => Exit::Unavailable,
    }
}

fn describe(job: &JobView) -> String {
    let time = |time: Option<tidegate_sdk::UnixMs>| time.map(|time| time.to_string());
    let message = job.progress.message.as_deref().unwrap_or_default();
    let notes: Vec<String> = job
        .metadata
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let fields = [
        ("job", Some(job.job_id.to_string())),
        ("action", Some(job.action.clone())),
        ("user", Some(job.user.clone())),
        ("status", Some(job.status.to_string())),
        ("attempt", Some(job.attempt.to_string())),
        ("progress", Some(format!("{:.1} % {message}", job.progress.percentage))),
        ("metadata", (!notes.is_empty()).then(|| notes.join(" "))),
        ("created", time(job.created_at)),
        ("run at", time(job.run_at)),
        ("started", time(job.started_at)),
        ("ended", time(job.ended_at)),
        ("expires", time(job.expires_at)),
        ("error", job.error.as_ref().map(ToString::to_string)),
        ("redrives", job.redriven_from.as_ref().map(ToString::to_string)),
        ("redriven", job.redriven_to.as_ref().map(ToString::to_string)),
        ("batch", job.batch_id.as_ref().map(ToString::to_string)),
        (
            "result",
            job.result_url
                .as_ref()
                .map(|_| format!("tidegate job result {}", job.job_id)),
        ),
    ];
    let mut lines: Vec<String> = fields
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name:<9} {}", tame(value?.trim_end()))))
        .collect();
    lines.extend(job.result.as_ref().map(|result| pretty(result.as_str())));
    lines.join("\n")
}

async fn list(client: &Client, filter: &JobFilter, output: Output) -> Result<Exit, Failure> {
    let page = client.http().jobs(filter).await?;
    if output.is_json() {
        for job in &page.jobs {
            output.event("job", job);
        }
        if let Some(cursor) = &page.cursor {
            output.event("page", &json!({"cursor": cursor}));
        }
        return Ok(Exit::Succeeded);
    }
    if page.jobs.is_empty() {
        output.say("No jobs.");
        return Ok(Exit::Succeeded);
    }
    let widest = page
        .jobs
        .iter()
        .map(|job| job.action.chars().count())
        .max()
        .unwrap_or(0);
    output.print(&format!(
        "{:<21}  {:<9}  {:>7}  {:<24}  {:<widest$}  USER",
        "JOB", "STATUS", "DONE", "CREATED", "ACTION"
    ));
    for job in &page.jobs {
        let created = job.created_at.map(|time| time.to_string()).unwrap_or_default();
        let line = format!(
            "{:<21}  {:<9}  {:>5.1} %  {created:<24}  {:<widest$}  {}",
            job.job_id.as_str(),
            job.status.as_str(),
            job.progress.percentage,
            job.action,
            job.user
        );
        output.print(&tame(&line));
    }
    if let Some(cursor) = &page.cursor {
        output.say(&format!("More: --cursor {}", tame(cursor)));
    }
    Ok(Exit::Succeeded)
}
