//! Workers on sockets: who may lease, which shards are asked, and what becomes of jobs that nobody is there for.

use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::LeaseJobs;
use tidegate_protocol::frames::AttemptSaid;
use tidegate_protocol::http::{FinishBody, LeaseRenewed};
use tidegate_protocol::ids::FencingToken;

use super::super::{Dealt, LEASES_MAX};
use super::*;

impl Bench {
    fn worker(&mut self) -> ConnectionId {
        let mut random = || {
            self.random += 1;
            self.random
        };
        let mut moment = Moment {
            now: self.now,
            random: &mut random,
        };
        let who = Principal {
            scopes: ["jobs:work".to_string()].into(),
            ..principal(u64::MAX >> 12)
        };
        self.hub.open(&mut moment, who, Default::default(), 1).unwrap().0
    }
}

fn lease(max: u32, wait_ms: u64) -> String {
    let body = format!(r#"{{"max":{max},"worker":"w","wait_ms":{wait_ms}}}"#);
    format!(r#"{{"type":"lease","id":"l","pool":"gpu","body":{body}}}"#)
}

/// What the shards are asked.
fn asked(effects: &[Effect]) -> Vec<(CallId, ShardIndex, LeaseJobs)> {
    let asked = effects.iter().map(|effect| match effect {
        Effect::Call { id, shard, call } => match &**call {
            Call::Lease(asked) => (*id, *shard, asked.clone()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    });
    asked.collect()
}

fn execute(n: u64) -> Execute {
    Execute {
        job: JobId::new(JobNumber(n), 1),
        token: FencingToken(n),
        attempt: 1,
        user: UserId::parse("ann").unwrap(),
        action: ActionName::parse("train").unwrap(),
        revision: Revision::parse("rev").unwrap(),
        payload: Payload::Inline(JsonText::null()),
        metadata: SortedMap::new(),
        checkpoint: None,
        deadline: UnixMs(9),
        lease_ms: 5,
        cancel_grace_ms: 0,
        sharing: Sharing::Alone,
        reporting: Default::default(),
        traceparent: None,
        message: None,
        runs: Default::default(),
    }
}

fn leased(jobs: Vec<Execute>) -> Result<Reply, Error> {
    let now = UnixMs(7);
    Ok(Reply::Leased { jobs, now })
}

#[test]
fn a_worker_is_given_what_the_shards_have_in_one_answer() {
    let mut bench = Bench::new();
    let socket = bench.worker();
    let first = asked(&bench.frame(&socket, &lease(5, 9000)));
    let parts: Vec<u32> = first.iter().map(|(_, _, asked)| asked.max).collect();
    assert_eq!((parts.iter().sum::<u32>(), parts.len()), (5, 4), "all shards at once");
    assert!(first.iter().all(|(_, _, asked)| asked.wait_ms == 0));
    let [(a, of_a, _), (b, of_b, _), (c, ..), (d, ..)] = &first[..] else {
        panic!("{first:?}")
    };
    for (id, jobs) in [(a, vec![execute(1)]), (b, vec![execute(2)]), (c, vec![])] {
        assert_eq!(bench.replied(*id, leased(jobs)), []);
    }
    let dealt = |shard: &ShardIndex, n| Dealt {
        shard: *shard,
        job: execute(n),
        leased_at: UnixMs(7),
    };
    let expected = Effect::Lease {
        to: socket,
        request_id: RequestId::parse("l").unwrap(),
        jobs: vec![dealt(of_a, 1), dealt(of_b, 2)],
    };
    assert_eq!(bench.replied(*d, leased(vec![])), [expected]);
}

#[test]
fn a_worker_waits_where_there_is_nothing_and_leaves_the_other_shards_when_one_gives() {
    let mut bench = Bench::new();
    let socket = bench.worker();
    let mut effects = bench.frame(&socket, &lease(4, 9000));
    for (id, ..) in asked(&effects) {
        effects = bench.replied(id, leased(vec![]));
    }
    let waiting = asked(&effects);
    assert_eq!(waiting.len(), 4);
    assert!(waiting.iter().all(|(_, _, asked)| asked.wait_ms == 9000));
    let ended = asked(&bench.replied(waiting[2].0, leased(vec![execute(1)])));
    assert_eq!(ended.len(), 3);
    assert!(ended.iter().all(|(_, _, asked)| asked.max == 0 && asked.worker == "w"));
    let rest = [0, 1, 3].map(|at| waiting[at].0).into_iter();
    let mut last = Vec::new();
    for id in rest.chain(ended.iter().map(|(id, ..)| *id)) {
        assert_eq!(last, [], "not before all are heard");
        last = bench.replied(id, leased(vec![]));
    }
    assert!(matches!(&last[..], [Effect::Lease { jobs, .. }] if jobs.len() == 1));
}

#[test]
fn a_wait_that_is_over_is_answered_with_nothing_and_a_shard_in_trouble_is_told() {
    let mut bench = Bench::new();
    let socket = bench.worker();
    for refused in [false, true] {
        let mut effects = bench.frame(&socket, &lease(4, 0));
        for (id, shard, _) in asked(&effects) {
            let reply = if refused && shard == ShardIndex(2) {
                Err(Error::new(ErrorCode::Unavailable, "down"))
            } else {
                leased(vec![])
            };
            effects = bench.replied(id, reply);
        }
        match &effects[..] {
            [Effect::Lease { jobs, .. }] => assert!(jobs.is_empty() && !refused),
            other => assert_eq!((told(other), refused), (pairs(&[("error", 0)]), true)),
        }
    }
}

#[test]
fn what_was_dealt_to_a_socket_that_has_gone_is_given_back_at_once() {
    let mut bench = Bench::new();
    let socket = bench.worker();
    let asks = asked(&bench.frame(&socket, &lease(4, 9000)));
    assert_eq!(bench.hub.closed(bench.now, &socket), []);
    let mut effects = Vec::new();
    for (id, ..) in asks {
        effects = bench.replied(id, leased(vec![execute(id.0 + 1)]));
    }
    let given_back = effects.iter().filter(|effect| {
        matches!(effect, Effect::Call { call, .. }
            if matches!(**call, Call::Finish { outcome: Outcome::Snoozed { ms: 0 }, .. }))
    });
    assert_eq!((given_back.count(), effects.len()), (4, 4));
}

#[test]
fn nobody_leases_without_the_scope_nor_without_end() {
    let mut bench = Bench::new();
    let stranger = bench.open();
    let refused = bench.frame(&stranger, &lease(1, 0));
    assert!(frames(&refused)[0].contains("FORBIDDEN"), "{refused:?}");
    let socket = bench.worker();
    for _ in 0..LEASES_MAX {
        assert!(!asked(&bench.frame(&socket, &lease(1, 9000))).is_empty());
    }
    let refused = bench.frame(&socket, &lease(1, 9000));
    assert!(frames(&refused)[0].contains("RATE_LIMITED"), "{refused:?}");
    let faults = bench.frame(&socket, r#"{"type":"lease","pool":"GPU","body":{"max":-1}}"#);
    let faults = &frames(&faults)[0];
    for pointer in ["/pool", "/body/max", "/body/worker"] {
        assert!(faults.contains(&format!("\"{pointer}\"")), "{pointer}: {faults}");
    }
}

#[test]
fn what_an_attempt_says_is_handed_on_with_its_token_and_answered() {
    let mut bench = Bench::new();
    let socket = bench.worker();
    let text = r#"{"type":"finish","id":"f","attempt_token":"t","body":{"outcome":"snoozed","ms":5}}"#;
    let effects = bench.frame(&socket, text);
    let [
        Effect::Attempt {
            to,
            request_id,
            attempt_token,
            said,
        },
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!((to, request_id.as_str(), attempt_token.as_str()), (&socket, "f", "t"));
    assert_eq!(**said, AttemptSaid::Finish(FinishBody::Snoozed { ms: 5 }));
    let answer = |bench: &Bench, result| {
        let request = RequestId::parse("f").unwrap();
        told(&bench.hub.attempted(bench.now, &socket, request, result))
    };
    let renewed = LeaseRenewed {
        lease_until: UnixMs(9),
        cancelled_until: None,
    };
    assert_eq!(answer(&bench, Ok(None)), pairs(&[("ok", 0)]));
    assert_eq!(answer(&bench, Ok(Some(renewed))), pairs(&[("renewed", 0)]));
    let lost = Error::new(ErrorCode::LeaseLost, "gone");
    assert_eq!(answer(&bench, Err(lost)), pairs(&[("error", 0)]));
    assert_eq!(bench.hub.closed(bench.now, &socket), []);
    assert_eq!(answer(&bench, Ok(None)), []);
}
