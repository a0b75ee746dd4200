//! Whom a hub asks in a tenant that has grown, and that it goes where it is sent.

use tidegate_protocol::calls::spread::{Spread, owner};
use tidegate_protocol::ids::Partition;

use super::*;

/// When the tenant grew from one shard to four.
const GREW: JobNumber = JobNumber(1 << 40);

fn grown() -> Bench {
    let mut bench = Bench::new();
    let spread = |shards, from| Spread { shards, from };
    bench
        .hub
        .spread(Spreads(vec![spread(1, JobNumber(0)), spread(4, GREW)]));
    bench
}

fn asked(effects: &[Effect]) -> (CallId, ShardIndex, &Call) {
    match effects {
        [Effect::Call { id, shard, call }] => (*id, *shard, call),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_is_asked_for_at_its_first_owner_and_work_without_one_at_the_newest() {
    let mut bench = grown();
    let socket = bench.open();
    for n in 0..20 {
        let body = alloc::format!(r#"{{"action":"work","idempotency_key":"k{n}"}}"#);
        assert_eq!(asked(&bench.frame(&socket, &body)).1, ShardIndex(0));
        let attach = alloc::format!(r#"{{"type":"attach","action":"work","idempotency_key":"k{n}"}}"#);
        assert_eq!(asked(&bench.frame(&socket, &attach)).1, ShardIndex(0));
        let effects = bench.frame(&socket, r#"{"action":"work"}"#);
        let (_, shard, call) = asked(&effects);
        let Call::Enqueue(enqueue) = call else {
            panic!("{call:?}")
        };
        assert_eq!(shard, owner(enqueue.partition, 4));
        assert_eq!(enqueue.job.queueing.place.shards, 4);
    }
}

#[test]
fn a_job_is_asked_for_at_the_owner_it_had_when_it_was_accepted() {
    let mut bench = grown();
    let socket = bench.open();
    let partition = Partition::of_hash(3);
    let in_partition = |above: u64| JobId::new(JobNumber(GREW.0 - (1 << 20) + above + (3 << 2)), 5);
    let (old, new) = (in_partition(0), in_partition(1 << 21));
    assert_eq!(
        (old.number().partition(), new.number().partition()),
        (partition, partition)
    );
    for (job, shard) in [(old, 0), (new, 3)] {
        for kind in ["attach", "cancel"] {
            let text = alloc::format!(r#"{{"type":"{kind}","job_id":"{job}"}}"#);
            assert_eq!(asked(&bench.frame(&socket, &text)).1, ShardIndex(shard), "{kind}");
        }
    }
}

#[test]
fn a_call_that_is_handed_on_is_the_same_question_to_another_object() {
    let mut bench = grown();
    let socket = bench.open();
    let effects = bench.frame(&socket, r#"{"id":"r","action":"work","idempotency_key":"k"}"#);
    let (id, _, call) = asked(&effects);
    let (shard, call) = (ShardIndex(2), Box::new(call.clone()));
    let again = Effect::Call {
        id,
        shard,
        call: call.clone(),
    };
    assert_eq!(bench.replied(id, Ok(Reply::Elsewhere { shard, call })), [again]);
    // Events that overtake the answer are still kept for the one who asked.
    let (_, not_followed) = bench.deliver(vec![progress(2)]);
    assert!(not_followed.is_empty());
    let told = frames(&bench.replied(id, acknowledged(1)));
    assert!(
        told[0].contains("acknowledgment") && told[1].contains("progress"),
        "{told:?}"
    );
}
