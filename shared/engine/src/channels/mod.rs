//! The decisions of one `Channel`: a log of messages, and the hubs that are told of each.
//!
//! A message is stored before it is told. Hubs are told in batches, one under way for each, and say how far they are; so a batch
//! that was lost or came twice changes nothing. What a hub has may be forgotten with the memory of this object: a wake after
//! each burst asks those who have not confirmed.
//!
//! Rows: one for each message, one when it goes (many at once), one for each hub that follows, one for the log itself. An
//! [ephemeral](Medium::Memory) log writes none for its messages.

mod followers;
mod log;
mod presence;
mod published;
mod roster;
mod rules;
#[cfg(test)]
#[cfg(feature = "native")]
mod tests;

use alloc::vec::Vec;

use tidegate_protocol::Error;
use tidegate_protocol::calls::channel::{Call, Keep, Medium, Reply};
use tidegate_protocol::channels::{Cursor, HistoryPage, Message, Publication, Published};
use tidegate_protocol::ids::{Epoch, HubIndex, Offset};
use tidegate_protocol::presence::{Heard, Told};
use tidegate_protocol::time::UnixMs;

use crate::database::{Database, DatabaseError};

use followers::Followers;
use log::Log;
use presence::Presence;

pub use followers::CONFIRM_MS;
pub use rules::{Act, Asking, READ, WRITE};

/// The migrations of a channel's tables, oldest first. A step is only ever appended.
pub const STEPS: &[&[&str]] = &[&[
    "-- channels::schema
    CREATE TABLE channel (id INTEGER PRIMARY KEY CHECK (id = 1), epoch TEXT NOT NULL, head INTEGER NOT NULL, keep BLOB NOT NULL)
    STRICT",
    "-- channels::schema
    CREATE TABLE message (place INTEGER PRIMARY KEY, at INTEGER NOT NULL, data TEXT NOT NULL, publisher TEXT) STRICT",
    "-- channels::schema
    CREATE TABLE published (key TEXT PRIMARY KEY, place INTEGER NOT NULL, at INTEGER NOT NULL, print TEXT NOT NULL)
    STRICT, WITHOUT ROWID",
    "-- channels::schema
    CREATE TABLE follower (hub INTEGER PRIMARY KEY) STRICT",
], &[
    "-- channels::schema
    CREATE TABLE member (user TEXT PRIMARY KEY, hub INTEGER NOT NULL, data TEXT, since INTEGER NOT NULL, until INTEGER)
    STRICT, WITHOUT ROWID",
        "-- channels::schema
    CREATE TABLE presence (id INTEGER PRIMARY KEY CHECK (id = 1), grace_ms INTEGER NOT NULL) STRICT",
]];

/// What the shell does after a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell a hub, then [`Channel::told`].
    Tell {
        /// The hub.
        hub: HubIndex,
        /// The cursor that the messages come after.
        after: Cursor,
        /// The messages.
        messages: Vec<Message>,
        /// How far the hub is then.
        until: Offset,
    },
    /// Tell a hub who is there, then [`Channel::heard_presence`].
    TellPresence {
        /// The hub.
        hub: HubIndex,
        /// What there is to tell.
        told: Told,
    },
}

/// The memory of one instance. It can always be built again from the rows.
#[derive(Debug, Clone)]
pub struct Channel {
    log: Option<Log>,
    followers: Followers,
    presence: Presence,
    /// The alarm, as far as this instance has set it.
    alarm: Option<UnixMs>,
}

/// What calls come to, and what the shell does then.
type Answers = (Vec<Result<Reply, Error>>, Vec<Effect>);

/// The moment and the chance of a turn.
pub struct Moment<'a> {
    /// The clock.
    pub now: UnixMs,
    /// Randomness.
    pub random: &'a mut dyn FnMut() -> u64,
}

impl Channel {
    /// The channel as its rows tell it.
    ///
    /// Errors: the database's.
    pub fn load(db: &impl Database, moment: &mut Moment<'_>) -> Result<Self, DatabaseError> {
        let followers = Followers::load(db)?;
        Ok(Self {
            log: Log::load(db)?,
            presence: Presence::load(db, moment, followers.hubs())?,
            followers,
            alarm: None,
        })
    }

    /// Whether there is nothing in the rows: before the first is written, the gate has to know of the channel.
    pub fn is_new(&self) -> bool {
        self.log.is_none() && self.followers.is_empty()
    }

    /// Answers calls, in order, and tells hubs what they do not have.
    ///
    /// Errors: the database's. The turn is rolled back, and this memory is not used any more.
    pub fn handle(
        &mut self,
        db: &impl Database,
        moment: &mut Moment<'_>,
        calls: Vec<Call>,
    ) -> Result<Answers, DatabaseError> {
        let mut replies = Vec::with_capacity(calls.len());
        for call in calls {
            replies.push(self.answer(db, moment, call)?);
        }
        Ok((replies, self.tell(db, moment.now)?))
    }

    fn answer(
        &mut self,
        db: &impl Database,
        moment: &mut Moment<'_>,
        call: Call,
    ) -> Result<Result<Reply, Error>, DatabaseError> {
        match call {
            Call::Follow {
                hub,
                after,
                keep,
                presence,
            } => {
                let log = self.log(db, moment, keep)?;
                let recovered = log.recover(db, moment.now, after.as_ref())?;
                let at = log.at();
                let messages = match &recovered {
                    Some(messages) => messages.clone(),
                    None => log.newest(db, moment.now)?.into_iter().collect(),
                };
                self.followers.follow(db, hub, at.offset)?;
                let presence = match presence {
                    Some(attendance) => match self.presence.attend(db, moment.now, hub, attendance)? {
                        Ok(attended) => Some(attended),
                        Err(error) => return Ok(Err(error)),
                    },
                    None => None,
                };
                Ok(Ok(Reply::Following {
                    at,
                    recovered: recovered.is_some(),
                    messages,
                    presence,
                }))
            }
            Call::Leave { hub, user, departure } => {
                self.presence.leave(db, moment.now, (hub, &user), departure)?;
                Ok(Ok(Reply::Done))
            }
            Call::Roster => Ok(Ok(Reply::Roster(self.presence.attended()))),
            Call::Publish {
                publication,
                publisher,
                keep,
            } => {
                let log = self.log(db, moment, keep)?;
                let epoch = log.at().epoch;
                // A log in memory keeps no keys either: they would be rows.
                let publication = match keep.medium {
                    Medium::Rows => publication,
                    Medium::Memory => Publication {
                        idempotency_key: None,
                        ..publication
                    },
                };
                let known = published::find(db, moment.now, &publication, publisher.as_ref())?;
                let (offset, deduplicated) = match known {
                    Err(error) => return Ok(Err(error)),
                    Ok(Some(offset)) => (offset, true),
                    Ok(None) => {
                        let offset = log.append(db, moment.now, &publication.data, publisher.as_ref())?;
                        published::note(db, moment.now, &publication, publisher.as_ref(), offset)?;
                        (offset, false)
                    }
                };
                Ok(Ok(Reply::Published(Published {
                    epoch,
                    offset,
                    deduplicated,
                })))
            }
            Call::History { after, limit, keep } => {
                if self.log.is_none() {
                    // Whoever asks for what was never there leaves nothing behind.
                    return Ok(Ok(Reply::Page(HistoryPage {
                        epoch: Epoch::generate(moment.now, (moment.random)()),
                        offset: Offset(0),
                        recovered: false,
                        messages: Vec::new(),
                        next: None,
                    })));
                }
                let log = self.log(db, moment, keep)?;
                Ok(Ok(Reply::Page(log.page(db, moment.now, after.as_ref(), limit)?)))
            }
        }
    }

    /// The log, begun where there is none, and begun anew where it is to be kept elsewhere from now on.
    fn log(&mut self, db: &impl Database, moment: &mut Moment<'_>, keep: Keep) -> Result<&mut Log, DatabaseError> {
        let kept = self.log.take().filter(|log| log.keep().medium == keep.medium);
        let log = match kept {
            Some(mut log) => {
                log.set_keep(db, keep)?;
                log
            }
            None => {
                self.followers.begin_anew();
                Log::begin(db, moment, keep)?
            }
        };
        Ok(self.log.insert(log))
    }

    /// What a hub said that was told something: how far it is, or that none of its sockets follows any more.
    ///
    /// Errors: the database's.
    pub fn told(
        &mut self,
        db: &impl Database,
        moment: &mut Moment<'_>,
        hub: HubIndex,
        said: Result<Option<Cursor>, Error>,
    ) -> Result<Vec<Effect>, DatabaseError> {
        if let (Some(log), Ok(Some(said))) = (&mut self.log, &said)
            && said.epoch == log.at().epoch
            && said.offset > log.at().offset
        {
            // These rows are older than what was told of them: whoever has the rest must not take what comes for it.
            log.renew(db, moment)?;
            self.followers.begin_anew();
        }
        let at = self.log.as_ref().map(Log::at);
        self.followers.told(db, moment.now, hub, said.ok(), at.as_ref())?;
        if !self.followers.contains(hub) {
            self.presence.deserted(db, moment.now, hub)?;
        }
        self.tell(db, moment.now)
    }

    /// What a hub made of what it was told of presence.
    ///
    /// Errors: the database's.
    pub fn heard_presence(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        hub: HubIndex,
        said: Result<Heard, Error>,
    ) -> Result<Vec<Effect>, DatabaseError> {
        self.presence.heard(db, now, hub, said)?;
        self.tell(db, now)
    }

    /// The alarm: hubs that have not confirmed are asked, and what is too old goes.
    ///
    /// Errors: the database's.
    pub fn wake(&mut self, db: &impl Database, now: UnixMs) -> Result<Vec<Effect>, DatabaseError> {
        self.alarm = None;
        if let Some(log) = &mut self.log {
            log.trim(db, now)?;
        }
        self.presence.wake(db, now)?;
        self.tell(db, now)
    }

    fn tell(&mut self, db: &impl Database, now: UnixMs) -> Result<Vec<Effect>, DatabaseError> {
        let mut effects = match &self.log {
            Some(log) => self.followers.tell(db, now, log)?,
            None => Vec::new(),
        };
        self.presence.tell(now, &mut effects);
        Ok(effects)
    }

    /// When the alarm is to be set to another time than it is; `None`: it stays. To be asked once, at the end of a turn.
    pub fn next_alarm(&mut self, now: UnixMs) -> Option<UnixMs> {
        let log = self.log.as_ref()?;
        let confirmed = self.followers.next_wake(now, log.at().offset);
        let next = [confirmed, log.expires_at(), self.presence.next_wake(now)];
        let next = next.into_iter().flatten().min()?;
        if self.alarm.is_some_and(|alarm| alarm <= next) {
            return None;
        }
        self.alarm = Some(next);
        self.alarm
    }

    /// Where the log is; `None` before it has begun.
    pub fn at(&self) -> Option<Cursor> {
        self.log.as_ref().map(Log::at)
    }
}
