//! The shell of the directory of tenants: one object of the class `Tenant`, under a name that no tenant's gate has. Every
//! decision is in [`tidegate_engine::directory`]; here its erasures and backups are carried out.

mod backups;
mod recovery;

use std::cell::Cell;
use std::rc::Rc;

use js_sys::Uint8Array;
use tidegate_engine::database::DatabaseError;
use tidegate_engine::directory::channels;
use tidegate_engine::directory::erasure::{self, Erasure, Outcome, RETRY_MS, Removed, Step};
use tidegate_engine::directory::recovery::Wanted;
use tidegate_engine::directory::{self, STEPS};
use tidegate_protocol::calls::access::Change;
use tidegate_protocol::calls::directory::{BackupAct, Call, Reply};
use tidegate_protocol::calls::tenant::{self, CHANNELS_LISTED_MAX, Channels};
use tidegate_protocol::calls::{Answered, Caller};
use tidegate_protocol::ids::{ChannelName, ObjectName, TenantId, UserId};
use tidegate_protocol::{Error, ErrorCode};
use wasm_bindgen::JsValue;
use worker::{Env, State};

use crate::platform::{log_error, now, unavailable};
use crate::sql::ObjectDatabase;
use crate::{plans, remote, storage};

/// Steps of one alarm at most that remove something. Each is some calls of bindings, of which an invocation has 10,000.
const STEPS_MAX: u32 = 500;

/// The directory.
pub struct Directory {
    env: Env,
    db: ObjectDatabase,
    migrated: Cell<bool>,
    /// Whether a tenant is on its way back to an earlier time.
    going_back: Cell<bool>,
}

fn restarting() -> Error {
    Error::new(ErrorCode::Unavailable, "The directory of tenants is restarting.").retry_after(1000)
}

impl Directory {
    /// The directory, where the object with this state is called as the directory is.
    pub fn of(state: &State, env: &Env, name: &str) -> Option<Rc<Self>> {
        (name == directory::NAME).then(|| {
            Rc::new(Self {
                env: env.clone(),
                db: ObjectDatabase::new(state),
                migrated: Cell::new(false),
                going_back: Cell::new(false),
            })
        })
    }

    /// As [`ObjectDatabase::rows_written`].
    pub fn rows_written(&self) -> f64 {
        self.db.rows_written()
    }

    fn turn<T>(&self, turn: impl FnOnce(&ObjectDatabase) -> Result<T, DatabaseError>) -> Result<T, Error> {
        let done = self.db.migrated(&self.migrated, STEPS, turn);
        done.map_err(|_| restarting())
    }

    /// Answers a call: in one turn, but for a recovery, which asks objects.
    ///
    /// Errors: as [`remote::read`].
    pub fn answer(self: &Rc<Self>, call: &Uint8Array) -> Result<JsValue, JsValue> {
        match remote::read(call)? {
            Call::Backups {
                tenant,
                act: BackupAct::Recover(at),
                by,
                ..
            } => {
                let directory = self.clone();
                Ok(remote::promise(Box::pin(async move {
                    let recovered = directory.recover(&Wanted { tenant, at, by }).await;
                    Ok(remote::written(&Answered::from(recovered)))
                })))
            }
            call => Ok(remote::written(&Answered::from(self.handle(call)))),
        }
    }

    fn handle(&self, call: Call) -> Result<Reply, Error> {
        self.turn(|db| {
            let is_read = matches!(call, Call::Show { .. } | Call::List { .. });
            let reply = directory::handle(db, now(), call)?;
            if !is_read {
                self.arm(db)?;
            }
            Ok(reply)
        })?
    }

    /// Sets the alarm for the next step of whatever is under way. It commits with the turn.
    fn arm(&self, db: &ObjectDatabase) -> Result<(), DatabaseError> {
        match directory::next_wake(db)? {
            // An alarm at this very moment could be lost inside the handler.
            Some(at) => db.set_alarm(at.max(now().plus(1))),
            None => Ok(()),
        }
    }

    /// The alarm: takes the steps that are due.
    pub async fn wake(&self) {
        // Where the server dies in the middle, the next one goes on by this alarm.
        let goes_on = self.turn(|db| match directory::next_wake(db)? {
            Some(_) => db.set_alarm(now().plus(RETRY_MS)).map(|()| true),
            None => Ok(false),
        });
        if goes_on == Ok(false) {
            return;
        }
        let mut left = STEPS_MAX;
        while left > 0 {
            match self.turn(|db| erasure::due(db, now())) {
                Ok(Some(due)) => {
                    self.go_on(due, &mut left).await;
                    continue;
                }
                Ok(None) => {}
                Err(_) => break,
            }
            // One step, so that no erasure waits for the end of a backup.
            if !self.back_up().await {
                break;
            }
            left -= 1;
        }
        // Otherwise the alarm stays as it was set above.
        let _armed = self.turn(|db| self.arm(db));
    }

    /// Takes the steps of one erasure until it pauses.
    async fn go_on(&self, mut erasure: Erasure, left: &mut u32) {
        while erasure.is_due(now()) && *left > 0 {
            let outcome = self
                .take(&erasure.tenant, erasure.step())
                .await
                .unwrap_or_else(|error| {
                    log_error("a step of an erasure", error);
                    Outcome::Failed
                });
            if let Outcome::Removed(removed) = &outcome {
                *left -= u32::from(*removed != Removed::default());
            }
            match self.turn(|db| erasure::took(db, now(), erasure, outcome)) {
                Ok(further) => erasure = further,
                // The alarm that is set goes on with it.
                Err(_) => return,
            }
        }
    }

    /// Has the gate let nobody in any more.
    async fn suspend(&self, tenant: &TenantId) -> Result<Outcome, Error> {
        let user = UserId::parse("directory").ok_or_else(Error::not_found)?;
        let caller = Caller {
            user,
            reads_all: false,
            writes_all: false,
            act: None,
        };
        let change = Change::Suspend;
        match remote::tenant(&self.env, tenant, &tenant::Call::Access { change, caller }).await {
            Ok(_) => {}
            // It has never been asked anything, and says that it is erased.
            Err(error) if error.code == ErrorCode::Conflict => {
                return Ok(Outcome::Suspended {
                    hubs: 0,
                    shards: 0,
                    version: 0,
                });
            }
            Err(error) => return Err(error),
        }
        match remote::tenant(&self.env, tenant, &tenant::Call::Since { version: 0 }).await? {
            tenant::Reply::Description(description) => Ok(Outcome::Suspended {
                hubs: description.scale.hubs,
                shards: description.reach(),
                version: description.version,
            }),
            _ => Err(Error::new(
                ErrorCode::InternalError,
                "The gate answered another question.",
            )),
        }
    }

    async fn take(&self, tenant: &TenantId, step: Step) -> Result<Outcome, Error> {
        let removed = match step {
            Step::Suspend => return self.suspend(tenant).await,
            Step::Channels => self.remove_channels(tenant).await?,
            Step::Object(name) => remote::erase(&self.env, &name).await?.into(),
            Step::Stored(kind) => self
                .remove_stored(&storage::prefix(tenant, kind))
                .await
                .map_err(unavailable("object storage"))?,
            Step::Keys => self.remove_keys(tenant).await?,
        };
        Ok(Outcome::Removed(removed))
    }

    /// Has channels forget everything, as many as the gate lists at once. What is left is listed the next time.
    async fn remove_channels(&self, tenant: &TenantId) -> Result<Removed, Error> {
        let mut names = match self.channels(tenant, None).await {
            Ok(names) => names,
            // A gate that is erased knows none.
            Err(error) if matches!(error.code, ErrorCode::Conflict | ErrorCode::TenantSuspended) => Vec::new(),
            Err(error) => return Err(error),
        };
        let known = names.len();
        names.extend(self.turn(|db| channels::kept(db, tenant))?);
        let mut removed = Removed {
            more: known == CHANNELS_LISTED_MAX || names.len() - known == channels::LISTED_MAX,
            ..Removed::default()
        };
        for name in &names {
            let object = ObjectName::Channel(tenant.clone(), name.clone());
            let erased = Removed::from(remote::erase(&self.env, &object).await?);
            removed.objects += erased.objects;
            removed.rows += erased.rows;
            removed.busy |= erased.busy;
        }
        self.turn(|db| channels::forget(db, tenant, &names))?;
        names.truncate(known);
        if known > 0 {
            let call = tenant::Call::Channels(Channels::Forget(names));
            remote::tenant(&self.env, tenant, &call).await?;
        }
        Ok(removed)
    }

    /// The channels that the gate knows of after this one.
    async fn channels(&self, tenant: &TenantId, after: Option<ChannelName>) -> Result<Vec<ChannelName>, Error> {
        let call = tenant::Call::Channels(Channels::List(after));
        match remote::tenant(&self.env, tenant, &call).await? {
            tenant::Reply::Channels(names) => Ok(names),
            _ => Err(Error::new(
                ErrorCode::InternalError,
                "The gate answered another question.",
            )),
        }
    }

    /// Deletes what is on one page of object storage. What is left comes onto the page after that.
    async fn remove_stored(&self, prefix: &str) -> worker::Result<Removed> {
        let bucket = self.env.bucket("OBJECTS")?;
        let page = bucket.list().prefix(prefix).execute().await?;
        let objects = page.objects();
        let keys: Vec<String> = objects.iter().map(worker::Object::key).collect();
        let removed = Removed {
            stored_objects: u64::try_from(keys.len()).unwrap_or(0),
            stored_bytes: objects.iter().map(worker::Object::size).sum(),
            more: page.truncated(),
            ..Removed::default()
        };
        if !keys.is_empty() {
            bucket.delete_multiple(keys).await?;
        }
        Ok(removed)
    }

    /// Deletes a tenant's entries of the key-value store. In production a deleted one may be listed for a minute more.
    async fn remove_keys(&self, tenant: &TenantId) -> Result<Removed, Error> {
        let store = self
            .env
            .kv("CONFIGURATION")
            .map_err(unavailable("the binding CONFIGURATION"))?;
        let failed = |cause: worker::KvError| unavailable("the key-value store")(cause.into());
        let mut removed = Removed::default();
        let mut cursor = None;
        loop {
            let list = store.list().prefix(plans::prefix(tenant));
            let list = match cursor {
                Some(cursor) => list.cursor(cursor),
                None => list,
            };
            let page = list.execute().await.map_err(failed)?;
            for key in page.keys {
                store.delete(&key.name).await.map_err(failed)?;
                removed.keys += 1;
            }
            cursor = page.cursor.filter(|_| !page.list_complete);
            if cursor.is_none() {
                return Ok(removed);
            }
        }
    }
}
