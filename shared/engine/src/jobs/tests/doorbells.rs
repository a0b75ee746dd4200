//! Doorbells that the platform's queue lost: each is seen among the dead letters, and costs no job anything.

use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::{Call, Filter, ManyAction, Reply, Selection, Sort};
use tidegate_protocol::event::JobState;
use tidegate_protocol::http::{BulkItem, DeadLetter, LostDoorbell};
use tidegate_protocol::ids::{JobId, JobNumber, UserId};

use super::super::Effect;
use super::bench::*;

/// How the audit trail calls it.
const DISCARDED: &str = "\"dead_letters.discarded\"";

impl Bench {
    fn lose_doorbell(&mut self, job: JobId) -> Vec<Effect> {
        let (reply, effects) = self.call(Call::DoorbellLost { job });
        assert_eq!(reply, Ok(Reply::Done));
        effects
    }

    fn letters(&mut self) -> Vec<DeadLetter> {
        self.dead_letters(everything()).dead_letters
    }

    fn ids(&mut self, filter: Filter) -> Vec<JobId> {
        let letters = self.dead_letters(filter).dead_letters;
        letters.into_iter().map(|letter| letter.job_id).collect()
    }

    fn change(&mut self, which: Selection, action: ManyAction, dry_run: bool) -> (Vec<BulkItem>, Vec<Effect>) {
        let caller = caller("ann");
        let (reply, effects) = self.call(Call::Many {
            caller,
            which,
            action,
            dry_run,
        });
        match reply {
            Ok(Reply::Many { jobs, .. }) => (jobs, effects),
            other => panic!("{other:?}"),
        }
    }

    fn rows_of_doorbells(&self) -> u64 {
        self.count("SELECT count(*) FROM lost_doorbell")
    }

    /// A job whose doorbell was lost, and that succeeded after it had been rung once more.
    fn lost_and_done(&mut self) -> JobId {
        let (job, _) = self.enqueue(rung());
        let execute = execution(&self.lose_doorbell(job));
        self.finish(&execute, success()).0.unwrap();
        job
    }
}

fn redrive() -> ManyAction {
    ManyAction::Redrive {
        payload: None,
        start: tidegate_protocol::time::UnixMs(0),
        interval_us: 0,
    }
}

fn by_code(code: ErrorCode) -> Filter {
    Filter {
        code: Some(code),
        ..everything()
    }
}

#[test]
fn a_lost_doorbell_rings_once_more_and_is_listed_with_what_became_of_its_job() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(rung());
    let first = bench.now;
    let execute = execution(&bench.lose_doorbell(job));
    let [letter] = <[DeadLetter; 1]>::try_from(bench.letters()).expect("one letter");
    assert_eq!((letter.job_id, letter.status), (job, JobState::Running));
    assert_eq!(
        (letter.error.code, letter.error.retryable),
        (ErrorCode::DoorbellLost, false)
    );
    assert!(letter.error.message.contains("`running`"), "{}", letter.error);
    assert_eq!((letter.failed_at, letter.attempts), (None, 1));
    bench.later(700);
    assert!(executions(&bench.lose_doorbell(job)).is_empty(), "it runs already");
    bench.finish(&execute, success()).0.unwrap();
    bench.crash();
    let letter = bench.letters().remove(0);
    assert_eq!(letter.status, JobState::Succeeded, "nothing was lost by it");
    assert_eq!(
        letter.doorbell,
        Some(LostDoorbell {
            times: 2,
            first_at: first,
            last_at: bench.now
        })
    );
}

#[test]
fn a_doorbell_that_rings_as_it_should_is_not_noted_and_neither_is_one_of_no_job() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(rung());
    execution(&bench.send(Call::Start { job }).1);
    let nobody = JobId::new(JobNumber(job.number().0), job.tail() ^ 1);
    assert!(executions(&bench.lose_doorbell(nobody)).is_empty());
    assert_eq!((bench.letters().len(), bench.rows_of_doorbells()), (0, 0));
}

#[test]
fn failed_jobs_and_lost_doorbells_are_one_list_in_either_order_and_by_pages() {
    let mut bench = Bench::new();
    let mut all = Vec::new();
    for number in 0..4 {
        bench.later(1);
        all.push(bench.fail(plain()));
        for _ in 0..number {
            bench.later(1);
            all.push(bench.lost_and_done());
        }
    }
    // It has both, and is there once, for its failure.
    bench.lose_doorbell(all[0]);
    for (sort, wanted) in [
        (Sort::Oldest, all.clone()),
        (Sort::Newest, all.iter().rev().copied().collect()),
    ] {
        for limit in [1, 2, 3, 100] {
            let (mut found, mut pages) = (Vec::new(), 0);
            let mut filter = Filter {
                sort,
                limit,
                ..everything()
            };
            loop {
                let page = bench.dead_letters(filter.clone());
                assert!(page.dead_letters.len() <= limit as usize);
                found.extend(page.dead_letters.iter().map(|letter| letter.job_id));
                pages += 1;
                assert!(pages <= all.len() + 1, "it comes to an end");
                let Some(cursor) = page.cursor else { break };
                let at = JobNumber(cursor.parse().unwrap());
                (filter.below, filter.above) = match sort {
                    Sort::Newest => (Some(at), None),
                    Sort::Oldest => (None, Some(at)),
                };
            }
            assert_eq!(found, wanted, "{sort:?}, {limit} a page");
        }
    }
    let both = bench.letters().pop().unwrap();
    assert_eq!((both.job_id, both.status), (all[0], JobState::Failed));
    assert!(both.error.code != ErrorCode::DoorbellLost && both.doorbell.is_some());
    let lost = bench.ids(by_code(ErrorCode::DoorbellLost));
    assert_eq!(
        (lost.len(), lost.last()),
        (7, Some(&all[0])),
        "all of which one is noted"
    );
    assert_eq!(bench.ids(by_code(both.error.code)).len(), 4, "failures alone");
}

#[test]
fn a_note_is_its_owners() {
    let mut bench = Bench::new();
    bench.lost_and_done();
    let of = |caller: Caller| Call::DeadLetters {
        caller,
        filter: everything(),
    };
    for (caller, seen) in [
        (caller("bob"), 0),
        (caller("ann"), 1),
        (
            Caller {
                reads_all: true,
                ..caller("bob")
            },
            1,
        ),
    ] {
        let Ok(Reply::DeadLetters(page)) = bench.call(of(caller)).0 else {
            panic!("a page")
        };
        assert_eq!(page.dead_letters.len(), seen);
    }
    let theirs = Filter {
        user: UserId::parse("bob"),
        ..everything()
    };
    assert_eq!(bench.ids(theirs), []);
}

#[test]
fn discarding_takes_a_note_away_once_and_leaves_the_job_as_it_is() {
    let mut bench = Bench::new();
    let job = bench.lost_and_done();
    let one = || Selection::Ids(vec![job]);
    let (items, _) = bench.change(one(), ManyAction::Discard, true);
    assert_eq!(
        (items[0].error.clone(), bench.rows_of_doorbells()),
        (None, 1),
        "a dry run"
    );
    let (items, effects) = bench.change(one(), ManyAction::Discard, false);
    assert_eq!((items[0].error.clone(), bench.rows_of_doorbells()), (None, 0));
    let noted = effects.iter().filter_map(|effect| match effect {
        Effect::Record { entries } => entries.first().map(|entry| entry.entry.as_str().contains(DISCARDED)),
        _ => None,
    });
    assert_eq!(noted.collect::<Vec<_>>(), [true], "it is audited");
    assert_eq!((bench.letters().len(), bench.status(job)), (0, JobState::Succeeded));
    let (items, _) = bench.change(one(), ManyAction::Discard, false);
    let again = items[0].error.as_ref().map(|error| error.code);
    assert_eq!(again, Some(ErrorCode::Conflict), "it is no letter any more");
    // One that failed as well is taken out with both.
    let failed = bench.fail(plain());
    bench.lose_doorbell(failed);
    let everything = Selection::Filter(everything());
    let (items, _) = bench.change(everything, ManyAction::Discard, false);
    assert_eq!(
        (items.len(), bench.letters().len(), bench.rows_of_doorbells()),
        (1, 0, 0)
    );
}

#[test]
fn a_redrive_does_nothing_to_a_job_that_has_not_failed_and_says_why() {
    let mut bench = Bench::new();
    let job = bench.lost_and_done();
    for which in [
        Selection::Ids(vec![job]),
        Selection::Filter(by_code(ErrorCode::DoorbellLost)),
    ] {
        let (items, effects) = bench.change(which, redrive(), false);
        let error = items[0].error.as_ref().expect("a refusal");
        assert_eq!(error.code, ErrorCode::Conflict);
        assert!(error.message.contains("has not failed"), "{error}");
        assert!(executions(&effects).is_empty());
    }
    let failed = bench.fail(plain());
    let (items, _) = bench.change(Selection::Filter(everything()), redrive(), false);
    assert_eq!(items.len(), 1, "all that is to be done again is what failed");
    assert_eq!((items[0].job_id, items[0].error.clone()), (failed, None));
}

#[test]
fn a_job_that_failed_and_is_redriven_is_listed_for_its_doorbell_until_that_is_discarded() {
    let mut bench = Bench::new();
    let failed = bench.fail(plain());
    bench.lose_doorbell(failed);
    bench.retry(failed, None);
    let [letter] = <[DeadLetter; 1]>::try_from(bench.letters()).expect("one letter");
    assert_eq!(
        (letter.error.code, letter.status),
        (ErrorCode::DoorbellLost, JobState::Failed)
    );
    let (items, _) = bench.change(Selection::Ids(vec![failed]), ManyAction::Discard, false);
    assert_eq!((items[0].error.clone(), bench.letters().len()), (None, 0));
}

#[test]
fn a_note_goes_with_its_job() {
    let mut bench = Bench::new();
    let job = bench.lost_and_done();
    bench.later(1000);
    let stays = bench.lost_and_done();
    bench.later(RETENTION_MS - 1000);
    bench.wake();
    assert_eq!(bench.count("SELECT count(*) FROM job"), 1);
    assert_eq!(bench.ids(everything()), [stays], "without {job}");
    assert_eq!(bench.rows_of_doorbells(), 1);
}
