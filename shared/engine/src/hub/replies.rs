//! What comes of a call or a run, for the socket or the caller over HTTP who asked.

use alloc::vec::Vec;

use tidegate_protocol::calls::hub::Reply;
use tidegate_protocol::calls::jobs;
use tidegate_protocol::event::{Event, Happening, JobState, JsonText, Payload};
use tidegate_protocol::frames::{ServerFrame, result_url};
use tidegate_protocol::http::Accepted;
use tidegate_protocol::ids::{ConnectionId, JobId, RequestId, Seq};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::log::{Logging, Outcome};
use super::outgoing::{send, send_error};
use super::pending::{Asked, Asker, Question};
use super::{Answers, CallId, Effect, Hub};

impl Hub {
    /// A synchronous run came to its end.
    pub fn ran(&mut self, now: UnixMs, id: CallId, result: Result<JsonText, Error>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(Asked { asker, request_id, .. }) = self.pending.take(id) else {
            return effects;
        };
        match asker {
            Asker::Socket(to, begun) => {
                let outcome = result
                    .as_ref()
                    .map_or_else(Outcome::refused, |_| Outcome::answered(200, None));
                let id = begun.is_some().then(|| request_id.clone());
                effects.push(match result {
                    Ok(data) => send(
                        &to,
                        &ServerFrame::Response {
                            request_id,
                            success: true,
                            data,
                        },
                    ),
                    Err(error) => send_error(&to, Some(request_id), error, now),
                });
                if let Some(id) = id {
                    Logging::note(begun, now, &to, id, outcome, &mut effects);
                }
            }
            Asker::Http(to) => {
                let reply = Reply::Answer {
                    request_id,
                    result,
                    job: None,
                    deduplicated: false,
                    result_url: None,
                };
                effects.push(Effect::Answer { to, reply: Ok(reply) });
            }
            // The requests of a batch become jobs.
            Asker::Item(to, index) => self.gather(to, index, Err(unexpected()), &mut effects),
            // A worker's call is no run.
            Asker::Worker(..) => {}
        }
        effects
    }

    /// A `Jobs` object replied, or could not be reached.
    pub fn replied(&mut self, now: UnixMs, id: CallId, reply: Result<jobs::Reply, Error>) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Ok(jobs::Reply::Elsewhere { shard, call }) = reply {
            // The same question, for another object.
            effects.push(Effect::Call { id, shard, call });
            return effects;
        }
        if let Some(Asked {
            asker,
            request_id,
            question,
        }) = self.pending.take(id)
        {
            if let Err(error) = &reply {
                self.put_back(&question, error);
            }
            match asker {
                Asker::Socket(to, begun) => {
                    let logged = begun.map(|begun| (begun, request_id.clone(), Outcome::of(&reply, &question)));
                    self.tell_socket(now, &to, request_id, &question, reply, &mut effects);
                    if let Some((begun, id, outcome)) = logged {
                        Logging::note(Some(begun), now, &to, id, outcome, &mut effects);
                    }
                }
                Asker::Http(to) => {
                    let reply = reply.map(|reply| http_reply(request_id, reply));
                    effects.push(Effect::Answer { to, reply });
                }
                Asker::Item(to, index) => {
                    let reply = reply.map(|reply| http_reply(request_id, reply));
                    self.gather(to, index, reply, &mut effects);
                }
                Asker::Worker(lease, shard) => self.dealt(now, lease, shard, reply, &mut effects),
            }
        }
        if !self.pending.awaits_followers() {
            self.parked.clear();
        }
        effects
    }

    fn tell_socket(
        &mut self,
        now: UnixMs,
        to: &ConnectionId,
        request_id: RequestId,
        question: &Question,
        reply: Result<jobs::Reply, Error>,
        effects: &mut Vec<Effect>,
    ) {
        if !self.sessions.contains_key(to) {
            return;
        }
        match reply {
            Err(error) => effects.push(send_error(to, Some(request_id), error, now)),
            Ok(jobs::Reply::Acknowledged {
                job,
                status,
                seq,
                deduplicated,
                run_at,
            }) => {
                let frame = acknowledgment(request_id.clone(), job, status, seq, deduplicated, run_at);
                effects.push(send(to, &frame));
                self.follow(to, job, seq, request_id, effects);
            }
            Ok(jobs::Reply::Ended {
                job,
                event,
                deduplicated,
                ..
            }) => tell_ended(to, request_id, question, job, event, deduplicated, effects),
            Ok(jobs::Reply::Following {
                job,
                snapshot,
                events,
                ended,
            }) => {
                let mut seq = match question {
                    Question::Attach { after } => after.unwrap_or_default(),
                    Question::Request { .. }
                    | Question::Cancel
                    | Question::Run
                    | Question::Limits
                    | Question::Lease
                    | Question::Subscribe(_)
                    | Question::Publish { .. }
                    | Question::History
                    | Question::Roster(_)
                    | Question::RosterAgain(_) => Seq(0),
                };
                if let Some(snapshot) = snapshot {
                    // It takes the cursor's place, also where that was beyond anything that happened.
                    seq = snapshot.seq;
                    effects.push(send(to, &ServerFrame::snapshot(request_id.clone(), job, snapshot)));
                }
                for event in events {
                    seq = seq.max(event.seq);
                    effects.push(send(to, &ServerFrame::event(request_id.clone(), job, &event)));
                }
                if !ended {
                    self.follow(to, job, seq, request_id, effects);
                }
            }
            Ok(jobs::Reply::Done) => effects.push(send(to, &ServerFrame::Ok { request_id })),
            Ok(
                jobs::Reply::Job(_)
                | jobs::Reply::Result { .. }
                | jobs::Reply::Jobs(_)
                | jobs::Reply::Why(_)
                | jobs::Reply::Queue(_)
                | jobs::Reply::Schedules(_)
                | jobs::Reply::Backfilled(_)
                | jobs::Reply::DeadLetters(_)
                | jobs::Reply::Many { .. }
                | jobs::Reply::History(_)
                | jobs::Reply::Leased { .. }
                | jobs::Reply::Continue { .. }
                | jobs::Reply::Grown(_)
                | jobs::Reply::Elsewhere { .. }
                | jobs::Reply::Batch(_)
                | jobs::Reply::Places(_)
                | jobs::Reply::Holders(_),
            ) => effects.push(send_error(to, Some(request_id), unexpected(), now)),
        }
    }
}

/// A job that ended before it was answered: on the spot where that was asked for, else as its acknowledgment and its end.
fn tell_ended(
    to: &ConnectionId,
    request_id: RequestId,
    question: &Question,
    job: JobId,
    event: Event,
    deduplicated: bool,
    effects: &mut Vec<Effect>,
) {
    let on_the_spot = matches!(
        question,
        Question::Request {
            answers: Answers::OnTheSpot,
            ..
        }
    );
    match &event.what {
        Happening::Completed {
            result: Payload::Inline(data),
        } if on_the_spot => {
            let (data, success) = (data.clone(), true);
            let response = ServerFrame::Response {
                request_id,
                success,
                data,
            };
            effects.push(send(to, &response));
        }
        Happening::Failed { error } if on_the_spot => {
            effects.push(send_error(to, Some(request_id), error.clone(), event.at));
        }
        _ => {
            let status = ended_state(&event);
            let before = Seq(event.seq.0.saturating_sub(1));
            let frame = acknowledgment(request_id.clone(), job, status, before, deduplicated, None);
            effects.push(send(to, &frame));
            effects.push(send(to, &ServerFrame::event(request_id, job, &event)));
        }
    }
}

fn acknowledgment(
    request_id: RequestId,
    job_id: JobId,
    status: JobState,
    seq: Seq,
    deduplicated: bool,
    run_at: Option<UnixMs>,
) -> ServerFrame {
    let message = if deduplicated {
        "This key's job is stored already."
    } else {
        "The job is stored."
    };
    ServerFrame::Acknowledgment {
        request_id,
        job_id,
        status,
        message,
        deduplicated,
        run_at,
        seq,
    }
}

fn ended_state(event: &Event) -> JobState {
    match &event.what {
        Happening::Failed { error } if error.code == ErrorCode::Cancelled => JobState::Cancelled,
        Happening::Failed { error } if error.code == ErrorCode::Expired => JobState::Expired,
        Happening::Failed { .. } => JobState::Failed,
        Happening::Completed { .. }
        | Happening::Progress(_)
        | Happening::Output(_)
        | Happening::Started
        | Happening::Retrying { .. } => JobState::Succeeded,
    }
}

fn http_reply(request_id: RequestId, reply: jobs::Reply) -> Reply {
    match reply {
        jobs::Reply::Acknowledged {
            job,
            status,
            seq,
            deduplicated,
            run_at,
        } => Reply::Accepted(Accepted {
            request_id,
            job_id: job,
            status,
            deduplicated,
            seq,
            run_at,
        }),
        jobs::Reply::Ended {
            job,
            event,
            deduplicated,
            stored,
        } => {
            let (result, url) = match event.what {
                Happening::Completed {
                    result: Payload::Inline(data),
                } => (Ok(data), None),
                Happening::Completed {
                    result: Payload::Stored { .. },
                } => (Ok(JsonText::null()), Some(result_url(job))),
                Happening::Failed { error } => (Err(error), None),
                Happening::Progress(_) | Happening::Output(_) | Happening::Started | Happening::Retrying { .. } => {
                    (Err(unexpected()), None)
                }
            };
            Reply::Answer {
                request_id,
                result,
                job: stored.then_some(job),
                deduplicated,
                result_url: url,
            }
        }
        jobs::Reply::Following { .. }
        | jobs::Reply::Job(_)
        | jobs::Reply::Result { .. }
        | jobs::Reply::Jobs(_)
        | jobs::Reply::Why(_)
        | jobs::Reply::Queue(_)
        | jobs::Reply::Schedules(_)
        | jobs::Reply::Backfilled(_)
        | jobs::Reply::DeadLetters(_)
        | jobs::Reply::Many { .. }
        | jobs::Reply::Leased { .. }
        | jobs::Reply::Continue { .. }
        | jobs::Reply::History(_)
        | jobs::Reply::Grown(_)
        | jobs::Reply::Elsewhere { .. }
        | jobs::Reply::Batch(_)
        | jobs::Reply::Places(_)
        | jobs::Reply::Holders(_)
        | jobs::Reply::Done => Reply::Answer {
            request_id,
            result: Err(unexpected()),
            job: None,
            deduplicated: false,
            result_url: None,
        },
    }
}

fn unexpected() -> Error {
    Error::new(
        ErrorCode::InternalError,
        "An object gave an answer that does not fit the question.",
    )
}
