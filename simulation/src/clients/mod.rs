//! Clients: they ask, follow, cancel, drop off and come back, and check everything that they are told.

mod again;
mod batches;
mod frames;
mod http;
mod moves;
mod sockets;

use std::collections::{BTreeMap, BTreeSet};

use tidegate_engine::hub::hub_of;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::spread::Spreads;
use tidegate_protocol::ids::{BatchId, ConnectionId, JobId, UserId};
use tidegate_protocol::{Error, ErrorCode, SortedSet};

use crate::oracle::Oracle;
use crate::setting::TENANTS;
use crate::world::{Check, From, World};

/// A connection, as both its ends see it.
pub struct Socket {
    pub client: usize,
    pub hub: usize,
    /// Whether the hub holds it.
    pub accepted: bool,
    pub id: Option<ConnectionId>,
    /// Whether the client holds it.
    open: bool,
    expires_at: u64,
    up: u64,
    down: u64,
}

/// What a client knows of a job.
#[derive(Debug, Default)]
struct Known {
    seq: u64,
    ended: bool,
    /// A watch over HTTP that is under way.
    watched: bool,
}

/// What a client was told under one request.
#[derive(Debug, Default, Clone, Copy)]
struct Stream {
    seq: u64,
    ended: bool,
}

/// A client: one device of a user.
pub struct Client {
    tenant: usize,
    user: UserId,
    /// What stands in everything that belongs to its user.
    mark: String,
    hub: usize,
    socket: Option<usize>,
    jobs: BTreeMap<JobId, Known>,
    /// What this connection was told, by request and job.
    streams: BTreeMap<(String, JobId), Stream>,
    /// What this connection follows, and must be told the end of.
    following: BTreeSet<(String, JobId)>,
    attaching: BTreeMap<String, Option<JobId>>,
    /// Attaches that need not be told anything any more: one that missed nothing, and was given up before anything came.
    given_up: BTreeSet<String>,
    /// Jobs that it detached from, each by its request: until that is answered, an earlier answer may still say that it
    /// follows them.
    detaching: BTreeMap<String, JobId>,
    /// Requests for what belongs to others.
    intrusions: BTreeSet<String>,
    http: BTreeSet<u64>,
    /// The batches that it was answered.
    batches: BTreeSet<BatchId>,
    /// What it sent as batches under keys of its own.
    named: BTreeMap<String, String>,
}
impl Client {
    pub fn new(tenant: usize, name: &str, user: &str, hubs: u16) -> Self {
        let mark = format!("{name}/{user}");
        let user = UserId::parse(user).expect("a user");
        let hub = usize::from(hub_of(&user, hubs).0);
        Self {
            tenant,
            user,
            mark,
            hub,
            socket: None,
            jobs: BTreeMap::new(),
            streams: BTreeMap::new(),
            following: BTreeSet::new(),
            attaching: BTreeMap::new(),
            given_up: BTreeSet::new(),
            detaching: BTreeMap::new(),
            intrusions: BTreeSet::new(),
            http: BTreeSet::new(),
            batches: BTreeSet::new(),
            named: BTreeMap::new(),
        }
    }

    /// What this client still waits for.
    pub fn unsettled(&self, oracle: &Oracle) -> Option<String> {
        if let Some((request, job)) = self.following.first() {
            return Some(format!("{} was not told the end of {job} under {request}", self.mark));
        }
        let mut waiting = self
            .attaching
            .keys()
            .filter(|request| !self.given_up.contains(*request));
        if let Some(request) = waiting.next() {
            return Some(format!("{} was told nothing on the attach {request}", self.mark));
        }
        let open = self
            .jobs
            .iter()
            .find(|(job, known)| (!known.ended && !oracle.swept(**job)) || known.watched);
        if let Some((job, known)) = open {
            return Some(format!("{} does not know the end of {job}: {known:?}", self.mark));
        }
        (!self.http.is_empty()).then(|| format!("{} waits for an answer over HTTP", self.mark))
    }

    fn disconnected(&mut self) {
        self.socket = None;
        self.streams.clear();
        self.following.clear();
        self.attaching.clear();
        self.given_up.clear();
        self.detaching.clear();
    }
}
/// The value of a field of a frame: text without its quotes, or a number.
pub fn field<'a>(frame: &'a str, name: &str) -> Option<&'a str> {
    let start = frame.find(&format!("\"{name}\":"))? + name.len() + 3;
    let rest = frame.get(start..)?;
    match rest.strip_prefix('"') {
        Some(text) => text.split('"').next(),
        None => rest.split([',', '}', ']']).next(),
    }
}
impl World {
    pub fn principal(&self, client: usize, socket: usize) -> Principal {
        let client = &self.clients[client];
        let expires_at = self
            .sockets
            .get(socket)
            .map_or(u64::MAX >> 12, |socket| socket.expires_at);
        Principal {
            tenant: self.tenants[client.tenant].id.clone(),
            user: client.user.clone(),
            scopes: SortedSet::new(),
            expires_at: tidegate_protocol::time::UnixMs(expires_at),
            credential: Default::default(),
            network: Default::default(),
        }
    }

    /// Whom an isolate asks for a job over HTTP. What it knows of the tenant's spread may be old.
    fn shard_of_job(&mut self, client: usize, job: JobId) -> usize {
        let tenant = self.clients[client].tenant;
        let mut known = self
            .describe(tenant)
            .map_or(Spreads::only(1), |known| known.spreads())
            .0;
        let kept = self.random.within(1..=known.len() as u64) as usize;
        if self.random.permille(500) {
            known.truncate(kept);
        }
        self.tenants[tenant].first_shard + usize::from(Spreads(known).for_number(job.number()).0)
    }

    /// The tenant of a caller over HTTP, which goes where it is sent.
    fn tenant_of(&self, from: &From) -> Option<usize> {
        match from {
            From::Watch { client, .. }
            | From::Probe { client, .. }
            | From::Retry { client, .. }
            | From::Many { client }
            | From::Batch { client, .. } => Some(self.clients[*client].tenant),
            From::Hub { .. }
            | From::Attempt(_)
            | From::Peer { .. }
            | From::Worker { .. }
            | From::Gate { .. }
            | From::Grow { .. }
            | From::Nobody => None,
        }
    }

    /// A job that this client knows, or one of its user's other device.
    fn some_job(&mut self, client: usize) -> Option<JobId> {
        let other = self.random.permille(300);
        let mark = &self.clients[client].mark;
        let whose = (0..self.clients.len()).find(|n| other && *n != client && self.clients[*n].mark == *mark);
        let jobs = &self.clients[whose.unwrap_or(client)].jobs;
        let at = self.random.index(jobs.len())?;
        jobs.keys().nth(at).copied()
    }

    /// A job of another tenant, or of another user of the same one.
    fn foreign_job(&mut self, client: usize) -> Option<JobId> {
        let mark = &self.clients[client].mark;
        let others = self
            .clients
            .iter()
            .filter(|other| other.mark != *mark)
            .flat_map(|other| other.jobs.keys());
        let jobs: Vec<JobId> = others.copied().collect();
        self.random.index(jobs.len()).map(|at| jobs[at])
    }

    /// A refusal that names a job: one that is there must not be denied.
    fn refused(&mut self, client: usize, job: Option<JobId>, error: &Error) -> Check {
        match job {
            Some(job) if error.code == ErrorCode::NotFound && !self.oracle.swept(job) => Err(format!(
                "{} was told that {job} is not there",
                self.clients[client].mark
            )),
            _ => Ok(()),
        }
    }

    /// Nothing of anybody else may stand in what a client is sent.
    fn only_own(&self, client: usize, text: &str) -> Check {
        let own = &self.clients[client].mark;
        for tenant in TENANTS {
            for (at, _) in text.match_indices(tenant) {
                if text.get(at + tenant.len()..).is_some_and(|rest| rest.starts_with('/'))
                    && !text[at..].starts_with(own.as_str())
                {
                    return Err(format!("{own} was sent something of another: {text}"));
                }
            }
        }
        Ok(())
    }
}
