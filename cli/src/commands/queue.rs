//! `tidegate queue` and `tidegate job why`: what waits, for what, and holding jobs back.

use tidegate_sdk::http::{Cause, Pause, PauseScope, Queue as View, Reason, Scope, Why};
use tidegate_sdk::{Client, JobId};

use crate::arguments::{Held, Queue};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Runs one of the commands on the queue.
pub async fn queue(client: &Client, command: Queue, output: Output) -> Result<Exit, Failure> {
    let http = client.http();
    let view = match command {
        Queue::Show => http.queue().await?,
        Queue::Pause { held } => http.pause_queue(&scope(held)).await?,
        Queue::Resume { held } => http.resume_queue(&scope(held)).await?,
    };
    if output.is_json() {
        output.event("queue", &view);
    } else {
        output.print(&tame_lines(&describe(&view)));
    }
    Ok(Exit::Succeeded)
}

/// Says what a job waits for, a line for each thing.
pub async fn why(client: &Client, job: &JobId, output: Output) -> Result<Exit, Failure> {
    let why = client.http().why(job).await?;
    if output.is_json() {
        output.event("why", &why);
    } else {
        output.print(&tame_lines(&explain(&why)));
    }
    Ok(Exit::Succeeded)
}

/// The command line takes exactly one of them.
fn scope(held: Held) -> PauseScope {
    match (held.action, held.key) {
        (Some(action), _) => PauseScope::Action(action),
        (None, Some(key)) => PauseScope::Key(key),
        (None, None) => PauseScope::Tenant,
    }
}

fn tame_lines(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| tame(line)).collect();
    lines.join("\n")
}

fn describe(view: &View) -> Vec<String> {
    let mut lines = vec![format!(
        "{} running, {} waiting{}",
        view.running,
        view.waiting,
        spread(view)
    )];
    let actions = view.actions.iter();
    lines.extend(actions.map(|queue| format!("waiting  {}  {}", queue.action, queue.waiting)));
    for pool in &view.pools {
        let workers: Vec<&str> = pool.workers.iter().map(|worker| worker.worker.as_str()).collect();
        let workers = if workers.is_empty() {
            "no worker".to_owned()
        } else {
            workers.join(", ")
        };
        let (name, waiting, leased) = (&pool.pool, pool.waiting, pool.leased);
        lines.push(format!(
            "pool     {name}  {waiting} waiting, {leased} at workers: {workers}"
        ));
    }
    let pauses = view.pauses.iter();
    lines.extend(pauses.map(|pause| format!("paused   {}  {}", held(&pause.scope), author(pause))));
    lines
}

/// Over how many shards the jobs are spread, where there is more than one.
fn spread(view: &View) -> String {
    match (view.shards, view.growing_to) {
        (shards, Some(to)) if shards < to => format!(", growing from {shards} to {to} shards"),
        (shards, Some(_)) => format!(", {shards} shards, of which the new ones wait for the limits"),
        (0 | 1, None) => String::new(),
        (shards, None) => format!(", {shards} shards"),
    }
}

/// What a pause holds back, as the command line says it.
fn held(scope: &Scope) -> String {
    match scope {
        Scope::Known(PauseScope::Tenant) => "--tenant".to_owned(),
        Scope::Known(PauseScope::Action(pattern)) => format!("--action {}", pattern.as_str()),
        Scope::Known(PauseScope::Key(key)) => format!("--key {key}"),
        Scope::Other(other) => other.to_string(),
    }
}

fn author(pause: &Pause) -> String {
    match pause.since {
        Some(since) => format!("by {} since {since}", pause.by),
        None => format!("by {}", pause.by),
    }
}

pub fn explain(why: &Why) -> Vec<String> {
    if why.waits_for.is_empty() {
        return vec![format!("It waits for nothing: its status is {}.", why.status)];
    }
    why.waits_for.iter().map(sentence).collect()
}

fn sentence(reason: &Reason) -> String {
    let cause = match reason {
        Reason::Known(cause) => cause,
        Reason::Other { kind, about } => {
            return format!("It waits for something that this command does not know: {kind} {about}.");
        }
    };
    match cause {
        Cause::Delayed { until } => format!("It may not start before {until}."),
        Cause::Retrying { until } => format!("An attempt failed; the next may not start before {until}."),
        Cause::Doorbell { until } => format!("Its doorbell has not rung; without it, it may start at {until}."),
        Cause::PausedAlone { by, since } => format!("It is paused, by {by} since {since}."),
        Cause::Paused(pause) => {
            let what = match &pause.scope {
                Scope::Known(PauseScope::Tenant) => "All jobs are paused".to_owned(),
                Scope::Known(PauseScope::Action(pattern)) => format!("The actions {} are paused", pattern.as_str()),
                Scope::Known(PauseScope::Key(key)) => format!("The share of {key} is paused"),
                Scope::Other(other) => format!("It is paused by {other}"),
            };
            format!("{what}, {}.", author(pause))
        }
        Cause::Limit {
            limit,
            key,
            max,
            held_by,
        } => {
            let holders: Vec<&str> = held_by.iter().map(JobId::as_str).collect();
            let holders = if holders.is_empty() {
                String::new()
            } else {
                format!(", held by {}", holders.join(", "))
            };
            format!("The limit {limit}{} is full: {max} at once{holders}.", of_key(key))
        }
        Cause::Throttled { limit, key, until } => {
            format!("The throttle {limit}{} has room again at {until}.", of_key(key))
        }
        Cause::Places { running } => format!("Every place of the queue is taken: {running} jobs run."),
        Cause::Growing { limit, key } => format!(
            "The tenant grows: under the limit {limit}{} the other shards still run more than their new part.",
            of_key(key)
        ),
        Cause::Worker { pool, asked_at: None } => {
            format!("It waits for a worker of the pool {pool}: none has asked for work of late.")
        }
        Cause::Worker {
            pool,
            asked_at: Some(at),
        } => format!("It waits for a worker of the pool {pool}; one last asked for work at {at}."),
        Cause::Behind { ahead: 1 } => "1 job like it comes first.".to_owned(),
        Cause::Behind { ahead } => format!("{ahead} jobs like it come first."),
    }
}

fn of_key(key: &str) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!(" for {key}")
    }
}
