//! How a tenant comes to have more shards: one step after the other, each told again until every object has confirmed it.
//!
//! 1. **Waking**: the new objects learn of each other, and sleep: they take jobs and start none.
//! 2. **Sealing**: the old ones learn of the new ones. From that turn on each takes no new key of a partition that it
//!    has lost, numbers its jobs in its own, and keeps within its new part of every throttle. It tells what is paused.
//! 3. **Beginning**: the new objects learn what is paused, and start what counts under no throttle. Then the new spread is
//!    published: whoever knows it finds every object ready for it, and whoever does not is told by a sealed one.
//! 4. **Opening**: the new objects start what counts under throttles.
//!
//! The step and who has confirmed it are rows. A confirmation of an earlier step, or a second one, changes nothing.

use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::calls::queueing::Pause;
use tidegate_protocol::calls::spread::{GROWTHS_MAX, Grown, Growth, Spread, Spreads, Standing};
use tidegate_protocol::calls::tenant::Scale;
use tidegate_protocol::ids::{JobNumber, ShardIndex};
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::{Effect, read, write};
use crate::database::{Database, DatabaseError, Value, from_blob, to_blob};
use crate::endpoints;

/// How soon an administrator may ask again who wants to grow a tenant that is growing. Milliseconds.
const GROWN_SOON_MS: u64 = 5_000;

/// A step of a growth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The new objects learn of each other.
    Waking,
    /// The old objects learn of the new ones.
    Sealing,
    /// The new objects learn what is paused.
    Beginning,
    /// The new objects may start what counts under throttles. Older code stored a step before this one, in which nothing was
    /// left to do.
    #[serde(alias = "settling")]
    Opening,
}

impl Step {
    fn next(self) -> Option<Self> {
        match self {
            Self::Waking => Some(Self::Sealing),
            Self::Sealing => Some(Self::Beginning),
            Self::Beginning => Some(Self::Opening),
            Self::Opening => None,
        }
    }

    fn standing(self) -> Standing {
        match self {
            Self::Waking => Standing::Asleep,
            Self::Beginning => Standing::Limited,
            Self::Sealing | Self::Opening => Standing::Open,
        }
    }
}

/// A growth that is under way.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
struct UnderWay {
    from: u16,
    to: u16,
    step: Step,
    /// Who has confirmed the step.
    done: Vec<ShardIndex>,
    /// What was paused in the old objects as they were sealed.
    pauses: Vec<Pause>,
    /// The highest number that an old object had given out as it was sealed.
    last: JobNumber,
}

impl UnderWay {
    /// Whom the step is for.
    fn addressed(&self) -> impl Iterator<Item = ShardIndex> {
        let shards = match self.step {
            Step::Sealing => 0..self.from,
            Step::Waking | Step::Beginning | Step::Opening => self.from..self.to,
        };
        shards.map(ShardIndex)
    }
}

/// How the tenant is spread, and how it was.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(super) struct Growing {
    pub spreads: Spreads,
    under_way: Option<UnderWay>,
}

impl Growing {
    /// How many shards there will be, where the tenant is growing.
    pub fn to(&self) -> Option<u16> {
        self.under_way.as_ref().map(|under_way| under_way.to)
    }

    /// Whether the new objects begin only once they have heard of the tenant's endpoints: they would end jobs of which
    /// nobody is told.
    fn has_to_wait(&self, db: &impl Database) -> Result<bool, DatabaseError> {
        let begins = |under_way: &UnderWay| under_way.step == Step::Beginning;
        Ok(self.under_way.as_ref().is_some_and(begins) && endpoints::untold(db)?.is_some())
    }

    fn effects(&self) -> Vec<Effect> {
        let Some(under_way) = &self.under_way else {
            return Vec::new();
        };
        let step = under_way.step;
        let mut history = self.spreads.history();
        if self.spreads.shards() < under_way.to {
            history.push(under_way.to);
        }
        let pauses = match step {
            Step::Beginning => under_way.pauses.clone(),
            _ => Vec::new(),
        };
        // The old ones know their own.
        let after = match step {
            Step::Beginning | Step::Opening => under_way.last,
            Step::Waking | Step::Sealing => JobNumber(0),
        };
        let missing = under_way.addressed().filter(|shard| !under_way.done.contains(shard));
        let tell = |shard| Effect::Grow {
            step,
            growth: Growth {
                shard,
                history: history.clone(),
                standing: step.standing(),
                pauses: pauses.clone(),
                after,
            },
        };
        missing.map(tell).collect()
    }
}

/// Reads how the tenant is spread. `None` where that was never written: it never grew.
pub(super) fn recover(db: &impl Database) -> Result<Option<Growing>, DatabaseError> {
    let rows = db.run(
        "-- tenancy::growth::recover\nSELECT state FROM growth WHERE id = 1",
        &[],
    )?;
    match rows.into_iter().next() {
        Some(mut row) => from_blob(&row.blob()?).map(Some),
        None => Ok(None),
    }
}

fn store(db: &impl Database, growing: &Growing) -> Result<(), DatabaseError> {
    db.run(
        "-- tenancy::growth::store
        INSERT INTO growth (id, state) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state",
        &[Value::Blob(&to_blob(growing)?)],
    )?;
    Ok(())
}

/// Whether a tenant of `current` may be spread as `wanted`, and what is to be told where that is more.
///
/// Errors: the refusal of a spread that cannot be.
pub(super) fn begin(
    db: &impl Database,
    current: Scale,
    wanted: Scale,
) -> Result<Result<Vec<Effect>, Error>, DatabaseError> {
    let growing = recover(db)?.unwrap_or_else(|| Growing {
        spreads: Spreads::only(current.shards),
        under_way: None,
    });
    let reach = growing.to().unwrap_or(current.shards);
    if let Some(refusal) = refusal(&growing, current, reach, wanted) {
        return Ok(Err(refusal));
    }
    if wanted.shards == reach {
        return Ok(Ok(Vec::new()));
    }
    let growing = Growing {
        under_way: Some(UnderWay {
            from: current.shards,
            to: wanted.shards,
            step: Step::Waking,
            done: Vec::new(),
            pauses: Vec::new(),
            last: JobNumber(0),
        }),
        ..growing
    };
    store(db, &growing)?;
    endpoints::tell_all(db)?;
    Ok(Ok(growing.effects()))
}

fn refusal(growing: &Growing, current: Scale, reach: u16, wanted: Scale) -> Option<Error> {
    if wanted.hubs != current.hubs {
        let message = "Changing the number of hubs of a tenant that is in use is not there yet.";
        return Some(Error::new(ErrorCode::NotImplemented, message));
    }
    if wanted.shards > reach && growing.to().is_some() {
        let message = alloc::format!("The tenant is still growing to {reach} shards.");
        return Some(Error::new(ErrorCode::Conflict, message).retry_after(GROWN_SOON_MS));
    }
    let expected = if wanted.shards < reach {
        alloc::format!("at least {reach}: the shards of a tenant that is in use never become fewer")
    } else if wanted.shards > reach && growing.spreads.0.len() > GROWTHS_MAX {
        alloc::format!("{reach}: a tenant grows {GROWTHS_MAX} times at most")
    } else {
        return None;
    };
    let fault = Fault::new("/scale/shards", expected, &alloc::format!("{}", wanted.shards));
    Some(Error::invalid(
        "The tenant cannot be spread that way.",
        alloc::vec![fault],
    ))
}

/// What is still to be told of a growth.
///
/// Errors: the database's.
pub fn ungrown(db: &impl Database) -> Result<Vec<Effect>, DatabaseError> {
    match recover(db)? {
        Some(growing) if !growing.has_to_wait(db)? => Ok(growing.effects()),
        _ => Ok(Vec::new()),
    }
}

/// The object `shard` has confirmed `step`. Gives what is to be told next, where all have.
///
/// Errors: the database's.
pub fn grown(db: &impl Database, step: Step, shard: ShardIndex, grown: Grown) -> Result<Vec<Effect>, DatabaseError> {
    let Some(mut growing) = recover(db)? else {
        return Ok(Vec::new());
    };
    let Some(under_way) = growing
        .under_way
        .as_mut()
        .filter(|under_way| under_way.step == step && !under_way.done.contains(&shard))
    else {
        return Ok(Vec::new());
    };
    if step == Step::Sealing {
        under_way.last = under_way.last.max(grown.last);
        for pause in grown.pauses {
            if !under_way.pauses.iter().any(|known| known.scope == pause.scope) {
                under_way.pauses.push(pause);
            }
        }
    }
    under_way.done.push(shard);
    if !under_way.addressed().all(|shard| under_way.done.contains(&shard)) {
        store(db, &growing)?;
        return Ok(Vec::new());
    }
    under_way.done.clear();
    let (to, last) = (under_way.to, under_way.last);
    match step.next() {
        Some(next) => under_way.step = next,
        None => growing.under_way = None,
    }
    if step == Step::Beginning {
        growing.spreads.0.push(Spread { shards: to, from: last });
    }
    store(db, &growing)?;
    let mut effects = ungrown(db)?;
    if (step == Step::Beginning || growing.under_way.is_none())
        && let Some(mut description) = read(db)?
    {
        description.version += 1;
        description.scale.shards = growing.spreads.shards();
        write(db, &description)?;
        effects.push(Effect::Refresh { description });
    }
    Ok(effects)
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests {
    use super::*;
    use crate::database::migrate;
    use crate::database::native::Native;
    use crate::tenancy::{STEPS, handle};
    use tidegate_protocol::calls::queueing::PauseScope;
    use tidegate_protocol::calls::tenant::{Call, Description, Reply};
    use tidegate_protocol::ids::{Revision, UserId};
    use tidegate_protocol::time::UnixMs;

    fn activate(db: &Native, shards: u16) -> Result<Vec<Effect>, Error> {
        let call = Call::Activate {
            document: "{}".into(),
            revision: Revision::parse("rev").unwrap(),
            scale: Scale { hubs: 1, shards },
            schedules: Vec::new(),
            by: "u".into(),
            act: None,
            secrets: Vec::new(),
        };
        let (reply, effects) = handle(db, UnixMs(5), call).unwrap();
        reply.map(|_| effects)
    }

    fn describe(db: &Native) -> Description {
        match handle(db, UnixMs(5), Call::Describe).unwrap().0 {
            Ok(Reply::Description(description)) => description,
            other => panic!("{other:?}"),
        }
    }

    /// A tenant of so many shards, in use.
    fn tenant(shards: u16) -> Native {
        let db = Native::in_memory().unwrap();
        migrate(&db, STEPS).unwrap();
        activate(&db, shards).unwrap();
        db
    }

    fn told(effects: &[Effect]) -> Vec<(Step, Growth)> {
        let told = effects.iter().filter_map(|effect| match effect {
            Effect::Grow { step, growth } => Some((*step, growth.clone())),
            Effect::Refresh { .. }
            | Effect::TellAccess { .. }
            | Effect::TellEndpoints { .. }
            | Effect::TellSchedules { .. }
            | Effect::Archive => None,
        });
        told.collect()
    }

    fn shards(told: &[(Step, Growth)]) -> Vec<u16> {
        told.iter().map(|(_, growth)| growth.shard.0).collect()
    }

    fn answer(last: u64) -> Grown {
        Grown {
            last: JobNumber(last),
            pauses: Vec::new(),
        }
    }

    /// All who are told of `told` confirm it, and give what comes next.
    fn confirm(db: &Native, told: &[(Step, Growth)]) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (step, growth) in told {
            assert_eq!(effects, [], "only the last one lets it go on");
            effects = grown(db, *step, growth.shard, answer(growth.shard.0.into())).unwrap();
        }
        effects
    }

    #[test]
    fn new_objects_begin_only_once_they_have_heard_of_the_endpoints() {
        let db = tenant(1);
        let change = tidegate_protocol::calls::tenant::EndpointChange::Create {
            id: tidegate_protocol::ids::EndpointId::parse("end_a").unwrap(),
            body: r#"{"url":"https://a.example.com/"}"#.into(),
        };
        let caller = tidegate_protocol::calls::Caller {
            user: UserId::parse("u").unwrap(),
            reads_all: true,
            writes_all: true,
            act: None,
        };
        let (reply, effects) = handle(&db, UnixMs(5), Call::ChangeEndpoints { change, caller }).unwrap();
        reply.unwrap();
        let reach = |effects: &[Effect]| {
            effects.iter().find_map(|effect| match effect {
                Effect::TellEndpoints { version, shards, .. } => Some((*version, *shards)),
                _ => None,
            })
        };
        let (version, shards) = reach(&effects).unwrap();
        assert_eq!(shards, 1);
        crate::tenancy::endpoints_told(&db, version).unwrap();
        let effects = activate(&db, 2).unwrap();
        assert_eq!(reach(&effects), Some((version, 2)), "the new one as well");
        let sealing = confirm(&db, &told(&effects));
        assert_eq!(told(&sealing).len(), 1);
        assert_eq!(confirm(&db, &told(&sealing)), [], "it does not begin");
        assert_eq!(ungrown(&db).unwrap(), []);
        let beginning = crate::tenancy::endpoints_told(&db, version).unwrap();
        assert_eq!(told(&beginning)[0].0, Step::Beginning);
        confirm(&db, &told(&beginning));
        assert_eq!(describe(&db).scale.shards, 2);
    }

    #[test]
    fn a_growth_goes_from_step_to_step_and_is_published_between_the_pauses_and_the_limits() {
        let db = tenant(2);
        let waking = told(&activate(&db, 4).unwrap());
        assert_eq!(shards(&waking), [2, 3]);
        assert!(waking.iter().all(|(step, growth)| *step == Step::Waking
            && growth.history == [2, 4]
            && growth.standing == Standing::Asleep));
        let before = describe(&db);
        assert_eq!(
            (before.scale.shards, before.growing_to, before.reach()),
            (2, Some(4), 4)
        );

        let sealing = told(&confirm(&db, &waking));
        assert_eq!((sealing[0].0, shards(&sealing)), (Step::Sealing, [0, 1].to_vec()));
        let scope = PauseScope::Tenant;
        let pause = Pause {
            scope,
            by: UserId::parse("op").unwrap(),
            since: UnixMs(1),
        };
        let paused = Grown {
            pauses: alloc::vec![pause.clone()],
            ..answer(77)
        };
        assert_eq!(grown(&db, Step::Sealing, ShardIndex(1), paused.clone()).unwrap(), []);
        // What is confirmed twice, or late, changes nothing; what is missing is told again.
        assert_eq!(grown(&db, Step::Sealing, ShardIndex(1), paused).unwrap(), []);
        assert_eq!(grown(&db, Step::Waking, ShardIndex(2), answer(99)).unwrap(), []);
        assert_eq!(shards(&told(&ungrown(&db).unwrap())), [0]);

        let beginning = told(&grown(&db, Step::Sealing, ShardIndex(0), answer(5)).unwrap());
        assert_eq!(shards(&beginning), [2, 3]);
        assert!(
            beginning
                .iter()
                .all(|(_, growth)| growth.pauses == [pause.clone()] && growth.after.0 == 77)
        );
        assert_eq!(describe(&db).scale.shards, 2, "not before they know what is paused");
        let effects = confirm(&db, &beginning);
        let after = describe(&db);
        assert!(after.version > before.version);
        assert_eq!((after.scale.shards, after.reach()), (4, 4));
        let from = JobNumber(77);
        assert_eq!(after.spreads.0[1], Spread { shards: 4, from });
        assert!(effects.contains(&Effect::Refresh {
            description: after.clone()
        }));

        let opening = told(&effects);
        assert!(opening.iter().all(|(step, _)| *step == Step::Opening));
        assert!(opening.iter().all(|(_, growth)| growth.standing == Standing::Open));
        assert_eq!(shards(&opening), [2, 3]);
        assert_eq!(grown(&db, Step::Opening, ShardIndex(2), answer(0)).unwrap(), []);
        assert_eq!(
            shards(&told(&ungrown(&db).unwrap())),
            [3],
            "who has not confirmed is told again"
        );
        assert!(told(&grown(&db, Step::Opening, ShardIndex(3), answer(0)).unwrap()).is_empty());
        assert_eq!(ungrown(&db).unwrap(), []);
        assert_eq!(describe(&db).growing_to, None);
        // The next one tells the whole history.
        assert_eq!(told(&activate(&db, 5).unwrap())[0].1.history, [2, 4, 5]);
    }

    #[test]
    fn rows_of_the_version_before_are_still_read() {
        crate::database::vectors::are_still_read::<Growing>("tenancy::growth::Growing");
    }

    #[test]
    fn a_growth_that_older_code_left_behind_goes_on() {
        let step: Step = from_blob(&to_blob(&"settling").unwrap()).unwrap();
        assert_eq!(step, Step::Opening);
    }

    #[test]
    fn shards_never_become_fewer_and_one_growth_ends_before_the_next_begins() {
        let db = tenant(2);
        let fewer = activate(&db, 1).unwrap_err();
        assert_eq!(fewer.code, ErrorCode::ValidationError);
        assert_eq!(fewer.details[0].pointer, "/scale/shards");
        activate(&db, 3).unwrap();
        assert_eq!(activate(&db, 4).unwrap_err().code, ErrorCode::Conflict);
        assert_eq!(activate(&db, 2).unwrap_err().code, ErrorCode::ValidationError);
        // The same composition again, or another one of the same scale, is activated meanwhile.
        assert!(told(&activate(&db, 3).unwrap()).is_empty());
    }

    #[test]
    fn a_tenant_grows_a_few_times_and_no_more() {
        let db = tenant(1);
        for growth in 0..u16::try_from(GROWTHS_MAX).unwrap() {
            let mut effects = activate(&db, growth + 2).unwrap();
            while !told(&effects).is_empty() {
                effects = confirm(&db, &told(&effects));
            }
        }
        let refused = activate(&db, 100).unwrap_err();
        assert_eq!(refused.details[0].pointer, "/scale/shards");
        assert_eq!(describe(&db).spreads.0.len(), GROWTHS_MAX + 1);
    }
}
