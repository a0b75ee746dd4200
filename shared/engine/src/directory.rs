//! The directory of a deployment's tenants: which there are, how each stands, and what was erased of them.
//!
//! It is one object of the deployment, and stands in the way of no request: a gate tells it of its tenant once, before it
//! first does anything, and then whenever the tenant is suspended or resumed. What is erased stays in it as a row, so that
//! nobody comes back by a credential of before.

mod announcement;
pub mod backups;
pub mod channels;
pub mod erasure;
pub mod recovery;
#[cfg(test)]
#[cfg(feature = "native")]
mod tests;

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::directory::{Call, Reply};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{TenantAct, TenantPage, TenantState, TenantView};
use tidegate_protocol::ids::{RequestId, TenantId, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

pub use announcement::{ANNOUNCED, told, untold};

use crate::database::{Database, DatabaseError, Row, Value};

/// The name of the object. No object of a tenant is called so: their names begin with `t:`.
pub const NAME: &str = "d:tenants";
/// Tenants of one page at most.
pub const PAGE_MAX: u32 = 200;
/// Acts of a tenant that are shown, the newest.
const ACTS_MAX: u64 = 20;

/// The migrations, oldest first. A step is only ever appended.
pub const STEPS: &[&[&str]] = &[
    &[
        "-- directory::schema
    CREATE TABLE tenants (
        id TEXT PRIMARY KEY,
        state TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        changed_at INTEGER NOT NULL,
        version INTEGER NOT NULL,
        suspended_at INTEGER,
        template TEXT,
        resident INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID",
        "-- directory::schema
    CREATE TABLE act (
        tenant TEXT NOT NULL,
        at INTEGER NOT NULL,
        what TEXT NOT NULL,
        user TEXT NOT NULL,
        request TEXT,
        PRIMARY KEY (tenant, at, what)
    ) STRICT, WITHOUT ROWID",
        erasure::TABLE,
    ],
    backups::TABLES,
    recovery::TABLES,
    channels::TABLE,
];

/// A row of the directory.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    tenant: TenantId,
    state: TenantState,
    created_at: UnixMs,
    changed_at: UnixMs,
    version: u64,
    suspended_at: Option<UnixMs>,
    template: Option<String>,
    resident: bool,
}

impl Entry {
    fn new(tenant: TenantId, now: UnixMs, resident: bool) -> Self {
        Self {
            tenant,
            state: TenantState::Active,
            created_at: now,
            changed_at: now,
            version: 0,
            suspended_at: None,
            template: None,
            resident,
        }
    }

    fn is_gone(&self) -> bool {
        matches!(
            self.state,
            TenantState::Erasing | TenantState::Erased | TenantState::Restoring
        )
    }
}

/// When the directory is to be woken for what is under way; `None`: nothing is.
///
/// Errors: the database's.
pub fn next_wake(db: &impl Database) -> Result<Option<UnixMs>, DatabaseError> {
    let wakes = [erasure::next_wake(db)?, backups::next_wake(db)?];
    Ok(wakes.into_iter().flatten().min())
}

/// Answers `call`. The reply may be a refusal; an error is the database's, and rolls the turn back.
///
/// Afterwards the object wakes at [`next_wake`].
pub fn handle(db: &impl Database, now: UnixMs, call: Call) -> Result<Result<Reply, Error>, DatabaseError> {
    match call {
        Call::Announce {
            tenant,
            version,
            suspended_at,
            resident,
        } => announce(db, now, Entry::new(tenant, now, resident), version, suspended_at).map(Ok),
        Call::Create {
            tenant,
            template,
            resident,
            by,
        } => {
            let entry = Entry {
                state: match template {
                    Some(_) => TenantState::Creating,
                    None => TenantState::Active,
                },
                template,
                ..Entry::new(tenant, now, resident)
            };
            create(db, entry, &by)
        }
        Call::Created { tenant } => {
            let Some(mut entry) = find(db, &tenant)? else {
                return Ok(Err(Error::not_found()));
            };
            if entry.state == TenantState::Creating {
                entry.state = TenantState::Active;
                entry.changed_at = now;
                write(db, &entry)?;
            }
            show(db, entry)
        }
        Call::Show { tenant } => match find(db, &tenant)? {
            Some(entry) => show(db, entry),
            None => Ok(Err(Error::not_found())),
        },
        Call::List { state, after, limit } => {
            let page = list(db, state.as_deref(), after.as_ref(), limit)?;
            Ok(shown(JsonText::of(&page)))
        }
        Call::Erase {
            tenant,
            by,
            keep_backups,
        } => {
            let Some(mut entry) = find(db, &tenant)? else {
                return Ok(Err(Error::not_found()));
            };
            if !matches!(entry.state, TenantState::Erasing | TenantState::Erased) {
                entry.state = TenantState::Erasing;
                entry.changed_at = now;
                write(db, &entry)?;
                backups::erased(db, now, &entry.tenant, keep_backups)?;
                recovery::forget(db, &entry.tenant)?;
                erasure::begin(db, now, &entry.tenant, keep_backups)?;
                note(db, now, &entry.tenant, "erased", &by)?;
            }
            show(db, entry)
        }
        Call::Backups {
            tenant,
            backup,
            act,
            by,
        } => backups::act(db, now, &tenant, backup.as_ref(), (act, &by)),
    }
}

/// A gate tells of its tenant. An erased one is told that it is, and nothing else changes.
fn announce(
    db: &impl Database,
    now: UnixMs,
    heard: Entry,
    version: u64,
    suspended_at: Option<UnixMs>,
) -> Result<Reply, DatabaseError> {
    let known = find(db, &heard.tenant)?;
    let is_new = known.is_none();
    let mut entry = known.unwrap_or(heard);
    let mut standing = Reply::Standing {
        version: entry.version,
        erased_at: None,
    };
    if entry.is_gone() {
        standing = Reply::Standing {
            version: entry.version + 1,
            erased_at: Some(entry.changed_at),
        };
    } else if is_new || (version >= entry.version && suspended_at != entry.suspended_at) {
        entry.version = version;
        entry.suspended_at = suspended_at;
        entry.changed_at = now;
        if entry.state != TenantState::Creating {
            entry.state = match suspended_at {
                Some(_) => TenantState::Suspended,
                None => TenantState::Active,
            };
        }
        write(db, &entry)?;
        if suspended_at.is_none() {
            backups::resumed(db, now, &entry.tenant)?;
            recovery::resumed(db, &entry.tenant)?;
        }
    }
    Ok(standing)
}

fn create(db: &impl Database, mut entry: Entry, by: &Caller) -> Result<Result<Reply, Error>, DatabaseError> {
    match find(db, &entry.tenant)? {
        None => {}
        // Above whatever anybody may remember of the one that was erased, the word that it is erased included.
        Some(known) if known.state == TenantState::Erased => entry.version = known.version + 2,
        Some(known) if known.state == TenantState::Creating && entry.template.is_some() => {
            entry.created_at = known.created_at;
            entry.version = known.version;
            write(db, &entry)?;
            return show(db, entry);
        }
        Some(known) => {
            let message = match known.state {
                TenantState::Erasing => "The tenant is being erased. It can be created again when that has ended.",
                TenantState::Restoring => "The tenant is being restored.",
                _ => "There is a tenant of this id.",
            };
            return Ok(Err(Error::new(ErrorCode::Conflict, message)));
        }
    }
    write(db, &entry)?;
    note(db, entry.created_at, &entry.tenant, "created", by)?;
    show(db, entry)
}

fn note(
    db: &impl Database,
    now: UnixMs,
    tenant: &TenantId,
    what: &'static str,
    by: &Caller,
) -> Result<(), DatabaseError> {
    let request = by.act.as_ref().map(|act| act.request_id.as_str());
    db.run(
        "-- directory::note
        INSERT OR IGNORE INTO act (tenant, at, what, user, request) VALUES (?, ?, ?, ?, ?)",
        &[
            Value::Text(tenant.as_str()),
            Value::Number(now.0),
            Value::Text(what),
            Value::Text(by.user.as_str()),
            request.map_or(Value::Null, Value::Text),
        ],
    )?;
    Ok(())
}

fn acts(db: &impl Database, tenant: &TenantId) -> Result<Vec<TenantAct>, DatabaseError> {
    let rows = db.run(
        "-- directory::acts
        SELECT at, what, user, request FROM act WHERE tenant = ? ORDER BY at DESC LIMIT CAST(? AS INTEGER)",
        &[Value::Text(tenant.as_str()), Value::Number(ACTS_MAX)],
    )?;
    rows.into_iter()
        .map(|mut row| {
            Ok(TenantAct {
                at: UnixMs(row.number()?),
                what: row.text()?,
                by: UserId::parse(&row.text()?).ok_or_else(|| DatabaseError::new("an act of nobody"))?,
                request_id: row.optional_text()?.as_deref().and_then(RequestId::parse),
            })
        })
        .collect()
}

fn write(db: &impl Database, entry: &Entry) -> Result<(), DatabaseError> {
    db.run(
        "-- directory::write
        INSERT OR REPLACE INTO tenants (id, state, created_at, changed_at, version, suspended_at, template, resident)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        &[
            Value::Text(entry.tenant.as_str()),
            Value::Text(entry.state.as_str()),
            Value::Number(entry.created_at.0),
            Value::Number(entry.changed_at.0),
            Value::Number(entry.version),
            Value::optional(entry.suspended_at.map(|at| at.0)),
            entry.template.as_deref().map_or(Value::Null, Value::Text),
            Value::Number(u64::from(entry.resident)),
        ],
    )?;
    Ok(())
}

fn find(db: &impl Database, tenant: &TenantId) -> Result<Option<Entry>, DatabaseError> {
    let rows = db.run(
        "-- directory::find
        SELECT id, state, created_at, changed_at, version, suspended_at, template, resident FROM tenants WHERE id = ?",
        &[Value::Text(tenant.as_str())],
    )?;
    rows.into_iter().next().map(entry).transpose()
}

fn entry(mut row: Row) -> Result<Entry, DatabaseError> {
    let (tenant, state) = (row.text()?, row.text()?);
    Ok(Entry {
        tenant: TenantId::parse(&tenant).ok_or_else(|| DatabaseError::new("an entry of no tenant"))?,
        state: TenantState::parse(&state).ok_or_else(|| DatabaseError::new("a tenant in no state"))?,
        created_at: UnixMs(row.number()?),
        changed_at: UnixMs(row.number()?),
        version: row.number()?,
        suspended_at: row.optional_number()?.map(UnixMs),
        template: row.optional_text()?,
        resident: row.number()? != 0,
    })
}

fn list(
    db: &impl Database,
    state: Option<&str>,
    after: Option<&TenantId>,
    limit: u32,
) -> Result<TenantPage, DatabaseError> {
    let limit = u64::from(limit.clamp(1, PAGE_MAX));
    let rows = db.run(
        "-- directory::list
        SELECT id, state, created_at, changed_at, version, suspended_at, template, resident FROM tenants
        WHERE id > ?1 AND (?2 = '' OR state = ?2) ORDER BY id LIMIT CAST(?3 AS INTEGER)",
        &[
            Value::Text(after.map_or("", TenantId::as_str)),
            Value::Text(state.unwrap_or_default()),
            Value::Number(limit + 1),
        ],
    )?;
    let has_more = u64::try_from(rows.len()).unwrap_or(u64::MAX) > limit;
    let mut page = TenantPage {
        tenants: Vec::with_capacity(rows.len()),
        cursor: None,
    };
    for row in rows.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
        page.tenants.push(view(db, entry(row)?)?);
    }
    page.cursor = page
        .tenants
        .last()
        .filter(|_| has_more)
        .map(|last| last.tenant.to_string());
    Ok(page)
}

fn view(db: &impl Database, entry: Entry) -> Result<TenantView, DatabaseError> {
    let jurisdiction = entry.tenant.jurisdiction().map(ToOwned::to_owned);
    Ok(TenantView {
        state: entry.state,
        created_at: entry.created_at,
        changed_at: entry.changed_at,
        suspended_at: entry.suspended_at,
        template: entry.template,
        jurisdiction_enforced: jurisdiction.as_ref().map(|_| entry.resident),
        jurisdiction,
        erasure: erasure::view(db, &entry.tenant)?,
        acts: Vec::new(),
        tenant: entry.tenant,
    })
}

fn show(db: &impl Database, entry: Entry) -> Result<Result<Reply, Error>, DatabaseError> {
    let mut view = view(db, entry)?;
    view.acts = acts(db, &view.tenant)?;
    Ok(shown(JsonText::of(&view)))
}

fn shown(text: Option<JsonText>) -> Result<Reply, Error> {
    text.map(Reply::Shown)
        .ok_or_else(|| Error::new(ErrorCode::InternalError, "The directory could not be written."))
}
