//! The hubs whose sockets follow a channel: how far each of them is, and what it is told next.

use alloc::vec::Vec;

use tidegate_protocol::SortedMap;
use tidegate_protocol::channels::Cursor;
use tidegate_protocol::ids::{HubIndex, Offset};
use tidegate_protocol::time::UnixMs;

use super::Effect;
use super::log::Log;
use crate::database::{Database, DatabaseError, Value};

/// How long after a message the hubs that have not confirmed it are asked: by an instance that has forgotten them, too.
/// Milliseconds.
pub const CONFIRM_MS: u64 = 5_000;
/// How long a hub that cannot be reached is left alone at first. Twice as long each time. Milliseconds.
const RETRY_MS: u64 = 500;
/// And at most. Milliseconds.
const RETRY_MS_MAX: u64 = 60_000;
/// Messages of one batch.
const BATCH_MAX: usize = 256;
/// Bytes of their data.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// A call to a hub that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Sending {
    #[default]
    Nothing,
    /// And since it was sent, the hub has asked to follow: what it says of before does not count against that.
    /// From which message on, is said here.
    Batch { followed_since: Option<Offset> },
}

/// A hub.
#[derive(Debug, Clone, Default)]
struct Follower {
    /// How far it is, as it said; `None`: that is not known.
    has: Option<Offset>,
    sending: Sending,
    failures: u32,
    retry_at: Option<UnixMs>,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Followers(SortedMap<HubIndex, Follower>);

impl Followers {
    /// Those of the rows. How far they are is not known.
    pub fn load(db: &impl Database) -> Result<Self, DatabaseError> {
        let rows = db.run("-- followers::load\nSELECT hub FROM follower", &[])?;
        let mut followers = SortedMap::new();
        for mut row in rows {
            let hub = u16::try_from(row.number()?).map_err(|_| DatabaseError::new("a hub that is none"))?;
            followers.insert(HubIndex(hub), Follower::default());
        }
        Ok(Self(followers))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that there are.
    pub fn hubs(&self) -> impl Iterator<Item = HubIndex> {
        self.0.keys().copied()
    }

    /// Whether the hub follows.
    pub fn contains(&self, hub: HubIndex) -> bool {
        self.0.contains_key(&hub)
    }

    /// A hub follows, from the message `at` on. One row, where it did not follow yet.
    pub fn follow(&mut self, db: &impl Database, hub: HubIndex, at: Offset) -> Result<(), DatabaseError> {
        if let Some(follower) = self.0.get_mut(&hub) {
            if let Sending::Batch { followed_since } = &mut follower.sending {
                *followed_since = Some(at);
            }
            follower.retry_at = None;
            return Ok(());
        }
        db.run(
            "-- followers::follow
            INSERT INTO follower (hub) VALUES (?) ON CONFLICT (hub) DO NOTHING",
            &[Value::Number(hub.0.into())],
        )?;
        let follower = Follower {
            has: Some(at),
            ..Follower::default()
        };
        self.0.insert(hub, follower);
        Ok(())
    }

    /// The log has begun anew: nobody has anything of it.
    pub fn begin_anew(&mut self) {
        for (_, follower) in &mut self.0 {
            follower.has = None;
        }
    }

    /// What a hub said; `None`: it could not be reached.
    pub fn told(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        hub: HubIndex,
        said: Option<Option<Cursor>>,
        at: Option<&Cursor>,
    ) -> Result<(), DatabaseError> {
        let Some(follower) = self.0.get_mut(&hub) else {
            return Ok(());
        };
        let followed_since = match core::mem::take(&mut follower.sending) {
            Sending::Batch { followed_since } => followed_since,
            Sending::Nothing => None,
        };
        match said {
            None => {
                let wait = (RETRY_MS << follower.failures.min(10)).min(RETRY_MS_MAX);
                follower.failures = follower.failures.saturating_add(1);
                follower.retry_at = Some(now.plus(wait));
            }
            Some(None) if followed_since.is_none() => {
                self.0.remove(&hub);
                db.run(
                    "-- followers::told
                    DELETE FROM follower WHERE hub = CAST(? AS INTEGER)",
                    &[Value::Number(hub.0.into())],
                )?;
            }
            Some(said) => {
                follower.failures = 0;
                follower.retry_at = None;
                let here = |said: &Cursor| at.is_some_and(|at| at.epoch == said.epoch && said.offset <= at.offset);
                if said.as_ref().is_some_and(|said| !here(said)) {
                    // It was in another life of the log, and is told of this one, but not in a circle without a pause.
                    follower.retry_at = Some(now.plus(RETRY_MS));
                }
                // Whoever says nothing has asked to follow meanwhile, and was told then how far it is.
                follower.has = match said {
                    Some(said) => Some(said).filter(here).map(|said| said.offset),
                    None => followed_since,
                };
            }
        }
        Ok(())
    }

    /// Tells the hubs that have nothing under way what they do not have.
    pub fn tell(&mut self, db: &impl Database, now: UnixMs, log: &Log) -> Result<Vec<Effect>, DatabaseError> {
        let mut effects = Vec::new();
        let head = log.at();
        for (hub, follower) in &mut self.0 {
            let waits = follower.retry_at.is_some_and(|at| at > now);
            if follower.sending != Sending::Nothing || waits || follower.has == Some(head.offset) {
                continue;
            }
            // A hub of which nothing is known is told the newest message, and says where it is.
            let known = follower.has;
            let after = known.unwrap_or(Offset(head.offset.0.saturating_sub(1)));
            let messages = if after < head.offset {
                log.read(db, after, BATCH_MAX, BATCH_BYTES_MAX)?
            } else {
                Vec::new()
            };
            let until = messages.last().map_or(head.offset, |last| last.offset);
            follower.sending = Sending::Batch { followed_since: None };
            effects.push(Effect::Tell {
                hub: *hub,
                after: Cursor {
                    epoch: head.epoch.clone(),
                    offset: after,
                },
                messages,
                until,
            });
        }
        Ok(effects)
    }

    /// When a hub that has not confirmed the message `head` is to be asked; `None` where all have.
    pub fn next_wake(&self, now: UnixMs, head: Offset) -> Option<UnixMs> {
        let open = self.0.values().filter(|follower| follower.has != Some(head));
        let at = |follower: &Follower| follower.retry_at.unwrap_or(now.plus(CONFIRM_MS));
        open.map(at).min()
    }
}
