//! Objects of a tenant that grows, as a hub meets them: each call goes to the first owner, and on as it is told.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::executor::Execute;
use tidegate_protocol::calls::jobs::{Call, Enqueue, JobRef, Reply};
use tidegate_protocol::calls::once::{Dedupe, DedupeRule, KeyLife, Once};
use tidegate_protocol::calls::places::home_of;
use tidegate_protocol::calls::queueing::{Counted, Pause, PauseScope, Rule, WhenFull};
use tidegate_protocol::calls::spread::{Growth, Place, Standing, owner};
use tidegate_protocol::event::JobState;
use tidegate_protocol::http::{Reason, Why};
use tidegate_protocol::ids::{JobId, JobNumber, Partition, ShardIndex, UserId};
use tidegate_protocol::{Error, ErrorCode};

use super::bench::*;
use crate::jobs::Effect;

/// An object, and what it has started.
struct Shard {
    bench: Bench,
    started: Vec<Execute>,
}

impl core::ops::Deref for Shard {
    type Target = Bench;
    fn deref(&self) -> &Bench {
        &self.bench
    }
}

impl core::ops::DerefMut for Shard {
    fn deref_mut(&mut self) -> &mut Bench {
        &mut self.bench
    }
}

impl Shard {
    fn new() -> Self {
        Self {
            bench: Bench::new(),
            started: Vec::new(),
        }
    }

    fn ask(&mut self, call: Call) -> Result<Reply, Error> {
        let (reply, effects) = self.bench.call(call);
        self.started.extend(executions(&effects));
        reply
    }

    fn wake(&mut self) {
        let effects = self.bench.wake();
        self.started.extend(executions(&effects));
    }

    fn executed(&self) -> Vec<JobId> {
        self.started.iter().map(|execute| execute.job).collect()
    }

    fn end(&mut self, job: JobId) {
        let execute = self.started.iter().find(|execute| execute.job == job).unwrap().clone();
        let (reply, effects) = self.bench.finish(&execute, success());
        reply.unwrap();
        self.started.extend(executions(&effects));
    }

    fn waits_for(&mut self, job: JobId) -> Vec<Reason> {
        let caller = caller("ann");
        match self.ask(Call::Why { job, caller }) {
            Ok(Reply::Why(text)) => serde_json::from_str::<Why>(text.as_str()).unwrap().waits_for,
            other => panic!("{other:?}"),
        }
    }
}

/// A partition that the second of two objects owns.
const LOST: u64 = 7;
/// One that the first keeps.
const KEPT: u64 = 6;

fn told(shard: u16, history: &[u16], standing: Standing) -> Growth {
    Growth {
        shard: ShardIndex(shard),
        history: history.to_vec(),
        standing,
        pauses: Vec::new(),
        after: JobNumber(0),
    }
}

/// The object hears of a growth.
fn grow(bench: &mut Shard, growth: Growth) {
    match bench.ask(Call::Grow(growth)) {
        Ok(Reply::Grown(grown)) => assert_eq!(grown.last, bench.state.last),
        other => panic!("{other:?}"),
    }
}

/// An object that was alone, and is the first of two.
fn sealed() -> Shard {
    let mut bench = Shard::new();
    grow(&mut bench, told(0, &[1, 2], Standing::Open));
    bench
}

fn in_partition(mut enqueue: Enqueue, hash: u64) -> Enqueue {
    enqueue.partition = Partition::of_hash(hash);
    enqueue
}

fn accepted(reply: Result<Reply, Error>) -> JobId {
    match reply {
        Ok(Reply::Acknowledged { job, .. } | Reply::Ended { job, .. }) => job,
        other => panic!("{other:?}"),
    }
}

fn elsewhere(reply: Result<Reply, Error>) -> (ShardIndex, Call) {
    match reply {
        Ok(Reply::Elsewhere { shard, call }) => (shard, *call),
        other => panic!("{other:?}"),
    }
}

fn ask_for(bench: &mut Shard, enqueue: Enqueue) -> Result<Reply, Error> {
    bench.ask(Call::Enqueue(Box::new(enqueue)))
}

fn limited(rule: Rule) -> Enqueue {
    let mut enqueue = plain();
    enqueue.job.queueing.limits = vec![Counted {
        limit: "l".into(),
        key: "k".into(),
        rule,
        cost: 1,
        when_full: WhenFull::Wait,
    }];
    enqueue
}

fn operator() -> Caller {
    Caller {
        reads_all: true,
        writes_all: true,
        ..caller("op")
    }
}

#[test]
fn a_sealed_object_answers_for_the_keys_it_has_and_hands_on_all_others() {
    let mut bench = Shard::new();
    let job = accepted(ask_for(&mut bench, in_partition(keyed("old"), LOST)));
    grow(&mut bench, told(0, &[1, 2], Standing::Open));
    assert_eq!(accepted(ask_for(&mut bench, in_partition(keyed("old"), LOST))), job);
    let new = in_partition(keyed("new"), LOST);
    let (shard, call) = elsewhere(ask_for(&mut bench, new.clone()));
    assert_eq!((shard, call), (ShardIndex(1), Call::Enqueue(Box::new(new))));
    // What it still owns it takes, and what has no key it takes as its own.
    accepted(ask_for(&mut bench, in_partition(keyed("own"), KEPT)));
    let own = accepted(ask_for(&mut bench, in_partition(plain(), LOST)));
    assert_eq!(owner(own.number().partition(), 2), ShardIndex(0));
    // It is so after a restart.
    bench.crash();
    elsewhere(ask_for(&mut bench, in_partition(keyed("new"), LOST)));
    assert_eq!(accepted(ask_for(&mut bench, in_partition(keyed("old"), LOST))), job);
}

#[test]
fn a_key_that_has_come_to_its_end_is_taken_by_the_next_owner() {
    let mut bench = Shard::new();
    let brief = || {
        let mut enqueue = in_partition(keyed("k"), LOST);
        let life = KeyLife {
            ttl_ms: Some(1000),
            failed_frees: false,
        };
        enqueue.job.once = Some(Once::Key(life));
        enqueue
    };
    accepted(ask_for(&mut bench, brief()));
    let job = bench.executed()[0];
    bench.end(job);
    grow(&mut bench, told(0, &[1, 2], Standing::Open));
    accepted(ask_for(&mut bench, brief()));
    bench.now = bench.now.plus(1000);
    elsewhere(ask_for(&mut bench, brief()));
    // A clock that jumps back does not give the key back to the old job.
    bench.now.0 -= 500;
    elsewhere(ask_for(&mut bench, brief()));
}

#[test]
fn a_replacement_is_made_where_the_job_waits_and_numbered_in_a_partition_of_its_own() {
    let mut bench = Shard::new();
    let of_rule = |rule| {
        let mut enqueue = in_partition(plain(), LOST);
        let key = "d".into();
        enqueue.job.once = Some(Once::Dedupe(Dedupe {
            key,
            rule,
            key_life: None,
        }));
        enqueue
    };
    let waiting = |bench: &Shard| {
        let mut enqueue = of_rule(DedupeRule::ReplaceWaiting);
        enqueue.job.run_at = Some(bench.now.plus(60_000));
        enqueue
    };
    let first = waiting(&bench);
    let first = accepted(ask_for(&mut bench, first));
    grow(&mut bench, told(0, &[1, 2], Standing::Open));
    let second = waiting(&bench);
    let second = accepted(ask_for(&mut bench, second));
    assert_ne!(first, second);
    assert_eq!(bench.get(first).status, JobState::Cancelled);
    assert_eq!(owner(second.number().partition(), 2), ShardIndex(0));
    // Once it has begun, the next request of its key is a new job, which the next owner takes.
    bench.now = bench.now.plus(60_000);
    bench.wake();
    elsewhere(ask_for(&mut bench, of_rule(DedupeRule::ReplaceWaiting)));
}

#[test]
fn a_job_is_answered_for_where_it_lies_and_asked_for_at_the_next_owner_otherwise() {
    let mut bench = Shard::new();
    let here = accepted(ask_for(&mut bench, in_partition(plain(), LOST)));
    let mut other = sealed();
    grow(&mut other, told(0, &[1, 2, 4], Standing::Open));
    let calls = |job: JobId| {
        let caller = || caller("ann");
        [
            Call::Get { job, caller: caller() },
            Call::Result { job, caller: caller() },
            Call::Why { job, caller: caller() },
            Call::Cancel { job, caller: caller() },
            Call::Retry {
                job,
                caller: caller(),
                payload: None,
            },
            Call::Follow {
                job: JobRef::Id(job),
                caller: caller(),
                hub: HUB,
                after: None,
            },
            Call::Watch {
                job,
                caller: caller(),
                after: None,
                wait_ms: 0,
                until_end: false,
            },
        ]
    };
    for call in calls(here) {
        let (shard, handed_on) = elsewhere(other.ask(call.clone()));
        // The owners in their order: with two objects it was the second, with four the fourth.
        assert_eq!((shard, handed_on), (ShardIndex(1), call));
    }
    grow(&mut bench, told(0, &[1, 2, 4], Standing::Open));
    for call in calls(here) {
        assert!(!matches!(bench.ask(call), Ok(Reply::Elsewhere { .. })));
    }
    // The second object leads on to the fourth, which is the last: what it does not have is nowhere.
    let mut second = Shard::new();
    grow(&mut second, told(1, &[1, 2, 4], Standing::Open));
    let get = Call::Get {
        job: here,
        caller: caller("ann"),
    };
    assert_eq!(elsewhere(second.ask(get.clone())).0, ShardIndex(3));
    let mut fourth = Shard::new();
    grow(&mut fourth, told(3, &[1, 2, 4], Standing::Open));
    assert_eq!(fourth.ask(get).unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn a_new_object_starts_nothing_until_it_knows_what_is_paused() {
    let mut bench = Shard::new();
    grow(&mut bench, told(1, &[1, 2], Standing::Asleep));
    let held = accepted(ask_for(&mut bench, in_partition(keyed("a"), LOST)));
    let mut other = in_partition(plain(), LOST);
    other.job.action = tidegate_protocol::ids::ActionName::parse("b").unwrap();
    let free = accepted(ask_for(&mut bench, other));
    bench.wake();
    assert!(bench.executed().is_empty(), "it sleeps");
    // An operator would undo what is on its way here.
    let scope = PauseScope::Tenant;
    let resume = Call::Resume {
        scope,
        caller: operator(),
    };
    assert_eq!(bench.ask(resume).unwrap_err().code, ErrorCode::Unavailable);
    bench.crash();
    bench.wake();
    assert!(bench.executed().is_empty(), "it sleeps after a restart as well");
    let scope = PauseScope::Action(tidegate_protocol::calls::queueing::ActionPattern::parse("a").unwrap());
    let pause = Pause {
        scope: scope.clone(),
        by: UserId::parse("op").unwrap(),
        since: bench.now,
    };
    let begins = Growth {
        pauses: vec![pause],
        ..told(1, &[1, 2], Standing::Limited)
    };
    grow(&mut bench, begins.clone());
    assert_eq!(bench.executed(), [free]);
    let resume = Call::Resume {
        scope,
        caller: operator(),
    };
    assert_eq!(bench.ask(resume), Ok(Reply::Done));
    assert_eq!(bench.executed(), [free, held]);
    // The gate's word comes again, late: it does not pause anew.
    grow(&mut bench, begins);
    grow(&mut bench, told(1, &[1, 2], Standing::Asleep));
    assert!(bench.state.gates.pauses().is_empty());
    assert!(bench.state.has_place());
}

#[test]
fn a_new_object_asks_the_home_of_a_limit_which_stays_where_it_was() {
    let rule = Rule::Concurrency { max: 4 };
    let mut old = Shard::new();
    for _ in 0..4 {
        accepted(ask_for(&mut old, limited(rule)));
    }
    assert_eq!(old.executed().len(), 4);
    grow(&mut old, told(0, &[1, 2], Standing::Open));
    let mut new = Shard::new();
    grow(&mut new, told(1, &[1, 2], Standing::Asleep));
    grow(&mut new, told(1, &[1, 2], Standing::Limited));
    let (reply, effects) = new.bench.call(Call::Enqueue(Box::new(limited(rule))));
    let waits = accepted(reply);
    assert!(executions(&effects).is_empty());
    let asked = effects.iter().find_map(|effect| match effect {
        Effect::Tell { shard, call } => Some((*shard, call.clone())),
        _ => None,
    });
    let (home, call) = asked.expect("the home is asked");
    assert_eq!(home, ShardIndex(0));
    let reason = |waits_for: Vec<Reason>| matches!(waits_for.as_slice(), [Reason::Limit { max: 4, .. }]);
    assert!(reason(new.waits_for(waits)));
    assert!(new.state.next_wake().is_some(), "it asks again where it hears nothing");
    // What counts under no limit starts at once.
    accepted(ask_for(&mut new, plain()));
    assert_eq!(new.executed().len(), 1);
    // The home has given all it has to its own, and answers as one of them ends.
    let (id, effects) = old.bench.send(*call);
    assert!(replies(&effects).is_empty());
    let execute = old.started[0].clone();
    let effects = old.bench.finish(&execute, success()).1;
    assert!(matches!(replies(&effects).get(&id), Some(Ok(Reply::Places(places))) if places.places == 1));
}

#[test]
fn a_throttle_begins_in_a_new_object_with_its_burst_used_up() {
    let rule = Rule::Rate {
        units: 2,
        per_ms: 2000,
        burst: 2,
    };
    let mut new = Shard::new();
    for standing in [Standing::Asleep, Standing::Limited, Standing::Open] {
        grow(&mut new, told(1, &[1, 2], standing));
    }
    let opened = new.now;
    accepted(ask_for(&mut new, limited(rule)));
    assert!(new.executed().is_empty());
    // Its part is one unit in two seconds.
    assert_eq!(new.state.next_wake(), Some(opened.plus(2000)));
    new.crash();
    new.now = opened.plus(1999);
    new.wake();
    assert!(new.executed().is_empty());
    new.now = opened.plus(2000);
    new.wake();
    assert_eq!(new.executed().len(), 1);
}

#[test]
fn a_hub_tells_the_first_objects_of_a_tenant_their_place_and_no_other() {
    let rule = Rule::Concurrency { max: 4 };
    let of = |shard, shards| {
        let mut enqueue = limited(rule);
        enqueue.job.queueing.place = Place {
            shard: ShardIndex(shard),
            shards,
        };
        enqueue
    };
    let mut bench = Shard::new();
    for _ in 0..3 {
        accepted(ask_for(&mut bench, in_partition(of(1, 2), LOST)));
    }
    let home = home_of("l", "k", 2);
    let expected = if home == ShardIndex(1) { 3 } else { 0 };
    assert_eq!(bench.executed().len(), expected, "its home is {home:?}");
    assert_eq!(bench.state.spread.place().shards, 2);
    grow(&mut bench, told(1, &[2, 4], Standing::Open));
    accepted(ask_for(&mut bench, of(1, 2)));
    assert_eq!(bench.state.spread.place().shards, 4);
}

#[test]
fn a_new_object_gives_out_no_number_that_an_earlier_owner_may_have_given_out() {
    let mut old = Shard::new();
    let first = accepted(ask_for(&mut old, in_partition(plain(), LOST)));
    let mut new = Shard::new();
    grow(&mut new, told(1, &[1, 2], Standing::Asleep));
    let begins = Growth {
        after: first.number(),
        ..told(1, &[1, 2], Standing::Limited)
    };
    match new.ask(Call::Grow(begins)) {
        Ok(Reply::Grown(_)) => {}
        other => panic!("{other:?}"),
    }
    // The clock has gone back, and the object was put to sleep.
    new.now.0 -= 60_000;
    new.crash();
    let second = accepted(ask_for(&mut new, in_partition(plain(), LOST)));
    assert!(second.number() > first.number(), "{second} after {first}");
}
