//! The limits that requests have to pass: out of the hub's leases, or by a question to the gate.
//!
//! One question is under way at a time, and what comes meanwhile fills the next one.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

use tidegate_protocol::calls::admission::{Ask, Decided, Need, Recalled, Returned, Standing, Verdict};
use tidegate_protocol::frames::ServerFrame;
use tidegate_protocol::ids::{ConnectionId, RequestId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::log::{Logging, Outcome};
use super::outgoing::{send, send_error};
use super::pending::{Asked, Asker, Question};
use super::{Admitted, CallId, Effect, Hub};
use crate::admission::{self, Leases, Taken};

/// Requests of one question at most. What the gate decides is one turn.
const ASKED_MAX: usize = 256;

/// What was counted for a request: to be put back if it is refused for another reason.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Counted {
    needs: Vec<Need>,
    /// By the gate's clock.
    at: UnixMs,
}

/// A request that waits for the gate's word.
#[derive(Debug, Clone)]
struct Waiting {
    id: CallId,
    needs: Vec<Need>,
    admitted: Admitted,
}

/// A question that is under way.
#[derive(Debug, Clone)]
struct Asking {
    at: UnixMs,
    ask: Ask,
    waiting: Vec<Waiting>,
}

/// The leases of a hub, and what waits for the gate.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    leases: Leases,
    waiting: Vec<Waiting>,
    asking: Option<Asking>,
}

impl Hub {
    /// Has a request that was admitted otherwise pass its limits, and then dispatches it.
    pub(super) fn pass(
        &mut self,
        now: UnixMs,
        asker: Asker,
        request_id: RequestId,
        (admitted, needs): (Admitted, Vec<Need>),
        effects: &mut Vec<Effect>,
    ) {
        if needs.is_empty() {
            return self.dispatch(asker, request_id, admitted, None, effects);
        }
        match self.limits.leases.take(now, &needs) {
            Taken::Admitted { counted_at: at } => {
                let counted = Box::new(Counted { needs, at });
                self.dispatch(asker, request_id, admitted, Some(counted), effects);
            }
            Taken::Refused(refusal) => {
                return self.refuse(now, asker, request_id, admission::refusal(&refusal), effects);
            }
            Taken::Short => {
                let id = self.pending.add(Asked {
                    asker,
                    request_id,
                    question: Question::Limits,
                });
                self.limits.waiting.push(Waiting { id, needs, admitted });
            }
        }
        self.ask_gate(now, effects);
    }

    /// Asks the gate, where there is something to ask and no question is under way.
    fn ask_gate(&mut self, now: UnixMs, effects: &mut Vec<Effect>) {
        let limits = &mut self.limits;
        if limits.asking.is_some() || (limits.waiting.is_empty() && !limits.leases.runs_out()) {
            return;
        }
        let count = limits.waiting.len().min(ASKED_MAX);
        let waiting: Vec<Waiting> = limits.waiting.drain(..count).collect();
        let requests = waiting.iter().map(|waiting| waiting.needs.clone()).collect();
        let ask = limits.leases.ask(now, self.index, requests);
        effects.push(Effect::Ask {
            ask: Box::new(ask.clone()),
        });
        limits.asking = Some(Asking { at: now, ask, waiting });
    }

    /// The gate has decided what an [`Effect::Ask`] asked, or could not be reached.
    pub fn decided(&mut self, now: UnixMs, decided: Result<Decided, Error>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(Asking { at, ask, waiting }) = self.limits.asking.take() else {
            return effects;
        };
        match decided {
            Ok(decided) => {
                self.limits.leases.decided(now, at, &ask, &decided);
                self.tell_usage(&waiting, &decided, &mut effects);
                let mut verdicts = decided.verdicts.into_iter();
                for Waiting { id, needs, admitted } in waiting {
                    let verdict = match verdicts.next() {
                        Some(Verdict::Admitted) => Ok(decided.at),
                        Some(Verdict::Refused(refusal)) => Err(admission::refusal(&refusal)),
                        None => Err(too_little()),
                    };
                    self.settle(now, Waiting { id, needs, admitted }, verdict, &mut effects);
                }
                self.take_waiting(now, &mut effects);
            }
            Err(error) => {
                for Waiting { id, .. } in waiting {
                    let Some(Asked { asker, request_id, .. }) = self.pending.take(id) else {
                        continue;
                    };
                    self.refuse(now, asker, request_id, error.clone(), &mut effects);
                }
            }
        }
        self.ask_gate(now, &mut effects);
        effects
    }

    /// Has those that came while the gate was asked pass out of what it has just lent, in their order. To ask for them at once
    /// would hand all of it back with the question, unused, and so for ever while requests keep coming.
    fn take_waiting(&mut self, now: UnixMs, effects: &mut Vec<Effect>) {
        for Waiting { id, needs, admitted } in mem::take(&mut self.limits.waiting) {
            let verdict = match self.limits.leases.take(now, &needs) {
                Taken::Short => {
                    self.limits.waiting.push(Waiting { id, needs, admitted });
                    continue;
                }
                Taken::Refused(refusal) => Err(admission::refusal(&refusal)),
                Taken::Admitted { counted_at } => Ok(counted_at),
            };
            self.settle(now, Waiting { id, needs, admitted }, verdict, effects);
        }
    }

    /// A request that waited is admitted, and was counted at this moment of the gate's clock; or it is refused.
    #[inline(never)]
    fn settle(&mut self, now: UnixMs, waiting: Waiting, verdict: Result<UnixMs, Error>, effects: &mut Vec<Effect>) {
        let Waiting { id, needs, admitted } = waiting;
        let Some(Asked { asker, request_id, .. }) = self.pending.take(id) else {
            return;
        };
        match verdict {
            Ok(at) => {
                let counted = Box::new(Counted { needs, at });
                self.dispatch(asker, request_id, admitted, Some(counted), effects);
            }
            Err(error) => self.refuse(now, asker, request_id, error, effects),
        }
    }

    /// The gate takes leases back, for another hub.
    pub fn recalled(&mut self, now: UnixMs, recalled: &[Recalled]) -> Vec<Returned> {
        self.limits.leases.recalled(now, recalled)
    }

    /// What is left of leases that end, or that nobody uses. To be looked at every [`admission::LOOK_MS`] while there are
    /// [any](Self::has_leases).
    pub fn idle_leases(&mut self, now: UnixMs) -> (Vec<Returned>, Vec<Effect>) {
        let mut effects = Vec::new();
        let returned = self.limits.leases.idle(now);
        if self.limits.asking.is_none() && self.limits.leases.has_refunds() {
            let ask = self.limits.leases.ask(now, self.index, Vec::new());
            effects.push(Effect::Ask {
                ask: Box::new(ask.clone()),
            });
            self.limits.asking = Some(Asking {
                at: now,
                ask,
                waiting: Vec::new(),
            });
        }
        (returned, effects)
    }

    /// Whether there are leases, or units to be put back.
    pub fn has_leases(&self) -> bool {
        self.limits.leases.any()
    }

    /// A request was refused after its limits had counted it.
    pub(super) fn put_back(&mut self, question: &Question, error: &Error) {
        // Where the outcome is not known, the request may have been stored.
        let unknown = matches!(
            error.code,
            ErrorCode::Unavailable | ErrorCode::InternalError | ErrorCode::Timeout
        );
        let (Question::Request { counted, .. } | Question::Publish { counted, .. }) = question else {
            return;
        };
        if unknown {
            return;
        }
        self.admitted -= 1;
        if let Some(counted) = counted {
            self.limits.leases.refund(&counted.needs, counted.at);
        }
    }

    fn refuse(&mut self, now: UnixMs, asker: Asker, request_id: RequestId, error: Error, effects: &mut Vec<Effect>) {
        match asker {
            Asker::Socket(to, begun) => {
                let outcome = Outcome::refused(&error);
                if self.sessions.contains_key(&to) {
                    effects.push(send_error(&to, Some(request_id.clone()), error, now));
                }
                Logging::note(begun, now, &to, request_id, outcome, effects);
            }
            Asker::Worker(..) => {}
            Asker::Http(to) => effects.push(Effect::Answer { to, reply: Err(error) }),
            Asker::Item(to, index) => self.gather(to, index, Err(error), effects),
        }
    }

    /// Tells each socket once of each limit that is near, with a request of its own.
    fn tell_usage(&self, waiting: &[Waiting], decided: &Decided, effects: &mut Vec<Effect>) {
        let near: Vec<&Standing> = admission::near(&decided.standings).collect();
        if near.is_empty() {
            return;
        }
        let mut told: Vec<(&ConnectionId, &str)> = Vec::new();
        for (waiting, verdict) in waiting.iter().zip(&decided.verdicts) {
            let Some(Asker::Socket(to, _)) = self.pending.asker(waiting.id) else {
                continue;
            };
            if matches!(verdict, Verdict::Refused(_)) || !self.sessions.contains_key(to) {
                continue;
            }
            for standing in &near {
                let needed = waiting.needs.iter().any(|need| need.bucket == standing.bucket);
                let what = (to, standing.bucket.limit.as_str());
                if needed && !told.contains(&what) {
                    told.push(what);
                    effects.push(send(
                        to,
                        &ServerFrame::Usage {
                            limit: standing.bucket.limit.clone(),
                            remaining: standing.remaining,
                            reset_ms: standing.reset_ms,
                        },
                    ));
                }
            }
        }
    }
}

fn too_little() -> Error {
    Error::new(ErrorCode::InternalError, "The gate answered too little.")
}
