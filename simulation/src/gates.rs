//! The `Tenant` objects: which composition is active.

use tidegate_engine::database::native::Native;
use tidegate_engine::database::{DatabaseError, migrate};
use tidegate_engine::tenancy::{self, Effect, RETELL_MS, STEPS};
use tidegate_protocol::calls::jobs as calls;
use tidegate_protocol::calls::tenant::{Call, Description, Reply, Scale};
use tidegate_protocol::ids::Revision;

use crate::setting::{REVISIONS, schedules};
use crate::world::{Check, Event, From, World, unavailable};

/// A `Tenant` object. It has no memory that it could lose.
pub struct Gate {
    db: Native,
    scale: Scale,
    /// The version that was last committed.
    version: u64,
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
        Ok(Self { db, scale, version: 1 })
    }
}

impl World {
    /// An administrator switches a tenant to another revision.
    pub fn activate(&mut self) {
        let gate = self.random.below(self.gates.len() as u64) as usize;
        let revision = REVISIONS[self.random.below(REVISIONS.len() as u64) as usize];
        let call = activation(self.tenants[gate].id.as_str(), revision, self.gates[gate].scale);
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
        let untold = tenancy::untold(&self.gates[gate].db).map_err(|error| error.message)?;
        if untold.is_some() {
            self.counters.schedules_told_again += 1;
        }
        self.tell(gate, untold)
    }

    fn tell(&mut self, gate: usize, effect: Option<Effect>) -> Check {
        let Some(Effect::TellSchedules { version, schedules }) = effect else {
            return Ok(());
        };
        self.after(RETELL_MS, Event::Retell { gate });
        let shard = self.tenants[gate].first_shard;
        let call = calls::Call::SetSchedules { version, schedules };
        self.call_jobs(shard, call, From::Gate { gate, version })
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
        match tenancy::untold(&self.gates[gate].db).map_err(|error| error.message)? {
            None => Ok(()),
            Some(effect) => Err(format!("a gate has not told {effect:?}")),
        }
    }

    pub fn gate_called(&mut self, gate: usize, mut call: Call, from: Option<(usize, u64)>) -> Check {
        if let (Call::Activate { schedules, .. }, false) = (&mut call, self.faults) {
            schedules.clear();
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
                let Ok(Reply::Description(description)) = reply else {
                    return Err(format!("a tenant answered {reply:?}"));
                };
                self.committed(gate, &description)?;
                for effect in effects {
                    match effect {
                        Effect::Refresh { description } if !after => self.refresh_hubs(gate, &description),
                        Effect::Refresh { .. } => {}
                        Effect::TellSchedules { .. } if !after => self.tell(gate, Some(effect))?,
                        // The alarm was set with the rows.
                        Effect::TellSchedules { .. } => self.after(RETELL_MS, Event::Retell { gate }),
                    }
                }
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
        if description.version < object.version || description.scale != object.scale {
            return Err(format!(
                "a tenant went from version {} to {description:?}",
                object.version
            ));
        }
        object.version = description.version;
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
