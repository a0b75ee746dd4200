//! What waits for an application that follows a channel: bounded, whatever the application does.
//!
//! A call's updates are few and end; a channel's messages do not. So a subscription holds at most [`UPDATES_MAX`] updates and
//! [`BYTES_MAX`] bytes of data. Where more comes, the oldest go, and a gap stands in their place.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::channels::{ChannelUpdate, Cursor, Message, Offset};
use crate::error::Error;

/// Updates that wait for the application, at most. At 1,000 messages a second, about a second in which it may be busy.
pub const UPDATES_MAX: usize = 1024;
/// Bytes of data that wait for the application, at most: 128 of the largest messages.
pub const BYTES_MAX: usize = 8 * 1024 * 1024;

/// A gap that stands for messages that had to go.
#[derive(Debug, Clone)]
struct Gap {
    after: Cursor,
    until: Cursor,
}

#[derive(Debug, Default)]
struct Inbox {
    /// Comes before everything in `updates`.
    gap: Option<Gap>,
    updates: VecDeque<ChannelUpdate>,
    bytes: usize,
    /// The last update has come.
    over: bool,
    waker: Option<Waker>,
}

impl Inbox {
    fn push(&mut self, update: ChannelUpdate) {
        if self.over {
            return;
        }
        let of_connection = |update: &ChannelUpdate| {
            matches!(
                update,
                ChannelUpdate::Reconnecting { .. } | ChannelUpdate::Reconnected | ChannelUpdate::TokenExpiring { .. }
            )
        };
        // Of the connection, only the latest is of use to one who comes late.
        if of_connection(&update) && self.updates.back().is_some_and(of_connection) {
            self.updates.pop_back();
        }
        self.over = matches!(update, ChannelUpdate::Ended { .. });
        self.bytes += size(&update);
        self.updates.push_back(update);
        while self.updates.len() > UPDATES_MAX || self.bytes > BYTES_MAX {
            match self.updates.pop_front() {
                Some(oldest) => self.skip(oldest),
                None => break,
            }
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Takes note of an update that has to go.
    fn skip(&mut self, oldest: ChannelUpdate) {
        self.bytes = self.bytes.saturating_sub(size(&oldest));
        let skipped = match oldest {
            ChannelUpdate::Message(message) => Gap {
                after: before(&message),
                until: message.cursor(),
            },
            ChannelUpdate::Gap { after, until } => Gap { after, until },
            // Where it began is said by the gap.
            ChannelUpdate::Subscribed(at) => Gap {
                after: at.clone(),
                until: at,
            },
            _ => return,
        };
        match &mut self.gap {
            Some(gap) => gap.until = skipped.until,
            None => self.gap = Some(skipped),
        }
    }

    fn take(&mut self) -> Option<ChannelUpdate> {
        if let Some(Gap { after, until }) = self.gap.take() {
            return Some(ChannelUpdate::Gap { after, until });
        }
        let update = self.updates.pop_front()?;
        self.bytes = self.bytes.saturating_sub(size(&update));
        Some(update)
    }
}

fn size(update: &ChannelUpdate) -> usize {
    match update {
        ChannelUpdate::Message(message) => message.data.as_str().len(),
        _ => 0,
    }
}

/// The cursor in front of a message. Messages follow each other without holes, or a gap stands between them.
fn before(message: &Message) -> Cursor {
    Cursor {
        epoch: message.epoch.clone(),
        offset: Offset(message.offset.0.saturating_sub(1)),
    }
}

/// The end that the socket's task puts updates into. Dropped before the last one, it says that the runtime has ended.
#[derive(Debug)]
pub(crate) struct Putter(Arc<Mutex<Inbox>>);

/// The end that the application takes updates from.
#[derive(Debug)]
pub(crate) struct Taker(Arc<Mutex<Inbox>>);

/// An inbox, by its two ends.
pub(crate) fn inbox() -> (Putter, Taker) {
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    (Putter(inbox.clone()), Taker(inbox))
}

fn lock(inbox: &Mutex<Inbox>) -> MutexGuard<'_, Inbox> {
    match inbox.lock() {
        Ok(inbox) => inbox,
        Err(poisoned) => poisoned.into_inner(),
    }
}

impl Putter {
    /// Puts an update in. Never waits.
    pub fn put(&self, update: ChannelUpdate) {
        lock(&self.0).push(update);
    }
}

impl Drop for Putter {
    fn drop(&mut self) {
        let error = Error::Unreachable("the runtime of the client has ended".to_owned());
        self.put(ChannelUpdate::Ended { error });
    }
}

impl Taker {
    /// The next update; [`ChannelUpdate::Ended`] is the last there is.
    pub fn poll(&self, context: &Context<'_>) -> Poll<ChannelUpdate> {
        let mut inbox = lock(&self.0);
        match inbox.take() {
            Some(update) => Poll::Ready(update),
            None => {
                inbox.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::Epoch;
    use tidegate_protocol::event::JsonText;

    fn at(offset: u64) -> Cursor {
        Cursor {
            epoch: Epoch::parse("e1").unwrap(),
            offset: Offset(offset),
        }
    }

    fn message(offset: u64, bytes: usize) -> ChannelUpdate {
        ChannelUpdate::Message(Message {
            epoch: at(0).epoch,
            offset: Offset(offset),
            data: JsonText::parse(&format!("\"{}\"", "x".repeat(bytes))).unwrap(),
            publisher: None,
            timestamp: None,
        })
    }

    /// What an application that comes late sees: `Err` for a gap, `Ok` for a message.
    fn all(inbox: &mut Inbox) -> Vec<Result<u64, (u64, u64)>> {
        std::iter::from_fn(|| inbox.take())
            .filter_map(|update| match update {
                ChannelUpdate::Message(message) => Some(Ok(message.offset.0)),
                ChannelUpdate::Gap { after, until } => Some(Err((after.offset.0, until.offset.0))),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn who_does_not_read_loses_the_oldest_and_is_told_exactly_which() {
        let mut inbox = Inbox::default();
        inbox.push(ChannelUpdate::Subscribed(at(6)));
        let count = UPDATES_MAX as u64 * 3;
        for offset in 7..7 + count {
            inbox.push(message(offset, 10));
            assert!(inbox.updates.len() <= UPDATES_MAX);
        }
        let seen = all(&mut inbox);
        assert_eq!(seen.len(), UPDATES_MAX + 1);
        let first_kept = 7 + count - UPDATES_MAX as u64;
        assert_eq!(seen[0], Err((6, first_kept - 1)), "from where to read the history");
        assert_eq!(seen[1], Ok(first_kept));
        assert_eq!(seen.last(), Some(&Ok(6 + count)));
        // Read again from then on, nothing more is missed.
        inbox.push(message(7 + count, 10));
        assert_eq!(all(&mut inbox), [Ok(7 + count)]);
    }

    #[test]
    fn large_messages_are_held_back_by_their_bytes() {
        let mut inbox = Inbox::default();
        for offset in 1..=300 {
            inbox.push(message(offset, 60_000));
            assert!(inbox.bytes <= BYTES_MAX);
        }
        let seen = all(&mut inbox);
        let kept = (BYTES_MAX / 60_002) as u64;
        assert_eq!(seen[0], Err((0, 300 - kept)));
        assert_eq!(seen.len() as u64, kept + 1);
        assert_eq!(inbox.bytes, 0);
    }

    #[test]
    fn gaps_that_are_passed_over_become_one() {
        let mut inbox = Inbox::default();
        inbox.push(message(1, 1));
        let (after, until) = (at(1), at(5));
        inbox.push(ChannelUpdate::Gap { after, until });
        for offset in 6..6 + UPDATES_MAX as u64 {
            inbox.push(message(offset, 1));
        }
        assert_eq!(all(&mut inbox)[..2], [Err((0, 5)), Ok(6)]);
    }

    #[test]
    fn a_flapping_connection_fills_nothing_and_the_end_is_the_last() {
        let mut inbox = Inbox::default();
        inbox.push(message(1, 1));
        for attempt in 0..5000 {
            let why = "reset".to_owned();
            inbox.push(ChannelUpdate::Reconnecting { attempt, in_ms: 1, why });
            inbox.push(ChannelUpdate::Reconnected);
        }
        assert_eq!(inbox.updates.len(), 2);
        let error = Error::Unreachable("gone".into());
        inbox.push(ChannelUpdate::Ended { error });
        inbox.push(message(2, 1));
        assert!(matches!(inbox.updates.back(), Some(ChannelUpdate::Ended { .. })));
    }

    #[test]
    fn a_task_that_goes_away_ends_the_subscription() {
        let (putter, taker) = inbox();
        drop(putter);
        let context = Context::from_waker(Waker::noop());
        assert!(matches!(taker.poll(&context), Poll::Ready(ChannelUpdate::Ended { .. })));
    }
}
