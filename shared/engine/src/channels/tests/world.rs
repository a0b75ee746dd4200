//! One channel, three hubs and their clients, over a network that loses calls and delays them: the engine is the one that ships.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Value, json};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::channel::{Attendance, Call, Reply};
use tidegate_protocol::channels::{Cursor, Message};
use tidegate_protocol::ids::{ChannelName, ConnectionId, Epoch, HubIndex, Offset, TenantId, UserId};
use tidegate_protocol::presence::{Heard, Member, Told};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::super::{Channel, Effect, Moment, STEPS};
use crate::composition::{Plan, TEST_MANIFESTS, compile};
use crate::connections::Bounds;
use crate::database::migrate;
use crate::database::native::Native;
use crate::hub;

/// How likely things are, in percent of the steps or calls.
#[derive(Clone, Copy)]
pub struct Chances {
    pub lost: u64,
    pub crashes: u64,
    pub naps: u64,
}

/// Whatever is under way between the channel and a hub.
enum Packet {
    /// Calls of a hub, by its life.
    Calls(usize, u32, Vec<(hub::CallId, Call)>),
    Replies(usize, u32, Vec<(hub::CallId, Result<Reply, Error>)>),
    /// What the channel tells a hub, by the channel's life.
    Tell(usize, u32, Cursor, Vec<Message>, Offset),
    Said(usize, u32, Result<Option<Cursor>, Error>),
    TellPresence(usize, u32, Told),
    SaidPresence(usize, u32, Result<Heard, Error>),
}

struct HubWorld {
    hub: hub::Hub,
    life: u32,
    attachments: BTreeMap<ConnectionId, Vec<u8>>,
    waiting: VecDeque<(hub::CallId, Call)>,
    busy: bool,
}

#[derive(Default)]
struct Client {
    connection: Option<ConnectionId>,
    /// Where it is, as it was told.
    at: Option<Cursor>,
    /// Whether it was told that it follows, since it connected.
    follows: bool,
    gaps: u64,
    /// Who is there, as it was told, and what they say of themselves.
    view: BTreeMap<String, u64>,
    /// What it said of itself last.
    says: u64,
    /// When its user was last not there, as far as this client goes.
    absent_at: Option<UnixMs>,
}

pub struct World {
    seed: u64,
    chance: u64,
    now: UnixMs,
    plan: Plan,
    keeps: u64,
    ephemeral: bool,
    attends: bool,
    /// When the channel heard last that a user has gone; not there where it heard that they came since.
    left: BTreeMap<UserId, UnixMs>,
    chances: Chances,
    db: Native,
    channel: Option<Channel>,
    channel_life: u32,
    alarm: Option<UnixMs>,
    hubs: Vec<HubWorld>,
    clients: Vec<Client>,
    network: Vec<Packet>,
    /// Every message that was stored.
    stored: BTreeMap<(Epoch, u64), String>,
    published: u64,
    confirmed: Vec<(Epoch, u64, String)>,
}

const HUBS: usize = 3;
/// The client that watches, and is no member.
const WATCHER: usize = 5;
/// The grace of those who go, where there is presence. Milliseconds.
const GRACE_MS: u64 = 2_000;

/// Two of the clients are the same user.
fn user(client: usize) -> String {
    format!("user-{}", if client == 3 { 0 } else { client })
}

fn members(listed: &Value) -> BTreeMap<String, u64> {
    let listed = listed.as_array().unwrap().iter();
    listed
        .map(|member| {
            (
                member["user"].as_str().unwrap().into(),
                member["data"].as_u64().unwrap(),
            )
        })
        .collect()
}

fn lost() -> Error {
    Error::new(ErrorCode::Unavailable, "lost")
}

fn channel() -> ChannelName {
    ChannelName::parse("c:1").unwrap()
}

impl World {
    pub fn new(seed: u64, section: &str, chances: Chances) -> Self {
        let document = format!(r#"{{"tidegate":1,"patterns":{{}},"actions":{{}},"channels":{section}}}"#);
        let plan = compile(&document, TEST_MANIFESTS).unwrap();
        let rules = plan.channels.of(&channel()).unwrap().clone();
        let db = Native::in_memory().unwrap();
        migrate(&db, STEPS).unwrap();
        let hubs = (0..HUBS).map(|index| HubWorld {
            hub: hub::Hub::new(HubIndex(u16::try_from(index).unwrap())),
            life: 0,
            attachments: BTreeMap::new(),
            waiting: VecDeque::new(),
            busy: false,
        });
        Self {
            seed,
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: UnixMs(1_800_000_000_000),
            keeps: rules.keep.messages,
            ephemeral: section.contains("ephemeral"),
            attends: section.contains("presence"),
            left: BTreeMap::new(),
            plan,
            chances,
            db,
            channel: None,
            channel_life: 0,
            alarm: None,
            hubs: hubs.collect(),
            clients: (0..6).map(|_| Client::default()).collect(),
            network: Vec::new(),
            stored: BTreeMap::new(),
            published: 0,
            confirmed: Vec::new(),
        }
    }

    fn random(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.random() % 100 < percent
    }

    /// Something happens.
    pub fn step(&mut self) {
        self.now = self.now.plus(self.random() % 300);
        self.fire();
        if self.happens(self.chances.crashes) {
            return match self.below(2) {
                0 => self.crash_channel(),
                _ => {
                    let hub = self.below(HUBS);
                    self.crash_hub(hub);
                }
            };
        }
        if self.happens(self.chances.naps) {
            self.nap();
        }
        match self.below(10) {
            0 | 1 => {
                let client = self.below(self.clients.len());
                self.connect(client);
            }
            2 => {
                let client = self.below(self.clients.len());
                self.cut(client);
            }
            3..=5 => {
                let client = self.below(self.clients.len());
                self.publish(client);
            }
            _ => {}
        }
        for _ in 0..self.below(6) {
            self.carry();
        }
    }

    /// Nothing fails any more, everybody comes back, and all must have everything.
    pub fn settle(&mut self) {
        self.chances.lost = 0;
        for client in 0..self.clients.len() {
            self.connect(client);
        }
        self.pass(200);
        // Whoever was refused for want of a channel tries again.
        for client in 0..self.clients.len() {
            if !self.clients[client].follows {
                self.cut(client);
                self.connect(client);
            }
        }
        self.pass(10);
        let head = self.with_channel(|channel, _, _| channel.at());
        for (n, client) in self.clients.iter().enumerate() {
            assert!(client.follows, "seed {}: client {n} does not follow", self.seed);
            assert_eq!(client.at, head, "seed {}: client {n}", self.seed);
        }
        self.agree_on_who_is_there();
        for gone in [0, 4] {
            self.cut(gone);
        }
        self.pass(30);
        self.agree_on_who_is_there();
        if self.attends && self.seed.is_multiple_of(4) {
            // A hub dies with its sockets, and nobody comes back: the sweep finds out.
            self.crash_hub(1);
            self.pass(1000);
            self.agree_on_who_is_there();
        }
        for (epoch, offset, data) in &self.confirmed {
            let stored = self.stored.get(&(epoch.clone(), *offset));
            assert_eq!(stored, Some(data), "seed {}: confirmed, and not stored", self.seed);
        }
    }

    /// So many seconds pass, and everything arrives.
    fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds {
            while !self.network.is_empty() {
                self.carry();
            }
            self.now = self.now.plus(1000);
            self.fire();
        }
        while !self.network.is_empty() {
            self.carry();
        }
    }

    /// Everybody who is connected sees everybody else who is, and what they said last.
    fn agree_on_who_is_there(&self) {
        if !self.attends {
            return;
        }
        let there = |n: &usize| *n != WATCHER && self.clients[*n].connection.is_some();
        let there: Vec<usize> = (0..self.clients.len()).filter(there).collect();
        let names: BTreeSet<String> = there.iter().map(|n| user(*n)).collect();
        for (n, client) in self.clients.iter().enumerate().filter(|(_, client)| client.follows) {
            let seen: BTreeSet<String> = client.view.keys().cloned().collect();
            assert_eq!(seen, names, "seed {}: client {n}", self.seed);
            for other in &there {
                // Of a user with two sockets, either may have spoken last.
                let theirs = self
                    .clients
                    .iter()
                    .enumerate()
                    .filter(|(n, _)| user(*n) == user(*other));
                let said: Vec<u64> = theirs.map(|(_, client)| client.says).collect();
                let heard = client.view[&user(*other)];
                assert!(
                    said.contains(&heard),
                    "seed {}: client {n} heard {heard} of {other}: {said:?}",
                    self.seed
                );
            }
        }
    }

    fn with_channel<T>(&mut self, turn: impl FnOnce(&mut Channel, &Native, &mut Moment<'_>) -> T) -> T {
        let mut chance = self.chance;
        let mut random = || {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            chance
        };
        let mut moment = Moment {
            now: self.now,
            random: &mut random,
        };
        let mut channel = match self.channel.take() {
            Some(channel) => channel,
            None => Channel::load(&self.db, &mut moment).unwrap(),
        };
        let before = channel.presence.attended().roster.members;
        let result = turn(&mut channel, &self.db, &mut moment);
        self.look_at_who_goes(&before, &channel.presence.attended().roster.members);
        if let Some(at) = channel.next_alarm(self.now) {
            self.alarm = Some(at);
        }
        self.chance = chance | 1;
        self.channel = Some(channel);
        result
    }

    fn fire(&mut self) {
        if self.alarm.is_some_and(|at| at <= self.now) {
            self.alarm = None;
            let effects = self.with_channel(|channel, db, moment| channel.wake(db, moment.now).unwrap());
            self.tell(effects);
        }
    }

    fn tell(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let packet = match effect {
                Effect::Tell {
                    hub,
                    after,
                    messages,
                    until,
                } => Packet::Tell(usize::from(hub.0), self.channel_life, after, messages, until),
                Effect::TellPresence { hub, told } => Packet::TellPresence(usize::from(hub.0), self.channel_life, told),
            };
            self.network.push(packet);
        }
    }

    /// Whoever goes has been away for as long as the grace is, where nothing is lost.
    fn look_at_who_goes(&self, before: &[Member], after: &[Member]) {
        if self.chances.lost > 0 || self.chances.crashes > 0 {
            return;
        }
        let stays = |member: &&Member| after.iter().any(|other| other.user == member.user);
        for gone in before.iter().filter(|member| !stays(member)) {
            let theirs = self.clients.iter().enumerate();
            let theirs = theirs.filter(|(n, _)| user(*n) == gone.user.as_str());
            let since = theirs
                .map(|(_, client)| client.absent_at.unwrap_or(UnixMs(0)))
                .max()
                .unwrap();
            let absent = self.now.0 - since.0;
            // What it said since may still be on its way.
            let left = self.left.get(&gone.user).map_or(0, |left| self.now.0 - left.0);
            assert!(
                absent.max(left) >= GRACE_MS,
                "seed {}: {} went after {absent} ms",
                self.seed,
                gone.user
            );
        }
    }

    /// One packet arrives, whichever.
    fn carry(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let which = self.below(self.network.len());
        let packet = self.network.swap_remove(which);
        let is_lost = self.happens(self.chances.lost);
        match packet {
            Packet::Calls(hub, life, calls) => {
                if is_lost {
                    let replies = calls.into_iter().map(|(id, _)| (id, Err(lost()))).collect();
                    return self.network.push(Packet::Replies(hub, life, replies));
                }
                self.ask(hub, life, calls);
            }
            Packet::Replies(hub, life, replies) => {
                if self.hubs[hub].life != life {
                    return;
                }
                self.hubs[hub].busy = false;
                for (id, reply) in replies {
                    let reply = if is_lost { Err(lost()) } else { reply };
                    let effects = self.hubs[hub].hub.channel_replied(self.now, id, reply);
                    self.perform(hub, effects);
                }
                self.send(hub);
            }
            Packet::Tell(hub, life, after, messages, until) => {
                if is_lost {
                    return self.network.push(Packet::Said(hub, life, Err(lost())));
                }
                let (effects, at) = self.hubs[hub].hub.hear(self.now, &channel(), after, messages, until);
                self.perform(hub, effects);
                self.network.push(Packet::Said(hub, life, Ok(at)));
            }
            Packet::TellPresence(hub, life, told) => {
                if is_lost {
                    return self.network.push(Packet::SaidPresence(hub, life, Err(lost())));
                }
                let (effects, heard) = self.hubs[hub].hub.hear_presence(&channel(), told);
                self.perform(hub, effects);
                self.network.push(Packet::SaidPresence(hub, life, Ok(heard)));
            }
            Packet::SaidPresence(hub, life, said) => {
                if self.channel_life != life {
                    return;
                }
                let said = if is_lost { Err(lost()) } else { said };
                let index = HubIndex(u16::try_from(hub).unwrap());
                let effects = self
                    .with_channel(|channel, db, moment| channel.heard_presence(db, moment.now, index, said).unwrap());
                self.tell(effects);
            }
            Packet::Said(hub, life, said) => {
                if self.channel_life != life {
                    return;
                }
                let said = if is_lost { Err(lost()) } else { said };
                let index = HubIndex(u16::try_from(hub).unwrap());
                let effects = self.with_channel(|channel, db, moment| channel.told(db, moment, index, said).unwrap());
                self.tell(effects);
            }
        }
    }

    fn ask(&mut self, hub: usize, life: u32, calls: Vec<(hub::CallId, Call)>) {
        let (ids, calls): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
        let asked = calls.clone();
        for call in &calls {
            match call {
                Call::Follow {
                    presence: Some(Attendance {
                        member: Some(member), ..
                    }),
                    ..
                } => drop(self.left.remove(&member.user)),
                Call::Leave { user, .. } => drop(self.left.insert(user.clone(), self.now)),
                _ => {}
            }
        }
        let (replies, effects) = self.with_channel(|channel, db, moment| channel.handle(db, moment, calls).unwrap());
        for (call, reply) in asked.iter().zip(&replies) {
            if let (Call::Publish { publication, .. }, Ok(Reply::Published(published))) = (call, reply) {
                let place = (published.epoch.clone(), published.offset.0);
                let before = self.stored.insert(place, publication.data.as_str().into());
                assert!(before.is_none() || published.deduplicated, "a place twice");
            }
        }
        let replies = ids.into_iter().zip(replies).collect();
        self.network.push(Packet::Replies(hub, life, replies));
        self.tell(effects);
    }

    fn crash_channel(&mut self) {
        self.channel = None;
        self.channel_life += 1;
        let packets = core::mem::take(&mut self.network);
        for packet in packets {
            match packet {
                // Who was waiting for it hears that it broke.
                Packet::Calls(hub, life, calls) => {
                    let replies = calls.into_iter().map(|(id, _)| (id, Err(lost()))).collect();
                    self.network.push(Packet::Replies(hub, life, replies));
                }
                other => self.network.push(other),
            }
        }
    }

    fn crash_hub(&mut self, hub: usize) {
        let world = &mut self.hubs[hub];
        world.hub = hub::Hub::new(HubIndex(u16::try_from(hub).unwrap()));
        world.life += 1;
        world.attachments.clear();
        world.waiting.clear();
        world.busy = false;
        for (n, client) in self.clients.iter_mut().enumerate() {
            if n % HUBS == hub {
                client.connection = None;
                client.follows = false;
                client.absent_at = Some(self.now);
            }
        }
    }

    /// Whoever has nothing under way falls asleep, as the platform has it.
    fn nap(&mut self) {
        if self.network.is_empty() {
            self.channel = None;
            self.channel_life += 1;
        }
        for hub in 0..HUBS {
            let quiet = self.hubs[hub].hub.is_idle() && !self.hubs[hub].busy;
            let told = self
                .network
                .iter()
                .any(|packet| matches!(packet, Packet::Tell(to, ..) | Packet::TellPresence(to, ..) if *to == hub));
            if !quiet || told {
                continue;
            }
            let saved = self.hubs[hub].hub.save_feeds();
            self.perform(hub, saved);
            assert!(!self.hubs[hub].hub.is_unsaved());
            let mut awake = hub::Hub::new(HubIndex(u16::try_from(hub).unwrap()));
            for bytes in self.hubs[hub].attachments.values() {
                awake.restore(hub::Session::from_attachment(bytes).unwrap());
            }
            self.hubs[hub].hub = awake;
        }
    }

    fn connect(&mut self, client: usize) {
        let hub = client % HUBS;
        if self.clients[client].connection.is_some() {
            return;
        }
        let principal = Principal {
            tenant: TenantId::parse("acme").unwrap(),
            user: UserId::parse(&user(client)).unwrap(),
            scopes: Default::default(),
            expires_at: Principal::NEVER,
            credential: Default::default(),
            network: Default::default(),
        };
        let chance = self.random();
        let mut random = || chance;
        let mut moment = hub::Moment {
            now: self.now,
            random: &mut random,
        };
        let opened = self.hubs[hub].hub.open(&mut moment, principal, Bounds::default(), 1);
        let (connection, effects) = opened.unwrap();
        self.clients[client].connection = Some(connection.clone());
        self.perform(hub, effects);
        let mut frame = json!({ "type": "subscribe", "id": "s", "channel": "c:1" });
        if let Some(at) = &self.clients[client].at {
            frame["after"] = json!({ "epoch": at.epoch, "offset": at.offset });
        }
        if self.attends {
            let says = self.random() % 1000;
            self.clients[client].says = says;
            frame["presence"] = match client {
                WATCHER => json!({ "member": false }),
                _ => json!({ "data": says }),
            };
        }
        self.frame(hub, &connection, &frame);
    }

    fn cut(&mut self, client: usize) {
        let Some(connection) = self.clients[client].connection.take() else {
            return;
        };
        self.clients[client].follows = false;
        self.clients[client].absent_at = Some(self.now);
        self.close(client % HUBS, &connection);
    }

    fn close(&mut self, hub: usize, connection: &ConnectionId) {
        let effects = self.hubs[hub].hub.closed(self.now, connection);
        self.hubs[hub].attachments.remove(connection);
        self.perform(hub, effects);
    }

    fn publish(&mut self, client: usize) {
        let Some(connection) = self.clients[client].connection.clone() else {
            return;
        };
        self.published += 1;
        let frame = json!({ "type": "publish", "id": format!("p{}", self.published), "channel": "c:1", "data": self.published });
        self.frame(client % HUBS, &connection, &frame);
    }

    fn frame(&mut self, hub: usize, from: &ConnectionId, frame: &Value) {
        let chance = self.random();
        let mut random = || chance;
        let mut moment = hub::Moment {
            now: self.now,
            random: &mut random,
        };
        let plan = self.plan.clone();
        let effects = self.hubs[hub]
            .hub
            .frame(&mut moment, &plan, from, &serde_json::to_string(frame).unwrap());
        self.perform(hub, effects);
    }

    fn perform(&mut self, hub: usize, effects: Vec<hub::Effect>) {
        for effect in effects {
            match effect {
                hub::Effect::Send { to, frame } => self.receive(&to, &frame),
                hub::Effect::Broadcast { to, frames } => {
                    for to in to {
                        for frame in &frames {
                            self.receive(&to, frame);
                        }
                    }
                }
                hub::Effect::Save { of } => {
                    if let Some(session) = self.hubs[hub].hub.session(&of) {
                        let bytes = session.to_attachment().unwrap();
                        self.hubs[hub].attachments.insert(of, bytes);
                    }
                }
                hub::Effect::Close { to, .. } => {
                    let theirs = self
                        .clients
                        .iter()
                        .position(|client| client.connection.as_ref() == Some(&to));
                    if let Some(client) = theirs {
                        self.cut(client);
                    }
                }
                hub::Effect::Channel { id, call, .. } => {
                    self.hubs[hub].waiting.push_back((id, *call));
                }
                other => panic!("{other:?}"),
            }
        }
        self.send(hub);
    }

    /// One batch of a hub is under way at a time.
    fn send(&mut self, hub: usize) {
        let world = &mut self.hubs[hub];
        if world.busy || world.waiting.is_empty() {
            return;
        }
        world.busy = true;
        let calls = world.waiting.drain(..).collect();
        self.network.push(Packet::Calls(hub, world.life, calls));
    }

    /// A client reads a frame, and looks at whether it may be.
    fn receive(&mut self, to: &ConnectionId, frame: &str) {
        let seed = self.seed;
        let head = self.channel.as_ref().and_then(Channel::at);
        let Some(n) = self
            .clients
            .iter()
            .position(|client| client.connection.as_ref() == Some(to))
        else {
            return;
        };
        let client = &mut self.clients[n];
        let frame: Value = serde_json::from_str(frame).unwrap();
        let place = || Cursor {
            epoch: Epoch::parse(frame["epoch"].as_str().unwrap()).unwrap(),
            offset: Offset(frame["offset"].as_u64().unwrap()),
        };
        match frame["type"].as_str().unwrap() {
            "subscribed" => {
                let place = place();
                if frame["recovered"] == json!(true) {
                    assert_eq!(
                        Some(&place),
                        client.at.as_ref(),
                        "seed {seed}: recovered from elsewhere"
                    );
                } else if let Some(at) = &client.at {
                    client.gaps += 1;
                    // A gap is said only where there is one: what is kept would have been made up for.
                    let kept = head.filter(|head| head.epoch == at.epoch && !self.ephemeral);
                    if let Some(head) = kept {
                        let missing = head.offset.0.saturating_sub(at.offset.0);
                        assert!(
                            missing > self.keeps,
                            "seed {seed}: a gap of {missing} was not made up for: {frame}"
                        );
                    }
                }
                client.at = Some(place);
                client.follows = true;
                if !frame["presence"].is_null() {
                    client.view = members(&frame["presence"]["members"]);
                }
            }
            "presence" => client.view = members(&frame["members"]),
            "join" => {
                client.view.extend(members(&json!([frame["member"]])));
            }
            "leave" => {
                let gone = frame["member"]["user"].as_str().unwrap();
                client.view.remove(gone);
            }
            "message" => {
                let (place, at) = (place(), client.at.clone().unwrap());
                assert_eq!(place.epoch, at.epoch, "seed {seed}: {frame}");
                assert_eq!(place.offset, at.offset.next(), "seed {seed}: client {n}: {frame}");
                let stored = self.stored.get(&(place.epoch.clone(), place.offset.0));
                let data = frame["data"].as_u64().map(|data| format!("{data}"));
                assert_eq!(stored, data.as_ref(), "seed {seed}: {frame}");
                client.at = Some(place);
            }
            "published" => {
                let place = place();
                let data = frame["request_id"].as_str().unwrap().trim_start_matches('p');
                self.confirmed.push((place.epoch, place.offset.0, data.into()));
            }
            "error" if frame["request_id"] == "s" => {
                // The channel was not reached: the client comes back.
                client.connection = None;
                client.absent_at = Some(self.now);
                self.close(n % HUBS, &to.clone());
            }
            "error" | "welcome" | "goodbye" => {}
            other => panic!("seed {seed}: {other}"),
        }
    }
}

#[test]
fn the_world_does_what_it_is_for() {
    // A world in which nobody publishes or nobody follows would prove nothing.
    let chances = Chances {
        lost: 12,
        crashes: 6,
        naps: 8,
    };
    let (mut published, mut gaps) = (0, 0);
    for seed in 0..40 {
        let section = if seed % 2 == 0 { super::STORED } else { super::CACHED };
        let mut world = World::new(seed, section, chances);
        for _ in 0..160 {
            world.step();
        }
        world.settle();
        published += world.confirmed.len();
        gaps += world.clients.iter().map(|client| client.gaps).sum::<u64>();
    }
    assert!(published > 500 && gaps > 0, "{published} {gaps}");
}
