//! The members of a channel, as the rows have them, and what has changed since this instance began.
//!
//! Rows: one for each member. One write when they come, one when their sockets are gone, one when the grace is over.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;

use tidegate_protocol::calls::channel::{Departure, Presentation};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{HubIndex, UserId};
use tidegate_protocol::limits::{PRESENCE_MEMBERS_MAX, PRESENCE_NAMED_MAX};
use tidegate_protocol::presence::{Became, Change, Mark, Member, Own, Roster as Listed, hash_of_user};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, SortedMap};

use super::Moment;
use crate::database::{Database, DatabaseError, Value};

/// Changes that are kept for hubs that have not heard of them.
const CHANGES_MAX: usize = 1_000;

/// A member: by which hub, and until when, where their sockets are gone.
#[derive(Debug, Clone)]
struct Held {
    hub: HubIndex,
    member: Member,
    until: Option<UnixMs>,
}

#[derive(Debug, Clone)]
pub(super) struct Roster {
    members: SortedMap<UserId, Held>,
    mark: Mark,
    /// The latest changes, oldest first, without gaps.
    changes: VecDeque<Change>,
}

impl Roster {
    /// That of the rows, in a life of its own.
    pub fn load(db: &impl Database, moment: &mut Moment<'_>) -> Result<Self, DatabaseError> {
        let rows = db.run(
            "-- roster::load
            SELECT user, hub, data, since, until FROM member",
            &[],
        )?;
        let mut members = SortedMap::new();
        let mut digest = 0_u64;
        for mut row in rows {
            let user = UserId::parse(&row.text()?).ok_or_else(|| DatabaseError::new("a user that is none"))?;
            let hub = u16::try_from(row.number()?).map_err(|_| DatabaseError::new("a hub that is none"))?;
            let data = row.optional_text()?.map(JsonText::stored);
            let since = UnixMs(row.number()?);
            let until = row.optional_number()?.map(UnixMs);
            let member = Member { user, data, since };
            digest = digest.wrapping_add(member.hash());
            let held = Held {
                hub: HubIndex(hub),
                member,
                until,
            };
            members.insert(held.member.user.clone(), held);
        }
        let mark = Mark {
            life: (moment.random)(),
            version: 0,
            digest,
        };
        Ok(Self {
            members,
            mark,
            changes: VecDeque::new(),
        })
    }

    /// The state it is in.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// How many members there are.
    pub fn count(&self) -> u64 {
        u64::try_from(self.members.len()).unwrap_or(u64::MAX)
    }

    /// Who is there.
    pub fn listed(&self) -> Listed {
        let members = self.members.values().take(PRESENCE_NAMED_MAX);
        Listed {
            members: members.map(|held| held.member.clone()).collect(),
            count: self.count(),
        }
    }

    fn changed(&mut self, member: Member, became: Became) {
        self.mark.version += 1;
        let version = self.mark.version;
        self.changes.push_back(Change {
            version,
            member,
            became,
        });
        if self.changes.len() > CHANGES_MAX {
            self.changes.pop_front();
        }
    }

    /// What has changed since `version`, of each member the latest; `None` where that is no longer known.
    pub fn since(&self, version: u64) -> Option<Vec<Change>> {
        let first = self
            .changes
            .front()
            .map_or(self.mark.version + 1, |first| first.version);
        if version + 1 < first {
            return None;
        }
        let mut news: Vec<Change> = Vec::new();
        let mut said: Vec<&UserId> = Vec::new();
        for change in self.changes.iter().rev().take_while(|change| change.version > version) {
            if let Err(place) = said.binary_search(&&change.member.user) {
                said.insert(place, &change.member.user);
                news.push(change.clone());
            }
        }
        news.reverse();
        Some(news)
    }

    /// A user is there by a socket of `hub`. One row, where that is news.
    ///
    /// Errors: the database's; inside, `RATE_LIMITED` where there are as many as the object's memory takes.
    pub fn enter(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        hub: HubIndex,
        Presentation { user, data }: Presentation,
    ) -> Result<Result<(), Error>, DatabaseError> {
        let known = self.members.get(&user);
        if known.is_none() && self.members.len() >= PRESENCE_MEMBERS_MAX {
            let message = format!(
                "This channel has as many members as it can have, {PRESENCE_MEMBERS_MAX}: limit `members`. Watch it instead, with `\"member\": false`."
            );
            return Ok(Err(Error::new(ErrorCode::RateLimited, message).retry_after(5_000)));
        }
        let since = known.map_or(now, |held| held.member.since);
        let before = known.map(|held| (held.hub, held.until, &held.member.data));
        if before == Some((hub, None, &data)) {
            return Ok(Ok(()));
        }
        let is_seen = before.is_none_or(|(_, _, said)| *said != data);
        db.run(
            "-- roster::enter
            INSERT OR REPLACE INTO member (user, hub, data, since, until) VALUES (?, ?, ?, ?, NULL)",
            &[
                Value::Text(user.as_str()),
                Value::Number(hub.0.into()),
                data.as_ref().map_or(Value::Null, |data| Value::Text(data.as_str())),
                Value::Number(since.0),
            ],
        )?;
        let gone = known.map_or(0, |held| held.member.hash());
        let member = Member { user, data, since };
        self.mark.digest = self.mark.digest.wrapping_sub(gone).wrapping_add(member.hash());
        if is_seen {
            self.changed(member.clone(), Became::Present);
        }
        let held = Held {
            hub,
            member,
            until: None,
        };
        self.members.insert(held.member.user.clone(), held);
        Ok(Ok(()))
    }

    /// The user's sockets at `hub` are gone. One row.
    pub fn leave(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        (hub, user): (HubIndex, &UserId),
        departure: Departure,
        grace_ms: u64,
    ) -> Result<(), DatabaseError> {
        let Some(held) = self.members.get_mut(user).filter(|held| held.hub == hub) else {
            return Ok(());
        };
        if departure == Departure::Now || grace_ms == 0 {
            return self.remove(db, user);
        }
        if held.until.is_some() {
            return Ok(());
        }
        let until = now.plus(grace_ms);
        held.until = Some(until);
        db.run(
            "-- roster::leave
            UPDATE member SET until = ? WHERE user = ?",
            &[Value::Number(until.0), Value::Text(user.as_str())],
        )?;
        Ok(())
    }

    fn remove(&mut self, db: &impl Database, user: &UserId) -> Result<(), DatabaseError> {
        let Some(held) = self.members.remove(user) else {
            return Ok(());
        };
        db.run(
            "-- roster::remove
            DELETE FROM member WHERE user = ?",
            &[Value::Text(user.as_str())],
        )?;
        self.mark.digest = self.mark.digest.wrapping_sub(held.member.hash());
        self.changed(held.member, Became::Absent);
        Ok(())
    }

    /// Those whose grace is over go.
    pub fn end_graces(&mut self, db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
        let over = |held: &&Held| held.until.is_some_and(|until| until <= now);
        let gone: Vec<UserId> = self
            .members
            .values()
            .filter(over)
            .map(|held| held.member.user.clone())
            .collect();
        for user in gone {
            self.remove(db, &user)?;
        }
        Ok(())
    }

    /// When the next grace is over.
    pub fn next_end(&self) -> Option<UnixMs> {
        self.members.values().filter_map(|held| held.until).min()
    }

    /// Those who are there by sockets of `hub`.
    pub fn of(&self, hub: HubIndex) -> impl Iterator<Item = &UserId> {
        let here = move |held: &&Held| held.hub == hub && held.until.is_none();
        self.members.values().filter(here).map(|held| &held.member.user)
    }

    /// The wrapping sum of their hashes.
    pub fn sum_of(&self, hub: HubIndex) -> u64 {
        self.of(hub).map(hash_of_user).fold(0, u64::wrapping_add)
    }

    /// A hub says who is there by its sockets: all of them, and nobody else. Those who are coming come by themselves.
    ///
    /// Errors: the database's.
    pub fn reconcile(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        hub: HubIndex,
        own: &Own,
        grace_ms: u64,
    ) -> Result<(), DatabaseError> {
        let gone: Vec<UserId> = self
            .of(hub)
            .filter(|user| !own.here.contains(user) && !own.coming.contains(user))
            .cloned()
            .collect();
        for user in &gone {
            self.leave(db, now, (hub, user), Departure::AfterGrace, grace_ms)?;
        }
        for user in &own.here {
            let known = self.members.get(user);
            if known.is_some_and(|held| held.hub != hub && held.until.is_none()) {
                // Another hub has them: they moved, and this one has not noticed.
                continue;
            }
            let data = known.and_then(|held| held.member.data.clone());
            // One too many stays away.
            let _full = self.enter(
                db,
                now,
                hub,
                Presentation {
                    user: user.clone(),
                    data,
                },
            )?;
        }
        Ok(())
    }
}
