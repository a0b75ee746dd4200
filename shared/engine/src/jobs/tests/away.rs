//! Jobs that are cancelled once nobody follows them: only those that asked, only after the grace, whatever dies meanwhile.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::jobs::{Call, Enqueue, JobRef, Reply};
use tidegate_protocol::event::{Happening, JobState};
use tidegate_protocol::ids::{HubIndex, JobId, Seq};
use tidegate_protocol::time::UnixMs;

use super::super::{Effect, PROBE_MS_MAX, PROBE_MS_MIN, probed};
use super::bench::*;

/// How long these jobs may be without followers.
const GRACE_MS: u64 = 8_000;

fn leaving(enqueue: Enqueue) -> Enqueue {
    Enqueue {
        away_max_ms: Some(GRACE_MS),
        ..enqueue
    }
}

/// A job that waits for longer than anything here takes.
fn later(bench: &Bench, enqueue: Enqueue) -> Enqueue {
    let mut enqueue = leaving(enqueue);
    enqueue.job.run_at = Some(bench.now.plus(86_400_000));
    enqueue
}

fn questions(effects: &[Effect]) -> Vec<(HubIndex, JobId, UnixMs)> {
    let questions = effects.iter().filter_map(|effect| match effect {
        Effect::Probe { hub, job, at } => Some((*hub, *job, *at)),
        _ => None,
    });
    questions.collect()
}

impl Bench {
    fn answered(&mut self, question: (HubIndex, JobId, UnixMs), follows: bool) {
        let (hub, job, at) = question;
        let not_followed = if follows { vec![] } else { vec![job] };
        probed(&self.db, &mut self.state, self.now, hub, &[(job, at)], &not_followed).unwrap();
    }

    /// Lets `ms` pass, with every alarm in between; the hub says of each question whether somebody follows.
    fn pass(&mut self, ms: u64, follows: bool) -> Vec<Effect> {
        let until = self.now.plus(ms);
        let mut all = Vec::new();
        while let Some(at) = self.next_wake().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let effects = self.wake();
            for question in questions(&effects) {
                self.answered(question, follows);
            }
            all.extend(effects);
        }
        self.now = until;
        all
    }

    fn ended(&mut self, job: JobId) -> bool {
        let caller = caller("ann");
        match self.call(Call::Get { job, caller }).0 {
            Ok(Reply::Job(job)) => {
                if job.status.is_ended() {
                    assert_eq!(job.status, JobState::Cancelled, "nothing else ends these jobs");
                    assert_eq!(job.error.unwrap().code, ErrorCode::Cancelled);
                }
                job.status.is_ended()
            }
            other => panic!("{other:?}"),
        }
    }

    fn come_back(&mut self, job: JobId) {
        let (job, caller, hub, after) = (JobRef::Id(job), caller("ann"), HUB, None);
        self.call(Call::Follow {
            job,
            caller,
            hub,
            after,
        })
        .0
        .unwrap();
    }
}

#[test]
fn a_job_whose_last_socket_is_gone_is_cancelled_after_the_grace_and_not_before() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(later(&bench, followed()));
    bench.pass(10 * PROBE_MS_MAX, true);
    assert!(!bench.ended(job), "somebody follows it");
    // The socket goes: the next question tells, within the time between two.
    let gone_at = bench.now;
    bench.pass(GRACE_MS - 1, false);
    assert!(!bench.ended(job));
    let effects = bench.pass(GRACE_MS + PROBE_MS_MIN, false);
    assert!(bench.ended(job), "nobody followed it since {gone_at:?}");
    let ends = effects.iter().filter(|effect| {
        matches!(effect, Effect::Deliver { delivery, .. }
            if matches!(delivery.event.what, Happening::Failed { .. }))
    });
    assert_eq!(ends.count(), 0, "no hub is told what nobody there follows");
}

#[test]
fn who_did_not_ask_for_it_is_never_asked_about_nor_cancelled() {
    let mut bench = Bench::new();
    let mut enqueue = followed();
    enqueue.job.run_at = Some(bench.now.plus(86_400_000));
    let (job, _) = bench.enqueue(enqueue);
    let effects = bench.pass(20 * PROBE_MS_MAX, false);
    assert_eq!(questions(&effects), vec![]);
    assert!(!bench.ended(job));
}

#[test]
fn one_that_comes_back_within_the_grace_keeps_its_job() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(later(&bench, followed()));
    bench.pass(GRACE_MS, false);
    bench.pass(GRACE_MS / 2, false);
    assert!(!bench.ended(job));
    bench.come_back(job);
    bench.pass(5 * GRACE_MS, true);
    assert!(!bench.ended(job), "it is followed again");
    bench.pass(2 * GRACE_MS + 1, false);
    assert!(bench.ended(job), "and left again");
}

#[test]
fn what_was_noticed_outlives_the_object() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(later(&bench, followed()));
    bench.pass(GRACE_MS, false);
    // It sleeps and wakes in between as often as it likes: the grace does not begin anew.
    for _ in 0..8 {
        bench.crash();
        bench.pass(GRACE_MS / 8, false);
    }
    assert!(bench.ended(job));
}

#[test]
fn after_a_crash_the_hubs_are_asked_at_once() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(later(&bench, followed()));
    bench.crash();
    let now = bench.now;
    assert_eq!(questions(&bench.alarm()), vec![(HUB, job, now)]);
}

#[test]
fn a_caller_that_waits_follows_and_one_that_has_gone_does_not() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(later(&bench, plain()));
    for _ in 0..10 {
        let (caller, after, until_end) = (caller("ann"), Some(Seq(1)), true);
        let wait_ms = GRACE_MS + 1000;
        bench.send(Call::Watch {
            job,
            caller,
            after,
            wait_ms,
            until_end,
        });
        bench.pass(wait_ms, false);
        bench.tick();
        // Not a moment without a break between two calls.
        bench.pass(GRACE_MS / 2, false);
        assert!(!bench.ended(job));
    }
    bench.pass(2 * GRACE_MS + PROBE_MS_MIN, false);
    assert!(bench.ended(job));
}

#[test]
fn a_running_job_that_is_left_has_the_same_grace_as_a_cancel_by_hand() {
    let mut bench = Bench::new();
    let mut enqueue = leaving(followed());
    enqueue.job.policy.cancel_grace_ms = 1500;
    enqueue.job.policy.lease_ms = 10 * PROBE_MS_MAX;
    enqueue.job.policy.timeout_ms = 10 * PROBE_MS_MAX;
    let attempt = bench.start(enqueue);
    bench.pass(2 * GRACE_MS, false);
    assert!(!bench.ended(attempt.job), "it has its grace");
    let (reply, _) = bench.report(&attempt, None, None);
    let Ok(Reply::Continue { cancelled_until, .. }) = reply else {
        panic!("{reply:?}")
    };
    assert!(cancelled_until.is_some());
    bench.pass(1500, false);
    assert!(bench.ended(attempt.job));
}

#[test]
fn a_request_that_did_not_ask_for_it_keeps_the_job_of_its_key() {
    for (first, second, cancelled) in [(true, true, true), (true, false, false), (false, true, false)] {
        let mut bench = Bench::new();
        let at = bench.now.plus(86_400_000);
        let ask = |cancels: bool| {
            let mut enqueue = keyed("k");
            enqueue.job.run_at = Some(at);
            enqueue.away_max_ms = cancels.then_some(GRACE_MS);
            enqueue
        };
        let (job, _) = bench.enqueue(ask(first));
        let (same, _) = bench.enqueue(ask(second));
        assert_eq!(job, same);
        bench.pass(10 * GRACE_MS, false);
        assert_eq!(bench.ended(job), cancelled, "asked for by {first}, then {second}");
    }
}

#[test]
fn a_late_answer_does_not_drop_a_hub_that_follows_again() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(later(&bench, followed()));
    let old = questions(&bench.pass_to_question())[0];
    // Before that answer comes, a client attaches through the same hub; then another question is on its way.
    bench.come_back(job);
    bench.answered(old, false);
    let new = questions(&bench.pass_to_question())[0];
    bench.answered(old, false);
    assert_ne!(old, new);
    assert_eq!(questions(&bench.pass_to_question()).len(), 1, "the hub still follows");
}

impl Bench {
    fn pass_to_question(&mut self) -> Vec<Effect> {
        loop {
            let effects = self.alarm();
            if !questions(&effects).is_empty() {
                return effects;
            }
        }
    }
}

#[test]
fn a_job_that_ends_by_itself_is_no_longer_asked_about() {
    let mut bench = Bench::new();
    let attempt = bench.start(leaving(followed()));
    bench.finish(&attempt, success()).0.unwrap();
    let rows = bench.db_rows("SELECT count(*) FROM away");
    assert_eq!(rows, 0);
    bench.crash();
    assert_eq!(questions(&bench.pass(2 * PROBE_MS_MAX, false)), vec![]);
}

impl Bench {
    fn db_rows(&self, sql: &'static str) -> u64 {
        use crate::database::Database;
        self.db.run(sql, &[]).unwrap().remove(0).number().unwrap()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Leave,
    Attach,
    Crash,
    Watch(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..2 * GRACE_MS).prop_map(Step::Pass),
        2 => Just(Step::Leave),
        2 => Just(Step::Attach),
        1 => Just(Step::Crash),
        2 => (1_u64..GRACE_MS).prop_map(Step::Watch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    /// A model that knows who is there. A job ends by nobody's following it for the whole grace, and by nothing less; and
    /// it does end once nobody has followed it for the grace and the time between two questions.
    #[test]
    fn a_job_is_cancelled_by_being_left_and_by_nothing_else(steps in proptest::collection::vec(step(), 1..40)) {
        let mut bench = Bench::new();
        let (job, _) = bench.enqueue(later(&bench, followed()));
        let (mut socket, mut last_there) = (true, bench.now);
        for step in steps {
            if socket {
                last_there = bench.now;
            }
            match step {
                Step::Pass(ms) => {
                    for _ in 0..ms / 100 {
                        bench.pass(100, socket);
                        let _answered = bench.tick();
                        if socket {
                            last_there = bench.now;
                        }
                    }
                }
                Step::Leave => socket = false,
                Step::Attach if !bench.ended(job) => {
                    bench.come_back(job);
                    (socket, last_there) = (true, bench.now);
                }
                Step::Attach => {}
                // Callers that wait are gone with it; the sockets are the hub's.
                Step::Crash => bench.crash(),
                Step::Watch(wait_ms) => {
                    let (caller, after, until_end) = (caller("ann"), Some(Seq(1)), true);
                    bench.send(Call::Watch { job, caller, after, wait_ms, until_end });
                    bench.pass(wait_ms, socket);
                    let _answered = bench.tick();
                    if !bench.ended(job) {
                        last_there = bench.now;
                    }
                }
            }
            let alone_ms = bench.now.since(last_there);
            let ended = bench.ended(job);
            prop_assert!(!ended || !socket, "it is followed");
            prop_assert!(!ended || alone_ms >= GRACE_MS, "only left for {alone_ms}");
            // Noticed within the time between two questions, at most one more after a crash.
            prop_assert!(ended || alone_ms <= GRACE_MS + 2 * GRACE_MS.clamp(PROBE_MS_MIN, PROBE_MS_MAX) + 100, "left for {alone_ms}");
            if ended {
                break;
            }
        }
    }
}
