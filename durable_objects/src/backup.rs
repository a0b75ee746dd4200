//! The part that each object has in a backup of its tenant, and in a restoration. What it writes and reads is decided in
//! [`tidegate_engine::backup`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_channel::oneshot;
use js_sys::Uint8Array;
use tidegate_engine::backup::{self as parts, First, HOLD_MS, sha256};
use tidegate_engine::database::DatabaseError;
use tidegate_engine::directory::backups::{Part, part_name};
use tidegate_protocol::calls::backup::{Call, Reply};
use tidegate_protocol::calls::{Answered, Caller};
use tidegate_protocol::ids::ObjectName;
use tidegate_protocol::{Error, ErrorCode};
use wasm_bindgen::JsValue;
use worker::{Bucket, Env, State};

use crate::platform::{beside, log_error, unavailable};
use crate::recovery;
use crate::remote::{self, Asked};
use crate::sql::ObjectDatabase;
use crate::storage;
use crate::timer::sleep;

/// What an instance of an object knows of backups.
#[derive(Default)]
pub struct BackupState {
    /// The moment that is about to come.
    moment: Cell<Option<u64>>,
    /// Calls that wait for it to be over.
    waiting: RefCell<Vec<oneshot::Sender<()>>>,
    under_way: Cell<Option<bool>>,
    restoring: Cell<Option<bool>>,
}

impl BackupState {
    fn go_on(&self) {
        self.moment.set(None);
        // Whoever waits hears of it by the end of its channel, in the order in which they came.
        self.waiting.borrow_mut().clear();
    }
}

/// An object that can be backed up.
pub trait BackedUp {
    /// Where it runs, and what it holds.
    fn place(&self) -> (&Env, &State, &ObjectDatabase, &BackupState);
    /// Its name.
    fn name(&self) -> Option<ObjectName>;
    /// The steps of its schema.
    fn schema(&self) -> &'static [&'static [&'static str]];
    /// Forgets what it has in memory, because the rows are others now.
    fn forget(&self);
    /// All of its rows are back. Gives the version of the tenant's description, where it is the gate.
    ///
    /// Errors: the database's.
    fn finished(&self, _version: u64, _by: &Caller) -> Result<u64, DatabaseError> {
        let (_, _, db, _) = self.place();
        db.transaction(|db| parts::restored(db, self.schema())).map(|_| 0)
    }
    /// The backup is whole, which `by` asked for.
    ///
    /// Errors: the database's.
    fn released(self: Rc<Self>, _by: &Caller) -> Result<(), DatabaseError> {
        Ok(())
    }
    /// Goes on with the work that the rows tell of.
    fn open(self: Rc<Self>) {}
}

fn refused(error: DatabaseError) -> Error {
    Error::new(ErrorCode::Conflict, error.message)
}

fn known(cell: &Cell<Option<bool>>, look: impl FnOnce() -> Result<bool, DatabaseError>) -> Result<bool, Error> {
    if let Some(known) = cell.get() {
        return Ok(known);
    }
    let found = look().map_err(refused)?;
    cell.set(Some(found));
    Ok(found)
}

/// Whether only a part of the object's rows is back yet.
///
/// Errors: where that could not be looked at.
pub fn is_restoring(object: &dyn BackedUp) -> Result<bool, Error> {
    let (_, _, db, state) = object.place();
    known(&state.restoring, || parts::is_restoring(db))
}

/// Whether a backup has the object's rows, and not yet all of what they refer to.
pub fn is_under_way(object: &dyn BackedUp) -> bool {
    let (_, _, db, state) = object.place();
    known(&state.under_way, || parts::is_under_way(db)).unwrap_or(false)
}

/// Waits until a moment is over that is about to come.
pub async fn passed(object: &dyn BackedUp) {
    let (_, _, _, state) = object.place();
    if state.moment.get().is_some() {
        let (sender, over) = oneshot::channel::<()>();
        state.waiting.borrow_mut().push(sender);
        let _over = over.await;
    }
}

/// As [`passed`].
///
/// Errors: `UNAVAILABLE` where only a part of the object is back yet.
pub async fn open(object: &dyn BackedUp) -> Result<(), Error> {
    passed(object).await;
    if is_restoring(object)? {
        return Err(Error::new(ErrorCode::Unavailable, "The tenant is being restored.").retry_after(1000));
    }
    Ok(())
}

/// Which of these keys can be deleted from object storage: `None` where that has to wait for a backup.
pub fn keep(object: &dyn BackedUp, keys: Vec<String>) -> Option<Vec<String>> {
    if !is_under_way(object) {
        return Some(keys);
    }
    let (_, _, db, _) = object.place();
    match db.transaction(|db| parts::keep(db, &keys)) {
        Ok(()) => None,
        Err(error) => {
            log_error("keys were not kept for a backup", error);
            Some(keys)
        }
    }
}

/// Answers a call to an object about a backup.
///
/// Errors: as [`remote::respond`].
pub fn respond(call: &Uint8Array, object: Rc<dyn BackedUp>) -> Result<JsValue, JsValue> {
    let name = object.name();
    remote::respond(call, name.as_ref(), |call| async move {
        Answered::from(answer(object, call).await)
    })
}

fn answer(object: Rc<dyn BackedUp>, call: Call) -> Asked<'static, Reply> {
    Box::pin(async move {
        let (env, place, db, state) = object.place();
        let mut reply = Reply::default();
        if state.moment.get() == Some(recovery::LEAVING) {
            return Err(Error::new(ErrorCode::Unavailable, "The object is starting again.").retry_after(1000));
        }
        match call {
            Call::Hold { moment } => hold(object.clone(), moment),
            Call::Snapshot { moment } => {
                if state.moment.get() != Some(moment) {
                    return Err(Error::new(ErrorCode::Conflict, "The moment is over."));
                }
                let taken = db.transaction(parts::snapshot);
                state.under_way.set(None);
                state.go_on();
                taken.map_err(refused)?;
            }
            Call::Upload { prefix, after, number } => {
                reply.parts = upload(&*object, &prefix, after, number).await?;
            }
            Call::Release { by } => {
                state.under_way.set(None);
                let had = parts::is_under_way(db).map_err(refused)?;
                let keys = db.transaction(parts::released).map_err(refused)?;
                if !keys.is_empty() {
                    let deleted = bucket(env)?.delete_multiple(keys).await;
                    deleted.map_err(unavailable("deleting objects"))?;
                }
                if let Some(by) = by.filter(|_| had) {
                    object.clone().released(&by).map_err(refused)?;
                }
            }
            Call::Restore { key, sha256, schema } => restore(&*object, &key, &sha256, schema).await?,
            Call::Finish { version, by } => {
                reply.version = object.finished(version, &by).map_err(refused)?;
                state.restoring.set(None);
                object.forget();
            }
            Call::Open => object.clone().open(),
            Call::Bookmarks(at) => reply.parts = recovery::bookmarks(place, at).await?,
            Call::GoBack(bookmark) => {
                recovery::go_back(place, JsValue::from_str(&bookmark)).await?;
                // Nobody is told any more of what will not be there afterwards.
                state.moment.set(Some(recovery::LEAVING));
            }
        }
        Ok(reply)
    })
}

fn bucket(env: &Env) -> Result<Bucket, Error> {
    env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))
}

fn hold(object: Rc<dyn BackedUp>, moment: u64) {
    let (_, state, _, backup) = object.place();
    backup.moment.set(Some(moment));
    let kept = object.clone();
    beside(state, async move {
        sleep(HOLD_MS).await;
        let (_, _, _, backup) = kept.place();
        if backup.moment.get() == Some(moment) {
            backup.go_on();
        }
    });
}

/// Carries some of the parts that are put by behind `after` into object storage. Those up to it are there.
async fn upload(object: &dyn BackedUp, prefix: &str, after: u64, number: u64) -> Result<Vec<String>, Error> {
    let (env, _, db, _) = object.place();
    if !parts::is_under_way(db).map_err(refused)? {
        return Ok(Vec::new());
    }
    let staged = db.transaction(|db| {
        parts::uploaded(db, after)?;
        parts::staged(db, after)
    });
    let schema = db.transaction(parts::steps).map_err(refused)?;
    let bucket = bucket(env)?;
    let mut lines = Vec::new();
    for (part, staged) in (number..).zip(staged.map_err(refused)?) {
        let line = Part {
            part,
            of: object.name().map(|name| name.to_string()).unwrap_or_default(),
            schema,
            holds: staged.rows,
            bytes: u64::try_from(staged.bytes.len()).unwrap_or(u64::MAX),
            sha256: sha256(&staged.bytes),
        };
        let put = bucket.put(format!("{prefix}{}", part_name(part)), staged.bytes);
        storage::write(put).await.map_err(unavailable("storing a part"))?;
        lines.push(line.line().map_err(refused)?);
    }
    Ok(lines)
}

/// The bytes of a part.
///
/// Errors: `UNAVAILABLE`; `CONFLICT` where it is not there, or not the one of this hash.
pub async fn read(env: &Env, key: &str, hash: Option<&str>) -> Result<Vec<u8>, Error> {
    let number = key.rsplit('/').next().unwrap_or_default().trim_start_matches('0');
    let number = if number.is_empty() { "0" } else { number };
    let reading = || unavailable("reading a part");
    let broken = |what: &str| Error::new(ErrorCode::Conflict, format!("Part {number} {what}."));
    let found = storage::read(bucket(env)?.get(key)).await.map_err(reading())?;
    let found = found.ok_or_else(|| broken("is missing"))?;
    let bytes = match found.body() {
        Some(body) => body.bytes().await.map_err(reading())?,
        None => Vec::new(),
    };
    if hash.is_some_and(|hash| hash != sha256(&bytes)) {
        return Err(broken("is broken: its SHA-256 is not the one in the manifest"));
    }
    Ok(bytes)
}

async fn restore(object: &dyn BackedUp, key: &str, hash: &str, schema: Option<u64>) -> Result<(), Error> {
    let (env, _, db, state) = object.place();
    let bytes = read(env, key, Some(hash)).await?;
    object.forget();
    state.restoring.set(None);
    let first = if schema.is_some() { First::Yes } else { First::No };
    let written = db.transaction(|db| parts::restore(db, object.schema(), schema.unwrap_or(0), first, &bytes));
    written.map_err(refused)
}
