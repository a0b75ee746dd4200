//! Requests over HTTP, and the calls that requests of either kind become.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::hub::Prefer;
use tidegate_protocol::calls::jobs;
use tidegate_protocol::frames::Request;
use tidegate_protocol::http::header_key;
use tidegate_protocol::ids::{RequestId, ShardIndex, TraceParent};
use tidegate_protocol::{Error, Fault};

use super::limits::Counted;
use super::pending::{Asked, Asker, Question};
use super::{Admitted, Context, Effect, HttpId, Hub, Moment, admit};
use crate::access;
use crate::composition::Plan;

impl Hub {
    /// A request over HTTP.
    #[expect(clippy::too_many_arguments, reason = "each is one part of one HTTP request")]
    pub fn request(
        &mut self,
        moment: &mut Moment<'_>,
        plan: &Plan,
        from: HttpId,
        principal: &Principal,
        body: &str,
        idempotency_key: Option<&str>,
        traceparent: Option<&str>,
        prefer: Prefer,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let (now, random) = (moment.now, (moment.random)());
        let may = access::check(&self.access, principal, now).and_then(|()| self.check_budgets(now));
        let admitted = may.and_then(|()| Request::parse(body)).and_then(|mut request| {
            take_headers(&mut request, idempotency_key, traceparent)?;
            let request_id = request.id.clone().unwrap_or_else(|| RequestId::generate(now, random));
            let context = Context {
                plan,
                spreads: &self.spreads,
                deployment: &self.deployment,
                principal,
                now,
                follower: None,
            };
            let admitted = admit(context, &request, &request_id, prefer, (moment.random)())?;
            Ok((request_id, admitted))
        });
        match admitted {
            Ok((request_id, admitted)) => self.pass(now, Asker::Http(from), request_id, admitted, &mut effects),
            Err(error) => effects.push(Effect::Answer {
                to: from,
                reply: Err(error),
            }),
        }
        effects
    }

    /// Runs what was admitted, or hands it to the jobs.
    pub(super) fn dispatch(
        &mut self,
        asker: Asker,
        request_id: RequestId,
        admitted: Admitted,
        counted: Option<Box<Counted>>,
        effects: &mut Vec<Effect>,
    ) {
        self.admitted += 1;
        match admitted {
            Admitted::Message { channel, call } => {
                let question = Question::Publish {
                    channel: channel.clone(),
                    counted,
                };
                self.ask_channel(asker, request_id, question, channel, *call, effects);
            }
            Admitted::Here(run) => {
                let id = self.pending.add(Asked {
                    asker,
                    request_id,
                    question: Question::Run,
                });
                effects.push(Effect::Run { id, run });
            }
            Admitted::Job {
                shard,
                enqueue,
                answers,
            } => {
                let asked = Asked {
                    asker,
                    request_id,
                    question: Question::Request { answers, counted },
                };
                self.call(asked, shard, jobs::Call::Enqueue(enqueue), effects);
            }
        }
    }

    /// Asks a `Jobs` object.
    pub(super) fn call(&mut self, asked: Asked, shard: ShardIndex, call: jobs::Call, effects: &mut Vec<Effect>) {
        effects.push(Effect::Call {
            id: self.pending.add(asked),
            shard,
            call: Box::new(call),
        });
    }
}

/// Takes the key and the trace from the headers, where the body has none.
fn take_headers(
    request: &mut Request<'_>,
    idempotency_key: Option<&str>,
    traceparent: Option<&str>,
) -> Result<(), Error> {
    if let Some(text) = idempotency_key {
        let key = header_key(text)?;
        match &request.idempotency_key {
            Some(own) if *own != key => {
                let fault = Fault::new(
                    "/idempotency_key",
                    "the same key as in the header, or none",
                    own.as_str(),
                );
                return Err(Error::invalid(
                    "The request has two idempotency keys.",
                    alloc::vec![fault],
                ));
            }
            _ => request.idempotency_key = Some(key),
        }
    }
    if request.traceparent.is_none() {
        // A broken trace header must not fail the work that it accompanies (W3C Trace Context, section 4.3).
        request.traceparent = traceparent.and_then(TraceParent::parse);
    }
    Ok(())
}
