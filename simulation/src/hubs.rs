//! The shell around a `Hub` object: sockets whose attachments outlive its sleep, calls that do not.

use std::collections::{BTreeMap, VecDeque};

use tidegate_engine::composition::Plan;
use tidegate_engine::hub::{CallId, Effect, HttpId, Hub, Moment, Session};
use tidegate_protocol::Error;
use tidegate_protocol::calls::hub::{Delivery, Prefer};
use tidegate_protocol::calls::jobs::Reply;
use tidegate_protocol::calls::tenant::{Call, Description};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{BatchFormat, split_batch};
use tidegate_protocol::ids::{ConnectionId, HubIndex, JobId, Revision};
use tidegate_protocol::time::UnixMs;

use crate::setting::{REVISIONS, plan};
use crate::usage::Who;
use crate::world::{Check, Event, From, World, unavailable};

/// What waits until the hub knows which composition is active.
enum Held {
    Frame {
        socket: usize,
        text: String,
    },
    Http {
        client: usize,
        http: u64,
        body: String,
        key: Option<String>,
        prefer: Prefer,
    },
}

/// A `Hub` object.
pub struct HubObject {
    pub tenant: usize,
    index: HubIndex,
    life: u64,
    hub: Option<Hub>,
    active: Option<Description>,
    held: VecDeque<Held>,
    asking: bool,
    /// Calls and runs that the hub waits for.
    outstanding: u64,
    http: BTreeMap<HttpId, (usize, u64)>,
    /// Kept by the platform with each socket.
    attachments: BTreeMap<ConnectionId, (usize, Vec<u8>)>,
}

impl HubObject {
    pub fn new(tenant: usize, index: u16) -> Self {
        Self {
            tenant,
            index: HubIndex(index),
            life: 0,
            hub: None,
            active: None,
            held: VecDeque::new(),
            asking: false,
            outstanding: 0,
            http: BTreeMap::new(),
            attachments: BTreeMap::new(),
        }
    }

    pub fn hub(&mut self) -> Result<&mut Hub, String> {
        if self.hub.is_none() {
            let mut hub = Hub::new(self.index);
            for (_, bytes) in self.attachments.values() {
                let session = Session::from_attachment(bytes).ok_or("an attachment cannot be read")?;
                hub.restore(session);
            }
            self.hub = Some(hub);
        }
        self.hub.as_mut().ok_or_else(|| "no hub".to_owned())
    }

    /// What is attached to its sockets.
    pub fn attached(&self) -> impl Iterator<Item = &[u8]> {
        self.attachments.values().map(|(_, bytes)| bytes.as_slice())
    }

    /// Whether it waits for something.
    pub fn waits(&self) -> bool {
        self.outstanding > 0 || !self.http.is_empty()
    }

    /// What its sockets follow, as far as their sessions say.
    pub fn follows(&self) -> Vec<JobId> {
        let sessions = self.attachments.values();
        let sessions = sessions.filter_map(|(_, bytes)| Session::from_attachment(bytes));
        sessions
            .flat_map(|session| session.follows.into_iter().map(|follow| follow.job))
            .collect()
    }

    /// In the end nobody waits.
    pub fn at_rest(&self) -> Check {
        if self.outstanding != 0 || !self.http.is_empty() {
            return Err(format!(
                "at rest, a hub waits for {} calls and {} answers",
                self.outstanding,
                self.http.len()
            ));
        }
        Ok(())
    }
}

impl World {
    /// A hub loses its memory, and with it its sockets and its callers.
    pub fn crash_hub(&mut self, hub: usize) -> Check {
        self.counters.hubs_crashed += 1;
        let object = &mut self.hubs[hub];
        object.life += 1;
        object.hub = None;
        object.active = None;
        object.asking = false;
        object.outstanding = 0;
        let held: Vec<Held> = object.held.drain(..).collect();
        let http = std::mem::take(&mut object.http);
        object.attachments.clear();
        for held in held {
            if let Held::Http { client, http, .. } = held {
                self.after(
                    5,
                    Event::HttpToClient {
                        client,
                        http,
                        reply: Err(unavailable()),
                    },
                );
            }
        }
        for (client, http) in http.into_values() {
            self.after(
                5,
                Event::HttpToClient {
                    client,
                    http,
                    reply: Err(unavailable()),
                },
            );
        }
        for socket in 0..self.sockets.len() {
            if self.sockets[socket].hub == hub && self.sockets[socket].accepted {
                self.break_socket(socket);
            }
        }
        self.use_forgotten(Who::Hub(hub), false)
    }

    /// An idle hub is put to sleep; its sockets stay.
    pub fn evict_hub(&mut self, hub: usize) -> Check {
        let object = &mut self.hubs[hub];
        if object.hub.is_some() && object.outstanding == 0 && object.http.is_empty() && object.held.is_empty() {
            object.life += 1;
            object.hub = None;
            object.active = None;
            object.asking = false;
            self.counters.hubs_evicted += 1;
            self.trace(|| format!("hub {hub}: evicted"));
            self.use_forgotten(Who::Hub(hub), true)?;
        }
        Ok(())
    }

    /// A socket arrives at its hub.
    pub fn connected(&mut self, socket: usize) -> Check {
        let (hub, principal) = (
            self.sockets[socket].hub,
            self.principal(self.sockets[socket].client, socket),
        );
        let now = self.clock();
        let (object, random) = (&mut self.hubs[hub], &mut self.random);
        let mut random = || random.next();
        let (id, effects) = object
            .hub()?
            .open(
                &mut Moment {
                    now,
                    random: &mut random,
                },
                principal,
                Default::default(),
                1,
            )
            .map_err(|error| error.to_string())?;
        self.sockets[socket].id = Some(id.clone());
        self.sockets[socket].accepted = true;
        object.attachments.insert(id, (socket, Vec::new()));
        self.perform_hub(hub, effects)
    }

    pub fn frame_up(&mut self, socket: usize, text: String) -> Check {
        if !self.sockets[socket].accepted {
            return Ok(());
        }
        let hub = self.sockets[socket].hub;
        self.count(Who::Hub(hub), 1)?;
        self.hubs[hub].held.push_back(Held::Frame { socket, text });
        self.take_held(hub)
    }

    pub fn http_requested(
        &mut self,
        hub: usize,
        client: usize,
        http: u64,
        body: String,
        key: Option<String>,
        prefer: Prefer,
    ) -> Check {
        self.hubs[hub].held.push_back(Held::Http {
            client,
            http,
            body,
            key,
            prefer,
        });
        self.take_held(hub)
    }

    /// Takes what waits, once the active composition is known.
    fn take_held(&mut self, hub: usize) -> Check {
        let Some(active) = self.hubs[hub].active.clone() else {
            if !self.hubs[hub].asking {
                self.hubs[hub].asking = true;
                let (gate, life) = (self.hubs[hub].tenant, self.hubs[hub].life);
                let ms = self.latency();
                self.after(
                    ms,
                    Event::ToGate {
                        gate,
                        call: Call::Describe,
                        from: Some((hub, life)),
                    },
                );
            }
            return Ok(());
        };
        let revision = active
            .revision
            .clone()
            .or_else(|| Revision::parse(REVISIONS[0]))
            .ok_or("a revision")?;
        let plan = plan(revision.as_str(), active.scale);
        self.hubs[hub].hub()?.spread(active.spreads());
        while let Some(held) = self.hubs[hub].held.pop_front() {
            let effects = self.take(hub, &plan, held)?;
            self.perform_hub(hub, effects)?;
        }
        Ok(())
    }

    fn take(&mut self, hub: usize, plan: &Plan, held: Held) -> Result<Vec<Effect>, String> {
        let now = self.clock();
        match held {
            Held::Frame { socket, text } => {
                let Some(id) = self.sockets[socket].id.clone() else {
                    return Ok(Vec::new());
                };
                let (object, random) = (&mut self.hubs[hub], &mut self.random);
                let mut random = || random.next();
                let mut moment = Moment {
                    now,
                    random: &mut random,
                };
                Ok(object.hub()?.frame(&mut moment, plan, &id, &text))
            }
            Held::Http {
                client,
                http,
                body,
                key,
                prefer,
            } => {
                let principal = self.principal(client, usize::MAX);
                let (object, random) = (&mut self.hubs[hub], &mut self.random);
                object.http.insert(HttpId(http), (client, http));
                let mut random = || random.next();
                let mut moment = Moment {
                    now,
                    random: &mut random,
                };
                let hub = object.hub()?;
                if body.starts_with('[') {
                    let items = split_batch(&body, BatchFormat::Array).map_err(|error| error.to_string())?;
                    let items: Vec<String> = items.into_iter().map(str::to_owned).collect();
                    let to = HttpId(http);
                    let mut parts = match hub.begin_batch(&mut moment, to, &principal, items.len(), key.as_deref()) {
                        Ok(parts) => parts,
                        Err(error) => return Ok(vec![Effect::Answer { to, reply: Err(error) }]),
                    };
                    return Ok(hub.batch_part(&mut moment, plan, &principal, &mut parts, &items, None));
                }
                Ok(hub.request(
                    &mut moment,
                    plan,
                    HttpId(http),
                    &principal,
                    &body,
                    key.as_deref(),
                    None,
                    prefer,
                ))
            }
        }
    }

    pub fn described(&mut self, hub: usize, life: u64, reply: Result<Description, Error>) -> Check {
        if self.hubs[hub].life != life {
            return Ok(());
        }
        match reply {
            Ok(description) => {
                self.hubs[hub].asking = false;
                self.refreshed(hub, description)?;
                self.take_held(hub)
            }
            Err(_) => {
                let gate = self.hubs[hub].tenant;
                self.after(
                    100,
                    Event::ToGate {
                        gate,
                        call: Call::Describe,
                        from: Some((hub, life)),
                    },
                );
                Ok(())
            }
        }
    }

    pub fn refreshed(&mut self, hub: usize, description: Description) -> Check {
        let object = &mut self.hubs[hub];
        if object
            .active
            .as_ref()
            .is_none_or(|active| active.version < description.version)
        {
            object.active = Some(description);
        }
        Ok(())
    }

    /// A batch of events arrives.
    pub fn hub_delivered(
        &mut self,
        hub: usize,
        deliveries: Vec<Delivery>,
        shard: usize,
        life: u64,
        batch: u64,
    ) -> Check {
        let now = self.clock();
        let (effects, not_followed): (Vec<Effect>, Vec<JobId>) = self.hubs[hub].hub()?.deliver(now, deliveries);
        let before = self.hubs[hub].life;
        self.perform_hub(hub, effects)?;
        let mut reply = Ok(not_followed);
        if self.hubs[hub].life != before {
            reply = Err(unavailable());
        } else if self.fault(30) {
            self.counters.confirmations_lost += 1;
            reply = Err(unavailable());
        }
        let ms = self.latency();
        self.after(
            ms,
            Event::FromHub {
                shard,
                life,
                hub,
                batch,
                reply,
            },
        );
        Ok(())
    }

    /// A shard wants to know whether anybody follows a job.
    pub fn question(&mut self, shard: usize, life: u64, hub: usize, asked: (JobId, UnixMs)) -> Check {
        let not_followed = self.hubs[hub].hub()?.not_followed(vec![asked.0]);
        if self.fault(50) {
            self.counters.questions_lost += 1;
            return Ok(());
        }
        let ms = self.latency();
        self.after(
            ms,
            Event::Answer {
                shard,
                life,
                hub,
                asked,
                not_followed,
            },
        );
        Ok(())
    }

    /// A reply for a hub.
    pub fn hub_replied(&mut self, hub: usize, life: u64, call: CallId, reply: Result<Reply, Error>) -> Check {
        if self.hubs[hub].life != life || self.hubs[hub].hub.is_none() {
            return Ok(());
        }
        let now = self.clock();
        self.hubs[hub].outstanding -= 1;
        let effects = self.hubs[hub].hub()?.replied(now, call, reply);
        self.perform_hub(hub, effects)
    }

    pub fn ran(&mut self, hub: usize, life: u64, call: CallId, result: Result<JsonText, Error>) -> Check {
        if self.hubs[hub].life != life {
            return Ok(());
        }
        let now = self.clock();
        self.hubs[hub].outstanding -= 1;
        let effects = self.hubs[hub].hub()?.ran(now, call, result);
        self.perform_hub(hub, effects)
    }

    fn perform_hub(&mut self, hub: usize, effects: Vec<Effect>) -> Check {
        self.count(Who::Hub(hub), 0)?;
        let crash = if self.fault(8) {
            Some(self.random.below(3) as usize)
        } else {
            None
        };
        for (number, effect) in effects.into_iter().enumerate() {
            if crash == Some(number) {
                self.trace(|| format!("hub {hub}: crash after {number} effects"));
                self.counters.hubs_crashed_between_effects += 1;
                return self.crash_hub(hub);
            }
            self.perform_one(hub, effect)?;
        }
        Ok(())
    }

    pub fn perform_one(&mut self, hub: usize, effect: Effect) -> Check {
        let life = self.hubs[hub].life;
        match effect {
            Effect::Send { to, frame } => {
                if let Some((socket, _)) = self.hubs[hub].attachments.get(&to) {
                    self.send_down(*socket, frame);
                }
            }
            Effect::Save { of } => {
                let object = &mut self.hubs[hub];
                let session = object.hub.as_ref().and_then(|hub| hub.session(&of));
                if let Some(session) = session {
                    let bytes = session.to_attachment().ok_or("a session does not fit its attachment")?;
                    if Session::from_attachment(&bytes).as_ref() != Some(session) {
                        return Err("a session changed in its attachment".into());
                    }
                    if let Some(attachment) = object.attachments.get_mut(&of) {
                        attachment.1 = bytes;
                    }
                }
            }
            Effect::Close { to, code, .. } => {
                if code == tidegate_protocol::frames::CloseCode::TokenExpired {
                    self.counters.tokens_expired += 1;
                }
                let now = self.clock();
                let object = &mut self.hubs[hub];
                if let Some(hub) = &mut object.hub {
                    // None of these sockets follows a channel.
                    assert_eq!(hub.closed(now, &to), Vec::new());
                }
                if let Some((socket, _)) = object.attachments.remove(&to) {
                    self.break_socket(socket);
                }
            }
            Effect::Call { id, shard, call } => {
                self.hubs[hub].outstanding += 1;
                let shard = self.tenants[self.hubs[hub].tenant].first_shard + usize::from(shard.0);
                let call = self.check_in(*call);
                self.call_jobs(shard, call, From::Hub { hub, life, call: id })?;
            }
            Effect::Run { id, run } => {
                self.hubs[hub].outstanding += 1;
                let ms = self.random.within(1..=400);
                self.after(
                    ms,
                    Event::Ran {
                        hub,
                        life,
                        call: id,
                        result: Ok(run.payload),
                    },
                );
            }
            Effect::Lease { .. } | Effect::Attempt { .. } => {
                return Err(format!("a client is no worker: {effect:?}"));
            }
            Effect::Authenticate { .. } => return Err("a client has one token".into()),
            Effect::Broadcast { .. } | Effect::Channel { .. } => {
                return Err(format!("nobody follows channels: {effect:?}"));
            }
            Effect::TellRefused { .. } | Effect::Log { .. } => {}
            Effect::Ask { ask } => return Err(format!("a composition without limits asks for room: {ask:?}")),
            Effect::Answer { to, reply } => {
                let Some((client, http)) = self.hubs[hub].http.remove(&to) else {
                    return Err(format!("a caller over HTTP was answered twice: {to:?}"));
                };
                let ms = self.latency();
                self.after(ms, Event::HttpToClient { client, http, reply });
            }
        }
        Ok(())
    }

    /// The hub learns that a socket is gone.
    pub fn gone(&mut self, socket: usize) -> Check {
        let hub = self.sockets[socket].hub;
        self.sockets[socket].accepted = false;
        if let Some(id) = self.sockets[socket].id.clone() {
            let now = self.clock();
            let object = &mut self.hubs[hub];
            if object.attachments.contains_key(&id) {
                let effects = object.hub()?.closed(now, &id);
                assert_eq!(effects, Vec::new(), "none of these sockets follows a channel");
                object.attachments.remove(&id);
                self.count(Who::Hub(hub), 0)?;
            }
        }
        Ok(())
    }
}
