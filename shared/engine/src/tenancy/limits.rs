//! What the deployment's operator allows the tenant: one row, which travels to every hub with the tenant's description.

use tidegate_protocol::Error;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{AuditTarget, AuditWhat};
use tidegate_protocol::time::UnixMs;

use crate::audit;
use crate::composition::DeploymentLimits;
use crate::database::{Database, DatabaseError, Value};

/// The table of the gate. Without a row, the deployment limits nothing.
pub const LIMITS: &[&str] = &["-- tenancy::schema
    CREATE TABLE deployment_limits (id INTEGER PRIMARY KEY CHECK (id = 1), document TEXT NOT NULL) STRICT"];

/// The limits that are set.
///
/// Errors: the database's.
pub fn set_limits(db: &impl Database) -> Result<Option<JsonText>, DatabaseError> {
    let rows = db.run(
        "-- tenancy::set_limits\nSELECT document FROM deployment_limits WHERE id = 1",
        &[],
    )?;
    match rows.into_iter().next() {
        Some(mut row) => Ok(JsonText::parse(&row.text()?)),
        None => Ok(None),
    }
}

/// Has the limits of `text` take the place of those before. Gives whether they are others; the refusal is that of
/// [`DeploymentLimits::parse`].
///
/// Errors: the database's.
pub(super) fn set(
    db: &impl Database,
    now: UnixMs,
    text: &str,
    caller: &Caller,
) -> Result<Result<bool, Error>, DatabaseError> {
    let limits = match DeploymentLimits::parse(text) {
        Ok((_, limits)) => limits,
        Err(refusal) => return Ok(Err(refusal)),
    };
    audit::note(db, now, caller, AuditWhat::LimitsSet, AuditTarget::default())?;
    if set_limits(db)? == limits {
        return Ok(Ok(false));
    }
    match &limits {
        Some(limits) => db.run(
            "-- tenancy::set_limits
            INSERT OR REPLACE INTO deployment_limits (id, document) VALUES (1, ?)",
            &[Value::Text(limits.as_str())],
        )?,
        None => db.run("-- tenancy::set_limits\nDELETE FROM deployment_limits", &[])?,
    };
    Ok(Ok(true))
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests {
    use alloc::vec::Vec;

    use tidegate_protocol::calls::schedules::Schedule;
    use tidegate_protocol::calls::tenant::{Call, Description, Reply, Scale};
    use tidegate_protocol::ids::{Revision, UserId};

    use super::super::{Effect, STEPS, handle, told, untold_access};
    use super::*;
    use crate::access;
    use crate::database::migrate;
    use crate::database::native::Native;

    const LIMITS: &str = r#"{"queue":{"concurrency":3,"waiting":9}}"#;

    fn operator() -> Caller {
        Caller {
            user: UserId::parse("op").unwrap(),
            reads_all: true,
            writes_all: true,
            act: None,
        }
    }

    fn set_to(db: &Native, limits: &str) -> (Result<Reply, Error>, Vec<Effect>) {
        let call = Call::SetLimits {
            limits: limits.into(),
            caller: operator(),
        };
        handle(db, UnixMs(7), call).unwrap()
    }

    fn tenant() -> Native {
        let db = Native::in_memory().unwrap();
        migrate(&db, STEPS).unwrap();
        let call = Call::Activate {
            document: "{}".into(),
            revision: Revision::parse("rev_1").unwrap(),
            scale: Scale::default(),
            schedules: alloc::vec![crate::jobs::tests::a_schedule()],
            by: "u".into(),
            act: None,
            secrets: Vec::new(),
        };
        handle(&db, UnixMs(5), call).unwrap().0.unwrap();
        told(&db, 1).unwrap();
        db
    }

    fn described(db: &Native) -> Description {
        match handle(db, UnixMs(8), Call::Since { version: 0 }).unwrap().0 {
            Ok(Reply::Description(description)) => description,
            other => panic!("{other:?}"),
        }
    }

    fn schedules(effects: &[Effect]) -> Option<(u64, &Schedule)> {
        effects.iter().find_map(|effect| match effect {
            Effect::TellSchedules { version, schedules } => Some((*version, schedules.first()?)),
            _ => None,
        })
    }

    #[test]
    fn limits_travel_with_the_description_until_every_hub_has_confirmed_them() {
        let db = tenant();
        let before = described(&db);
        assert_eq!(before.limits, None);
        let (reply, effects) = set_to(&db, LIMITS);
        assert_eq!(reply, Ok(Reply::Ended));
        let after = described(&db);
        assert_eq!(after.limits, JsonText::parse(LIMITS));
        assert_eq!(after.version, before.version + 1);
        let tells = Effect::TellAccess {
            description: after.clone(),
        };
        assert!(effects.contains(&tells), "{effects:?}");
        // A gate that starts again tells it again.
        assert_eq!(untold_access(&db).unwrap(), Some(tells));
        access::told(&db, after.version).unwrap();
        assert_eq!(untold_access(&db).unwrap(), None);
        // The same once more changes nothing; a composition of the tenant's neither.
        assert_eq!(set_to(&db, LIMITS).1, [Effect::Archive]);
        let call = Call::Activate {
            document: "{}".into(),
            revision: Revision::parse("rev_2").unwrap(),
            scale: Scale::default(),
            schedules: Vec::new(),
            by: "u".into(),
            act: None,
            secrets: Vec::new(),
        };
        handle(&db, UnixMs(9), call).unwrap().0.unwrap();
        assert_eq!(described(&db).limits, JsonText::parse(LIMITS));
        set_to(&db, "{}").0.unwrap();
        assert_eq!(described(&db).limits, None);
    }

    #[test]
    fn jobs_of_schedules_wait_under_them_as_well() {
        let db = tenant();
        let (_, effects) = set_to(&db, LIMITS);
        let (version, schedule) = schedules(&effects).unwrap();
        assert_eq!(version, described(&db).version);
        let queueing = &schedule.job.queueing;
        assert_eq!(queueing.bounds.tenant, Some(9));
        let names: Vec<&str> = queueing.limits.iter().map(|counted| counted.limit.as_str()).collect();
        assert_eq!(
            names.iter().filter(|name| **name == "deployment:concurrency").count(),
            1
        );
        // They are kept without: what is taken away is gone.
        told(&db, version).unwrap();
        let (_, effects) = set_to(&db, "{}");
        let (_, schedule) = schedules(&effects).unwrap();
        assert_eq!(schedule.job.queueing, crate::jobs::tests::a_schedule().job.queueing);
    }

    #[test]
    fn what_is_wrong_changes_nothing() {
        let db = tenant();
        set_to(&db, LIMITS).0.unwrap();
        let (reply, effects) = set_to(&db, r#"{"queue":{"waiting":0},"x":1}"#);
        assert_eq!((reply.unwrap_err().details.len(), effects), (2, Vec::new()));
        assert_eq!(set_limits(&db).unwrap(), JsonText::parse(LIMITS));
    }
}
