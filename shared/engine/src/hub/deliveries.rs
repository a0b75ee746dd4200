//! Events for the sockets that follow jobs: each once and in order, whatever overtakes what.

use alloc::vec::Vec;

use tidegate_protocol::calls::hub::Delivery;
use tidegate_protocol::event::Event;
use tidegate_protocol::frames::{CloseCode, ServerFrame};
use tidegate_protocol::ids::{ConnectionId, JobId, RequestId, Seq};
use tidegate_protocol::time::UnixMs;

use super::job_channels::message;
use super::outgoing::{close, send};
use super::session::Form;
use super::{Effect, Hub, PARKED_MAX};

impl Hub {
    /// Events for the sockets that follow their jobs. Gives the jobs that none of them follows.
    pub fn deliver(&mut self, now: UnixMs, deliveries: Vec<Delivery>) -> (Vec<Effect>, Vec<JobId>) {
        let (mut effects, mut not_followed) = (Vec::new(), Vec::new());
        let awaiting = self.pending.awaits_followers();
        for delivery in deliveries {
            let connections: Vec<ConnectionId> = self
                .followers
                .get(&delivery.job)
                .into_iter()
                .flatten()
                .cloned()
                .collect();
            if connections.is_empty() && !awaiting && !not_followed.contains(&delivery.job) {
                not_followed.push(delivery.job);
            }
            for connection in connections {
                let expired = self
                    .sessions
                    .get(&connection)
                    .is_some_and(|session| session.principal.expires_at <= now);
                if expired {
                    close(
                        &connection,
                        CloseCode::TokenExpired,
                        "token expired",
                        true,
                        &mut effects,
                    );
                    continue;
                }
                self.pass_on(&connection, delivery.job, &delivery.event, &mut effects);
                effects.push(Effect::Save { of: connection });
            }
            // A second socket may be about to follow the same job, so that the event is kept for it as well.
            // The oldest makes way: an acknowledgment names a newer place than what came long before it.
            if awaiting {
                self.parked.push_back(delivery);
                if self.parked.len() > PARKED_MAX {
                    self.parked.pop_front();
                }
            }
        }
        (effects, not_followed)
    }

    /// Lets a socket follow a job, and gives it what came while the acknowledgment was on its way.
    pub(super) fn follow(
        &mut self,
        to: &ConnectionId,
        job: JobId,
        seq: Seq,
        request_id: RequestId,
        form: Form,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(to) else {
            return;
        };
        session.follow(job, seq, request_id, form);
        self.followers.entry(job).or_default().insert(to.clone());
        let missed: Vec<Event> = self
            .parked
            .iter()
            .filter(|delivery| delivery.job == job)
            .map(|delivery| delivery.event.clone())
            .collect();
        for event in missed {
            self.pass_on(to, job, &event, effects);
        }
        effects.push(Effect::Save { of: to.clone() });
    }

    /// Sends an event to a socket, under every request that it answers there, unless the socket has it.
    fn pass_on(&mut self, to: &ConnectionId, job: JobId, event: &Event, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(to) else {
            return;
        };
        for follow in session
            .follows
            .iter_mut()
            .filter(|follow| follow.job == job && follow.seq < event.seq)
        {
            follow.seq = event.seq;
            let frame = match follow.form {
                Form::Events => Some(ServerFrame::event(follow.request_id.clone(), job, event)),
                Form::Messages => message(&follow.request_id, job, event),
            };
            effects.extend(frame.map(|frame| send(to, &frame)));
        }
        if event.what.is_terminal() {
            session.follows.retain(|follow| follow.job != job);
            self.unfollow(job, to);
        }
    }
}
