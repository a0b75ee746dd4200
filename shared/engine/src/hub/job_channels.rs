//! The channel of a job, `job:<id>`: the job's own events as messages, whose offsets are their places.
//!
//! There is no log beside the job's, and no object: what a `subscribe` asks for is what an `attach` does, and whoever may attach may
//! subscribe. Offsets have a gap where the job keeps less than it said.

use alloc::format;
use alloc::vec::Vec;

use tidegate_protocol::calls::jobs::{Call, JobRef};
use tidegate_protocol::channels::{Cursor, Message};
use tidegate_protocol::event::{Event, JsonText, Snapshot};
use tidegate_protocol::frames::ServerFrame;
use tidegate_protocol::ids::{ChannelName, ConnectionId, Epoch, JobId, Offset, RequestId, Seq};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::channels::subscribed;
use super::outgoing::{send, send_error};
use super::pending::{Asked, Asker, Question};
use super::session::Form;
use super::{Effect, Hub};

/// The job whose channel this is; `None`: it is no job's.
pub(super) fn job_of(channel: &ChannelName) -> Option<JobId> {
    channel.as_str().strip_prefix("job:").and_then(JobId::parse)
}

/// The one life of a job's log. It never changes, so that a cursor is good for as long as the job is kept.
fn epoch_of(job: JobId) -> Option<Epoch> {
    Epoch::parse(&format!("j{}", job.number().0))
}

/// An event as a message of the channel. `None` where it cannot be written, which does not happen.
pub(super) fn message(request_id: &RequestId, job: JobId, event: &Event) -> Option<ServerFrame> {
    let data = JsonText::of(&ServerFrame::event(request_id.clone(), job, event))?;
    Some(ServerFrame::Message {
        channel: ChannelName::parse(&format!("job:{job}"))?,
        epoch: epoch_of(job)?,
        message: Message {
            offset: Offset(event.seq.0),
            timestamp: event.at,
            data,
            publisher: None,
        },
    })
}

impl Hub {
    /// A socket wants to follow the channel of a job.
    pub(super) fn subscribe_to_job(
        &mut self,
        now: UnixMs,
        from: &ConnectionId,
        request_id: RequestId,
        channel: &ChannelName,
        after: Option<Cursor>,
        effects: &mut Vec<Effect>,
    ) {
        let may = self.has_room(from).and_then(|()| {
            let job = job_of(channel).ok_or_else(Error::not_found)?;
            let session = self.sessions.get(from).ok_or_else(Error::not_found)?;
            Ok((job, session.principal.caller()))
        });
        let (job, caller) = match may {
            Ok(may) => may,
            Err(error) => return effects.push(send_error(from, Some(request_id), error, now)),
        };
        // A cursor of another log is none.
        let after = after.filter(|after| epoch_of(job).as_ref() == Some(&after.epoch));
        let after = after.map(|after| Seq(after.offset.0));
        let call = Call::Follow {
            job: JobRef::Id(job),
            caller,
            hub: self.index,
            after,
        };
        let form = Form::Messages;
        let asked = Asked {
            asker: Asker::Socket(from.clone(), None),
            request_id,
            question: Question::Attach { after, form },
        };
        self.call(asked, self.spreads.for_number(job.number()), call, effects);
    }

    /// A job answered a `subscribe`: what the socket is sent, and how far it is then.
    pub(super) fn subscribed_to_job(
        &self,
        to: &ConnectionId,
        request_id: &RequestId,
        job: JobId,
        after: Option<Seq>,
        (snapshot, events): (Option<Snapshot>, Vec<Event>),
        effects: &mut Vec<Effect>,
    ) -> Seq {
        let begins = events.first().map(|first| Seq(first.seq.0.saturating_sub(1)));
        // The first event of a job is behind its acknowledgment, which is no message.
        let known = after.map(|after| after.max(Seq(1)));
        let last = events.last().map_or(Seq(0), |last| last.seq);
        // One that has the end is given it again, and has all the same missed nothing.
        let missed_nothing =
            |known: &Seq| begins.is_none_or(|begins| begins <= *known) && (*known <= last || events.is_empty());
        let known = known.filter(missed_nothing).filter(|_| snapshot.is_none());
        let at = known
            .or(snapshot.map(|snapshot| snapshot.seq))
            .or(begins)
            .unwrap_or_default();
        if let (Some(epoch), Some(channel)) = (epoch_of(job), ChannelName::parse(&format!("job:{job}"))) {
            let cursor = Cursor {
                epoch,
                offset: Offset(at.0),
            };
            let frame = subscribed(
                Some(request_id.clone()),
                &channel,
                &cursor,
                cursor.offset,
                known.is_some(),
                None,
            );
            effects.push(send(to, &frame));
        }
        for event in events.iter().filter(|event| event.seq > at) {
            effects.extend(message(request_id, job, event).map(|frame| send(to, &frame)));
        }
        at.max(last)
    }

    /// A socket follows a job no longer in this way.
    pub(super) fn let_go(&mut self, from: &ConnectionId, job: JobId, form: Form, effects: &mut Vec<Effect>) {
        let mut left = false;
        if let Some(session) = self.sessions.get_mut(from) {
            session
                .follows
                .retain(|follow| follow.job != job || follow.form != form);
            left = !session.follows.iter().any(|follow| follow.job == job);
        }
        if left {
            self.unfollow(job, from);
        }
        effects.push(Effect::Save { of: from.clone() });
    }
}

/// What over HTTP is another route, and what nobody does.
pub(crate) fn refusal(takes_part: bool) -> Error {
    if takes_part {
        let message =
            "Nobody publishes in the channel of a job, and nobody is shown there: it tells what happens to the job.";
        return Error::new(ErrorCode::Forbidden, message);
    }
    let message = "The channel of a job is followed on a socket. Over HTTP its events are those of the job: GET /v1/jobs/{id}/events.";
    Error::new(ErrorCode::NotImplemented, message)
}
