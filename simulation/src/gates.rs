//! The `Tenant` objects: which composition is active.

use tidegate_engine::database::native::Native;
use tidegate_engine::database::{DatabaseError, migrate};
use tidegate_engine::tenancy::{self, Effect, STEPS};
use tidegate_protocol::calls::tenant::{Call, Description, Reply, Scale};
use tidegate_protocol::ids::Revision;

use crate::setting::REVISIONS;
use crate::world::{Check, Event, World, unavailable};

/// A `Tenant` object. It has no memory that it could lose.
pub struct Gate {
    db: Native,
    scale: Scale,
    /// The version that was last committed.
    version: u64,
}

fn activation(revision: &str, scale: Scale) -> Call {
    let revision = Revision::parse(revision).expect("a revision");
    Call::Activate {
        document: "{}".into(),
        revision,
        scale,
        by: "admin".into(),
    }
}

impl Gate {
    pub fn new(scale: Scale) -> Result<Self, String> {
        let db = Native::in_memory().map_err(|error| error.message)?;
        migrate(&db, STEPS).map_err(|error| error.message)?;
        let first = activation(REVISIONS[0], scale);
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
        let call = activation(revision, self.gates[gate].scale);
        self.counters.activations += 1;
        let ms = self.latency();
        self.after(ms, Event::ToGate { gate, call, from: None });
    }

    pub fn gate_called(&mut self, gate: usize, call: Call, from: Option<(usize, u64)>) -> Check {
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
            Ok((reply, effect)) => {
                let Ok(Reply::Description(description)) = reply else {
                    return Err(format!("a tenant answered {reply:?}"));
                };
                self.committed(gate, &description)?;
                if let (Some(Effect::Refresh { description }), false) = (effect, after) {
                    self.refresh_hubs(gate, &description);
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
