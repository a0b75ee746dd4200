//! Recoveries against a platform that keeps the history of each object: it can refuse, and whoever drives it can die anywhere.

use alloc::collections::BTreeMap;
use alloc::vec;

use proptest::prelude::*;
use tidegate_protocol::calls::directory::Call;

use super::super::{STEPS, handle};
use super::*;
use crate::access;
use crate::database::migrate;
use crate::database::native::Native;
use crate::tenancy;

const DAY_MS: u64 = 86_400_000;
/// When the tenant was made.
const MADE: u64 = 1_800_000_000_000;
/// The time that it goes back to, and now.
const AT: UnixMs = UnixMs(MADE + DAY_MS);
const NOW: UnixMs = UnixMs(MADE + 2 * DAY_MS);

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn wanted(at: UnixMs) -> Wanted {
    let by = Caller {
        user: UserId::parse("op").unwrap(),
        reads_all: false,
        writes_all: false,
        act: None,
    };
    Wanted {
        tenant: tenant(),
        at,
        by,
    }
}

fn tell(db: &Native, now: UnixMs, version: u64, suspended_at: Option<UnixMs>) {
    let call = Call::Announce {
        tenant: tenant(),
        version,
        suspended_at,
        resident: false,
    };
    handle(db, now, call).unwrap().unwrap();
}

/// A directory with a tenant that is suspended.
fn directory() -> Native {
    let db = Native::in_memory().unwrap();
    migrate(&db, STEPS).unwrap();
    tell(&db, UnixMs(MADE), 1, None);
    tell(&db, NOW, 7, Some(NOW));
    db
}

/// What an object holds: a word, and for a gate whether it lets people in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    word: &'static str,
    lets_in: bool,
}

/// An object, as the platform has it: `getBookmarkForTime`, `getCurrentBookmark`, `onNextSessionRestoreBookmark` and `abort`.
#[derive(Debug, Clone)]
struct Object {
    /// What it held, from each moment on. A bookmark is a place in it.
    history: Vec<(UnixMs, State)>,
    next_session: Option<usize>,
}

impl Object {
    fn new() -> Self {
        let state = |word, lets_in| State { word, lets_in };
        Self {
            history: vec![
                (UnixMs(MADE), state("made", true)),
                (UnixMs(MADE + DAY_MS / 2), state("at that time", true)),
                (NOW, state("now", false)),
            ],
            next_session: None,
        }
    }

    fn state(&self) -> State {
        self.history.last().unwrap().1
    }

    /// Those of the time and of now.
    fn bookmarks(&self, at: UnixMs) -> Vec<String> {
        let then = self.history.iter().rposition(|(since, _)| *since <= at).unwrap();
        vec![then.to_string(), (self.history.len() - 1).to_string()]
    }

    fn go_back(&mut self, bookmark: &str) {
        self.next_session = Some(bookmark.parse().unwrap());
    }

    fn start_again(&mut self, now: UnixMs) {
        if let Some(place) = self.next_session.take() {
            let state = self.history[place].1;
            self.history.push((now, state));
        }
    }
}

/// The directory, and the objects of the tenant.
struct World {
    db: Native,
    now: UnixMs,
    objects: BTreeMap<String, Object>,
    /// How many steps it takes before it dies.
    lives: usize,
    /// An object that refuses, and how.
    refuses: Option<(String, ErrorCode)>,
}

/// The directory has died.
struct Died;

impl World {
    fn new() -> Self {
        let names = objects(&tenant(), 1, 2);
        Self {
            db: directory(),
            now: NOW.plus(1_000),
            objects: names.iter().map(|name| (name.to_string(), Object::new())).collect(),
            lives: usize::MAX,
            refuses: None,
        }
    }

    fn live(&mut self) -> Result<(), Died> {
        self.now = self.now.plus(1);
        self.lives = self.lives.checked_sub(1).ok_or(Died)?;
        Ok(())
    }

    /// An operator asks, and the directory does all that it can.
    fn ask(&mut self, at: UnixMs) -> Result<Result<serde_json::Value, Error>, Died> {
        self.drive(&wanted(at), Event::Asked)
    }

    /// As the shell does: a turn, and what it says is to be done.
    fn drive(&mut self, wanted: &Wanted, mut event: Event) -> Result<Result<serde_json::Value, Error>, Died> {
        loop {
            self.live()?;
            event = match advance(&self.db, self.now, wanted, event).unwrap() {
                Ok(Next::Done(Reply::Shown(text))) => return Ok(Ok(serde_json::from_str(text.as_str()).unwrap())),
                Ok(Next::Done(other)) => panic!("{other:?}"),
                Ok(Next::Ask) => {
                    let mut answers = Vec::new();
                    for name in objects(&tenant(), 1, 2) {
                        self.live()?;
                        let refusal = self.refuses.as_ref().filter(|(of, _)| *of == name.to_string());
                        let answer = match refusal {
                            Some((_, code)) => Err(Error::new(*code, "no")),
                            None => Ok(self.objects[&name.to_string()].bookmarks(wanted.at)),
                        };
                        answers.push((name, answer));
                    }
                    Event::Answered(9, answers)
                }
                Ok(Next::Take(step)) => {
                    self.live()?;
                    let outcome = self.take(&step);
                    Event::Took(outcome)
                }
                Err(refusal) => return Ok(Err(refusal)),
            };
        }
    }

    fn take(&mut self, step: &Step) -> Outcome {
        let now = self.now;
        match step {
            Step::GoBack(name, bookmark) => {
                let object = self.objects.get_mut(&name.to_string()).unwrap();
                object.go_back(bookmark);
                // It starts again whether its answer is heard or not.
                object.start_again(now);
                Outcome::Told
            }
            Step::Suspend(name, version, _) => {
                let gate = self.objects.get_mut(&name.to_string()).unwrap();
                let state = State {
                    lets_in: false,
                    ..gate.state()
                };
                gate.history.push((now, state));
                Outcome::Suspended(version + 1)
            }
        }
    }

    fn gate(&self) -> State {
        self.objects["t:acme:gate"].state()
    }

    fn words(&self) -> Vec<&'static str> {
        self.objects.values().map(|object| object.state().word).collect()
    }

    /// Acts of operators.
    fn acts(&self) -> Vec<String> {
        let acts = super::super::acts(&self.db, &tenant()).unwrap();
        acts.into_iter().map(|act| act.what).collect()
    }

    fn is_done(&self) {
        assert_eq!(self.words(), ["at that time"; 4]);
        assert!(!self.gate().lets_in);
        assert_eq!(self.acts(), ["recovered"]);
        let entry = super::super::find(&self.db, &tenant()).unwrap().unwrap();
        assert_eq!((entry.state, entry.version), (TenantState::Suspended, 10));
    }
}

#[test]
fn all_objects_go_back_and_the_tenant_stays_suspended() {
    let mut world = World::new();
    let Ok(Ok(shown)) = world.ask(AT) else { panic!() };
    world.is_done();
    assert_eq!(shown["at"], AT.to_string());
    let named: Vec<_> = shown["objects"].as_array().unwrap().iter().collect();
    let names: Vec<_> = named.iter().map(|object| object["object"].as_str().unwrap()).collect();
    assert_eq!(names, ["t:acme:gate", "t:acme:jobs:0", "t:acme:jobs:1", "t:acme:hub:0"]);
    for object in named {
        assert_eq!((&object["bookmark"], &object["undo"]), (&"1".into(), &"2".into()));
    }
    // Whoever lost the answer has it again, and nothing goes back twice.
    let Ok(Ok(again)) = world.ask(AT) else { panic!() };
    assert_eq!(again, shown);
    assert_eq!(world.objects["t:acme:jobs:0"].history.len(), 4);
    // Once it is resumed, that is over.
    tell(&world.db, world.now, 11, None);
    assert!(find(&world.db, &tenant()).unwrap().is_none());
}

#[test]
fn where_one_object_cannot_none_does() {
    for (code, answered) in [
        (ErrorCode::Conflict, ErrorCode::Conflict),
        (ErrorCode::NotImplemented, ErrorCode::NotImplemented),
        (ErrorCode::Unavailable, ErrorCode::Unavailable),
        (ErrorCode::InternalError, ErrorCode::InternalError),
    ] {
        let mut world = World::new();
        world.refuses = Some(("t:acme:jobs:1".into(), code));
        let Ok(Err(refusal)) = world.ask(AT) else {
            panic!("{code:?}")
        };
        assert_eq!(refusal.code, answered);
        if code == ErrorCode::Conflict {
            assert!(
                refusal.message.ends_with("that time: t:acme:jobs:1"),
                "{}",
                refusal.message
            );
        }
        assert_eq!(world.words(), ["now"; 4]);
        assert!(world.objects.values().all(|object| object.next_session.is_none()));
        assert!(world.acts().is_empty() && find(&world.db, &tenant()).unwrap().is_none());
    }
}

#[test]
fn all_that_is_wrong_with_a_time_is_said_at_once() {
    let db = directory();
    let faults = |at| match begin(&db, NOW, &wanted(at)).unwrap() {
        Err(error) => (error.code, error.details.len()),
        Ok(begun) => panic!("{begun:?}"),
    };
    assert_eq!(faults(NOW.plus(1)), (ErrorCode::ValidationError, 1));
    assert_eq!(faults(UnixMs(MADE - 1)), (ErrorCode::ValidationError, 1));
    assert_eq!(faults(UnixMs(MADE - 29 * DAY_MS)), (ErrorCode::ValidationError, 2));
    for at in [MADE, NOW.0] {
        assert_eq!(begin(&db, NOW, &wanted(UnixMs(at))).unwrap(), Ok(Begun::New));
    }
    let later = UnixMs(MADE + BACK_MS_MAX);
    assert_eq!(begin(&db, later, &wanted(UnixMs(MADE))).unwrap(), Ok(Begun::New));
    assert!(begin(&db, later.plus(1), &wanted(UnixMs(MADE))).unwrap().is_err());
}

#[test]
fn only_a_suspended_tenant_goes_back_and_not_while_it_is_backed_up() {
    let code = |db: &Native, wanted: &Wanted| begin(db, NOW, wanted).unwrap().unwrap_err().code;
    let db = directory();
    let other = Wanted {
        tenant: TenantId::parse("other").unwrap(),
        ..wanted(AT)
    };
    assert_eq!(code(&db, &other), ErrorCode::NotFound);
    tell(&db, NOW, 8, None);
    assert_eq!(code(&db, &wanted(AT)), ErrorCode::Conflict);
    tell(&db, NOW, 9, Some(NOW));
    let back_up = |db: &Native| {
        let call = Call::Backups {
            tenant: tenant(),
            backup: tidegate_protocol::ids::BackupId::parse("bak_1"),
            act: tidegate_protocol::calls::directory::BackupAct::Take,
            by: wanted(AT).by,
        };
        handle(db, NOW, call).unwrap()
    };
    let mut world = World::new();
    world.lives = 9;
    assert!(world.ask(AT).is_err());
    assert_eq!(back_up(&world.db).unwrap_err().code, ErrorCode::Conflict);
    back_up(&db).unwrap();
    assert_eq!(code(&db, &wanted(AT)), ErrorCode::Conflict);
}

#[test]
fn another_time_waits_for_the_end_of_the_first() {
    let mut world = World::new();
    world.lives = 9;
    assert!(world.ask(AT).is_err());
    world.lives = usize::MAX;
    let Ok(Err(refusal)) = world.ask(AT.plus(1)) else {
        panic!()
    };
    assert_eq!(refusal.code, ErrorCode::Conflict);
    assert!(refusal.message.contains(&AT.to_string()), "{}", refusal.message);
}

#[test]
fn a_gate_of_an_earlier_time_lets_nobody_in_once_it_has_heard() {
    let db = Native::in_memory().unwrap();
    migrate(&db, tenancy::STEPS).unwrap();
    assert_eq!(access::read(&db).unwrap().suspended_at, None);
    let by = wanted(AT).by;
    assert_eq!(tenancy::restored(&db, NOW, 9, &by).unwrap(), 10);
    assert_eq!(access::read(&db).unwrap().suspended_at, Some(NOW));
    // Told again, it changes nothing.
    assert_eq!(tenancy::restored(&db, NOW.plus(1), 9, &by).unwrap(), 10);
    assert_eq!(access::read(&db).unwrap().suspended_at, Some(NOW));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The directory dies at these points, one life after the other: nothing has changed, or every object goes back.
    #[test]
    fn whatever_dies_nothing_has_changed_or_every_object_goes_back(
        lives in proptest::collection::vec(0_usize..20, 1..5),
    ) {
        let mut world = World::new();
        for lives in lives {
            world.lives = lives;
            let _died = world.ask(AT);
            if !is_under_way(&world.db, &tenant()).unwrap() && world.gate().word == "now" {
                prop_assert_eq!(world.words(), ["now"; 4]);
                prop_assert!(world.acts().is_empty());
            }
            // No other object has gone back while the gate lets anybody in.
            if world.gate().lets_in {
                let back = world.words().iter().filter(|word| **word != "now").count();
                prop_assert_eq!(back, 1);
            }
            world.now = world.now.plus(RETRY_MS);
        }
        world.lives = usize::MAX;
        prop_assert!(matches!(world.ask(AT), Ok(Ok(_))));
        world.is_done();
        for object in world.objects.values() {
            let undo = object.history[2].1;
            prop_assert_eq!(undo.word, "now");
        }
        let Ok(Ok(shown)) = world.ask(AT) else { panic!() };
        for object in shown["objects"].as_array().unwrap() {
            prop_assert_eq!(object["undo"].as_str(), Some("2"));
        }
    }
}
