//! Batches of requests: one answer with a result for each, in order.

use tidegate_protocol::calls::Answered;
use tidegate_protocol::ids::BatchId;
use tidegate_protocol::limits::BODY_BYTES_MAX;

use super::*;

const BATCH: HttpId = HttpId(9);

impl Bench {
    fn batch(&mut self, items: &[&str]) -> Vec<Effect> {
        self.batch_named(None, items)
    }

    fn batch_named(&mut self, key: Option<&str>, items: &[&str]) -> Vec<Effect> {
        self.batch_of(&principal(u64::MAX >> 12), key, items)
    }

    fn batch_of(&mut self, principal: &Principal, key: Option<&str>, items: &[&str]) -> Vec<Effect> {
        let items: Vec<String> = items.iter().map(ToString::to_string).collect();
        let mut random = || {
            self.random += 1;
            self.random
        };
        let mut moment = Moment {
            now: self.now,
            random: &mut random,
        };
        let begun = self.hub.begin_batch(&mut moment, BATCH, principal, items.len(), key);
        let mut parts = match begun {
            Ok(parts) => parts,
            Err(error) => {
                let reply = Err(error);
                return vec![Effect::Answer { to: BATCH, reply }];
            }
        };
        // Where it is cut makes no difference.
        let items = items.chunks(2);
        let parts = items.map(|items| {
            self.hub
                .batch_part(&mut moment, &self.plan, principal, &mut parts, items, None)
        });
        parts.collect::<Vec<_>>().concat()
    }
}

/// The calls among the effects, each with its request's id.
fn enqueued(effects: &[Effect]) -> Vec<(CallId, Enqueue)> {
    let calls = effects.iter().filter_map(|effect| match effect {
        Effect::Call { id, call, .. } => match &**call {
            Call::Enqueue(enqueue) => Some((*id, (**enqueue).clone())),
            other => panic!("{other:?}"),
        },
        _ => None,
    });
    calls.collect()
}

/// The one answer of the batch, where it is among the effects.
fn answers(effects: &[Effect]) -> Option<Vec<Answered<HubReply>>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Answer {
            to: BATCH,
            reply: Ok(HubReply::Batch { answers, .. }),
        } => Some(answers.clone()),
        _ => None,
    })
}

fn acknowledged(number: u64) -> Reply {
    Reply::Acknowledged {
        job: JobId::new(JobNumber(number), 1),
        status: JobState::Queued,
        seq: Seq(1),
        deduplicated: false,
        run_at: None,
    }
}

fn refusal(answer: &Answered<HubReply>) -> ErrorCode {
    match answer {
        Answered::Refused(error) => error.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_request_of_a_batch_has_its_own_result_in_its_place() {
    let mut bench = Bench::new();
    let large = format!("{{\"action\":\"work\",\"payload\":\"{}\"}}", "x".repeat(BODY_BYTES_MAX));
    let effects = bench.batch(&[
        r#"{"id":"a","action":"work","idempotency_key":"k"}"#,
        "nonsense",
        r#"{"id":"b","action":"echo"}"#,
        r#"{"action":"nothing"}"#,
        r#"{"action":"secret"}"#,
        r#"{"action":"echo","mode":"sync"}"#,
        &large,
        r#"{"id":"c","action":"quick"}"#,
    ]);
    let calls = enqueued(&effects);
    let ids: Vec<&str> = calls
        .iter()
        .map(|(_, enqueue)| enqueue.job.request_id.as_str())
        .collect();
    assert_eq!(
        ids,
        ["a", "b", "c"],
        "whatever an action is declared as, it becomes a job"
    );
    assert!(calls.iter().all(|(_, enqueue)| enqueue.answer_within_ms.is_none()));
    assert_eq!(calls[0].1.keyed.as_ref().map(|keyed| keyed.key.as_str()), Some("k"));
    assert!(answers(&effects).is_none(), "it is answered once, as a whole");
    // They come back in another order.
    for (at, number) in [(2, 3), (0, 1)] {
        let effects = bench.hub.replied(bench.now, calls[at].0, Ok(acknowledged(number)));
        assert!(answers(&effects).is_none());
    }
    let full = Error::new(ErrorCode::QueueFull, "full");
    let effects = bench.hub.replied(bench.now, calls[1].0, Err(full));
    let answers = answers(&effects).expect("the last one answers the batch");
    let job = |answer: &Answered<HubReply>| match answer {
        Answered::Reply(HubReply::Accepted(accepted)) => (accepted.request_id.to_string(), accepted.job_id.number().0),
        other => panic!("{other:?}"),
    };
    assert_eq!(job(&answers[0]), ("a".into(), 1));
    assert_eq!(job(&answers[7]), ("c".into(), 3));
    let codes: Vec<ErrorCode> = answers[1..7].iter().map(refusal).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::ValidationError,
            ErrorCode::QueueFull,
            ErrorCode::InvalidAction,
            ErrorCode::Forbidden,
            ErrorCode::ValidationError,
            ErrorCode::PayloadTooLarge,
        ]
    );
    let effects = bench.hub.replied(bench.now, calls[1].0, Ok(acknowledged(9)));
    assert!(effects.is_empty(), "a reply that comes twice changes nothing");
}

#[test]
fn a_batch_of_refusals_is_answered_at_once() {
    let mut bench = Bench::new();
    let effects = bench.batch(&["1", "2"]);
    assert_eq!(answers(&effects).map(|answers| answers.len()), Some(2));
    assert_eq!(effects.len(), 1);
}

#[test]
fn stored_answers_that_do_not_fit_into_the_answer_of_a_batch_are_told_by_their_place() {
    let mut bench = Bench::new();
    let item = r#"{"action":"work","idempotency_key":"k"}"#;
    let effects = bench.batch(&[item, item, item]);
    let result = JsonText::parse(&format!("\"{}\"", "x".repeat(BATCH_DATA_BYTES_MAX / 2))).unwrap();
    let mut last = Vec::new();
    for (id, _) in enqueued(&effects) {
        let what = Happening::Completed {
            result: Payload::Inline(result.clone()),
        };
        let event = Event {
            seq: Seq(2),
            attempt: 1,
            at: bench.now,
            what,
        };
        let ended = Reply::Ended {
            job: JobId::new(JobNumber(5), 1),
            event,
            deduplicated: true,
            stored: true,
        };
        last = bench.hub.replied(bench.now, id, Ok(ended));
    }
    let told: Vec<(bool, bool)> = answers(&last)
        .expect("an answer")
        .iter()
        .map(|answer| match answer {
            Answered::Reply(HubReply::Answer {
                result: Ok(data),
                result_url,
                ..
            }) => (*data == result, result_url.is_some()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [(true, false), (false, true), (false, true)]);
}

/// The batch of each request, and its key.
fn named(effects: &[Effect]) -> Vec<(BatchId, Option<String>)> {
    let calls = enqueued(effects).into_iter().map(|(_, enqueue)| {
        let key = enqueue.keyed.map(|keyed| keyed.key.to_string());
        (enqueue.job.batch.expect("a batch"), key)
    });
    calls.collect()
}

#[test]
fn a_batch_with_a_key_names_itself_and_its_requests_the_same_each_time() {
    let mut bench = Bench::new();
    let items = [
        r#"{"action":"work"}"#,
        r#"{"action":"work","idempotency_key":"own"}"#,
        r#"{"action":"work"}"#,
    ];
    let first = named(&bench.batch_named(Some("\"k\""), &items));
    let id = first[0].0.clone();
    assert!(first.iter().all(|(batch, _)| *batch == id), "{first:?}");
    let keys: Vec<Option<String>> = first.iter().map(|(_, key)| key.clone()).collect();
    let of = |index: usize| Some(format!("{id}:{index}"));
    assert_eq!(keys, [of(0), Some("own".into()), of(2)]);
    assert_eq!(named(&bench.batch_named(Some("k"), &items)), first, "quoted or bare");
    assert_ne!(named(&bench.batch_named(Some("other"), &items))[0].0, id);
    let eve = Principal {
        user: UserId::parse("eve").unwrap(),
        ..principal(u64::MAX >> 12)
    };
    let theirs = named(&bench.batch_of(&eve, Some("k"), &items));
    assert!(theirs[0].0 != id && theirs[0].1 != of(0), "a key is its user's own");
    let nameless = named(&bench.batch(&items));
    assert_ne!(
        nameless[0],
        named(&bench.batch(&items))[0],
        "each call is another batch"
    );
    assert_eq!(nameless[0].1, None);
    let refused = bench.batch_named(Some("\n"), &items);
    let [
        Effect::Answer {
            to: BATCH,
            reply: Err(error),
        },
    ] = &refused[..]
    else {
        panic!("{refused:?}")
    };
    assert_eq!(error.code, ErrorCode::ValidationError);
}

#[test]
fn a_batch_is_answered_after_its_last_part_alone() {
    let mut bench = Bench::new();
    let alice = principal(u64::MAX >> 12);
    let items: Vec<String> = (0..3)
        .map(|n| format!(r#"{{"action":"work","payload":{n}}}"#))
        .collect();
    let mut random = || 7;
    let mut moment = Moment {
        now: bench.now,
        random: &mut random,
    };
    let mut parts = bench
        .hub
        .begin_batch(&mut moment, BATCH, &alice, items.len(), None)
        .unwrap();
    let mut ended = None;
    for (number, part) in items.chunks(2).enumerate() {
        assert_eq!(ended, None, "a part is missing");
        let effects = bench
            .hub
            .batch_part(&mut moment, &bench.plan, &alice, &mut parts, part, None);
        let asked = enqueued(&effects);
        assert_eq!(asked.len(), part.len());
        for (place, (call, _)) in asked.iter().enumerate() {
            let job = u64::try_from(2 * number + place).unwrap();
            ended = answers(&bench.hub.replied(bench.now, *call, Ok(acknowledged(job))));
        }
    }
    let jobs: Vec<u64> = ended.unwrap().into_iter().map(accepted_job).collect();
    assert_eq!(jobs, [0, 1, 2]);
}

/// The number of the job that a request of a batch became.
fn accepted_job(answer: Answered<HubReply>) -> u64 {
    match answer {
        Answered::Reply(HubReply::Accepted(accepted)) => accepted.job_id.number().0,
        other => panic!("{other:?}"),
    }
}
