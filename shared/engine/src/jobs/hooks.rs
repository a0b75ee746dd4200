//! Telling an endpoint that a job has ended: by a job of its own, made in the turn in which the other one ends.
//!
//! So that the end and its message are one transaction, and the message is tried, bounded, listed and redriven as all
//! work is. A job that tells nobody pays nothing for this.

use alloc::string::{String, ToString};
use alloc::{format, vec};

use tidegate_protocol::calls::executor::Policy;
use tidegate_protocol::calls::hooks::{ENDPOINT_KEY, HOOK_ACTION, Hook, Message};
use tidegate_protocol::calls::jobs::{Enqueue, NewJob};
use tidegate_protocol::calls::queueing::{Counted, Queueing, Rule, WhenFull};
use tidegate_protocol::event::{Event, Happening, JobState, JsonText, Payload};
use tidegate_protocol::frames::result_url;
use tidegate_protocol::http::{EndedJob, JobEnded, Signature};
use tidegate_protocol::ids::{ActionName, JobId, JobNumber};
use tidegate_protocol::limits::PAYLOAD_ROW_BYTES_MAX;

use super::enqueue::{fresh, split};
use super::row::Job;
use super::{Turn, ordered};
use crate::composition::defaults::ON_END_HOST_MAX;
use crate::database::{Database, DatabaseError};
use crate::outbound::Target;
use tidegate_protocol::SortedMap;

/// The limit that keeps an endpoint which hangs from taking every place. No composition can have this name.
const LIMIT: &str = "tidegate.hook";
/// The note on a telling job that names the job which ended.
const JOB_KEY: &str = "job_id";
/// The note that names the end.
const EVENT_KEY: &str = "event";

impl<D: Database> Turn<'_, D> {
    /// Makes the job that tells of the end of `job`, where there is somebody to tell. A bound on waiting jobs does not
    /// hold for it: an end that was stored is told.
    pub(super) fn tell_endpoint(&mut self, job: &Job, event: &Event) -> Result<(), DatabaseError> {
        let on_end = match &job.spec.hook {
            // Of what tells, nobody is told.
            Some(Hook::Tells(_)) => return Ok(()),
            Some(Hook::OnEnd(on_end)) => Some(on_end).filter(|on_end| on_end.events.contains(&job.state)),
            None => None,
        };
        if let Some(on_end) = on_end
            && let Some(payload) = told(job, event, on_end.include_result)
        {
            let message = Message {
                url: on_end.url.clone(),
                id: message_id(job.id),
                endpoint: None,
                signature: Signature::V1,
                held: None,
            };
            self.send(job, payload, message, on_end.policy.clone(), None)?;
        }
        self.tell_endpoints(job, event)
    }

    /// Makes the job that sends `message` about the end of `job`; with `order`, behind those that count under the same.
    pub(super) fn send(
        &mut self,
        job: &Job,
        payload: JsonText,
        message: Message,
        policy: Policy,
        order: Option<Counted>,
    ) -> Result<(), DatabaseError> {
        let Some(action) = ActionName::parse(HOOK_ACTION) else {
            return Ok(());
        };
        let host = Target::parse(&message.url).map_or_else(|_| String::new(), |target| target.host().to_string());
        let counted = Counted {
            limit: LIMIT.into(),
            key: host,
            rule: Rule::Concurrency { max: ON_END_HOST_MAX },
            cost: 1,
            when_full: WhenFull::Wait,
        };
        let is_ordered = order.is_some();
        // All of a row stand in one lane, whoever's jobs they tell of, and wherever the endpoint is.
        let share = job.spec.queueing.share.clone().filter(|_| !is_ordered);
        let mut metadata = SortedMap::from([
            (JOB_KEY.to_string(), job.id.to_string()),
            (EVENT_KEY.to_string(), event_type(job.state)),
        ]);
        if let Some(endpoint) = &message.endpoint {
            metadata.insert(ENDPOINT_KEY.to_string(), endpoint.to_string());
        }
        let enqueue = Enqueue {
            job: NewJob {
                request_id: job.spec.request_id.clone(),
                user: job.spec.user.clone(),
                action,
                revision: job.spec.revision.clone(),
                policy,
                queueing: Queueing {
                    limits: vec![order.unwrap_or(counted)],
                    share,
                    ..Queueing::default()
                },
                payload: Payload::Inline(payload),
                metadata,
                run_at: None,
                traceparent: job.spec.traceparent.clone(),
                redriven_from: None,
                once: None,
                hook: Some(Hook::Tells(message)),
                batch: None,
            },
            partition: job.id.number().partition(),
            keyed: None,
            answer_within_ms: None,
            follower: None,
            away_max_ms: None,
        };
        self.learn_limits(&enqueue.job.queueing)?;
        let number = JobNumber::next(self.now, enqueue.partition, self.state.last);
        let (tail, _) = split((self.random)());
        self.state.last = number;
        let mut telling = fresh(JobId::new(number, tail), self.now, &enqueue);
        if is_ordered {
            (telling.state, telling.due_at) = (JobState::Scheduled, Some(ordered::HELD));
        } else {
            telling.due_at = Some(self.now);
            self.place_freed = true;
        }
        telling.insert(self.db, &enqueue.job.payload, None)?;
        self.wait(&telling)?;
        if is_ordered {
            self.advance(&enqueue.job)?;
        }
        Ok(())
    }
}

/// Names the message of a job's end, however often and by however many jobs it is sent.
pub(super) fn message_id(job: JobId) -> String {
    format!("evt_{job}")
}

fn event_type(state: JobState) -> String {
    format!("job.{}", state.as_str())
}

/// What is told.
pub(super) fn told(job: &Job, event: &Event, include_result: bool) -> Option<JsonText> {
    let (mut result, mut url, mut error) = (None, None, None);
    match &event.what {
        Happening::Completed {
            result: Payload::Inline(value),
        } if include_result && value.as_str().len() <= PAYLOAD_ROW_BYTES_MAX => result = Some(value.clone()),
        Happening::Completed { .. } => url = Some(result_url(job.id)),
        Happening::Failed { error: cause } => error = Some(cause.clone()),
        Happening::Progress(_) | Happening::Retrying { .. } | Happening::Output(_) | Happening::Started => {}
    }
    JsonText::of(&JobEnded {
        specversion: "1.0".into(),
        id: message_id(job.id),
        source: format!("/v1/jobs/{}", job.id),
        kind: event_type(job.state),
        time: event.at,
        datacontenttype: "application/json".into(),
        data: EndedJob {
            job_id: job.id,
            request_id: job.spec.request_id.clone(),
            action: job.spec.action.clone(),
            user: job.spec.user.clone(),
            status: job.state,
            attempt: job.attempt,
            metadata: job.spec.metadata.clone(),
            created_at: job.created_at,
            ended_at: event.at,
            result,
            result_url: url,
            error,
            redriven_from: job.spec.redriven_from,
            started_at: job.started_at,
        },
    })
}
