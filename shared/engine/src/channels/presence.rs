//! Who is in a channel, and which hubs are told of it.
//!
//! A member is a user; the hub that the user belongs to says when the first of their sockets comes and the last one goes. One whose
//! sockets are gone stays for a grace, so that a reconnect is not seen.
//!
//! Hubs with sockets that watch are told what changes, one batch under way for each; a hub whose state is not the one that a batch
//! goes out from is told everything. With a batch goes the sum of those who are there by the hub's own sockets: where it has
//! others, it says whom, and what was lost between the two is made good. A sweep asks hubs that had no reason to be told anything.

use alloc::vec::Vec;

use tidegate_protocol::Error;
use tidegate_protocol::calls::channel::{Attendance, Attended, Departure};
use tidegate_protocol::ids::{HubIndex, UserId};
use tidegate_protocol::limits::PRESENCE_NAMED_MAX;
use tidegate_protocol::presence::{Heard, Mark, News, Own, Told, Watched};
use tidegate_protocol::time::UnixMs;

use super::followers::CONFIRM_MS;
use super::roster::Roster;
use super::{Effect, Moment};
use crate::database::{Database, DatabaseError, Value};

/// How often hubs are asked who is there by their sockets: at the same moments for all channels, so that a hub that sleeps is
/// woken once. Milliseconds.
pub const SWEEP_MS: u64 = 15 * 60_000;
/// How long a hub that cannot be reached is left alone at first. Twice as long each time. Milliseconds.
const RETRY_MS: u64 = 500;
/// And at most. Milliseconds.
const RETRY_MS_MAX: u64 = 60_000;

/// What is under way to a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Sending {
    #[default]
    Nothing,
    /// A batch.
    Batch,
    /// A batch, and the hub has called since: what it answers of its own may be older than its call.
    Overtaken,
}

/// A hub whose sockets may watch, or are members.
#[derive(Debug, Clone)]
struct Listener {
    hub: HubIndex,
    watches: bool,
    /// The state it has; `None`: not one of this life, so that it is told everything.
    has: Option<Mark>,
    /// The number of members that it was told last.
    count: u64,
    sending: Sending,
    /// Whether it is to be asked who is there by its sockets, with news or without.
    ask: bool,
    failures: u32,
    retry_at: Option<UnixMs>,
}

impl Listener {
    fn new(hub: HubIndex) -> Self {
        Self {
            hub,
            watches: false,
            has: None,
            count: 0,
            sending: Sending::Nothing,
            ask: false,
            failures: 0,
            retry_at: None,
        }
    }
}

/// The memory of one instance.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    roster: Roster,
    /// Few: a tenant has so many hubs.
    listeners: Vec<Listener>,
    /// The grace, as was said last. `None`: nobody ever wanted to know who is there.
    grace_ms: Option<u64>,
    sweep_at: UnixMs,
    /// Whether its alarm has not come yet: what an earlier instance decided may have been told to nobody.
    fresh: bool,
}

fn is_named(count: u64) -> bool {
    usize::try_from(count).is_ok_and(|count| count <= PRESENCE_NAMED_MAX)
}

fn next_sweep(now: UnixMs) -> UnixMs {
    UnixMs((now.0 / SWEEP_MS + 1) * SWEEP_MS)
}

impl Presence {
    /// That of the rows. Any hub that follows may watch: it says so when it is told something.
    pub fn load(
        db: &impl Database,
        moment: &mut Moment<'_>,
        hubs: impl Iterator<Item = HubIndex>,
    ) -> Result<Self, DatabaseError> {
        let roster = Roster::load(db, moment)?;
        let rows = db.run("-- presence::load\nSELECT grace_ms FROM presence", &[])?;
        let grace_ms = match rows.into_iter().next() {
            Some(mut row) => Some(row.number()?),
            None => None,
        };
        Ok(Self {
            listeners: hubs
                .map(|hub| Listener {
                    watches: true,
                    has: Some(roster.mark()),
                    count: roster.count(),
                    ..Listener::new(hub)
                })
                .collect(),
            roster,
            grace_ms,
            sweep_at: next_sweep(moment.now),
            fresh: true,
        })
    }

    fn place(&self, hub: HubIndex) -> Option<usize> {
        self.listeners.iter().position(|listener| listener.hub == hub)
    }

    /// Who is there now.
    pub fn attended(&self) -> Attended {
        Attended {
            roster: self.roster.listed(),
            mark: self.roster.mark(),
        }
    }

    /// The hub has called: an answer of its own that is under way may be older. It need not watch.
    fn called(&mut self, hub: HubIndex) -> Option<&mut Listener> {
        let place = self.place(hub).unwrap_or_else(|| {
            self.listeners.push(Listener::new(hub));
            self.listeners.len() - 1
        });
        let listener = self.listeners.get_mut(place)?;
        if listener.sending == Sending::Batch {
            listener.sending = Sending::Overtaken;
        }
        Some(listener)
    }

    /// A socket of the hub wants to know who is there, and may be a member.
    ///
    /// Errors: the database's; inside, those of [`Roster::enter`].
    pub fn attend(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        hub: HubIndex,
        attendance: Attendance,
    ) -> Result<Result<Attended, Error>, DatabaseError> {
        if self.grace_ms != Some(attendance.grace_ms) {
            self.grace_ms = Some(attendance.grace_ms);
            db.run(
                "-- presence::attend
                INSERT OR REPLACE INTO presence (id, grace_ms) VALUES (1, ?)",
                &[Value::Number(attendance.grace_ms)],
            )?;
        }
        if let Some(presentation) = attendance.member
            && let Err(error) = self.roster.enter(db, now, hub, presentation)?
        {
            return Ok(Err(error));
        }
        let (mark, count) = (self.roster.mark(), self.roster.count());
        if let Some(listener) = self.called(hub)
            && !listener.watches
        {
            listener.watches = true;
            listener.has = Some(mark);
            listener.count = count;
        }
        Ok(Ok(self.attended()))
    }

    /// The last socket of a user that made them a member is gone.
    ///
    /// Errors: the database's.
    pub fn leave(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        (hub, user): (HubIndex, &UserId),
        departure: Departure,
    ) -> Result<(), DatabaseError> {
        self.called(hub);
        self.roster
            .leave(db, now, (hub, user), departure, self.grace_ms.unwrap_or_default())
    }

    /// None of the hub's sockets follows the channel any more.
    ///
    /// Errors: the database's.
    pub fn deserted(&mut self, db: &impl Database, now: UnixMs, hub: HubIndex) -> Result<(), DatabaseError> {
        if let Some(place) = self.place(hub)
            && let Some(listener) = self.listeners.get_mut(place)
        {
            listener.watches = false;
            // What is under way may be answered after the hub has come back.
            if listener.sending == Sending::Nothing {
                self.listeners.swap_remove(place);
            } else {
                listener.sending = Sending::Overtaken;
            }
        }
        let nobody = Own {
            here: Vec::new(),
            coming: Vec::new(),
        };
        self.roster
            .reconcile(db, now, hub, &nobody, self.grace_ms.unwrap_or_default())
    }

    /// What a hub answered; an error: it could not be reached.
    ///
    /// Errors: the database's.
    pub fn heard(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        hub: HubIndex,
        said: Result<Heard, Error>,
    ) -> Result<(), DatabaseError> {
        let Some(listener) = self.place(hub).and_then(|place| self.listeners.get_mut(place)) else {
            return Ok(());
        };
        let overtaken = core::mem::take(&mut listener.sending) == Sending::Overtaken;
        let Ok(heard) = said else {
            let wait = (RETRY_MS << listener.failures.min(10)).min(RETRY_MS_MAX);
            listener.failures = listener.failures.saturating_add(1);
            listener.retry_at = Some(now.plus(wait));
            return Ok(());
        };
        listener.failures = 0;
        listener.retry_at = None;
        let life = self.roster.mark().life;
        match heard.watched {
            Watched::Yes(at) => {
                let at = at.filter(|at| at.life == life);
                if at.is_none() && listener.has.is_none() {
                    // It was told everything, and is elsewhere still: not in a circle without a pause.
                    listener.retry_at = Some(now.plus(RETRY_MS));
                }
                // What it was answered since says where it is.
                if at.is_some() || !overtaken {
                    listener.has = at;
                }
            }
            Watched::No if overtaken => {}
            Watched::No => listener.watches = false,
        }
        if overtaken {
            return Ok(());
        }
        listener.ask = false;
        match heard.own {
            Some(own) => self
                .roster
                .reconcile(db, now, hub, &own, self.grace_ms.unwrap_or_default()),
            None => Ok(()),
        }
    }

    /// The alarm: graces end, and hubs are asked.
    ///
    /// Errors: the database's.
    pub fn wake(&mut self, db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
        self.roster.end_graces(db, now)?;
        let sweeps = self.sweep_at <= now;
        if sweeps {
            self.sweep_at = next_sweep(now);
        }
        for listener in &mut self.listeners {
            let has_members = || self.roster.of(listener.hub).next().is_some();
            listener.ask |= (self.fresh && self.grace_ms.is_some()) || (sweeps && has_members());
        }
        self.fresh = false;
        Ok(())
    }

    /// What a hub is to be told; `None`: nothing.
    fn news_for(&self, listener: &Listener) -> Option<News> {
        let (mark, count) = (self.roster.mark(), self.roster.count());
        let whole = || News::Whole(self.roster.listed());
        let nothing_new = || listener.ask.then(|| News::Changes(Vec::new()));
        let Some(has) = listener.has.filter(|_| listener.watches) else {
            return if listener.watches { Some(whole()) } else { nothing_new() };
        };
        if has == mark {
            return nothing_new();
        }
        match (is_named(listener.count), is_named(count)) {
            (true, true) => Some(self.roster.since(has.version).map_or_else(whole, News::Changes)),
            // Of so many, a hundredth more or less is no news.
            (false, false) => {
                let differs = listener.count.abs_diff(count).saturating_mul(100) >= listener.count;
                (listener.ask || differs).then_some(News::Count(count))
            }
            _ => Some(whole()),
        }
    }

    /// Tells the hubs that have nothing under way what they do not have.
    pub fn tell(&mut self, now: UnixMs, effects: &mut Vec<Effect>) {
        let (to, count) = (self.roster.mark(), self.roster.count());
        for place in 0..self.listeners.len() {
            let Some(listener) = self.listeners.get(place) else {
                continue;
            };
            let hub = listener.hub;
            if listener.sending != Sending::Nothing || listener.retry_at.is_some_and(|at| at > now) {
                continue;
            }
            let Some(news) = self.news_for(listener) else { continue };
            let told = Told {
                from: listener.has,
                to,
                news,
                own: (listener.ask || is_named(count)).then(|| self.roster.sum_of(hub)),
            };
            effects.push(Effect::TellPresence { hub, told });
            if let Some(listener) = self.listeners.get_mut(place) {
                listener.sending = Sending::Batch;
                listener.count = count;
            }
        }
    }

    /// When this is to be looked at again: a grace is over, hubs are to be asked, or have not confirmed what they were told.
    pub fn next_wake(&self, now: UnixMs) -> Option<UnixMs> {
        let is_open = |listener: &&Listener| listener.sending != Sending::Nothing || self.news_for(listener).is_some();
        let open = self.listeners.iter().filter(is_open);
        let asked = open
            .map(|listener| listener.retry_at.unwrap_or(now.plus(CONFIRM_MS)))
            .min();
        let sweep = (self.roster.count() > 0).then_some(self.sweep_at);
        [asked, sweep, self.roster.next_end()].into_iter().flatten().min()
    }
}
