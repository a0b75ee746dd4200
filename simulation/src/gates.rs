//! The `Tenant` objects: which composition is active.

use tidegate_engine::database::native::Native;
use tidegate_engine::database::{DatabaseError, migrate};
use tidegate_engine::tenancy::{self, Effect, RETELL_MS, STEPS, Step};
use tidegate_protocol::calls::jobs as calls;
use tidegate_protocol::calls::queueing::PauseScope;
use tidegate_protocol::calls::tenant::{Call, Description, Reply, Scale};
use tidegate_protocol::ids::{Revision, ShardIndex};

use crate::setting::{REVISIONS, SHARDS_MAX, schedules};
use crate::world::{Check, Event, From, World, unavailable};

/// A `Tenant` object. It has no memory that it could lose.
pub struct Gate {
    pub db: Native,
    scale: Scale,
    /// The version that was last committed.
    version: u64,
    /// Whether its alarm is set.
    armed: bool,
}

fn activation(tenant: &str, revision: &str, scale: Scale) -> Call {
    let schedules = schedules(tenant, revision, scale);
    let revision = Revision::parse(revision).expect("a revision");
    Call::Activate {
        document: "{}".into(),
        revision,
        scale,
        schedules,
        by: "admin".into(),
        act: None,
        secrets: Vec::new(),
    }
}

impl Gate {
    pub fn new(tenant: &str, scale: Scale) -> Result<Self, String> {
        let db = Native::in_memory().map_err(|error| error.message)?;
        migrate(&db, STEPS).map_err(|error| error.message)?;
        let first = activation(tenant, REVISIONS[0], scale);
        let (reply, _) =
            tenancy::handle(&db, tidegate_protocol::time::UnixMs(0), first).map_err(|error| error.message)?;
        reply.map_err(|error| error.to_string())?;
        crate::usage::set_budget(&db)?;
        Ok(Self {
            db,
            scale,
            version: 1,
            armed: true,
        })
    }
}

impl World {
    /// An administrator switches a tenant to another revision, at times for it to grow.
    pub fn activate(&mut self, grows: bool) {
        let gate = self.random.below(self.gates.len() as u64) as usize;
        let revision = REVISIONS[self.random.below(REVISIONS.len() as u64) as usize];
        let mut scale = self.gates[gate].scale;
        if grows {
            let least = if self.random.permille(100) { 1 } else { scale.shards + 1 };
            scale.shards = self.random.within(least.min(SHARDS_MAX).into()..=SHARDS_MAX.into()) as u16;
        }
        let call = activation(self.tenants[gate].id.as_str(), revision, scale);
        self.counters.activations += 1;
        let ms = self.latency();
        self.after(ms, Event::ToGate { gate, call, from: None });
    }

    /// Once the faults have stopped, administrators want no schedules any more, so that everything can come to rest.
    pub fn unschedule(&mut self) {
        for gate in 0..self.gates.len() {
            let call = activation(self.tenants[gate].id.as_str(), REVISIONS[0], self.gates[gate].scale);
            self.after(1, Event::ToGate { gate, call, from: None });
        }
    }

    /// The alarm of a gate, which outlives everything: what has no confirmation is told again.
    pub fn retell(&mut self, gate: usize) -> Check {
        self.gates[gate].armed = false;
        let untold = tenancy::untold(&self.gates[gate].db).map_err(|error| error.message)?;
        if untold.is_some() {
            self.counters.schedules_told_again += 1;
        }
        let ungrown = tenancy::ungrown(&self.gates[gate].db).map_err(|error| error.message)?;
        self.tell(gate, untold.into_iter().chain(ungrown).collect(), false)
    }

    /// Carries out what a turn of a gate wants done; or loses it, where the gate dies first.
    pub fn tell(&mut self, gate: usize, effects: Vec<Effect>, dies: bool) -> Check {
        let lasting = |effect: &Effect| !matches!(effect, Effect::Refresh { .. } | Effect::Archive);
        if effects.iter().any(lasting) && !self.gates[gate].armed {
            // The alarm is set with the rows.
            self.gates[gate].armed = true;
            self.after(RETELL_MS, Event::Retell { gate });
        }
        if dies {
            return Ok(());
        }
        let first = self.tenants[gate].first_shard;
        for effect in effects {
            match effect {
                // Nobody of the simulated tenants is revoked: the engine's own tests have that.
                Effect::Refresh { description } | Effect::TellAccess { description } => {
                    self.refresh_hubs(gate, &description);
                }
                Effect::TellSchedules { version, schedules } => {
                    let call = calls::Call::SetSchedules { version, schedules };
                    self.call_jobs(first, call, From::Gate { gate, version })?;
                }
                Effect::Grow { step, growth } => {
                    let shard = growth.shard;
                    let at = first + usize::from(shard.0);
                    self.call_jobs(at, calls::Call::Grow(growth), From::Grow { gate, step, shard })?;
                }
                // No simulated tenant has endpoints: the engine's own tests have those.
                Effect::TellEndpoints { .. } => {}
                // No history is long enough for an entry to be due.
                Effect::Archive => {}
            }
        }
        Ok(())
    }

    /// An object has heard of a growth, or was not reached.
    pub fn grown(
        &mut self,
        gate: usize,
        step: Step,
        shard: ShardIndex,
        reply: Result<calls::Reply, tidegate_protocol::Error>,
    ) -> Check {
        let grown = match reply {
            Ok(calls::Reply::Grown(grown)) => grown,
            Ok(other) => return Err(format!("a gate was answered {other:?}")),
            Err(_) => return Ok(()),
        };
        let pauses: Vec<PauseScope> = grown.pauses.iter().map(|pause| pause.scope.clone()).collect();
        let awaited = tenancy::ungrown(&self.gates[gate].db).map_err(|error| error.message)?;
        let awaited = awaited
            .iter()
            .any(|effect| matches!(effect, Effect::Grow { step: of, growth } if *of == step && growth.shard == shard));
        let (before, after) = (self.fault(60), self.fault(60));
        let turn = self.gates[gate].db.transaction(|db| {
            let effects = tenancy::grown(db, step, shard, grown)?;
            if before {
                Err(DatabaseError::new("crash"))
            } else {
                Ok(effects)
            }
        });
        match turn {
            Err(_) if before => {
                self.counters.gates_crashed += 1;
                Ok(())
            }
            Err(error) => Err(format!("the tenant's database: {error}")),
            Ok(effects) => {
                match step {
                    Step::Waking if awaited => _ = self.oracle.owed.remove(&gate),
                    Step::Sealing if awaited => self.oracle.owed.entry(gate).or_default().extend(pauses),
                    _ => {}
                }
                let ended = step == Step::Opening && !effects.is_empty();
                self.counters.growths_ended += u64::from(ended);
                let description = self.describe(gate)?;
                self.committed(gate, &description)?;
                self.tell(gate, effects, after)
            }
        }
    }

    /// What a gate has committed.
    pub fn describe(&self, gate: usize) -> Result<Description, String> {
        match tenancy::handle(&self.gates[gate].db, self.clock(), Call::Describe) {
            Ok((Ok(Reply::Description(description)), _)) => Ok(description),
            other => Err(format!("a gate does not know what is active: {other:?}")),
        }
    }

    /// The job queue answered a gate.
    pub fn confirmed(
        &mut self,
        gate: usize,
        version: u64,
        reply: Result<calls::Reply, tidegate_protocol::Error>,
    ) -> Check {
        match reply {
            Ok(calls::Reply::Done) => tenancy::told(&self.gates[gate].db, version).map_err(|error| error.message),
            Ok(other) => Err(format!("a gate was answered {other:?}")),
            Err(_) => Ok(()),
        }
    }

    /// In the end nothing is left to tell.
    pub fn gate_at_rest(&self, gate: usize) -> Check {
        let ungrown = tenancy::ungrown(&self.gates[gate].db).map_err(|error| error.message)?;
        if let Some(effect) = ungrown.first() {
            return Err(format!("a gate has not told {effect:?}"));
        }
        match tenancy::untold(&self.gates[gate].db).map_err(|error| error.message)? {
            None => Ok(()),
            Some(effect) => Err(format!("a gate has not told {effect:?}")),
        }
    }

    pub fn gate_called(&mut self, gate: usize, mut call: Call, from: Option<(usize, u64)>) -> Check {
        let reach = self.describe(gate)?.reach();
        let mut wanted = None;
        if let Call::Activate { schedules, scale, .. } = &mut call {
            if !self.faults {
                schedules.clear();
                scale.shards = reach;
            }
            wanted = Some(scale.shards);
        }
        let (before, after) = (self.fault(60), self.fault(60));
        let now = self.clock();
        let turn = self.gates[gate].db.transaction(|db| {
            let done = tenancy::handle(db, now, call)?;
            if before {
                Err(DatabaseError::new("crash"))
            } else {
                Ok(done)
            }
        });
        let reply = match turn {
            Err(_) if before => {
                self.counters.gates_crashed += 1;
                Err(unavailable())
            }
            Err(error) => return Err(format!("the tenant's database: {error}")),
            Ok((reply, effects)) => {
                let description = match reply {
                    Ok(Reply::Description(description)) => description,
                    Err(_) if wanted.is_some_and(|wanted| wanted != reach) => {
                        self.counters.spreads_refused += 1;
                        return Ok(());
                    }
                    other => return Err(format!("a tenant answered {other:?}")),
                };
                if wanted.is_some_and(|wanted| wanted < reach) {
                    return Err(format!("a tenant with {reach} shards took {wanted:?}"));
                }
                let begins = wanted.is_some_and(|wanted| wanted > reach);
                self.counters.growths_begun += u64::from(begins);
                self.committed(gate, &description)?;
                self.tell(gate, effects, after)?;
                if after { Err(unavailable()) } else { Ok(description) }
            }
        };
        if let Some((hub, life)) = from {
            let ms = self.latency();
            self.after(ms, Event::FromGate { hub, life, reply });
        }
        Ok(())
    }

    fn committed(&mut self, gate: usize, description: &Description) -> Check {
        let object = &mut self.gates[gate];
        let shrank = description.scale.shards < object.scale.shards;
        if description.version < object.version || shrank || description.scale.hubs != object.scale.hubs {
            return Err(format!(
                "a tenant went from version {} to {description:?}",
                object.version
            ));
        }
        object.version = description.version;
        object.scale = description.scale;
        Ok(())
    }

    fn refresh_hubs(&mut self, gate: usize, description: &Description) {
        let (first, hubs) = (self.tenants[gate].first_hub, usize::from(self.tenants[gate].scale.hubs));
        for hub in first..first + hubs {
            if !self.fault(200) {
                let ms = self.latency();
                self.after(
                    ms,
                    Event::Refresh {
                        hub,
                        description: description.clone(),
                    },
                );
            }
        }
    }
}
