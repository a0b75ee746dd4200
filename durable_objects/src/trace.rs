//! A debug trace of what a `Jobs` object is in the middle of, so that a test which kills it can say where.
//!
//! It is written only where the environment's binding `TIDEGATE_TRACE` is `1`; elsewhere each hook is one test of a
//! flag. A phase is two lines of the log, `trace <phase> begin <subject>` and `trace <phase> end <subject>`:
//!
//! | phase | begins | subject |
//! |---|---|---|
//! | `enqueue` | before the turn that decides on the request | the request's id |
//! | `claim` | in the turn that gives the job to an attempt, before its commit | the job |
//! | `progress` | before the turn that stores an attempt's progress | the job |
//! | `complete` | before the turn that takes an attempt's outcome, unless it is one to be tried again | the job |
//! | `spill` | in the turn that finds the deadline passed, before its commit | the job |
//!
//! Each ends when what its turn wrote is on disk and all that it wanted has left: replies are handed over, the executor
//! is called (the platform holds both back until the disk has the rows), and every hub that follows the job has
//! confirmed the event. A begin without its end is thus an object that died between the decision and its last
//! consequence. A turn that is rolled back ends its phases too: it has no consequences.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tidegate_engine::jobs::{CallId, Effect};
use tidegate_protocol::calls::executor::Outcome;
use tidegate_protocol::calls::hub::Delivery;
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::ids::{HubIndex, JobId, Seq};
use worker::wasm_bindgen_futures::JsFuture;
use worker::{Env, State};

/// What one object is in the middle of.
pub struct Trace {
    on: bool,
    /// The first call of the turn that is being decided; beyond every call where the turn answers none.
    first_call: Cell<CallId>,
    turn: Cell<u64>,
    open: RefCell<Vec<Open>>,
}

/// No call has this number.
const NO_CALL: CallId = CallId(u64::MAX);

/// A phase that has begun.
struct Open {
    phase: &'static str,
    subject: String,
    /// The job, where events of it belong to the phase.
    job: Option<JobId>,
    turn: u64,
    /// Whether the turn's rows are on disk.
    stored: bool,
    /// Events that a hub has not confirmed.
    unconfirmed: Vec<(HubIndex, Seq)>,
}

impl Trace {
    /// The trace of an object in this environment.
    pub fn new(env: &Env) -> Self {
        Self {
            on: env.var("TIDEGATE_TRACE").is_ok_and(|value| value.to_string() == "1"),
            first_call: Cell::new(NO_CALL),
            turn: Cell::new(0),
            open: RefCell::new(Vec::new()),
        }
    }

    /// The next turn answers these calls.
    pub fn asked(&self, calls: &[(CallId, Call)]) {
        if !self.on {
            return;
        }
        self.first_call.set(calls.first().map_or(NO_CALL, |(id, _)| *id));
        for (_, call) in calls {
            match call {
                Call::Enqueue(enqueue) => self.begin("enqueue", enqueue.job.request_id.to_string(), None),
                Call::Report {
                    job, progress: Some(_), ..
                } => self.begin("progress", job.to_string(), Some(*job)),
                Call::Finish { job, outcome, .. } if is_last(outcome) => {
                    self.begin("complete", job.to_string(), Some(*job));
                }
                _ => {}
            }
        }
    }

    /// The turn wants these effects; its transaction is not over yet.
    pub fn decided(&self, effects: &[Effect]) {
        if !self.on {
            return;
        }
        for effect in effects {
            match effect {
                Effect::Execute(execute) => self.begin("claim", execute.job.to_string(), None),
                // An acknowledgment for a call of an earlier turn: it has waited for an outcome in vain.
                Effect::Reply {
                    call,
                    reply: Ok(Reply::Acknowledged { job, .. }),
                } if *call < self.first_call.get() => self.begin("spill", job.to_string(), None),
                Effect::Deliver { hub, delivery } => {
                    let turn = self.turn.get();
                    let mut open = self.open.borrow_mut();
                    let of_it = open
                        .iter_mut()
                        .find(|open| open.turn == turn && open.job == Some(delivery.job));
                    if let Some(open) = of_it {
                        open.unconfirmed.push((*hub, delivery.event.seq));
                    }
                }
                _ => {}
            }
        }
    }

    /// The turn's effects are carried out, as far as that does not wait for others.
    pub fn performed(self: &Rc<Self>, state: &State) {
        if !self.on {
            return;
        }
        let turn = self.turn.get();
        self.turn.set(turn + 1);
        self.first_call.set(NO_CALL);
        if self.open.borrow().iter().all(|open| open.turn != turn) {
            return;
        }
        let trace = self.clone();
        let stored = state.storage().as_raw().sync();
        state.wait_until(async move {
            if let Ok(stored) = stored {
                let _failed_with_the_object = JsFuture::from(stored).await;
            }
            for open in trace.open.borrow_mut().iter_mut().filter(|open| open.turn == turn) {
                open.stored = true;
            }
            trace.end();
        });
    }

    /// A hub confirmed these events.
    pub fn delivered(&self, hub: HubIndex, deliveries: &[Delivery]) {
        if !self.on {
            return;
        }
        for delivery in deliveries {
            for open in self.open.borrow_mut().iter_mut() {
                if open.job == Some(delivery.job) {
                    open.unconfirmed.retain(|event| *event != (hub, delivery.event.seq));
                }
            }
        }
        self.end();
    }

    fn begin(&self, phase: &'static str, subject: String, job: Option<JobId>) {
        worker::console_debug!("trace {phase} begin {subject}");
        self.open.borrow_mut().push(Open {
            phase,
            subject,
            job,
            turn: self.turn.get(),
            stored: false,
            unconfirmed: Vec::new(),
        });
    }

    fn end(&self) {
        self.open.borrow_mut().retain(|open| {
            let over = open.stored && open.unconfirmed.is_empty();
            if over {
                worker::console_debug!("trace {} end {}", open.phase, open.subject);
            }
            !over
        });
    }
}

/// Whether an attempt with this outcome is the job's last, whatever its policy.
fn is_last(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Succeeded { .. } => true,
        Outcome::Failed { error } => !error.retryable,
        Outcome::Unfinished | Outcome::Snoozed { .. } | Outcome::HandedOver => false,
    }
}
