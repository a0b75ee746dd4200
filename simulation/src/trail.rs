//! The audit trail on its way from the objects of the job queue to the gates: told late, twice, or not at all.

use std::collections::BTreeMap;

use tidegate_engine::audit::{self, PAGE_MAX};
use tidegate_engine::database::Database;
use tidegate_engine::database::DatabaseError;
use tidegate_engine::tenancy;
use tidegate_protocol::calls::tenant::{AuditQuery, Call, Recorded, Reply};
use tidegate_protocol::http::{AuditEntry, AuditWhat};
use tidegate_protocol::ids::ShardIndex;

use crate::jobs::Turn;
use crate::world::{Check, Event, World};

/// How often something was done by hand, for each tenant.
#[derive(Debug, Default)]
pub struct Acts(BTreeMap<(usize, AuditWhat), u64>);

impl World {
    /// Something was done by hand in an object: this was committed.
    pub fn note_act(&mut self, shard: usize, what: AuditWhat) {
        let tenant = self.shards[shard].tenant;
        *self.oracle.acts.0.entry((tenant, what)).or_insert(0) += 1;
    }

    /// An object tells its gate.
    pub fn tell_gate(&mut self, shard: usize, entries: Vec<Recorded>) {
        let life = self.shards[shard].life;
        // Whoever waits for an answer is not put to sleep.
        self.shards[shard].telling += 1;
        if self.fault(100) {
            self.counters.records_lost += 1;
            let ms = self.random.within(50..=3000);
            self.after(
                ms,
                Event::Recorded {
                    shard,
                    life,
                    number: None,
                },
            );
            return;
        }
        if self.fault(100) {
            self.counters.records_doubled += 1;
            let ms = self.latency() + self.random.below(3000);
            let (entries, life) = (entries.clone(), u64::MAX);
            self.after(ms, Event::Record { shard, life, entries });
        }
        let ms = self.latency() + self.random.below(3000);
        self.after(ms, Event::Record { shard, life, entries });
    }

    /// The gate takes down what an object tells it, and confirms.
    pub fn record(&mut self, shard: usize, life: u64, entries: Vec<Recorded>) -> Check {
        let gate = self.shards[shard].tenant;
        let index = ShardIndex((shard - self.tenants[gate].first_shard) as u16);
        let Some(number) = entries.last().map(|told| told.number) else {
            return Err("an object told nothing".into());
        };
        let (before, after) = (self.fault(60), self.fault(60));
        let now = self.clock();
        let turn = self.gates[gate].db.transaction(|db| {
            let shard = index;
            let (reply, _) = tenancy::handle(db, now, Call::Record { shard, entries })?;
            if before {
                Err(DatabaseError::new("crash"))
            } else {
                Ok(reply)
            }
        });
        let number = match turn {
            Err(_) if before => None,
            Err(error) => return Err(format!("the tenant's database: {error}")),
            Ok(Ok(Reply::Recorded)) => (!after).then_some(number),
            Ok(other) => return Err(format!("a gate answered {other:?}")),
        };
        self.counters.gates_crashed += u64::from(number.is_none());
        let ms = self.latency();
        self.after(ms, Event::Recorded { shard, life, number });
        Ok(())
    }

    /// The gate has confirmed.
    pub fn recorded(&mut self, shard: usize, life: u64, number: Option<u64>) -> Check {
        if !self.shards[shard].lives(life) {
            return Ok(());
        }
        self.shards[shard].telling -= 1;
        let Some(number) = number else { return Ok(()) };
        self.turn(shard, Turn::Recorded { number }, false)
    }

    /// Whether an object has told everything.
    pub fn trail_is_told(&self, shard: usize) -> Result<bool, String> {
        let rows = self.shards[shard].db.run(
            "SELECT count(*) FROM audit_outbox
            WHERE number > coalesce((SELECT number FROM audit_told WHERE id = 1), 0)",
            &[],
        );
        let row = rows.map_err(|error| error.message)?.into_iter().next();
        let untold = row.ok_or("no count")?.number().map_err(|error| error.message)?;
        Ok(untold == 0)
    }

    /// In the end the trail of each tenant has an entry for each thing that was done, and no other.
    pub fn trail_at_rest(&mut self, gate: usize) -> Check {
        let found = self.trail(gate)?;
        for what in [
            AuditWhat::QueuePaused,
            AuditWhat::QueueResumed,
            AuditWhat::JobRetried,
            AuditWhat::DeadLettersRedriven,
        ] {
            let (found, done) = (
                found.get(&what).copied().unwrap_or(0),
                self.oracle.acts.0.get(&(gate, what)).copied().unwrap_or(0),
            );
            self.counters.acts_told += found;
            if found != done {
                return Err(format!(
                    "`{}` was done {done} times, and is told of {found} times",
                    what.as_str()
                ));
            }
        }
        Ok(())
    }

    /// How often the trail of a tenant tells of something.
    pub fn entries(&self, gate: usize, what: AuditWhat) -> Result<u64, String> {
        Ok(self.trail(gate)?.get(&what).copied().unwrap_or(0))
    }

    fn trail(&self, gate: usize) -> Result<BTreeMap<AuditWhat, u64>, String> {
        let mut found: BTreeMap<AuditWhat, u64> = BTreeMap::new();
        let mut query = AuditQuery {
            limit: PAGE_MAX,
            ..AuditQuery::default()
        };
        loop {
            let page = audit::list(&self.gates[gate].db, self.clock(), &query).map_err(|error| error.message)?;
            for text in &page.entries {
                let entry: AuditEntry = serde_json::from_str(text.as_str()).map_err(|error| error.to_string())?;
                *found.entry(entry.what).or_insert(0) += 1;
            }
            match page.cursor {
                Some(cursor) => query.below = cursor.parse().ok(),
                None => return Ok(found),
            }
        }
    }
}
