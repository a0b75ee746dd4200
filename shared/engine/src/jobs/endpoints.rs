//! What an object knows of the endpoints of its tenant: which are told of an end, and which have not heard anything for
//! long.
//!
//! The gate tells all of them at each change. Here a message takes its URL from that list when it is sent, and not when it
//! is made, so that a mended URL holds for all that waits. Since when nothing reaches an endpoint is a row from its first
//! failed attempt to its next good one; an endpoint that hears costs none. What disables one goes to the gate with the
//! audit trail, which is told in order until it is confirmed.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::executor::Outcome;
use tidegate_protocol::calls::hooks::{Hook, Message};
use tidegate_protocol::calls::jobs::Reply;
use tidegate_protocol::event::{Event, JsonText};
use tidegate_protocol::http::{AuditTarget, AuditWhat, Endpoint, EndpointEvent};
use tidegate_protocol::ids::{EndpointId, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::row::Job;
use super::{CallId, Turn};
use crate::composition::standard_policy;
use crate::database::{Database, DatabaseError, Value};
use crate::endpoints::{FAILING_MS_MAX, Told, VARIABLES, find, listed};
use crate::expression::{Expression, Type};
use tidegate_protocol::SortedMap;

/// The list as the gate told it, and since when endpoints fail.
pub(super) const ENDPOINTS: &[&str] = &[
    "-- jobs::schema
    CREATE TABLE endpoints (
        id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL, endpoints TEXT NOT NULL
    ) STRICT",
    "-- jobs::schema
    CREATE TABLE endpoint_failing (id TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT, WITHOUT ROWID",
];

/// Who does what nobody does by hand.
const OWN: &str = "tidegate";

/// What the object knows of endpoints.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Endpoints {
    version: u64,
    all: Vec<Endpoint>,
    /// The filters of those that have one. One that cannot be read here lets nothing pass.
    filters: SortedMap<EndpointId, Expression>,
    /// Since when nothing has reached an endpoint.
    failing: SortedMap<EndpointId, UnixMs>,
}

impl Endpoints {
    pub fn recover(db: &impl Database) -> Result<Self, DatabaseError> {
        let rows = db.run(
            "-- jobs::endpoints::recover
            SELECT version, endpoints FROM endpoints WHERE id = 1",
            &[],
        )?;
        let Some(mut row) = rows.into_iter().next() else {
            return Ok(Self::default());
        };
        let mut known = Self::of(row.number()?, listed(&row.text()?)?);
        let rows = db.run(
            "-- jobs::endpoints::recover\nSELECT id, since FROM endpoint_failing",
            &[],
        )?;
        for mut row in rows {
            if let Some(id) = EndpointId::parse(&row.text()?) {
                known.failing.insert(id, UnixMs(row.number()?));
            }
        }
        Ok(known)
    }

    fn of(version: u64, all: Vec<Endpoint>) -> Self {
        let compiled = |endpoint: &Endpoint| {
            let filter = Expression::compile(endpoint.filter.as_deref()?, VARIABLES, Type::Bool).ok()?;
            Some((endpoint.endpoint_id.clone(), filter))
        };
        Self {
            version,
            filters: all.iter().filter_map(compiled).collect(),
            all,
            failing: SortedMap::new(),
        }
    }

    /// Which endpoints are told of the end `event`, that is sent as `text`.
    fn told_of(&self, event: EndpointEvent, text: &JsonText) -> Vec<Endpoint> {
        let mut told = None;
        let mut passes = |endpoint: &&Endpoint| match &endpoint.filter {
            _ if !endpoint.events.contains(&event) => false,
            None => true,
            Some(_) => {
                let told: &Told = told.get_or_insert_with(|| Told::of(text));
                let filter = self.filters.get(&endpoint.endpoint_id);
                filter.is_some_and(|filter| told.passes(filter))
            }
        };
        self.all.iter().filter(&mut passes).cloned().collect()
    }

    /// A message as it is to be sent now.
    pub fn addressed(&self, message: &Message) -> Message {
        let mut message = message.clone();
        let Some(id) = &message.endpoint else {
            return message;
        };
        match find(&self.all, id) {
            None => message.held = Some("It was deleted.".into()),
            Some(endpoint) => {
                message.url.clone_from(&endpoint.url);
                message.signature = endpoint.signature;
                message.held = (!endpoint.enabled).then(|| endpoint.disabled_reason.clone().unwrap_or_default());
            }
        }
        message
    }
}

/// The endpoint that a job tells, where it is one that is kept.
fn endpoint_of(job: &Job) -> Option<&EndpointId> {
    job.spec
        .hook
        .as_ref()
        .and_then(Hook::message)
        .and_then(|message| message.endpoint.as_ref())
}

impl<D: Database> Turn<'_, D> {
    /// These are the tenant's endpoints. What failed before an endpoint was given another URL, or enabled again, says
    /// nothing about it any more.
    pub(super) fn set_endpoints(
        &mut self,
        call: CallId,
        version: u64,
        endpoints: &JsonText,
    ) -> Result<(), DatabaseError> {
        if version > self.state.endpoints.version {
            let mut all = listed(endpoints.as_str())?;
            for endpoint in &mut all {
                // One that was disabled here, of which the gate has not heard, and that nobody has changed since.
                let known = find(&self.state.endpoints.all, &endpoint.endpoint_id);
                let is_old = |known: &&Endpoint| !known.enabled && known.updated_at == endpoint.updated_at;
                if let Some(known) = known.filter(is_old).filter(|_| endpoint.enabled) {
                    endpoint.clone_from(known);
                }
            }
            let mut fresh = Endpoints::of(version, all);
            self.keep_endpoints(&fresh)?;
            let known = core::mem::take(&mut self.state.endpoints);
            for (id, since) in known.failing {
                let before = find(&known.all, &id);
                let same = |now: &&Endpoint| before.is_some_and(|before| before.enabled && before.url == now.url);
                if find(&fresh.all, &id).filter(same).is_some() {
                    fresh.failing.insert(id, since);
                } else {
                    self.forget_failing(&id)?;
                }
            }
            self.state.endpoints = fresh;
        }
        self.reply(call, Ok(Reply::Done));
        Ok(())
    }

    /// Stores what is known of endpoints.
    fn keep_endpoints(&self, known: &Endpoints) -> Result<(), DatabaseError> {
        let endpoints = JsonText::of(&known.all).ok_or_else(|| DatabaseError::new("endpoints cannot be written"))?;
        self.db.run(
            "-- jobs::keep_endpoints
            INSERT INTO endpoints (id, version, endpoints) VALUES (1, ?, ?)
            ON CONFLICT (id) DO UPDATE SET version = excluded.version, endpoints = excluded.endpoints",
            &[Value::Number(known.version), Value::Text(endpoints.as_str())],
        )?;
        Ok(())
    }

    fn forget_failing(&mut self, id: &EndpointId) -> Result<(), DatabaseError> {
        self.db.run(
            "-- jobs::forget_failing
            DELETE FROM endpoint_failing WHERE id = CAST(? AS TEXT)",
            &[Value::Text(id.as_str())],
        )?;
        Ok(())
    }

    /// Makes a message of the end of `job` for each endpoint that is told of it. A tenant without endpoints pays nothing.
    pub(super) fn tell_endpoints(&mut self, job: &Job, event: &Event) -> Result<(), DatabaseError> {
        let Some(what) = EndpointEvent::of(job.state).filter(|_| !self.state.endpoints.all.is_empty()) else {
            return Ok(());
        };
        let Some(text) = super::hooks::told(job, event, true) else {
            return Ok(());
        };
        for endpoint in self.state.endpoints.told_of(what, &text) {
            let order = endpoint.ordered.then(|| super::ordered::limit(&endpoint.endpoint_id));
            let message = Message {
                url: endpoint.url,
                id: super::hooks::message_id(job.id),
                endpoint: Some(endpoint.endpoint_id),
                signature: endpoint.signature,
                held: None,
            };
            let policy = standard_policy(job.spec.policy.retention_ms);
            self.send(job, text.clone(), message, policy, order)?;
        }
        Ok(())
    }

    /// Notes what an attempt to tell an endpoint came to.
    pub(super) fn watch_endpoint(&mut self, job: &Job, outcome: &Outcome) -> Result<(), DatabaseError> {
        let Some(id) = endpoint_of(job) else {
            return Ok(());
        };
        let error = match outcome {
            Outcome::Succeeded { .. } => {
                if self.state.endpoints.failing.remove(id).is_some() {
                    self.forget_failing(id)?;
                }
                return Ok(());
            }
            // Anything else is no word of the endpoint's: that it is disabled, or that we are in trouble.
            Outcome::Failed { error } if matches!(error.code, ErrorCode::UpstreamError | ErrorCode::Timeout) => error,
            _ => return Ok(()),
        };
        let since = match self.state.endpoints.failing.get(id) {
            Some(since) => *since,
            None => {
                self.db.run(
                    "-- jobs::watch_endpoint
                    INSERT INTO endpoint_failing (id, since) VALUES (?, ?) ON CONFLICT (id) DO NOTHING",
                    &[Value::Text(id.as_str()), Value::Number(self.now.0)],
                )?;
                self.state.endpoints.failing.insert(id.clone(), self.now);
                self.now
            }
        };
        match verdict(error, self.now.since(since)) {
            Some(reason) => self.disable(&id.clone(), reason),
            None => Ok(()),
        }
    }

    /// Has the gate disable an endpoint, and sends it nothing from now on.
    fn disable(&mut self, id: &EndpointId, reason: String) -> Result<(), DatabaseError> {
        let mut all = self.state.endpoints.all.iter_mut();
        let known = all.find(|known| known.endpoint_id == *id && known.enabled);
        let (Some(known), Some(user)) = (known, UserId::parse(OWN)) else {
            return Ok(());
        };
        // Stored, so that a restart does not forget it: what the gate makes of it is told with a version to come.
        known.enabled = false;
        known.disabled_at = Some(self.now);
        known.disabled_reason = Some(reason.clone());
        self.keep_endpoints(&self.state.endpoints)?;
        let caller = Caller {
            user,
            reads_all: false,
            writes_all: false,
            act: None,
        };
        let target = AuditTarget {
            endpoint_id: Some(id.clone()),
            reason: Some(reason),
            ..AuditTarget::default()
        };
        self.note(&caller, AuditWhat::EndpointDisabled, target, None)
    }
}

/// Why an endpoint that failed with `error` is to be disabled, after it has failed for so long; `None`: it is not.
///
/// What another attempt cannot mend is said once: `410`, and an address that may not be called.
fn verdict(error: &Error, failing_ms: u64) -> Option<String> {
    if error.code == ErrorCode::UpstreamError && !error.retryable {
        return Some(error.message.to_string());
    }
    (failing_ms >= FAILING_MS_MAX).then(|| format!("Nothing has reached it for five days. {}", error.message))
}
