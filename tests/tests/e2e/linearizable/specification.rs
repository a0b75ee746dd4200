//! What the jobs of one key are, if one thing happens after another: the reference that histories are checked against.
//!
//! A key names no job, then one, which waits, is held by whoever has the latest token, or has ended. The search for an
//! order that explains a history is todc-utils'; this file says what each operation may answer in which state.
//!
//! Two things are told to the checker that no client does. That a lease is over is an operation of its own, which begins
//! when the lease may be over at the earliest and never returns: so that giving the job away before is refused. And an
//! operation whose answer was lost has no end: it may take effect at any time after its beginning, or after all else,
//! which is as good as never.

use std::collections::BTreeSet;
use std::time::Duration;

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// What a job shows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Seen {
    /// It waits for a worker.
    Waits,
    /// A worker has it.
    Runs,
    /// It has ended like this.
    Ended(Outcome),
    /// It is not there.
    Nowhere,
}

/// What a worker ends an attempt with, for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A result.
    Succeeded(u64),
    /// The message of an error that is not tried again.
    Failed(String),
}

/// What the holder of a lease shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Token {
    /// One that a worker was given.
    Given(String),
    /// One that was given, perhaps, to the call of this number, whose answer was lost.
    Lost(usize),
}

/// An operation with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A request with the key.
    Enqueue {
        /// The job that it was given.
        job: String,
        /// Whether the job was there before.
        deduplicated: bool,
        /// What was said of the job.
        seen: Seen,
    },
    /// A request that was not answered.
    EnqueueUnanswered,
    /// A worker was given the job.
    Lease {
        /// The job.
        job: String,
        /// What the worker shows from now on.
        token: Token,
    },
    /// A worker was given nothing.
    LeaseNothing,
    /// A worker was not answered.
    LeaseUnanswered(usize),
    /// A worker says how its attempt ended.
    Finish {
        /// Its token.
        token: Token,
        /// The outcome.
        outcome: Outcome,
        /// Whether it was answered as done; else the lease is lost.
        done: bool,
    },
    /// A worker said how its attempt ended, and was not answered.
    FinishUnanswered {
        /// Its token.
        token: Token,
        /// The outcome.
        outcome: Outcome,
    },
    /// A look at a job.
    Read {
        /// The job.
        job: String,
        /// What it showed.
        seen: Seen,
    },
    /// The time of a lease is over.
    Lapse(Token),
}

/// An operation and when it was. Times count from any one moment.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Before it was sent.
    pub called: Duration,
    /// After its answer came; nothing where none did.
    pub returned: Option<Duration>,
    /// The operation.
    pub operation: Operation,
}

/// The jobs of one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    job: Option<Job>,
    /// Every token so far: none is given twice.
    tokens: BTreeSet<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Job {
    /// Nothing while only an unanswered request knows it.
    id: Option<String>,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage {
    Waits,
    Held(Token),
    Ended(Token, Outcome),
}

impl Key {
    /// The job, where it may be the one called `id`; it is from now on.
    fn known_as(&mut self, id: &str) -> Option<&mut Job> {
        let job = self.job.as_mut()?;
        (job.id.get_or_insert_with(|| id.to_owned()) == id).then_some(job)
    }

    fn create(&mut self, id: Option<&str>) {
        self.job = Some(Job {
            id: id.map(str::to_owned),
            stage: Stage::Waits,
        });
    }

    /// Gives the job that waits away. Whether there is one.
    fn give(&mut self, token: &Token) -> bool {
        match &mut self.job {
            Some(job) if job.stage == Stage::Waits => {
                job.stage = Stage::Held(token.clone());
                self.tokens.insert(token.clone())
            }
            _ => false,
        }
    }

    /// Ends the job, where `token` holds it or has ended it in the same way. Whether it did.
    fn end(&mut self, token: &Token, outcome: &Outcome) -> bool {
        let Some(job) = &mut self.job else { return false };
        match &job.stage {
            Stage::Held(holder) if holder == token => {
                job.stage = Stage::Ended(token.clone(), outcome.clone());
                true
            }
            Stage::Ended(by, as_what) => by == token && as_what == outcome,
            Stage::Waits | Stage::Held(_) => false,
        }
    }

    fn lapse(&mut self, token: &Token) {
        if let Some(job) = &mut self.job
            && job.stage == Stage::Held(token.clone())
        {
            job.stage = Stage::Waits;
        }
    }

    /// Applies `operation`. Whether it can have been answered as it was.
    fn take(&mut self, operation: &Operation) -> bool {
        match operation {
            Operation::Enqueue {
                job,
                deduplicated: false,
                seen,
            } => {
                let new = self.job.is_none() && *seen == Seen::Waits;
                self.create(Some(job));
                new
            }
            Operation::Enqueue { job, seen, .. } | Operation::Read { job, seen } => {
                self.known_as(job).is_some_and(|job| job.stage.shows(seen))
            }
            Operation::EnqueueUnanswered => {
                if self.job.is_none() {
                    self.create(None);
                }
                true
            }
            Operation::Lease { job, token } => self.known_as(job).is_some() && self.give(token),
            Operation::LeaseNothing => !matches!(&self.job, Some(job) if job.stage == Stage::Waits),
            Operation::LeaseUnanswered(call) => {
                self.give(&Token::Lost(*call));
                true
            }
            Operation::Finish { token, outcome, done } => self.end(token, outcome) == *done,
            Operation::FinishUnanswered { token, outcome } => {
                self.end(token, outcome);
                true
            }
            Operation::Lapse(token) => {
                self.lapse(token);
                true
            }
        }
    }
}

impl Stage {
    fn shows(&self, seen: &Seen) -> bool {
        match self {
            Self::Waits => *seen == Seen::Waits,
            Self::Held(_) => *seen == Seen::Runs,
            Self::Ended(_, outcome) => matches!(seen, Seen::Ended(as_what) if as_what == outcome),
        }
    }
}

impl Specification for Key {
    type State = Self;
    type Operation = Operation;

    fn init() -> Self {
        Self {
            job: None,
            tokens: BTreeSet::new(),
        }
    }

    fn apply(operation: &Operation, state: &Self) -> (bool, Self) {
        let mut next = state.clone();
        if next.take(operation) {
            (true, next)
        } else {
            (false, state.clone())
        }
    }
}

/// Whether there is an order of the operations on one key, each at some moment between its call and its return, that
/// explains every answer. No lease ends before it is `lease` old.
pub fn is_linearizable(operations: &[Recorded], lease: Duration) -> bool {
    let lapses = operations.iter().filter_map(|one| {
        let token = match &one.operation {
            Operation::Lease { token, .. } => token.clone(),
            Operation::LeaseUnanswered(call) => Token::Lost(*call),
            _ => return None,
        };
        Some(Recorded {
            called: one.called + lease,
            returned: None,
            operation: Operation::Lapse(token),
        })
    });
    let all: Vec<Recorded> = operations.iter().cloned().chain(lapses).collect();
    let mut actions = Vec::new();
    for (number, one) in all.into_iter().enumerate() {
        let (called, returned) = (one.called, one.returned.unwrap_or(Duration::MAX));
        // What begins in the moment in which something else ends may have been before it.
        actions.push((called, false, number, Action::Call(one.operation.clone())));
        actions.push((returned, true, number, Action::Response(one.operation)));
    }
    actions.sort_by_key(|(at, is_return, number, _)| (*at, *is_return, *number));
    // Each operation is a process of its own: what one client does in turn is in order by the times alone.
    let actions = actions.into_iter().map(|(_, _, number, action)| (number, action));
    let actions: Vec<_> = actions.collect();
    actions.is_empty() || WGLChecker::<Key>::is_linearizable(History::from_actions(actions))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(1000);

    fn at(called: u64, returned: u64, operation: Operation) -> Recorded {
        Recorded {
            called: Duration::from_millis(called),
            returned: Some(Duration::from_millis(returned)),
            operation,
        }
    }

    fn unanswered(called: u64, operation: Operation) -> Recorded {
        Recorded {
            called: Duration::from_millis(called),
            returned: None,
            operation,
        }
    }

    fn token(name: &str) -> Token {
        Token::Given(name.into())
    }

    fn new(job: &str) -> Operation {
        Operation::Enqueue {
            job: job.into(),
            deduplicated: false,
            seen: Seen::Waits,
        }
    }

    fn again(job: &str, seen: Seen) -> Operation {
        Operation::Enqueue {
            job: job.into(),
            deduplicated: true,
            seen,
        }
    }

    fn lease(job: &str, name: &str) -> Operation {
        Operation::Lease {
            job: job.into(),
            token: token(name),
        }
    }

    fn finish(name: &str, result: u64, done: bool) -> Operation {
        Operation::Finish {
            token: token(name),
            outcome: Outcome::Succeeded(result),
            done,
        }
    }

    fn read(job: &str, seen: Seen) -> Operation {
        Operation::Read { job: job.into(), seen }
    }

    fn ended(result: u64) -> Seen {
        Seen::Ended(Outcome::Succeeded(result))
    }

    fn check(name: &str, accepted: bool, history: &[Recorded]) {
        assert_eq!(is_linearizable(history, LEASE), accepted, "{name}");
    }

    #[test]
    fn histories_that_an_order_explains_are_accepted() {
        let plain = [
            at(0, 1, new("a")),
            at(2, 3, again("a", Seen::Waits)),
            at(4, 5, lease("a", "1")),
            at(6, 7, read("a", Seen::Runs)),
            at(8, 9, Operation::LeaseNothing),
            at(10, 11, finish("1", 7, true)),
            at(12, 13, finish("1", 7, true)),
            at(14, 15, finish("1", 8, false)),
            at(16, 17, again("a", ended(7))),
            at(18, 19, Operation::LeaseNothing),
        ];
        check("one after another", true, &plain);
        let at_once = [
            at(0, 9, again("a", Seen::Runs)),
            at(0, 9, lease("a", "1")),
            at(0, 9, new("a")),
            at(0, 9, Operation::LeaseNothing),
            at(0, 9, finish("1", 1, true)),
        ];
        check("all at once", true, &at_once);
        let lapsed = [
            at(0, 1, new("a")),
            at(2, 3, lease("a", "1")),
            at(1003, 1010, lease("a", "2")),
            at(1011, 1012, finish("1", 1, false)),
            at(1013, 1014, finish("2", 2, true)),
        ];
        check("a lease is over and another is given", true, &lapsed);
        let unheard = [
            unanswered(0, Operation::EnqueueUnanswered),
            at(1, 2, again("a", Seen::Waits)),
            unanswered(3, Operation::LeaseUnanswered(7)),
            at(4, 5, read("a", Seen::Waits)),
            at(6, 7, read("a", Seen::Runs)),
            at(1004, 1005, lease("a", "2")),
            unanswered(
                1006,
                Operation::FinishUnanswered {
                    token: token("2"),
                    outcome: Outcome::Succeeded(2),
                },
            ),
            at(1007, 1008, read("a", Seen::Runs)),
            at(1009, 1010, read("a", ended(2))),
        ];
        check("what was not answered happened at some time", true, &unheard);
        let never = [unanswered(0, Operation::EnqueueUnanswered), at(1, 2, new("a"))];
        check("what was not answered never happened", true, &never);
    }

    #[test]
    fn two_jobs_of_one_key_are_refused() {
        check("two new", false, &[at(0, 5, new("a")), at(1, 6, new("b"))]);
        let other = [at(0, 1, new("a")), at(2, 3, again("b", Seen::Waits))];
        check("another", false, &other);
        let unheard = [
            unanswered(0, Operation::EnqueueUnanswered),
            at(1, 2, again("a", Seen::Waits)),
            at(3, 4, lease("b", "1")),
        ];
        check("another than the unanswered", false, &unheard);
        check("new twice", false, &[at(0, 1, new("a")), at(2, 3, new("a"))]);
        let acknowledged = [at(0, 1, new("a")), at(2, 3, read("a", Seen::Nowhere))];
        check("acknowledged and lost", false, &acknowledged);
    }

    #[test]
    fn two_holders_and_two_ends_are_refused() {
        let held = [at(0, 1, new("a")), at(2, 3, lease("a", "1"))];
        let and = |more: &[Recorded]| [&held[..], more].concat();
        check("two leases at once", false, &and(&[at(4, 900, lease("a", "2"))]));
        check("one token twice", false, &and(&[at(1500, 1501, lease("a", "1"))]));
        let ends = [at(1100, 1101, lease("a", "2")), at(1102, 1103, finish("1", 1, true))];
        check("the end of a holder that was replaced", false, &and(&ends));
        let ends = [
            at(4, 5, finish("1", 1, true)),
            at(1100, 1101, lease("a", "2")),
            at(1102, 1103, finish("2", 2, true)),
        ];
        check("two ends", false, &and(&ends));
        let ends = [at(4, 9, finish("1", 1, true)), at(4, 9, finish("1", 2, true))];
        check("two ends by one holder", false, &and(&ends));
        let ends = [at(4, 5, finish("1", 1, true)), at(6, 7, read("a", Seen::Runs))];
        check("an end that is taken back", false, &and(&ends));
        check("an end refused", false, &and(&[at(4, 5, finish("1", 1, false))]));
        let ends = [at(4, 5, finish("1", 1, true)), at(6, 7, read("a", ended(2)))];
        check("another end", false, &and(&ends));
    }

    #[test]
    fn a_job_that_waits_and_is_not_given_is_refused() {
        let history = [at(0, 1, new("a")), at(2, 3, Operation::LeaseNothing)];
        check("nothing", false, &history);
        let before = [at(0, 1, lease("a", "1")), at(2, 3, new("a"))];
        check("given before it was there", false, &before);
    }
}
