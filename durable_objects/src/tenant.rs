//! The shell of a `Tenant` object. Every decision is in [`tidegate_engine::tenancy`].
#![expect(missing_docs, reason = "the attribute macro makes public methods without comments")]

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use tidegate_engine::database::migrate;
use tidegate_engine::tenancy::{self, Effect};
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::calls::{Answered, hub};
use tidegate_protocol::ids::{HubIndex, ObjectName};
use tidegate_protocol::{Error, ErrorCode};
use worker::{DurableObject, Env, Request, Response, Result, State, durable_object, wasm_bindgen};

use crate::platform::{log_error, now};
use crate::remote;
use crate::sql::ObjectDatabase;

/// A tenant's gate.
#[durable_object(fetch)]
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

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let shell = self.shell.0.clone();
        if request.path() == "/rows-written" {
            return Response::ok(shell.db.rows_written().to_string());
        }
        let answered: Answered<Reply> = match remote::receive(&mut request, shell.name.as_ref()).await {
            Ok(call) => shell.answer(call).into(),
            Err(error) => Err(error).into(),
        };
        remote::respond(&answered)
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
            Ok((reply, effect)) => {
                self.migrated.set(true);
                if let Some(Effect::Refresh { description }) = effect {
                    self.refresh(description);
                }
                reply
            }
            Err(error) => {
                log_error("a turn was rolled back", error);
                Err(Error::new(ErrorCode::Unavailable, "The tenant's gate is restarting.").retry_after(1000))
            }
        }
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
