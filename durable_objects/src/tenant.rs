//! The shell of a `Tenant` object. Every decision is in [`tidegate_engine::tenancy`].
#![expect(missing_docs, reason = "the attribute macro makes public methods without comments")]

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use js_sys::Uint8Array;
use tidegate_engine::audit;
use tidegate_engine::database::migrate;
use tidegate_engine::tenancy::{self, Effect, Step};
use tidegate_protocol::calls::schedules::Schedule;
use tidegate_protocol::calls::spread::Growth;
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::calls::{Answered, hub, jobs};
use tidegate_protocol::ids::{HubIndex, ObjectName, ShardIndex};
use tidegate_protocol::{Error, ErrorCode};
use wasm_bindgen::prelude::*;
use worker::{DurableObject, Env, Request, Response, Result, State, durable_object};

use crate::platform::{log_error, now};
use crate::remote;
use crate::sql::ObjectDatabase;

/// A tenant's gate.
#[durable_object(alarm)]
pub struct Tenant {
    shell: AssertUnwindSafe<Rc<Shell>>,
}

struct Shell {
    env: Env,
    state: State,
    db: ObjectDatabase,
    name: Option<ObjectName>,
    migrated: Cell<bool>,
}

impl DurableObject for Tenant {
    fn new(state: State, env: Env) -> Self {
        let text = state.id().name();
        let name = text.as_deref().and_then(ObjectName::parse);
        worker::console_debug!("constructed Tenant {}", text.unwrap_or_default());
        let db = ObjectDatabase::new(&state);
        let shell = Shell {
            env,
            state,
            db,
            name,
            migrated: Cell::new(false),
        };
        Self {
            shell: AssertUnwindSafe(Rc::new(shell)),
        }
    }

    /// What tests ask. Calls come to `answer`.
    async fn fetch(&self, request: Request) -> Result<Response> {
        match request.path().as_str() {
            "/rows-written" => Response::ok(self.shell.0.db.rows_written().to_string()),
            _ => Response::error("Not Found", 404),
        }
    }

    async fn alarm(&self) -> Result<Response> {
        self.shell.0.wake();
        Response::ok("")
    }
}

#[wasm_bindgen]
impl Tenant {
    /// A call of another object or the Worker.
    pub fn answer(&self, call: &Uint8Array) -> core::result::Result<JsValue, JsValue> {
        let shell = self.shell.0.clone();
        let name = shell.name.clone();
        remote::respond(
            call,
            name.as_ref(),
            |call| async move { Answered::from(shell.answer(call)) },
        )
    }
}

impl Shell {
    fn answer(self: &Rc<Self>, call: Call) -> core::result::Result<Reply, Error> {
        let turn = self.db.transaction(|db| {
            if !self.migrated.get() {
                migrate(db, tenancy::STEPS)?;
            }
            tenancy::handle(db, now(), call)
        });
        match turn {
            Ok((reply, effects)) => {
                self.migrated.set(true);
                self.perform(effects);
                reply
            }
            Err(error) => {
                log_error("a turn was rolled back", error);
                Err(Error::new(ErrorCode::Unavailable, "The tenant's gate is restarting.").retry_after(1000))
            }
        }
    }

    /// The alarm: what was not confirmed is told again.
    fn wake(self: &Rc<Self>) {
        let turn = self.db.transaction(|db| {
            if !self.migrated.get() {
                migrate(db, tenancy::STEPS)?;
            }
            audit::sweep(db, now())?;
            let mut effects = tenancy::ungrown(db)?;
            effects.extend(tenancy::untold(db)?);
            Ok(effects)
        });
        match turn {
            Ok(effects) => {
                self.migrated.set(true);
                self.perform(effects);
            }
            Err(error) => {
                log_error("a turn was rolled back", error);
                self.arm();
            }
        }
    }

    fn perform(self: &Rc<Self>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Refresh { description } => self.refresh(description),
                Effect::TellSchedules { version, schedules } => {
                    // Before anything is awaited, so that it commits with the rows that say there is something to tell.
                    self.arm();
                    self.tell(version, schedules);
                }
                Effect::Grow { step, growth } => {
                    self.arm();
                    self.grow(step, growth);
                }
            }
        }
    }

    fn arm(&self) {
        if let Err(error) = self.db.set_alarm(now().plus(tenancy::RETELL_MS)) {
            log_error("an alarm was not set", error);
        }
    }

    /// Tells the first object of the job queue which schedules there are.
    fn tell(self: &Rc<Self>, version: u64, schedules: Vec<Schedule>) {
        let Some(name) = &self.name else { return };
        let queue = ObjectName::Jobs(name.tenant().clone(), ShardIndex(0));
        let shell = self.clone();
        self.state.wait_until(async move {
            let call = jobs::Call::SetSchedules { version, schedules };
            if let Err(error) = remote::jobs(&shell.env, &queue, call).await {
                log_error("the job queue was not told of schedules", error);
                return;
            }
            if let Err(error) = shell.db.transaction(|db| tenancy::told(db, version)) {
                log_error("a turn was rolled back", error);
            }
        });
    }

    /// Tells an object of the job queue of the tenant's growth, and goes on once it has confirmed that.
    fn grow(self: &Rc<Self>, step: Step, growth: Growth) {
        let Some(name) = &self.name else { return };
        let shard = growth.shard;
        let queue = ObjectName::Jobs(name.tenant().clone(), shard);
        let shell = self.clone();
        self.state.wait_until(async move {
            let grown = match remote::jobs(&shell.env, &queue, jobs::Call::Grow(growth)).await {
                Ok(jobs::Reply::Grown(grown)) => grown,
                Ok(_) => return,
                Err(error) => return log_error("an object was not told of a growth", error),
            };
            match shell.db.transaction(|db| tenancy::grown(db, step, shard, grown)) {
                Ok(effects) => shell.perform(effects),
                Err(error) => log_error("a turn was rolled back", error),
            }
        });
    }

    /// Tells every hub what is active now. One that is not reached asks again by itself.
    fn refresh(self: &Rc<Self>, description: tidegate_protocol::calls::tenant::Description) {
        let Some(name) = &self.name else { return };
        for index in 0..description.scale.hubs {
            let hub = ObjectName::Hub(name.tenant().clone(), HubIndex(index));
            let (env, call) = (
                self.env.clone(),
                hub::Call::Refresh {
                    description: description.clone(),
                },
            );
            self.state.wait_until(async move {
                if let Err(error) = remote::hub(&env, &hub, &call).await {
                    log_error("a hub was not told of a new composition", error);
                }
            });
        }
    }
}
