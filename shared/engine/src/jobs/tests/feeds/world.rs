//! Two shards and the channels that tell of their jobs, over a network that loses, doubles and delays calls, while shards and
//! channels crash: the engines are those that ship.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{boxed::Box, vec};

use tidegate_protocol::calls::channel::{Call, Keep, Reply};
use tidegate_protocol::calls::executor::Execute;
use tidegate_protocol::calls::jobs;
use tidegate_protocol::changes::{ChangeKind, JobChange};
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::{ChannelName, JobId, Partition, ShardIndex, UserId};
use tidegate_protocol::{Error, ErrorCode};

use super::super::super::{Effect, changes_told};
use super::super::bench::*;
use super::{BOTH, told_of};
use crate::channels::{Channel, Moment, STEPS};
use crate::database::native::Native;
use crate::database::{Database, migrate};

enum Packet {
    /// What a shard tells a channel, by the shard's life.
    Take(usize, u32, ChannelName, Call),
    Said(usize, u32, ChannelName, Result<u64, Error>),
}

struct Shard {
    bench: Bench,
    life: u32,
    running: Vec<Execute>,
    jobs: Vec<JobId>,
    /// Whatever was stored to be told: the rows of the outbox, as they came.
    noted: BTreeSet<u64>,
}

struct Log {
    db: Native,
    channel: Option<Channel>,
    keep: Option<Keep>,
}

struct World {
    seed: u64,
    chance: u64,
    faults: u64,
    shards: Vec<Shard>,
    logs: BTreeMap<ChannelName, Log>,
    network: Vec<Packet>,
    hit: u64,
    retries: u64,
}

const USERS: [&str; 2] = ["ann", "bob|1"];

impl World {
    fn new(seed: u64, faults: u64) -> Self {
        let bench = || {
            let mut bench = Bench::new();
            bench.compares = false;
            bench
        };
        let shard = || Shard {
            bench: bench(),
            life: 0,
            running: vec![],
            jobs: vec![],
            noted: BTreeSet::new(),
        };
        Self {
            seed,
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            faults,
            shards: vec![shard(), shard()],
            logs: BTreeMap::new(),
            network: Vec::new(),
            hit: 0,
            retries: 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        usize::try_from(self.chance % u64::try_from(bound).unwrap()).unwrap()
    }

    fn fault(&mut self) -> bool {
        let hit = self.below(100) < usize::try_from(self.faults).unwrap();
        self.hit += u64::from(hit);
        hit
    }

    fn step(&mut self) {
        let ms = u64::try_from(self.below(400)).unwrap();
        for shard in &mut self.shards {
            shard.bench.later(ms);
        }
        let at = self.below(2);
        self.fire(at);
        if self.fault() {
            self.crash(at);
        }
        if self.fault() {
            for log in self.logs.values_mut() {
                log.channel = None;
            }
        }
        match self.below(8) {
            0..=2 => self.enqueue(at),
            3 | 4 => self.finish(at),
            5 => self.report(at),
            6 => self.cancel(at),
            _ => {}
        }
        for _ in 0..self.below(4) {
            self.carry();
        }
    }

    /// The alarm and the timer, where they are due.
    fn fire(&mut self, at: usize) {
        let bench = &mut self.shards[at].bench;
        let mut effects = Vec::new();
        if bench.state.next_tick().is_some_and(|tick| tick <= bench.now) {
            effects.extend(bench.tick());
        }
        if bench.next_wake().is_some_and(|wake| wake <= bench.now) {
            effects.extend(bench.wake());
        }
        self.perform(at, effects);
    }

    fn crash(&mut self, at: usize) {
        let shard = &mut self.shards[at];
        shard.bench.crash();
        // Memory and rows are compared elsewhere: here that would take most of the time.
        shard.bench.compares = false;
        shard.life += 1;
    }

    fn enqueue(&mut self, at: usize) {
        let user = USERS[self.below(2)];
        let mut enqueues = Vec::new();
        for _ in 0..=self.below(3) {
            let mut enqueue = match self.below(3) {
                0 => delayed(self.shards[at].bench.now.plus(700)),
                _ => plain(),
            };
            enqueue.job.user = UserId::parse(user).unwrap();
            enqueue.partition = Partition::of_hash(u64::try_from(at).unwrap());
            enqueues.push(jobs::Call::Enqueue(Box::new(told_of(BOTH, enqueue))));
        }
        let (_, effects) = self.shards[at].bench.send_all(enqueues);
        for reply in replies(&effects).into_values() {
            if let Ok(jobs::Reply::Acknowledged { job, .. }) = reply {
                self.shards[at].jobs.push(job);
            }
        }
        self.perform(at, effects);
    }

    fn attempt(&mut self, at: usize) -> Option<Execute> {
        let count = self.shards[at].running.len();
        (count > 0).then(|| {
            let which = self.below(count);
            self.shards[at].running.swap_remove(which)
        })
    }

    fn finish(&mut self, at: usize) {
        let Some(execute) = self.attempt(at) else { return };
        let outcome = match self.below(3) {
            0 => success(),
            1 => failure(true),
            _ => failure(false),
        };
        let (_, effects) = self.shards[at].bench.finish(&execute, outcome);
        self.perform(at, effects);
    }

    fn report(&mut self, at: usize) {
        let Some(execute) = self.attempt(at) else { return };
        let percentage = f64::from(u32::try_from(self.below(100)).unwrap());
        let (_, effects) = self.shards[at].bench.report(&execute, Some(percent(percentage)), None);
        self.shards[at].running.push(execute);
        self.perform(at, effects);
    }

    fn cancel(&mut self, at: usize) {
        let count = self.shards[at].jobs.len();
        if count == 0 {
            return;
        }
        let which = self.below(count);
        let job = self.shards[at].jobs[which];
        let caller = tidegate_protocol::calls::Caller {
            writes_all: true,
            reads_all: true,
            ..caller("op")
        };
        let (_, effects) = self.shards[at].bench.call(jobs::Call::Cancel { job, caller });
        self.perform(at, effects);
    }

    /// A turn is stored: what it wants done is done, or the object dies before.
    fn perform(&mut self, at: usize, effects: Vec<Effect>) {
        let stored = self.shards[at].bench.numbers("SELECT number FROM feed ORDER BY number");
        self.shards[at].noted.extend(stored);
        if self.fault() {
            // The attempts have begun all the same, for all that anybody knows.
            self.shards[at].running.extend(executions(&effects));
            return self.crash(at);
        }
        for effect in effects {
            match effect {
                Effect::Execute(execute) => self.shards[at].running.push(*execute),
                Effect::TellChanges { channel, rows, keep } => {
                    let source = ShardIndex(u16::try_from(at).unwrap());
                    let call = Call::Take { source, rows, keep };
                    let life = self.shards[at].life;
                    self.network.push(Packet::Take(at, life, channel, call));
                }
                _ => {}
            }
        }
    }

    /// One packet arrives, whichever.
    fn carry(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let which = self.below(self.network.len());
        let packet = self.network.swap_remove(which);
        let is_lost = self.fault();
        let lost = || Err(Error::new(ErrorCode::Unavailable, "lost"));
        match packet {
            Packet::Take(at, life, channel, call) => {
                if is_lost {
                    self.retries += 1;
                    return self.network.push(Packet::Said(at, life, channel, lost()));
                }
                if self.fault() {
                    // It comes once more, whenever.
                    let again = Packet::Take(at, u32::MAX, channel.clone(), call.clone());
                    self.network.push(again);
                }
                let said = self.take(&channel, call);
                self.network.push(Packet::Said(at, life, channel, Ok(said)));
            }
            Packet::Said(at, life, channel, said) => {
                if self.shards[at].life != life {
                    return;
                }
                let said = if is_lost { lost() } else { said };
                let bench = &mut self.shards[at].bench;
                let (now, state) = (bench.now, &mut bench.state);
                let effects = bench
                    .db
                    .transaction(|db| changes_told(db, state, now, &channel, said))
                    .unwrap();
                self.perform(at, effects);
            }
        }
    }

    fn take(&mut self, channel: &ChannelName, call: Call) -> u64 {
        let now = self.shards[0].bench.now;
        let Call::Take { keep, .. } = &call else { panic!() };
        let log = self.logs.entry(channel.clone()).or_insert_with(|| {
            let db = Native::in_memory().unwrap();
            migrate(&db, STEPS).unwrap();
            Log {
                db,
                channel: None,
                keep: Some(*keep),
            }
        });
        let mut random = || 7;
        let mut moment = Moment {
            now,
            random: &mut random,
        };
        let mut kept = match log.channel.take() {
            Some(channel) => channel,
            None => Channel::load(&log.db, &mut moment).unwrap(),
        };
        let turn = log.db.transaction(|db| kept.handle(db, &mut moment, vec![call]));
        let (mut replies, _) = turn.unwrap();
        log.channel = Some(kept);
        match replies.remove(0) {
            Ok(Reply::Taken(number)) => number,
            other => panic!("{other:?}"),
        }
    }

    /// Every message of a channel.
    fn messages(&mut self, channel: &str) -> Vec<JobChange> {
        let name = ChannelName::parse(channel).unwrap();
        let Some(log) = self.logs.get(&name) else {
            return vec![];
        };
        assert!(log.keep.is_some_and(|keep| keep.messages == 100_000));
        let rows = log.db.run("SELECT data FROM message ORDER BY place", &[]).unwrap();
        let texts: Vec<String> = rows.into_iter().map(|mut row| row.text().unwrap()).collect();
        texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    /// Nothing fails any more, and everything that was stored must be told, once.
    fn settle(&mut self) {
        self.faults = 0;
        for _ in 0..30 {
            for at in 0..2 {
                self.shards[at].bench.later(4000);
                self.fire(at);
            }
            while !self.network.is_empty() {
                self.carry();
            }
        }
        let seed = self.seed;
        let all = self.messages("tenant:jobs");
        let own: Vec<_> = ["user:ann", "user:b64:Ym9ifDE"]
            .into_iter()
            .flat_map(|channel| self.messages(channel))
            .collect();
        let mut rows = 0;
        for shard in &self.shards {
            assert_eq!(
                shard.bench.count("SELECT count(*) FROM feed"),
                0,
                "seed {seed}: not all is told"
            );
            rows += shard.noted.len();
        }
        assert!(rows == 0 || !all.is_empty());
        assert_eq!(all.len(), own.len(), "seed {seed}: each is told in both");
        let (mut by_job, mut by_user) = (BTreeMap::new(), BTreeMap::new());
        for (told, into) in [(all, &mut by_job), (own, &mut by_user)] {
            for change in told {
                into.entry(format!("{}", change.job_id))
                    .or_insert_with(Vec::new)
                    .push(change);
            }
        }
        assert_eq!(by_job, by_user, "seed {seed}: in one order");
        for shard in &mut self.shards {
            for id in shard.jobs.clone() {
                let caller = tidegate_protocol::calls::Caller {
                    reads_all: true,
                    ..caller("op")
                };
                let (Ok(jobs::Reply::Job(job)), _) = shard.bench.call(jobs::Call::Get { job: id, caller }) else {
                    panic!("seed {seed}: no job {id}")
                };
                let changes = by_job.remove(&format!("{id}")).unwrap_or_default();
                check(seed, job.status, job.attempt, &changes);
            }
        }
        assert!(by_job.is_empty(), "seed {seed}: of jobs that nobody knows");
    }
}

/// Whether these are the changes of a job, each once, in order.
fn check(seed: u64, status: JobState, attempts: u32, changes: &[JobChange]) {
    let of = |kind| changes.iter().filter(|change| change.kind == kind).count();
    let why = || format!("seed {seed}: {status:?} {changes:?}");
    assert_eq!(of(ChangeKind::Acknowledgment), 1, "{}", why());
    assert_eq!(changes[0].kind, ChangeKind::Acknowledgment, "{}", why());
    let ends = of(ChangeKind::Complete) + of(ChangeKind::Error);
    assert_eq!(ends, usize::from(status.is_ended()), "{}", why());
    let last = changes.last().unwrap();
    assert_eq!((last.status, last.attempt), (status, attempts), "{}", why());
    assert!(changes.is_sorted_by_key(|change| (change.seq, change.at)), "{}", why());
    assert!(changes.is_sorted_by_key(|change| change.attempt), "{}", why());
    for pair in changes.windows(2) {
        // Whatever happens is another change than the one before; what runs has begun, and what begins has waited.
        let begins = pair[1].kind == ChangeKind::Started;
        assert!(!begins || pair[0].status != JobState::Running, "{}", why());
        let retries = pair[1].kind == ChangeKind::Retrying;
        assert!(!retries || pair[0].status == JobState::Running, "{}", why());
        let of_progress = |change: &JobChange| change.kind == ChangeKind::Progress;
        assert!(
            pair[0] != pair[1] && !(of_progress(&pair[0]) && of_progress(&pair[1]) && pair[0].seq == pair[1].seq),
            "{}",
            why()
        );
    }
}

fn histories(seeds: core::ops::Range<u64>, faults: u64) -> (u64, u64) {
    let (mut hit, mut retries) = (0, 0);
    for seed in seeds {
        let mut world = World::new(seed, faults);
        for _ in 0..100 {
            world.step();
        }
        world.settle();
        hit += world.hit;
        retries += world.retries;
    }
    (hit, retries)
}

#[test]
fn each_change_is_told_once_and_in_order_while_nothing_fails() {
    histories(0..15, 0);
}

#[test]
fn each_change_is_told_once_and_in_order_whatever_is_lost_doubled_or_dies() {
    let (hit, retries) = histories(1000..1040, 8);
    assert!(
        hit > 1500 && retries > 70,
        "a world without faults would prove nothing: {hit} {retries}"
    );
}
