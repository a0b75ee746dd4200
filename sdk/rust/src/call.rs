//! One call, from its request to its one outcome, whatever happens to the connection in between.
//!
//! Knows neither sockets nor time: it says what to send on a new connection ([`Call::ask`]) and what an answer means
//! ([`Call::answer`]). Events that were seen already are dropped, `seq` never goes backwards, and after the outcome
//! nothing more is said.

use serde::Serialize;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::Seq;

use crate::error::{ApiError, Error};
use crate::event::{Acknowledged, Completed, Outcome, Snapshot, Update};
use crate::frame::{Answer, Failure};
use crate::ids::{JobId, Status};

/// Which job is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The job with this id.
    Job(JobId),
    /// The job of this action that was requested with this key.
    Key {
        /// The action's name.
        action: String,
        /// The key that the request carried.
        idempotency_key: String,
    },
}

/// What an answer means for a call.
#[derive(Debug)]
pub enum Reaction {
    /// Nothing: it was seen already, or is not for this call.
    Nothing,
    /// The caller is told this. After [`Update::Ended`] the call is over.
    Update(Box<Update>),
    /// The server cannot tell for now: ask again, not before so many milliseconds where it says so.
    AskAgain(Option<u64>),
}

impl Reaction {
    fn update(update: Update) -> Self {
        Self::Update(Box::new(update))
    }

    fn end(outcome: Outcome) -> Self {
        Self::update(Update::Ended(outcome))
    }
}

#[derive(Debug)]
enum Ask {
    /// The text of a `request` frame. It carries an idempotency key, so that sending it again is safe.
    Request(String),
    Attach(Target),
}

/// One call.
#[derive(Debug)]
pub struct Call {
    id: String,
    ask: Ask,
    job: Option<JobId>,
    /// The latest event seen.
    cursor: Option<Seq>,
    /// The job had ended when it was acknowledged, but its outcome was not seen.
    outcome_due: bool,
    /// How often it was asked. More than once: an earlier request may have been taken without an answer.
    asked: u32,
    cancel_wanted: bool,
    /// The caller was told something of the job.
    told: bool,
    ended: bool,
}

impl Call {
    /// A call that sends `frame`, the text of a `request` frame with the id `id` and an idempotency key.
    pub fn request(id: String, frame: String) -> Self {
        Self::new(id, Ask::Request(frame), None)
    }

    /// A call that follows a job from the events after `after`.
    pub fn attach(id: String, target: Target, after: Option<Seq>) -> Self {
        Self::new(id, Ask::Attach(target), after)
    }

    fn new(id: String, ask: Ask, cursor: Option<Seq>) -> Self {
        let job = match &ask {
            Ask::Attach(Target::Job(job)) => Some(job.clone()),
            _ => None,
        };
        Self {
            id,
            ask,
            job,
            cursor,
            outcome_due: false,
            asked: 0,
            cancel_wanted: false,
            told: false,
            ended: false,
        }
    }

    /// The id of the call's frames.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The job, as soon as it is known.
    pub fn job(&self) -> Option<&JobId> {
        self.job.as_ref()
    }

    /// The latest event seen.
    pub fn cursor(&self) -> Option<Seq> {
        self.cursor
    }

    /// Whether anything of the call was ever sent.
    pub fn was_asked(&self) -> bool {
        self.asked > 0
    }

    /// The frames to send on a new connection, or when the server could not tell before.
    ///
    /// Where the job is known it is attached to, from the latest event seen; else the request is sent again.
    pub fn ask(&mut self) -> Vec<String> {
        self.asked = self.asked.saturating_add(1);
        let after = if self.outcome_due { None } else { self.cursor };
        let frame = match (&self.job, &self.ask) {
            (Some(job), _) => self.attach_frame(Some(job), None, after),
            (None, Ask::Request(frame)) => frame.clone(),
            (None, Ask::Attach(Target::Job(job))) => self.attach_frame(Some(job), None, after),
            (
                None,
                Ask::Attach(Target::Key {
                    action,
                    idempotency_key,
                }),
            ) => self.attach_frame(None, Some((action, idempotency_key)), after),
        };
        std::iter::once(frame).chain(self.cancel_frame()).collect()
    }

    /// The caller wants the job to end. The frame to send now, where the job is known.
    pub fn cancel(&mut self) -> Option<String> {
        self.cancel_wanted = true;
        self.cancel_frame()
    }

    /// The frame that says that the caller does not follow the job any more.
    pub fn detach_frame(&self) -> Option<String> {
        self.job_frame("detach", "detach")
    }

    /// Whether the answer to the frame `request_id` is for this call.
    pub fn owns(&self, request_id: &str) -> bool {
        request_id == self.id || self.is_cancel(request_id)
    }

    fn is_cancel(&self, request_id: &str) -> bool {
        request_id.strip_prefix(&self.id).is_some_and(|rest| rest == ".cancel")
    }

    /// Takes the answer to the frame `request_id`.
    pub fn answer(&mut self, request_id: &str, answer: Answer) -> Reaction {
        let other_job = matches!((&self.job, answer.job_id()), (Some(ours), Some(theirs)) if ours != theirs);
        if self.ended || other_job {
            return Reaction::Nothing;
        }
        if self.is_cancel(request_id) {
            return self.cancel_answer(answer);
        }
        let reaction = match answer {
            // A publication is a request that is answered on the spot.
            Answer::Response(data) | Answer::Published(data) => Reaction::end(Outcome::Answered { data }),
            Answer::Acknowledgment(acknowledged) => self.acknowledged(acknowledged),
            Answer::Progress(event) => match self.news(&event.job_id, event.seq) {
                true => Reaction::update(Update::Progress(event)),
                false => Reaction::Nothing,
            },
            Answer::Retrying(event) => match self.news(&event.job_id, event.seq) {
                true => Reaction::update(Update::Retrying(event)),
                false => Reaction::Nothing,
            },
            Answer::Output(event) => match self.news(&event.job_id, event.seq) {
                true => Reaction::update(Update::Output(event)),
                false => Reaction::Nothing,
            },
            Answer::Started(event) => match self.news(&event.job_id, event.seq) {
                true => Reaction::update(Update::Started(event)),
                false => Reaction::Nothing,
            },
            Answer::Complete(completed) => Reaction::end(Outcome::Completed(completed)),
            Answer::Snapshot(snapshot) => self.snapshot(snapshot),
            Answer::Error(Failure {
                job_id: Some(job_id),
                seq: Some(_),
                error,
            }) => Reaction::end(Outcome::Failed { job_id, error }),
            Answer::Error(failure) => self.refused(failure.error),
            Answer::Ok => Reaction::Nothing,
        };
        self.told |= matches!(reaction, Reaction::Update(_));
        self.ended = matches!(&reaction, Reaction::Update(update) if matches!(**update, Update::Ended(_)));
        reaction
    }

    /// Ends the call from this side: the server cannot be asked any more.
    pub fn lose(&mut self, error: Error) -> Option<Outcome> {
        let job_id = self.job.clone();
        (!std::mem::replace(&mut self.ended, true)).then_some(Outcome::Lost { job_id, error })
    }

    fn acknowledged(&mut self, acknowledged: Acknowledged) -> Reaction {
        if self.job.is_some() {
            return Reaction::Nothing;
        }
        self.job = Some(acknowledged.job_id.clone());
        self.outcome_due = acknowledged.status.is_ended();
        self.cursor = self.cursor.max(Some(acknowledged.seq));
        Reaction::update(Update::Acknowledged(acknowledged))
    }

    /// Moves the cursor to `seq`; false where it is there or beyond already.
    fn news(&mut self, job: &JobId, seq: Seq) -> bool {
        self.job.get_or_insert_with(|| job.clone());
        let new = self.cursor < Some(seq);
        self.cursor = self.cursor.max(Some(seq));
        new
    }

    /// A snapshot of an ended job is its outcome, even where its place was seen: only an outcome ends a call.
    fn snapshot(&mut self, snapshot: Snapshot) -> Reaction {
        let Snapshot { job_id, seq, .. } = &snapshot;
        let new = self.news(job_id, *seq);
        let Status::Known(state) = snapshot.status else {
            return self.seen(new, snapshot);
        };
        let code = match state {
            JobState::Scheduled | JobState::Queued | JobState::Retrying | JobState::Running | JobState::Paused => {
                return self.seen(new, snapshot);
            }
            JobState::Succeeded => {
                return Reaction::end(Outcome::Completed(Completed {
                    job_id: snapshot.job_id,
                    seq: snapshot.seq,
                    attempt: snapshot.attempt,
                    result: snapshot.result,
                    result_url: snapshot.result_url,
                }));
            }
            JobState::Failed => ErrorCode::ProcessingFailed,
            JobState::Cancelled => ErrorCode::Cancelled,
            JobState::Expired => ErrorCode::Expired,
        };
        let error = snapshot.error.unwrap_or_else(|| {
            let message = snapshot
                .message
                .unwrap_or_else(|| format!("The job is {state}.", state = state.as_str()));
            ApiError::new(code, message)
        });
        Reaction::end(Outcome::Failed {
            job_id: snapshot.job_id,
            error,
        })
    }

    /// A server answers every attach, also where nothing was missed. The caller who begins to follow a job learns from
    /// it where that stands; after a reconnect it would only say again what was said.
    fn seen(&self, new: bool, snapshot: Snapshot) -> Reaction {
        if new || !self.told {
            Reaction::update(Update::Snapshot(snapshot))
        } else {
            Reaction::Nothing
        }
    }

    /// The request or the attach itself was refused.
    ///
    /// A first request that is refused was not taken. Later it may have been taken before, without an answer, and a
    /// job that is followed goes on in any case: then "not now" is no outcome.
    fn refused(&mut self, error: ApiError) -> Reaction {
        let first_request = self.asked <= 1 && self.job.is_none() && matches!(self.ask, Ask::Request(_));
        if error.retryable && !first_request {
            return Reaction::AskAgain(error.retry_after_ms);
        }
        match (&self.job, &self.ask) {
            (Some(job), Ask::Request(_)) => Reaction::end(Outcome::Lost {
                job_id: Some(job.clone()),
                error: error.into(),
            }),
            _ => Reaction::end(Outcome::Rejected(error)),
        }
    }

    fn cancel_answer(&mut self, answer: Answer) -> Reaction {
        self.cancel_wanted = false;
        match answer {
            Answer::Error(failure) if failure.error.retryable => {
                self.cancel_wanted = true;
                Reaction::AskAgain(failure.error.retry_after_ms)
            }
            Answer::Error(failure) => Reaction::update(Update::CancelRefused(failure.error)),
            _ => Reaction::Nothing,
        }
    }

    fn cancel_frame(&self) -> Option<String> {
        let wanted = self.cancel_wanted && !self.ended;
        wanted.then(|| self.job_frame("cancel", "cancel")).flatten()
    }

    /// Whether a wish to cancel waits to be sent, or to be confirmed.
    pub fn cancel_wanted(&self) -> bool {
        self.cancel_wanted
    }

    fn job_frame(&self, kind: &'static str, suffix: &str) -> Option<String> {
        let job = self.job.as_ref()?;
        let id = format!("{}.{suffix}", self.id);
        Some(encode(&ControlFrame {
            kind,
            id: &id,
            job_id: Some(job),
            ..ControlFrame::default()
        }))
    }

    fn attach_frame(&self, job_id: Option<&JobId>, key: Option<(&str, &str)>, after: Option<Seq>) -> String {
        encode(&ControlFrame {
            kind: "attach",
            id: &self.id,
            job_id,
            action: key.map(|(action, _)| action),
            idempotency_key: key.map(|(_, key)| key),
            after,
        })
    }
}

#[derive(Default, Serialize)]
struct ControlFrame<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<&'a JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Seq>,
}

fn encode(frame: &ControlFrame<'_>) -> String {
    // Text keys, texts and whole numbers only, so that this cannot fail.
    serde_json::to_string(frame).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::ServerFrame;

    fn tell(call: &mut Call, text: &str) -> Reaction {
        match ServerFrame::parse(text) {
            ServerFrame::Answer(Some(id), answer) => call.answer(&id, *answer),
            other => panic!("no answer: {other:?}"),
        }
    }

    fn requested() -> Call {
        Call::request("r".into(), r#"{"type":"request","id":"r"}"#.into())
    }

    fn outcome(reaction: Reaction) -> Outcome {
        match reaction {
            Reaction::Update(update) => match *update {
                Update::Ended(outcome) => outcome,
                other => panic!("no outcome: {other:?}"),
            },
            other => panic!("no outcome: {other:?}"),
        }
    }

    const ACKNOWLEDGED: &str =
        r#"{"type":"acknowledgment","request_id":"r","job_id":"job_1","status":"queued","seq":0}"#;

    #[test]
    fn before_an_acknowledgment_the_same_request_is_sent_again() {
        let mut call = requested();
        let first = call.ask();
        assert_eq!(first, call.ask());
    }

    #[test]
    fn after_an_acknowledgment_the_job_is_attached_to_from_the_last_seq() {
        let mut call = requested();
        call.ask();
        tell(&mut call, ACKNOWLEDGED);
        assert_eq!(call.ask(), [r#"{"type":"attach","id":"r","job_id":"job_1","after":0}"#]);
        tell(
            &mut call,
            r#"{"type":"progress","request_id":"r","job_id":"job_1","seq":4}"#,
        );
        assert_eq!(call.ask(), [r#"{"type":"attach","id":"r","job_id":"job_1","after":4}"#]);
    }

    #[test]
    fn a_job_that_had_ended_when_acknowledged_is_asked_for_its_outcome() {
        let mut call = requested();
        call.ask();
        tell(
            &mut call,
            r#"{"type":"acknowledgment","request_id":"r","job_id":"job_1","status":"succeeded","seq":7,"deduplicated":true}"#,
        );
        assert_eq!(call.ask(), [r#"{"type":"attach","id":"r","job_id":"job_1"}"#]);
        let end = r#"{"type":"complete","request_id":"r","job_id":"job_1","seq":7,"result":1}"#;
        assert!(matches!(outcome(tell(&mut call, end)), Outcome::Completed(_)));
        assert!(matches!(tell(&mut call, end), Reaction::Nothing));
    }

    #[test]
    fn the_snapshot_of_an_ended_job_is_its_outcome() {
        for (status, code) in [
            ("failed", "PROCESSING_FAILED"),
            ("cancelled", "CANCELLED"),
            ("expired", "EXPIRED"),
        ] {
            let mut call = Call::attach("r".into(), Target::Job(JobId::parse("job_1").unwrap()), Some(Seq(3)));
            call.ask();
            let text =
                format!(r#"{{"type":"snapshot","request_id":"r","job_id":"job_1","seq":3,"status":"{status}"}}"#);
            match outcome(tell(&mut call, &text)) {
                Outcome::Failed { error, .. } => assert_eq!(error.code.as_str(), code),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_snapshot_without_news_is_told_to_who_begins_and_not_to_who_comes_back() {
        let text = r#"{"type":"snapshot","request_id":"r","job_id":"job_1","seq":3,"status":"running","percentage":40.0,"gap":false}"#;
        let mut call = Call::attach("r".into(), Target::Job(JobId::parse("job_1").unwrap()), Some(Seq(3)));
        call.ask();
        let first = tell(&mut call, text);
        assert!(
            matches!(&first, Reaction::Update(update) if matches!(&**update, Update::Snapshot(at) if at.percentage == 40.0)),
            "{first:?}"
        );
        call.ask();
        assert!(matches!(tell(&mut call, text), Reaction::Nothing));
        let mut call = requested();
        call.ask();
        tell(&mut call, ACKNOWLEDGED);
        call.ask();
        let text = text.replace("\"seq\":3", "\"seq\":0");
        assert!(matches!(tell(&mut call, &text), Reaction::Nothing));
    }

    #[test]
    fn a_first_refusal_is_the_outcome_and_a_later_not_now_is_not() {
        let busy = r#"{"type":"error","request_id":"r","error":{"code":"RATE_LIMITED","message":"m","retryable":true,"retry_after_ms":70}}"#;
        let mut call = requested();
        call.ask();
        assert!(matches!(outcome(tell(&mut call, busy)), Outcome::Rejected(_)));
        let mut call = requested();
        call.ask();
        call.ask();
        assert!(matches!(tell(&mut call, busy), Reaction::AskAgain(Some(70))));
    }

    #[test]
    fn events_of_another_job_are_passed_over() {
        let mut call = requested();
        call.ask();
        tell(&mut call, ACKNOWLEDGED);
        let foreign = r#"{"type":"complete","request_id":"r","job_id":"job_2","seq":9,"result":1}"#;
        assert!(matches!(tell(&mut call, foreign), Reaction::Nothing));
    }

    #[test]
    fn a_wish_to_cancel_waits_for_the_job_and_is_repeated_until_confirmed() {
        let mut call = requested();
        call.ask();
        assert_eq!(call.cancel(), None);
        tell(&mut call, ACKNOWLEDGED);
        let frame = r#"{"type":"cancel","id":"r.cancel","job_id":"job_1"}"#;
        assert_eq!(call.ask().last().map(String::as_str), Some(frame));
        tell(&mut call, r#"{"type":"ok","request_id":"r.cancel"}"#);
        assert_eq!(call.ask().len(), 1);
    }
}
