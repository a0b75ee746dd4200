//! Clients: they ask, follow, cancel, drop off and come back, and check everything that they are told.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_engine::hub::{hub_of, shard_of};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::hub::{Prefer, Reply as HubReply};
use tidegate_protocol::calls::jobs::{Call, Filter, Reply};
use tidegate_protocol::frames::ServerFrame;
use tidegate_protocol::ids::{ConnectionId, JobId, RequestId, Seq, UserId};
use tidegate_protocol::{Error, ErrorCode};

use crate::oracle::Oracle;
use crate::setting::{ACTIONS, KEYS, TENANTS};
use crate::world::{Check, Event, From, World};

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
    /// Requests for what belongs to others.
    intrusions: BTreeSet<String>,
    http: BTreeSet<u64>,
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
            intrusions: BTreeSet::new(),
            http: BTreeSet::new(),
        }
    }

    /// What this client still waits for.
    pub fn unsettled(&self, oracle: &Oracle) -> Option<String> {
        if let Some((request, job)) = self.following.first() {
            return Some(format!("{} was not told the end of {job} under {request}", self.mark));
        }
        if let Some(request) = self.attaching.keys().next() {
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
            scopes: BTreeSet::new(),
            expires_at: tidegate_protocol::time::UnixMs(expires_at),
        }
    }

    /// One move of a client.
    pub fn client_moves(&mut self, client: usize) -> Check {
        let Some(socket) = self.clients[client].socket else {
            if self.random.permille(700) {
                self.connect(client);
                return Ok(());
            }
            return self.ask_over_http(client);
        };
        match self.random.below(100) {
            0..=44 => self.request(client, socket),
            45..=57 => self.attach(client, socket),
            58..=61 => self.detach(client, socket),
            62..=67 => self.cancel(client, socket),
            68..=77 => return self.ask_over_http(client),
            78..=85 => return self.watch(client),
            86..=88 => self.intrude(client, socket),
            89..=91 => return self.look(client),
            92..=93 => self.send_up(socket, "{\"type\":\"nonsense\"}".into()),
            _ => {
                self.counters.sockets_cut += 1;
                self.trace(|| format!("client {client}: cut"));
                self.clients[client].disconnected();
                self.sockets[socket].open = false;
                let ms = self.random.within(1..=8000);
                self.after(ms, Event::Gone { socket });
            }
        }
        Ok(())
    }

    fn connect(&mut self, client: usize) {
        let short = self.fault(200);
        let lasts = if short {
            self.random.within(2000..=30_000)
        } else {
            1 << 40
        };
        let hub = self.tenants[self.clients[client].tenant].first_hub + self.clients[client].hub;
        let expires_at = self.clock().0 + lasts;
        let socket = self.sockets.len();
        self.sockets.push(Socket {
            client,
            hub,
            accepted: false,
            id: None,
            open: true,
            expires_at,
            up: 0,
            down: 0,
        });
        self.clients[client].socket = Some(socket);
        let ms = self.random.within(1..=20);
        self.sockets[socket].up = self.time + ms;
        self.after(ms, Event::Connected { socket });
    }

    fn send_up(&mut self, socket: usize, text: String) {
        let time = (self.time + self.random.within(1..=30)).max(self.sockets[socket].up);
        self.sockets[socket].up = time;
        self.at(time, Event::FrameUp { socket, text });
    }

    pub fn send_down(&mut self, socket: usize, text: String) {
        let time = (self.time + self.random.within(1..=30)).max(self.sockets[socket].down);
        self.sockets[socket].down = time;
        self.at(time, Event::FrameDown { socket, text });
    }

    /// A socket breaks at the server's end; what was sent may still arrive.
    pub fn break_socket(&mut self, socket: usize) {
        self.sockets[socket].accepted = false;
        let time = self.sockets[socket].down.max(self.time + 1);
        self.at(time, Event::Cut { socket });
    }

    pub fn cut_seen(&mut self, socket: usize) -> Check {
        let client = self.sockets[socket].client;
        self.sockets[socket].open = false;
        if self.clients[client].socket == Some(socket) {
            self.clients[client].disconnected();
        }
        Ok(())
    }

    /// The body of a request. With a key it is mostly the same one.
    fn body(&mut self, client: usize, id: &str, key: Option<u64>) -> String {
        let action = match self.random.below(100) {
            0..=39 => "work",
            40..=54 => "back",
            55..=79 => "quick",
            80..=87 => "echo",
            _ => "brief",
        };
        let mark = &self.clients[client].mark;
        let n = match key {
            Some(key) if !self.random.permille(100) => key,
            _ => self.random.below(1000),
        };
        let mut body = format!("{{\"id\":\"{id}\",\"action\":\"{action}\",\"payload\":{{\"of\":\"{mark}\",\"n\":{n}}}");
        match self.random.below(10) {
            0..=4 => {}
            5 => body.push_str(",\"mode\":\"sync\""),
            _ => body.push_str(",\"mode\":\"async\""),
        }
        if let Some(key) = key {
            body.push_str(&format!(",\"idempotency_key\":\"k{key}\""));
        }
        if self.random.permille(150) {
            body.push_str(&format!(",\"delay_ms\":{}", self.random.within(1..=15_000)));
        }
        body.push('}');
        body
    }

    fn key(&mut self) -> Option<u64> {
        self.random.permille(350).then(|| self.random.below(KEYS))
    }

    fn request(&mut self, client: usize, socket: usize) {
        let (id, key) = (format!("r{}", self.id()), self.key());
        let body = self.body(client, &id, key);
        self.send_up(socket, body);
    }

    fn ask_over_http(&mut self, client: usize) -> Check {
        let (http, key) = (self.id(), self.key());
        let body = self.body(client, &format!("h{http}"), key);
        let prefer = Prefer {
            respond_async: self.random.permille(200),
            wait_ms: self.random.permille(300).then(|| self.random.within(0..=4000)),
        };
        let hub = self.tenants[self.clients[client].tenant].first_hub + self.clients[client].hub;
        self.clients[client].http.insert(http);
        let ms = self.latency();
        self.after(
            ms,
            Event::HttpToHub {
                hub,
                client,
                http,
                body,
                key: None,
                prefer,
            },
        );
        Ok(())
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

    fn attach(&mut self, client: usize, socket: usize) {
        let id = format!("a{}", self.id());
        if self.random.permille(150) {
            let action = ACTIONS[self.random.below(3) as usize];
            let key = self.random.below(KEYS);
            let text = format!(
                "{{\"type\":\"attach\",\"id\":\"{id}\",\"action\":\"{action}\",\"idempotency_key\":\"k{key}\"}}"
            );
            self.clients[client].attaching.insert(id, None);
            return self.send_up(socket, text);
        }
        if let Some(job) = self.some_job(client) {
            let seen = self.clients[client].jobs.get(&job).map_or(0, |known| known.seq);
            let after = match self.random.below(5) {
                0 => None,
                1 => Some(self.random.below(seen + 1)),
                // Beyond what this client was told, and at times beyond all that happened.
                2 => Some(seen + self.random.below(4)),
                _ => Some(seen),
            };
            self.attach_to(client, socket, job, after);
        }
    }

    fn attach_to(&mut self, client: usize, socket: usize, job: JobId, after: Option<u64>) {
        let id = format!("a{}", self.id());
        let cursor = after.map(|after| format!(",\"after\":{after}")).unwrap_or_default();
        let text = format!("{{\"type\":\"attach\",\"id\":\"{id}\",\"job_id\":\"{job}\"{cursor}}}");
        let client = &mut self.clients[client];
        client.jobs.entry(job).or_default();
        client.following.insert((id.clone(), job));
        client.streams.insert(
            (id.clone(), job),
            Stream {
                seq: after.unwrap_or(0),
                ended: false,
            },
        );
        client.attaching.insert(id, Some(job));
        self.send_up(socket, text);
    }

    fn detach(&mut self, client: usize, socket: usize) {
        let Some(job) = self.some_job(client) else { return };
        let id = format!("d{}", self.id());
        self.clients[client].following.retain(|(_, other)| *other != job);
        self.send_up(
            socket,
            format!("{{\"type\":\"detach\",\"id\":\"{id}\",\"job_id\":\"{job}\"}}"),
        );
    }

    fn cancel(&mut self, client: usize, socket: usize) {
        let Some(job) = self.some_job(client) else { return };
        let id = format!("c{}", self.id());
        self.send_up(
            socket,
            format!("{{\"type\":\"cancel\",\"id\":\"{id}\",\"job_id\":\"{job}\"}}"),
        );
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

    fn intrude(&mut self, client: usize, socket: usize) {
        let Some(job) = self.foreign_job(client) else { return };
        let (id, kind) = (
            format!("x{}", self.id()),
            if self.random.permille(500) { "attach" } else { "cancel" },
        );
        self.clients[client].intrusions.insert(id.clone());
        self.send_up(
            socket,
            format!("{{\"type\":\"{kind}\",\"id\":\"{id}\",\"job_id\":\"{job}\"}}"),
        );
    }

    fn shard_of_job(&self, client: usize, job: JobId) -> usize {
        let tenant = &self.tenants[self.clients[client].tenant];
        tenant.first_shard + usize::from(shard_of(job.number().partition(), tenant.scale.shards).0)
    }

    /// Looks at jobs over HTTP: one's own, a stranger's, a list.
    fn look(&mut self, client: usize) -> Check {
        let caller = self.principal(client, usize::MAX).caller();
        let foreign = self.random.permille(400);
        let job = if foreign {
            self.foreign_job(client)
        } else {
            self.some_job(client)
        };
        let Some(job) = job else { return Ok(()) };
        let call = match self.random.below(3) {
            0 => Call::Get { job, caller },
            1 if foreign => Call::Cancel { job, caller },
            1 => Call::Result { job, caller },
            _ => Call::List {
                caller,
                filter: Filter {
                    limit: 10,
                    ..Filter::default()
                },
            },
        };
        let foreign = foreign && !matches!(call, Call::List { .. });
        let shard = self.shard_of_job(client, job);
        self.call_jobs(shard, call, From::Probe { client, foreign })
    }

    fn watch(&mut self, client: usize) -> Check {
        match self.some_job(client) {
            Some(job) => self.watch_job(client, job),
            None => Ok(()),
        }
    }

    fn watch_job(&mut self, client: usize, job: JobId) -> Check {
        let caller = self.principal(client, usize::MAX).caller();
        let known = self.clients[client].jobs.entry(job).or_default();
        if known.watched || known.ended {
            return Ok(());
        }
        known.watched = true;
        let after = Some(Seq(known.seq));
        let (wait_ms, until_end) = (self.random.within(0..=8000), self.random.permille(400));
        let shard = self.shard_of_job(client, job);
        self.call_jobs(
            shard,
            Call::Watch {
                job,
                caller,
                after,
                wait_ms,
                until_end,
            },
            From::Watch { client, job },
        )
    }

    /// A reply of a `Jobs` object reaches the one who called.
    pub fn jobs_replied(&mut self, to: From, reply: Result<Reply, Error>) -> Check {
        match to {
            From::Hub { hub, life, call } => self.hub_replied(hub, life, call, reply),
            From::Attempt(id) => {
                self.attempt_told(id, &reply);
                Ok(())
            }
            From::Watch { client, job } => self.watched(client, job, reply),
            From::Probe { client, foreign } => self.looked(client, foreign, reply),
            From::Nobody => Ok(()),
        }
    }

    fn watched(&mut self, client: usize, job: JobId, reply: Result<Reply, Error>) -> Check {
        let known = self.clients[client].jobs.entry(job).or_default();
        known.watched = false;
        match reply {
            Ok(Reply::Following {
                events,
                ended,
                snapshot,
                ..
            }) => {
                self.counters.watches_answered += 1;
                for event in &events {
                    if self.oracle.event(job, event.seq.0) != Some(event) {
                        return Err(format!("a watch of {job} saw {event:?}, which never happened"));
                    }
                    known.ended |= event.what.is_terminal();
                    known.seq = known.seq.max(event.seq.0);
                }
                known.seq = known.seq.max(snapshot.map_or(0, |snapshot| snapshot.seq.0));
                if ended && !self.clients[client].jobs[&job].ended {
                    return Err(format!("a watch of {job} saw it ended, but not its end"));
                }
                Ok(())
            }
            Err(error) => self.refused(client, Some(job), &error),
            Ok(other) => Err(format!("a watch was answered by {other:?}")),
        }
    }

    fn looked(&mut self, client: usize, foreign: bool, reply: Result<Reply, Error>) -> Check {
        let user = &self.clients[client].user;
        match reply {
            Err(error) if error.code == ErrorCode::NotFound => self.counters.intrusions_refused += u64::from(foreign),
            Err(_) => {}
            Ok(Reply::Job(job)) if !foreign && job.user == *user => {}
            Ok(Reply::Jobs(page)) if page.jobs.iter().all(|job| job.user == *user) => {}
            Ok(Reply::Result { .. } | Reply::Done) if !foreign => {}
            Ok(other) => return Err(format!("{} saw {other:?}", self.clients[client].mark)),
        }
        Ok(())
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

    pub fn http_answered(&mut self, client: usize, http: u64, reply: Result<HubReply, Error>) -> Check {
        if !self.clients[client].http.remove(&http) {
            return Err(format!("request h{http} over HTTP was answered twice"));
        }
        self.counters.http_answered += 1;
        match reply {
            Ok(HubReply::Accepted(accepted)) => {
                self.oracle.check_acknowledged(accepted.job_id)?;
                let known = self.clients[client].jobs.entry(accepted.job_id).or_default();
                known.seq = known.seq.max(accepted.seq.0);
                Ok(())
            }
            Ok(HubReply::Answer { result, job, .. }) => match (result, job) {
                (Ok(data), Some(job)) => self.oracle.check_result(job, data.as_str()),
                (Ok(data), None) => self.only_own(client, data.as_str()),
                (Err(_), _) => Ok(()),
            },
            Err(error) if error.code == ErrorCode::NotFound => Err(format!("h{http}: {error}")),
            Err(error) => {
                self.counters.mismatched += u64::from(error.code == ErrorCode::IdempotencyMismatch);
                Ok(())
            }
            Ok(other) => Err(format!("h{http} was answered by {other:?}")),
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

    pub fn frame_down(&mut self, socket: usize, text: &str) -> Check {
        let client = self.sockets[socket].client;
        if !self.sockets[socket].open {
            return Ok(());
        }
        self.only_own(client, text)?;
        let kind = field(text, "type").ok_or_else(|| format!("a frame without a type: {text}"))?;
        let request = field(text, "request_id").unwrap_or_default().to_owned();
        if self.clients[client].intrusions.contains(&request) {
            return self.intrusion_answered(kind, text);
        }
        let job = field(text, "job_id").and_then(JobId::parse);
        let seq = field(text, "seq").and_then(|seq| seq.parse::<u64>().ok());
        match (kind, job, seq) {
            ("acknowledgment", Some(job), Some(seq)) => {
                self.oracle.check_acknowledged(job)?;
                self.counters.deduplicated += u64::from(text.contains("\"deduplicated\":true"));
                self.clients[client].following.insert((request.clone(), job));
                self.told(client, request, job, seq, false)
            }
            ("snapshot", Some(job), Some(seq)) => {
                self.counters.snapshots_seen += 1;
                self.clients[client].following.insert((request.clone(), job));
                let attaching = self.clients[client].attaching.remove(&request).is_some();
                let stream = self.clients[client].streams.entry((request.clone(), job)).or_default();
                if attaching && stream.seq >= seq && text.contains("\"gap\":true") {
                    return Err(format!("a gap behind everything: {text}"));
                }
                // A snapshot may say again what is known, never less.
                stream.seq = stream.seq.min(seq.saturating_sub(1));
                self.told(client, request, job, seq, false)
            }
            ("progress" | "retrying" | "complete" | "error", Some(job), Some(seq)) => {
                self.event_seen(client, request, job, seq, text)
            }
            ("response", _, _) => {
                self.counters.responses_seen += 1;
                match field(text, "job").and_then(JobId::parse) {
                    Some(job) => self.oracle.check_result(job, text),
                    None => Ok(()),
                }
            }
            ("error", None, _) => self.error_seen(client, &request, text),
            ("welcome" | "ok" | "goodbye", _, _) => Ok(()),
            _ => Err(format!("an unexpected frame: {text}")),
        }
    }

    fn intrusion_answered(&mut self, kind: &str, text: &str) -> Check {
        match (kind, field(text, "code")) {
            ("error", Some("NOT_FOUND")) => {
                self.counters.intrusions_refused += 1;
                Ok(())
            }
            ("error", Some("UNAVAILABLE" | "RATE_LIMITED")) => Ok(()),
            _ => Err(format!("an intruder was told: {text}")),
        }
    }

    fn error_seen(&mut self, client: usize, request: &str, text: &str) -> Check {
        let code = field(text, "code").unwrap_or_default();
        self.counters.mismatched += u64::from(code == "IDEMPOTENCY_MISMATCH");
        if let Some(job) = self.clients[client].attaching.remove(request) {
            self.clients[client].following.retain(|(id, _)| id != request);
            if code == "NOT_FOUND" {
                return self.refused(client, job, &Error::not_found());
            }
        }
        Ok(())
    }

    fn event_seen(&mut self, client: usize, request: String, job: JobId, seq: u64, text: &str) -> Check {
        let id = RequestId::parse(&request).ok_or("a request id")?;
        let Some(event) = self.oracle.event(job, seq) else {
            return Err(format!("an event that never happened: {text}"));
        };
        let terminal = event.what.is_terminal();
        let expected = ServerFrame::event(id, job, event).encode();
        if expected != text {
            return Err(format!("an event was told in two ways: {text} and {expected}"));
        }
        self.counters.events_seen += 1;
        self.counters.ends_seen += u64::from(terminal);
        let attaching = self.clients[client].attaching.remove(&request).is_some();
        if attaching && terminal {
            // The answer to an attach that has everything: the end of an ended job is its snapshot.
            let stream = self.clients[client].streams.entry((request.clone(), job)).or_default();
            stream.seq = stream.seq.min(seq.saturating_sub(1));
        }
        self.told(client, request, job, seq, terminal)
    }

    fn told(&mut self, client: usize, request: String, job: JobId, seq: u64, terminal: bool) -> Check {
        let client = &mut self.clients[client];
        let stream = client.streams.entry((request.clone(), job)).or_default();
        if stream.ended || stream.seq >= seq {
            return Err(format!(
                "{} was told {seq} of {job} under {request} after {stream:?}",
                client.mark
            ));
        }
        *stream = Stream { seq, ended: terminal };
        if terminal {
            client.following.remove(&(request, job));
        }
        let known = client.jobs.entry(job).or_default();
        known.seq = known.seq.max(seq);
        known.ended |= terminal;
        Ok(())
    }

    /// Once the faults have stopped: those who dropped off come back, and attach to what they have not seen the end of.
    /// What a connection follows already is left to the server.
    pub fn look_after(&mut self) -> Check {
        self.after(700, Event::LookAfter);
        for client in 0..self.clients.len() {
            let Some(socket) = self.clients[client].socket else {
                self.connect(client);
                continue;
            };
            let following: BTreeSet<JobId> = self.clients[client].following.iter().map(|(_, job)| *job).collect();
            let open = self.clients[client]
                .jobs
                .iter()
                .filter(|(job, known)| !known.ended && !following.contains(job));
            let open: Vec<(JobId, u64)> = open.map(|(job, known)| (*job, known.seq)).collect();
            for (job, seq) in open {
                if self.oracle.swept(job) {
                    continue;
                }
                if self.random.permille(200) {
                    self.watch_job(client, job)?;
                } else {
                    self.attach_to(client, socket, job, Some(seq));
                }
            }
        }
        Ok(())
    }
}
