//! The decisions of one `Tenant`: which composition is active, and how the tenant is spread over objects.

mod channels;
mod growth;
mod limits;
mod schedules;

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::access::{Access, Change};
use tidegate_protocol::calls::audit::Act;
use tidegate_protocol::calls::schedules::Schedule;
use tidegate_protocol::calls::spread::{Growth, Spreads};
use tidegate_protocol::calls::tenant::{Call, Description, Reply, Scale};
use tidegate_protocol::calls::usage::Report;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{AuditTarget, AuditWhat};
use tidegate_protocol::ids::{Revision, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

pub use growth::{Step, grown, ungrown};
pub use limits::set_limits;
pub use schedules::{RETELL_MS, told, untold};

use crate::access::Changed;
use crate::database::{Database, DatabaseError, Row, Value, migrate};
use crate::usage::{Prices, SetBy, Window};
use crate::{
    access, admission, audit, backup, connections, directory, endpoints, idempotency, secrets, upstreams, usage,
};

/// The migrations, oldest first. A step is only ever appended.
pub const STEPS: &[&[&str]] = &[
    &[
        "-- tenancy::schema
    CREATE TABLE tenant (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        version INTEGER NOT NULL,
        revision TEXT,
        hubs INTEGER NOT NULL,
        shards INTEGER NOT NULL
    ) STRICT",
        "-- tenancy::schema
    CREATE TABLE composition (
        revision TEXT PRIMARY KEY,
        document TEXT NOT NULL,
        activated_at INTEGER NOT NULL,
        activated_by TEXT NOT NULL
    ) STRICT, WITHOUT ROWID",
    ],
    &["-- tenancy::schema
    CREATE TABLE schedules (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        version INTEGER NOT NULL,
        told INTEGER NOT NULL,
        schedules BLOB NOT NULL
    ) STRICT"],
    GROWTH,
    audit::TRAIL,
    admission::BUCKETS,
    access::TABLES,
    upstreams::BREAKERS,
    idempotency::KEYS,
    audit::CHAIN,
    secrets::SECRETS,
    directory::ANNOUNCED,
    connections::PLACES,
    usage::LEDGER,
    endpoints::ENDPOINTS,
    limits::LIMITS,
    channels::CHANNELS,
];

/// How the tenant came to be spread as it is, and how far a growth has got.
const GROWTH: &[&str] = &["-- tenancy::schema
    CREATE TABLE growth (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL) STRICT"];

/// What the shell does once the turn is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell every hub what is active now. Losing it is mended when the hub asks again.
    Refresh {
        /// What is active now.
        description: Description,
    },
    /// Tell every hub who may not come in any more; then [`access::told`]. Losing it is mended by the alarm.
    TellAccess {
        /// What is active now.
        description: Description,
    },
    /// Tell the object that keeps the schedules which there are now; then [`told`]. Losing it is mended by the alarm.
    TellSchedules {
        /// The version that they come from.
        version: u64,
        /// All of them.
        schedules: Vec<Schedule>,
    },
    /// Tell every object of the job queue which endpoints there are; then [`endpoints_told`]. Losing it is mended by the
    /// alarm.
    TellEndpoints {
        /// Their version.
        version: u64,
        /// How many objects there are.
        shards: u16,
        /// All of them, as text.
        endpoints: JsonText,
    },
    /// Tell an object of the job queue of the tenant's growth; then [`grown`]. Losing it is mended by the alarm.
    Grow {
        /// The step that it is told of.
        step: Step,
        /// What it is told, by its own index.
        growth: Growth,
    },
    /// Store the oldest entries of the audit trail elsewhere where they are [due](audit::archive::due), and delete them then.
    /// Losing it is mended by the next entry.
    Archive,
}

fn read(db: &impl Database) -> Result<Option<Description>, DatabaseError> {
    let rows = db.run(
        "-- tenancy::read\nSELECT version, revision, hubs, shards FROM tenant WHERE id = 1",
        &[],
    )?;
    let Some(mut description) = rows.into_iter().next().map(description).transpose()? else {
        return Ok(None);
    };
    if let Some(growing) = growth::recover(db)? {
        description.growing_to = growing.to();
        description.spreads = growing.spreads;
    } else {
        description.spreads = Spreads::only(description.scale.shards.max(1));
    }
    description.access = access::read(db)?;
    description.limits = set_limits(db)?;
    (description.webhook_generation, description.webhook_old_until) = endpoints::generation(db)?;
    Ok(Some(description))
}

fn description(mut row: Row) -> Result<Description, DatabaseError> {
    let version = row.number()?;
    let revision = row.optional_text()?.as_deref().and_then(Revision::parse);
    let mut count = || {
        row.number()
            .and_then(|n| u16::try_from(n).map_err(|_| DatabaseError::new("a count out of range")))
    };
    Ok(Description {
        revision,
        scale: Scale {
            hubs: count()?,
            shards: count()?,
        },
        version,
        spreads: Spreads::default(),
        growing_to: None,
        webhook_generation: 0,
        webhook_old_until: None,
        access: Access::default(),
        limits: None,
    })
}

fn write(db: &impl Database, description: &Description) -> Result<(), DatabaseError> {
    db.run(
        "-- tenancy::write
        INSERT INTO tenant (id, version, revision, hubs, shards) VALUES (1, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET version = excluded.version, revision = excluded.revision,
            hubs = excluded.hubs, shards = excluded.shards",
        &[
            Value::Number(description.version),
            description
                .revision
                .as_ref()
                .map_or(Value::Null, |revision| Value::Text(revision.as_str())),
            Value::Number(u64::from(description.scale.hubs)),
            Value::Number(u64::from(description.scale.shards)),
        ],
    )?;
    Ok(())
}

/// Answers `call`. The reply may be a refusal; an error is the database's, and rolls the turn back.
///
/// The first question fixes how the tenant is spread: from then on there may be jobs that were spread that way, and more
/// shards are a growth.
pub fn handle(
    db: &impl Database,
    now: UnixMs,
    call: Call,
) -> Result<(Result<Reply, Error>, Vec<Effect>), DatabaseError> {
    let current = read(db)?;
    match call {
        Call::Describe => {
            let first = !current.as_ref().is_some_and(is_spread);
            let description = or_first(db, current)?;
            let effects = if first { untold_endpoints(db)? } else { None };
            Ok((Ok(Reply::Description(description)), effects.into_iter().collect()))
        }
        Call::Since { version } => {
            // Whoever asks who may come in does not fix how the tenant is spread.
            let reply = match current {
                Some(description) if description.version == version => Reply::Same,
                current => Reply::Description(current.unwrap_or_else(unspread)),
            };
            Ok((Ok(reply), Vec::new()))
        }
        Call::Access { change, caller } => {
            let description = current.unwrap_or_else(unspread);
            match access::change(db, now, change, &caller)? {
                Err(refusal) => Ok((Err(refusal), Vec::new())),
                Ok(Changed::Nothing(shown)) => Ok((Ok(Reply::Shown(shown)), alloc::vec![Effect::Archive])),
                Ok(Changed::Access(shown)) => {
                    let effects = alloc::vec![tell_access(db, description)?, Effect::Archive];
                    Ok((Ok(Reply::Shown(shown)), effects))
                }
            }
        }
        Call::Keys => Ok((shown(JsonText::of(&access::keys(db)?)), Vec::new())),
        Call::Revocations => Ok((shown(JsonText::of(&access::revocations(db, now)?)), Vec::new())),
        Call::Activate {
            document,
            revision,
            scale,
            schedules,
            by,
            act,
            secrets,
        } => {
            if let Some(refusal) = secrets::missing(db, &secrets)? {
                return Ok((Err(refusal), Vec::new()));
            }
            // More shards are there once their objects are ready: until then the tenant is spread as it was.
            let (grows, scale) = match current.as_ref().filter(|current| is_spread(current)) {
                None => (Vec::new(), scale),
                Some(current) => match growth::begin(db, current.scale, scale)? {
                    Ok(effects) => (effects, current.scale),
                    Err(refusal) => return Ok((Err(refusal), Vec::new())),
                },
            };
            let replaced = current.as_ref().and_then(|current| current.revision.clone());
            note_activation(db, now, &revision, replaced, &by, act)?;
            db.run(
                "-- tenancy::activate
                INSERT INTO composition (revision, document, activated_at, activated_by) VALUES (?, ?, ?, ?)
                ON CONFLICT (revision) DO UPDATE SET activated_at = excluded.activated_at,
                    activated_by = excluded.activated_by",
                &[
                    Value::Text(revision.as_str()),
                    Value::Text(&document),
                    Value::Number(now.0),
                    Value::Text(&by),
                ],
            )?;
            let version = current.map_or(1, |current| current.version + 1);
            let description = Description {
                revision: Some(revision),
                scale,
                version,
                ..unspread()
            };
            write(db, &description)?;
            // Hubs hear of the new version with the composition.
            usage::set_budgets(db, now, SetBy::Composition, &usage::of_composition(&document))?;
            let description = read(db)?.unwrap_or(description);
            schedules::replace(db, version, schedules, scale)?;
            let refresh = Effect::Refresh {
                description: description.clone(),
            };
            let effects = [Effect::Archive, refresh]
                .into_iter()
                .chain(grows)
                .chain(untold(db)?)
                .chain(untold_endpoints(db)?)
                .collect();
            Ok((Ok(Reply::Description(description)), effects))
        }
        Call::Document { revision } => {
            let rows = db.run(
                "-- tenancy::document
                SELECT document FROM composition WHERE revision = ?",
                &[Value::Text(revision.as_str())],
            )?;
            let reply = match rows.into_iter().next() {
                Some(mut row) => Ok(Reply::Document(row.text()?)),
                None => Err(Error::not_found()),
            };
            Ok((reply, Vec::new()))
        }
        Call::Record { shard, entries } => {
            audit::record(db, now, shard, &entries)?;
            let tells = if endpoints::hear(db, &entries)? {
                untold_endpoints(db)?
            } else {
                None
            };
            Ok((
                Ok(Reply::Recorded),
                tells.into_iter().chain([Effect::Archive]).collect(),
            ))
        }
        Call::Audit(query) => {
            let page = JsonText::of(&audit::list(db, now, &query)?);
            let page =
                page.ok_or_else(|| Error::new(ErrorCode::InternalError, "The audit trail could not be written."));
            Ok((page.map(Reply::Audit), Vec::new()))
        }
        call @ (Call::SetSecret { .. } | Call::DeleteSecret { .. }) => {
            Ok((secrets::handle(db, now, call)?, alloc::vec![Effect::Archive]))
        }
        Call::Usage {
            window,
            from,
            to,
            prices,
            currency,
            form,
        } => {
            let prices = Prices {
                currency,
                parts: prices,
            };
            let window = Window::parse(&window).unwrap_or(Window::Day);
            let view = usage::show(db, now, window, (from, to), &prices, form)?;
            Ok((shown(view), Vec::new()))
        }
        Call::SetBudgets { budgets, caller } => {
            let budgets = match usage::parse_budgets(&budgets) {
                Ok(budgets) => budgets,
                Err(refusal) => return Ok((Err(refusal), Vec::new())),
            };
            usage::note_set(db, now, &caller)?;
            let mut effects = alloc::vec![Effect::Archive];
            if usage::set_budgets(db, now, SetBy::Operator, &budgets)? {
                effects.push(tell_access(db, current.unwrap_or_else(unspread))?);
            }
            Ok((shown(usage::show_budgets(db, now)?), effects))
        }
        Call::SetLimits { limits, caller } => {
            let changed = match limits::set(db, now, &limits, &caller)? {
                Ok(changed) => changed,
                Err(refusal) => return Ok((Err(refusal), Vec::new())),
            };
            let mut effects = alloc::vec![Effect::Archive];
            if changed {
                let mut description = current.unwrap_or_else(unspread);
                description.limits = set_limits(db)?;
                schedules::tell_again(db, description.version + 1)?;
                effects.push(tell_access(db, description)?);
                effects.extend(untold(db)?);
            }
            Ok((Ok(Reply::Ended), effects))
        }
        call @ (Call::ListSecrets { .. } | Call::Secrets { .. }) => Ok((secrets::handle(db, now, call)?, Vec::new())),
        Call::Channels(asked) => {
            let suspended_at = current.and_then(|current| current.access.suspended_at);
            Ok((channels::handle(db, suspended_at, asked)?, Vec::new()))
        }
        Call::Endpoints => Ok((shown(JsonText::of(&endpoints::list(db)?)), Vec::new())),
        Call::ChangeEndpoints { change, caller } => match endpoints::change(db, now, change, &caller)? {
            Err(refusal) => Ok((Err(refusal), Vec::new())),
            Ok(endpoints::Changed::Endpoints(shown)) => {
                let tells = untold_endpoints(db)?.into_iter();
                Ok((Ok(Reply::Shown(shown)), tells.chain([Effect::Archive]).collect()))
            }
            Ok(endpoints::Changed::Secret(shown)) => {
                let mut description = current.unwrap_or_else(unspread);
                description.version += 1;
                write(db, &description)?;
                Ok((Ok(Reply::Shown(shown)), alloc::vec![Effect::Archive]))
            }
        },
        // Decided by [`crate::admission::Gate`], [`connections::lend`], [`access::identify`], [`crate::upstreams::Breakers`],
        // [`crate::health`], [`idempotency::Keys`] and [`used`], which the object asks itself.
        Call::Used(_)
        | Call::Admit(_)
        | Call::GiveBack { .. }
        | Call::Limits { .. }
        | Call::Refused { .. }
        | Call::Connect { .. }
        | Call::Identify { .. }
        | Call::Consult(_)
        | Call::Upstreams
        | Call::Health { .. }
        | Call::SetBreaker(_)
        | Call::Begin { .. }
        | Call::End { .. } => {
            let message = "A question reached the wrong part of the gate.";
            Ok((Err(Error::new(ErrorCode::InternalError, message)), Vec::new()))
        }
    }
}

/// Takes in what objects have counted, the gate itself among them. Where a budget is spent by it, hubs hear of that.
///
/// Errors: the database's.
pub fn used(
    db: &impl Database,
    now: UnixMs,
    reports: impl Iterator<Item = Report>,
) -> Result<Vec<Effect>, DatabaseError> {
    if !usage::hear(db, now, reports)? {
        return Ok(Vec::new());
    }
    let description = read(db)?.unwrap_or_else(unspread);
    Ok(alloc::vec![tell_access(db, description)?, Effect::Archive])
}

/// Who is refused has changed: every hub is to hear of it.
fn tell_access(db: &impl Database, mut description: Description) -> Result<Effect, DatabaseError> {
    description.version += 1;
    write(db, &description)?;
    access::untold_of(db, description.version)?;
    description.access = access::read(db)?;
    Ok(Effect::TellAccess { description })
}

/// What the alarm of a gate is for: what was not confirmed is told again, and the trail is looked at.
///
/// Errors: the database's.
pub fn unfinished(db: &impl Database) -> Result<Vec<Effect>, DatabaseError> {
    let mut effects = ungrown(db)?;
    effects.extend(untold(db)?);
    effects.extend(untold_access(db)?);
    effects.extend(untold_endpoints(db)?);
    effects.push(Effect::Archive);
    Ok(effects)
}

/// What objects of the job queue have not confirmed that they heard of endpoints. Where there are none yet, nobody has to.
///
/// Errors: the database's.
pub fn untold_endpoints(db: &impl Database) -> Result<Option<Effect>, DatabaseError> {
    let Some((version, endpoints)) = endpoints::untold(db)? else {
        return Ok(None);
    };
    let description = read(db)?.filter(is_spread);
    Ok(description.map(|description| Effect::TellEndpoints {
        version,
        shards: description.reach(),
        endpoints,
    }))
}

/// Every object of the job queue has the endpoints of `version`. Gives what had to wait for that.
///
/// Errors: the database's.
pub fn endpoints_told(db: &impl Database, version: u64) -> Result<Vec<Effect>, DatabaseError> {
    endpoints::told(db, version)?;
    ungrown(db)
}

/// What hubs have not confirmed that they heard of who may not come in any more.
///
/// Errors: the database's.
pub fn untold_access(db: &impl Database) -> Result<Option<Effect>, DatabaseError> {
    if !access::untold(db)? {
        return Ok(None);
    }
    Ok(read(db)?.map(|description| Effect::TellAccess { description }))
}

/// The directory knows the tenant, and its gate begins with this version. It is 0 for one that was never erased, which takes
/// no row.
///
/// Errors: the database's.
pub fn begin(db: &impl Database, version: u64) -> Result<(), DatabaseError> {
    if version > 0 && read(db)?.is_none() {
        write(db, &Description { version, ..unspread() })?;
    }
    directory::told(db, None)
}

/// The gate is back, from a backup or as what it was at an earlier time, by `by`: the tenant is suspended, whatever it was then, and its
/// description begins above `version`. Gives what it begins with. Told again, it changes nothing.
///
/// Errors: the database's.
pub fn restored(db: &impl Database, now: UnixMs, version: u64, by: &Caller) -> Result<u64, DatabaseError> {
    let from_backup = backup::restored(db, STEPS)?;
    if !from_backup {
        migrate(db, STEPS)?;
    }
    let mut description = read(db)?.unwrap_or_else(unspread);
    if !from_backup && description.version > version {
        return Ok(description.version);
    }
    description.version = description.version.max(version);
    audit::note(db, now, by, AuditWhat::TenantRestored, AuditTarget::default())?;
    let _suspended_already = access::change(db, now, Change::Suspend, by)?;
    // Nobody is told: there are no sockets yet, and whoever comes asks first.
    tell_access(db, description)?;
    Ok(read(db)?.map_or(0, |description| description.version))
}

/// A backup of the tenant is whole.
///
/// Errors: the database's.
pub fn backed_up(db: &impl Database, now: UnixMs, by: &Caller) -> Result<Vec<Effect>, DatabaseError> {
    audit::note(db, now, by, AuditWhat::TenantBackedUp, AuditTarget::default())?;
    Ok(alloc::vec![Effect::Archive])
}

/// What a gate that holds nothing answers, whose tenant the directory calls erased.
///
/// Errors: `CONFLICT` for a change of who may come in; `TENANT_SUSPENDED` for anything else that does more than ask.
pub fn of_erased(call: &Call, erased_at: UnixMs, version: u64) -> Result<Reply, Error> {
    match call {
        Call::Since { .. } | Call::Describe => Ok(Reply::Description(erased(erased_at, version))),
        Call::Access { .. } => {
            let message = "The tenant is erased, or is being erased. When that has ended, it can be created again.";
            Err(Error::new(ErrorCode::Conflict, message))
        }
        _ => {
            let message = "The tenant is suspended. Its operator can say why.";
            Err(Error::new(ErrorCode::TenantSuspended, message))
        }
    }
}

/// What is told of a tenant that was erased, by a gate that holds nothing: nobody comes in.
fn erased(erased_at: UnixMs, version: u64) -> Description {
    let access = Access {
        suspended_at: Some(erased_at),
        ..Access::default()
    };
    Description {
        version,
        scale: Scale::default(),
        access,
        ..unspread()
    }
}

/// A tenant of which nobody has asked how it is spread. It may have API keys already.
fn unspread() -> Description {
    Description {
        revision: None,
        scale: Scale { hubs: 0, shards: 0 },
        version: 0,
        spreads: Spreads::only(1),
        growing_to: None,
        webhook_generation: 0,
        webhook_old_until: None,
        access: Access::default(),
        limits: None,
    }
}

/// Whether it is fixed how the tenant is spread: then there may be hubs and jobs.
fn is_spread(description: &Description) -> bool {
    description.scale.hubs > 0
}

/// The tenant as it is. The first question fixes how it is spread.
fn or_first(db: &impl Database, current: Option<Description>) -> Result<Description, DatabaseError> {
    match current {
        Some(description) if is_spread(&description) => Ok(description),
        current => {
            let mut first = current.unwrap_or_else(unspread);
            first.scale = Scale::default();
            first.version += 1;
            write(db, &first)?;
            Ok(first)
        }
    }
}

pub(crate) fn shown(text: Option<JsonText>) -> Result<Reply, Error> {
    text.map(Reply::Shown)
        .ok_or_else(|| Error::new(ErrorCode::InternalError, "The answer could not be written."))
}

/// Notes for the audit trail which composition takes the place of which. One that is active already changes nothing.
fn note_activation(
    db: &impl Database,
    now: UnixMs,
    revision: &Revision,
    replaced: Option<Revision>,
    by: &str,
    act: Option<Box<Act>>,
) -> Result<(), DatabaseError> {
    let Some(user) = UserId::parse(by).filter(|_| replaced.as_ref() != Some(revision)) else {
        return Ok(());
    };
    let known = db.run(
        "-- tenancy::note_activation
        SELECT activated_at FROM composition WHERE revision = ?",
        &[Value::Text(revision.as_str())],
    )?;
    let what = if known.is_empty() {
        AuditWhat::CompositionActivated
    } else {
        AuditWhat::CompositionRolledBack
    };
    let target = AuditTarget {
        revision: Some(revision.clone()),
        replaced,
        ..AuditTarget::default()
    };
    let caller = Caller {
        user,
        reads_all: true,
        writes_all: true,
        act,
    };
    audit::note(db, now, &caller, what, target)
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests {
    use super::*;
    use crate::database::migrate;
    use crate::database::native::Native;

    fn activate(db: &Native, revision: &str, hubs: u16) -> Result<Reply, Error> {
        let revision = Revision::parse(revision).unwrap();
        let scale = Scale { hubs, shards: 1 };
        handle(
            db,
            UnixMs(5),
            Call::Activate {
                document: "{}".into(),
                revision,
                scale,
                schedules: Vec::new(),
                by: "u".into(),
                act: None,
                secrets: Vec::new(),
            },
        )
        .unwrap()
        .0
    }

    /// Activates a composition with so many schedules.
    fn schedule(db: &Native, revision: &str, count: usize) -> Vec<Effect> {
        let schedule = crate::jobs::tests::a_schedule();
        let call = Call::Activate {
            document: "{}".into(),
            revision: Revision::parse(revision).unwrap(),
            scale: Scale { hubs: 1, shards: 1 },
            schedules: alloc::vec![schedule; count],
            by: "u".into(),
            act: None,
            secrets: Vec::new(),
        };
        let (reply, effects) = handle(db, UnixMs(5), call).unwrap();
        reply.unwrap();
        effects
    }

    #[test]
    fn a_document_is_kept_under_its_revision_and_the_newest_is_active() {
        let db = Native::in_memory().unwrap();
        migrate(&db, STEPS).unwrap();
        activate(&db, "rev_1", 2).unwrap();
        activate(&db, "rev_2", 2).unwrap();
        let (reply, _) = handle(&db, UnixMs(6), Call::Describe).unwrap();
        let Ok(Reply::Description(description)) = reply else {
            panic!("{reply:?}")
        };
        assert_eq!(description.revision.unwrap().as_str(), "rev_2");
        assert_eq!((description.scale.hubs, description.version), (2, 2));
        let old = Call::Document {
            revision: Revision::parse("rev_1").unwrap(),
        };
        assert_eq!(handle(&db, UnixMs(6), old).unwrap().0, Ok(Reply::Document("{}".into())));
    }

    #[test]
    fn every_document_stays_whatever_is_activated_after_it_and_an_earlier_one_is_itself_again() {
        let db = Native::in_memory().unwrap();
        migrate(&db, STEPS).unwrap();
        let document = |n: usize| alloc::format!("{{\"n\":{n}}}");
        let revision = |n: usize| Revision::parse(&alloc::format!("rev_{n}")).unwrap();
        let activate = |n| {
            let call = Call::Activate {
                document: document(n),
                revision: revision(n),
                scale: Scale::default(),
                schedules: Vec::new(),
                by: "u".into(),
                act: None,
                secrets: Vec::new(),
            };
            match handle(&db, UnixMs(5), call).unwrap().0 {
                Ok(Reply::Description(description)) => description,
                other => panic!("{other:?}"),
            }
        };
        (0..100).for_each(|n| drop(activate(n)));
        let back = activate(7);
        assert_eq!((back.revision, back.version), (Some(revision(7)), 101));
        for n in 0..100 {
            let call = Call::Document { revision: revision(n) };
            assert_eq!(
                handle(&db, UnixMs(6), call).unwrap().0,
                Ok(Reply::Document(document(n)))
            );
        }
    }

    #[test]
    fn schedules_are_told_until_they_are_confirmed_and_the_newest_alone() {
        let db = Native::in_memory().unwrap();
        migrate(&db, STEPS).unwrap();
        activate(&db, "rev_1", 1).unwrap();
        assert_eq!(untold(&db).unwrap(), None, "there never were any");
        let version_of = |effect: &Option<Effect>| match effect {
            Some(Effect::TellSchedules { version, schedules }) => Some((*version, schedules.len())),
            _ => None,
        };
        let effects = schedule(&db, "rev_2", 1);
        assert_eq!(version_of(&effects.last().cloned()), Some((2, 1)));
        assert_eq!(version_of(&untold(&db).unwrap()), Some((2, 1)));
        // A rollback to what has none takes them away; the confirmation of the old ones says nothing of that.
        activate(&db, "rev_1", 1).unwrap();
        told(&db, 2).unwrap();
        assert_eq!(version_of(&untold(&db).unwrap()), Some((3, 0)));
        told(&db, 3).unwrap();
        assert_eq!(untold(&db).unwrap(), None);
    }

    #[test]
    fn a_tenant_in_use_keeps_its_hubs() {
        let db = Native::in_memory().unwrap();
        migrate(&db, STEPS).unwrap();
        handle(&db, UnixMs(1), Call::Describe).unwrap().0.unwrap();
        let refused = activate(&db, "rev_1", 2).unwrap_err();
        assert_eq!(refused.code, tidegate_protocol::ErrorCode::NotImplemented);
        activate(&db, "rev_1", 1).unwrap();
    }
}
