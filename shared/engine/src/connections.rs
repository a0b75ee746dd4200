//! How many connections a tenant has at a time, over all of its hubs: the gate lends places, and a hub takes a connection only
//! where it holds one for it.
//!
//! A hub asks for some places ahead, so that most connections cost no question. The gate never takes places back by itself: it
//! [recalls](Lent::Recall) them when there is no room, and lowers what a hub holds only where that hub said so about the very
//! places that it was lent last. So a place is never counted less than it is used, in whatever order messages come; what is lost is a
//! place that lies idle until the next recall.

use alloc::vec::Vec;
use core::num::NonZeroU32;

use tidegate_protocol::ids::HubIndex;

use crate::admission::Recalls;
use crate::database::{Database, DatabaseError, Value};

/// How many connections there may be at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Of one user.
    pub per_user: Option<NonZeroU32>,
    /// Of the tenant.
    pub per_tenant: Option<NonZeroU32>,
}

/// Places that a hub is lent ahead, at most. So many connections of a storm cost one question.
const AHEAD_MAX: u32 = 64;
/// The part of all places that a hub is lent ahead at most: others are to find some without a recall.
const AHEAD_PART: u32 = 16;

/// The places that each hub holds. `serial` rises with each time that it was lent some.
pub const PLACES: &[&str] = &["-- connections::schema
    CREATE TABLE connection_place (
        hub INTEGER PRIMARY KEY,
        held INTEGER NOT NULL,
        serial INTEGER NOT NULL
    ) STRICT"];

/// What comes of a hub's question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lent {
    /// It holds so many places now, those of its connections included.
    Places(u32),
    /// There is no room for one more, but perhaps with these hubs: [`returned`] says what each of them still needs. Nothing is stored.
    Recall(Vec<Recalled>),
}

/// A hub whose idle places are called back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recalled {
    /// The hub.
    pub hub: HubIndex,
    /// Which of its loans is meant.
    pub serial: u64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    hub: u64,
    held: u64,
    serial: u64,
}

/// Lends `hub`, which has `live` connections, places for more, where all hubs may have `most` together.
///
/// Errors: the database's.
pub fn lend(
    db: &impl Database,
    hub: HubIndex,
    live: u32,
    most: NonZeroU32,
    recalls: Recalls,
) -> Result<Lent, DatabaseError> {
    let own = u64::from(hub.0);
    let all = held(db)?;
    let (mine, others): (Vec<Held>, Vec<Held>) = all.into_iter().partition(|row| row.hub == own);
    let taken: u64 = others.iter().map(|row| row.held).sum();
    let free = u64::from(most.get()).saturating_sub(taken);
    let ahead = (most.get() / AHEAD_PART).min(AHEAD_MAX);
    let wanted = u64::from(live) + 1 + u64::from(ahead);
    let before = mine.first().copied().unwrap_or(Held {
        hub: own,
        held: 0,
        serial: 0,
    });
    // What it was lent it may have given away already, and what is there counts, whoever let it in.
    let held = wanted.min(free).max(before.held).max(u64::from(live));
    if held <= u64::from(live) && recalls == Recalls::Possible {
        let recalled = others.iter().filter(|row| row.held > 0).filter_map(|row| {
            let hub = HubIndex(u16::try_from(row.hub).ok()?);
            Some(Recalled {
                hub,
                serial: row.serial,
            })
        });
        let recalled: Vec<Recalled> = recalled.collect();
        if !recalled.is_empty() {
            return Ok(Lent::Recall(recalled));
        }
    }
    db.run(
        "-- connections::lend
        INSERT INTO connection_place (hub, held, serial) VALUES (?, ?, ?)
        ON CONFLICT (hub) DO UPDATE SET held = excluded.held, serial = excluded.serial",
        &[
            Value::Number(own),
            Value::Number(held),
            Value::Number(before.serial + 1),
        ],
    )?;
    Ok(Lent::Places(u32::try_from(held).unwrap_or(u32::MAX)))
}

/// A hub that was asked for the places of `recalled` needs `live` of them, and has given up all others.
///
/// Errors: the database's.
pub fn returned(db: &impl Database, recalled: Recalled, live: u32) -> Result<(), DatabaseError> {
    db.run(
        "-- connections::returned
        UPDATE connection_place SET held = ? WHERE hub = ? AND serial = ?",
        &[
            Value::Number(u64::from(live)),
            Value::Number(u64::from(recalled.hub.0)),
            Value::Number(recalled.serial),
        ],
    )?;
    Ok(())
}

fn held(db: &impl Database) -> Result<Vec<Held>, DatabaseError> {
    let rows = db.run(
        "-- connections::held\nSELECT hub, held, serial FROM connection_place",
        &[],
    )?;
    let read = |mut row: crate::database::Row| {
        Ok(Held {
            hub: row.number()?,
            held: row.number()?,
            serial: row.number()?,
        })
    };
    rows.into_iter().map(read).collect()
}

/// What a hub knows of its places. Lost with its memory, and asked for again.
#[derive(Debug, Clone, Default)]
pub struct Places {
    held: u32,
    asked: u32,
}

/// Whether one more connection may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Yes,
    /// There is no place for it here. The gate may lend one.
    Ask,
}

impl Places {
    /// Whether a hub with `live` connections has room for one more.
    pub fn room(&self, live: u32) -> Room {
        if live < self.held { Room::Yes } else { Room::Ask }
    }

    /// The gate is asked.
    pub fn ask(&mut self) {
        self.asked += 1;
    }

    /// What the gate said; `None` where it did not answer.
    pub fn hear(&mut self, held: Option<u32>) {
        self.asked = self.asked.saturating_sub(1);
        self.held = self.held.max(held.unwrap_or(0));
    }

    /// The gate calls back what `live` connections do not need. Says how many are needed, and `None` while an answer of the gate is
    /// on its way: whoever gives back now could be lent the same again by it.
    pub fn recalled(&mut self, live: u32) -> Option<u32> {
        if self.asked > 0 {
            return None;
        }
        self.held = live;
        Some(live)
    }
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests;
