//! What must hold of those who are told of ends. It sees every commit and every message that is heard, and reads the rows
//! without the engine: names stand in them as they are written.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_engine::database::{Database, DatabaseError, Value};
use tidegate_engine::jobs::Effect;
use tidegate_protocol::calls::executor::Execute;
use tidegate_protocol::calls::hooks::HOOK_ACTION;
use tidegate_protocol::calls::jobs::Call;
use tidegate_protocol::http::Endpoint;
use tidegate_protocol::ids::{EndpointId, JobId, JobNumber};
use tidegate_protocol::time::UnixMs;

use super::{ENDPOINTS, HOOK, Turn};
use crate::world::Check;

/// How ends are stored.
const ENDED: std::ops::RangeInclusive<u64> = 4..=7;
const FAILED: u64 = 5;
/// The hook of a job, among the names of those who are told.
const OF_JOB: &str = "hook";

/// A message: to whom, about which end, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    to: &'static str,
    id: String,
    state: u64,
    redriven: bool,
}

/// What is known.
#[derive(Debug, Default)]
pub struct Oracle {
    messages: BTreeMap<JobId, Message>,
    ended: BTreeSet<JobId>,
    /// Which message of whom was heard.
    heard: BTreeSet<(String, String)>,
    /// The version of the list that the object has, and when each endpoint was changed last by that.
    version: u64,
    changed: BTreeMap<String, UnixMs>,
    /// Endpoints that said that they are gone, and as which they said it.
    gone: BTreeMap<String, UnixMs>,
    /// Whose word the turn takes in, that it is gone.
    pub says_gone: Option<String>,
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The name of the message in an event's text.
fn message_id(payload: &[u8]) -> Option<String> {
    let at = payload.windows(4).position(|window| window == b"evt_")?;
    let rest = payload.get(at..)?;
    let length = rest.iter().position(|byte| *byte == b'"')?;
    String::from_utf8(rest.get(..length)?.to_vec()).ok()
}

/// A row of the table of jobs.
struct Row {
    job: JobId,
    state: u64,
    redriven_to: Option<JobId>,
}

/// Messages, or all other jobs.
fn rows(db: &impl Database, is_message: bool) -> Result<Vec<Row>, String> {
    let sql = match is_message {
        true => "SELECT number, tail, state, redriven_to FROM job WHERE action = ? ORDER BY number",
        false => "SELECT number, tail, state, redriven_to FROM job WHERE action <> ? ORDER BY number",
    };
    let rows = db
        .run(sql, &[Value::Text(HOOK_ACTION)])
        .map_err(|error| error.message)?;
    let read = rows.into_iter().map(|mut row| {
        let number = JobNumber(row.number()?);
        Ok(Row {
            job: JobId::new(number, row.number()? as u32),
            state: row.number()?,
            redriven_to: row.optional_text()?.and_then(|text| JobId::parse(&text)),
        })
    });
    let read: Result<Vec<Row>, DatabaseError> = read.collect();
    read.map_err(|error| error.message)
}

/// What a job is, and its input, as they are stored.
fn stored(db: &impl Database, job: JobId) -> Result<(Vec<u8>, Vec<u8>), String> {
    let sql = "SELECT spec, payload FROM job WHERE number = ?";
    let rows = db.run(sql, &[Value::Number(job.number().0)]);
    let mut row = rows
        .map_err(|error| error.message)?
        .into_iter()
        .next()
        .ok_or("no row")?;
    let mut blob = || row.blob().map_err(|error| error.message);
    Ok((blob()?, blob()?))
}

impl Oracle {
    /// A turn was stored.
    pub fn committed(&mut self, db: &impl Database, turn: &Turn, effects: &[Effect]) -> Check {
        let took = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Reply { reply: Ok(_), .. }));
        if let Some(name) = self.says_gone.take().filter(|_| took) {
            let changed = self.changed.get(&name).copied().unwrap_or(UnixMs(0));
            self.gone.insert(name, changed);
        }
        self.look(db)?;
        if let Turn::Handle(call) = turn
            && let Call::SetEndpoints { version, endpoints } = &**call
            && *version > self.version
        {
            self.version = *version;
            let all: Vec<Endpoint> = serde_json::from_str(endpoints.as_str()).map_err(|error| error.to_string())?;
            for endpoint in all {
                let (name, at) = (endpoint.endpoint_id.to_string(), endpoint.updated_at);
                // Somebody has enabled it, or has changed it, since it said so.
                if endpoint.enabled && self.gone.get(&name).is_some_and(|gone| *gone < at) {
                    self.gone.remove(&name);
                }
                self.changed.insert(name, at);
            }
        }
        Ok(())
    }

    /// Each job that has ended since has exactly one message for each who is told of it, made in the same turn.
    fn look(&mut self, db: &impl Database) -> Check {
        let all = rows(db, true)?;
        let redriven: BTreeSet<JobId> = all.iter().filter_map(|row| row.redriven_to).collect();
        let mut fresh: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for row in &all {
            if let Some(known) = self.messages.get_mut(&row.job) {
                known.state = row.state;
                continue;
            }
            let (spec, payload) = stored(db, row.job)?;
            let id = message_id(&payload).ok_or_else(|| format!("{} tells nothing", row.job))?;
            let named = ENDPOINTS.iter().map(|(name, _)| *name).find(|name| has(&spec, name));
            let message = Message {
                to: named.unwrap_or(OF_JOB),
                id,
                state: row.state,
                redriven: redriven.contains(&row.job),
            };
            if !message.redriven {
                fresh.entry(message.id.clone()).or_default().push(message.to);
            }
            self.messages.insert(row.job, message);
        }
        for row in rows(db, false)?.iter().filter(|row| ENDED.contains(&row.state)) {
            if !self.ended.insert(row.job) {
                continue;
            }
            let mut told = fresh.remove(&format!("evt_{}", row.job)).unwrap_or_default();
            let mut right: Vec<&str> = self.changed.keys().map(String::as_str).collect();
            right.extend(has(&stored(db, row.job)?.0, HOOK).then_some(OF_JOB));
            told.sort_unstable();
            right.sort_unstable();
            if told != right {
                return Err(format!(
                    "the end of {} is told to {told:?}, and not to {right:?}",
                    row.job
                ));
            }
        }
        match fresh.first_key_value() {
            None => Ok(()),
            Some((id, to)) => Err(format!("{id} is told to {to:?} once more")),
        }
    }

    /// A message sets out.
    pub fn check_sent(&self, execute: &Execute) -> Check {
        let Some(message) = execute.message.as_ref().filter(|message| message.held.is_none()) else {
            return Ok(());
        };
        let name = message.endpoint.as_ref().map_or("", EndpointId::as_str);
        match self.gone.contains_key(name) {
            true => Err(format!("{} is sent to {name}, which is gone", message.id)),
            false => Ok(()),
        }
    }

    /// A receiver hears a message. What was made before it for the same endpoint in order is heard, or was given up.
    pub fn heard(&mut self, to: &str, execute: &Execute) -> Check {
        let id = execute.message.as_ref().map(|message| message.id.clone());
        self.heard.insert((to.to_owned(), id.ok_or("a message")?));
        let is_ordered = ENDPOINTS.iter().any(|(name, ordered)| *name == to && *ordered);
        let is_first = |message: &Message| message.to == to && !message.redriven;
        if !is_ordered || !self.messages.get(&execute.job).is_some_and(is_first) {
            return Ok(());
        }
        let before = self
            .messages
            .iter()
            .filter(|(job, _)| job.number() < execute.job.number());
        let before = before.filter(|(_, message)| is_first(message));
        let waits = |message: &Message| {
            !ENDED.contains(&message.state) && !self.heard.contains(&(to.to_owned(), message.id.clone()))
        };
        match { before }.find(|(_, message)| waits(message)) {
            None => Ok(()),
            Some((job, message)) => Err(format!("{to} heard {} before {job}: {message:?}", execute.job)),
        }
    }

    /// Messages that were given up, and that nobody has sent again.
    pub fn dead(&self, db: &impl Database) -> Result<Vec<JobId>, String> {
        let all = rows(db, true)?;
        let dead = all
            .into_iter()
            .filter(|row| row.state == FAILED && row.redriven_to.is_none());
        Ok(dead.map(|row| row.job).collect())
    }

    /// In the end everybody has heard of everything.
    pub fn check_at_rest(&self) -> Check {
        let heard = |message: &&Message| self.heard.contains(&(message.to.to_owned(), message.id.clone()));
        match self.messages.values().find(|message| !heard(message)) {
            None => Ok(()),
            Some(message) => Err(format!("nobody ever heard {message:?}")),
        }
    }
}
