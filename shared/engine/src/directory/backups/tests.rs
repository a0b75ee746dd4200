//! Backups against a world that is a plain list of parts: every step can fail, be lost and be taken twice.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::calls::directory::Call;
use tidegate_protocol::ids::UserId;

use super::super::{STEPS, handle};
use super::*;
use crate::backup::sha256;
use crate::database::migrate;
use crate::database::native::Native;
use crate::directory::erasure::BACKED_UP_KINDS;

const TENANT: &str = "acme";

fn tenant() -> TenantId {
    TenantId::parse(TENANT).unwrap()
}

fn id() -> BackupId {
    BackupId::parse("bak_1").unwrap()
}

fn operator() -> Caller {
    Caller {
        user: UserId::parse("op").unwrap(),
        reads_all: false,
        writes_all: false,
        act: None,
    }
}

fn ask(db: &Native, now: u64, act: BackupAct) -> Result<serde_json::Value, ErrorCode> {
    let call = Call::Backups {
        tenant: tenant(),
        backup: Some(id()),
        act,
        by: operator(),
    };
    match handle(db, UnixMs(now), call).unwrap() {
        Ok(Reply::Shown(text)) => Ok(serde_json::from_str(text.as_str()).unwrap()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    }
}

fn tell(db: &Native, now: u64, version: u64, suspended_at: Option<u64>) -> Option<UnixMs> {
    let call = Call::Announce {
        tenant: tenant(),
        version,
        suspended_at: suspended_at.map(UnixMs),
        resident: false,
    };
    match handle(db, UnixMs(now), call).unwrap().unwrap() {
        Reply::Standing { erased_at, .. } => erased_at,
        Reply::Shown(_) => panic!("not a standing"),
    }
}

fn state_of(db: &Native) -> String {
    let call = Call::Show { tenant: tenant() };
    match handle(db, UnixMs(0), call).unwrap() {
        Ok(Reply::Shown(text)) => {
            let shown: serde_json::Value = serde_json::from_str(text.as_str()).unwrap();
            shown["state"].as_str().unwrap().to_string()
        }
        _ => "absent".to_string(),
    }
}

fn directory() -> Native {
    let db = Native::in_memory().unwrap();
    migrate(&db, STEPS).unwrap();
    db
}

/// What is outside: the tenant's objects, with how many parts each has, and object storage.
#[derive(Default)]
struct World {
    holds: BTreeMap<String, u64>,
    parts: BTreeMap<u64, String>,
    manifest: String,
    written: Vec<String>,
    finished: Vec<String>,
    released: Vec<String>,
    opened: Vec<String>,
    deleted: bool,
    moments: Vec<u64>,
}

impl World {
    fn line(&mut self, part: u64, of: &str) -> String {
        let bytes = format!("{of} {part}");
        let line = Part {
            part,
            of: of.to_string(),
            schema: u64::from(of.starts_with("t:")),
            holds: 3,
            bytes: u64::try_from(bytes.len()).unwrap(),
            sha256: sha256(bytes.as_bytes()),
        };
        self.parts.insert(part, bytes);
        line.line().unwrap()
    }

    fn take(&mut self, db: &Native, work: &Work, step: Step) -> Outcome {
        match step {
            Step::Spread => Outcome::Spread(1, 2),
            Step::Cut(objects, moment) => {
                assert_eq!(objects.len(), 4, "{objects:?}");
                self.moments.push(moment);
                Outcome::Cut(7)
            }
            Step::Upload(object, after, number) => {
                let of = object.to_string();
                let all = self.holds.get(&of).copied().unwrap_or(0);
                // Two at a time.
                let more = (after..all.min(after + 2)).zip(number..);
                Outcome::Parts(more.map(|(_, number)| self.line(number, &of)).collect())
            }
            Step::Copy(kind, after, from, number) => {
                let of = format!("kind{kind}/");
                let all = self.holds.get(&of).copied().unwrap_or(0);
                assert_eq!(after.is_empty(), from == 0);
                if from >= all {
                    return Outcome::Copied(None, None);
                }
                Outcome::Copied(Some(self.line(number, &of)), Some(("key".into(), from + 1)))
            }
            Step::Manifest => {
                self.manifest = manifest(db, work).unwrap();
                Outcome::Manifest(sha256(self.manifest.as_bytes()))
            }
            Step::Release(object, by) => {
                assert_eq!(by.is_some(), matches!(object, ObjectName::Tenant(_)));
                self.released.push(object.to_string());
                Outcome::Done
            }
            Step::Read => Outcome::Read(self.manifest.clone(), sha256(self.manifest.as_bytes())),
            Step::Check(part) => match self.parts.get(&part.part) {
                Some(bytes) if sha256(bytes.as_bytes()) == part.sha256 => Outcome::Done,
                _ => Outcome::Broken(format!("Part {} is broken.", part.part)),
            },
            Step::Write(part, schema) => {
                let before = self.written.last().and_then(|last| last.split_once(' '));
                let is_same = before.is_some_and(|(of, _)| of == part.of);
                let bytes = self.parts[&part.part].clone();
                // Written twice, it stands there once.
                if self.written.last() != Some(&bytes) {
                    assert_eq!(schema.is_none(), is_same, "{part:?}");
                    self.written.push(bytes);
                }
                Outcome::Done
            }
            Step::Finish(object, version, _) => {
                self.finished.push(object.to_string());
                match object {
                    ObjectName::Tenant(_) => Outcome::Finished(version + 1),
                    _ => Outcome::Done,
                }
            }
            Step::Open(object) => {
                self.opened.push(object.to_string());
                Outcome::Done
            }
            Step::Delete => {
                self.deleted = true;
                Outcome::Done
            }
        }
    }

    /// Takes steps until nothing is due. `chance` says what becomes of each: it fails, or its outcome is lost.
    fn run(&mut self, db: &Native, now: &mut u64, chance: &mut impl FnMut() -> u8) {
        for _ in 0..10_000 {
            let Some(wake) = next_wake(db).unwrap() else { return };
            *now = (*now).max(wake.0) + 1;
            let Some(work) = due(db, UnixMs(*now)).unwrap() else {
                continue;
            };
            let step = step(db, &work).unwrap();
            match chance() {
                0 => drop(took(db, UnixMs(*now), &work, Outcome::Failed).unwrap()),
                1 => drop(self.take(db, &work, step)),
                _ => {
                    let outcome = self.take(db, &work, step);
                    // What comes a second time changes nothing, because the row is another one by then.
                    took(db, UnixMs(*now), &work, outcome.clone()).unwrap();
                    let after = due(db, UnixMs(*now)).unwrap();
                    took(db, UnixMs(*now), &work, outcome).unwrap();
                    assert_eq!(due(db, UnixMs(*now)).unwrap(), after);
                }
            }
        }
        panic!("it does not come to an end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_fails_or_is_lost_a_backup_is_whole_and_comes_back_in_order_and_the_gate_last(
        sizes in prop::collection::vec(0_u64..6, 9),
        chances in prop::collection::vec(prop_oneof![1 => Just(0_u8), 1 => Just(1), 4 => Just(2)], 1..40),
    ) {
        let db = directory();
        let mut now = 10;
        tell(&db, now, 1, None);
        let mut world = World::default();
        let objects = ["t:acme:jobs:0", "t:acme:jobs:1", "t:acme:hub:0", "t:acme:gate"];
        let kinds: Vec<String> = (0..BACKED_UP_KINDS).map(|kind| format!("kind{kind}/")).collect();
        let places = objects[..3].iter().map(ToString::to_string).chain(kinds).chain([objects[3].to_string()]);
        for (of, size) in places.zip(&sizes) {
            world.holds.insert(of, *size);
        }
        // A gate that is there holds something.
        world.holds.insert(objects[3].into(), sizes[8].max(1));
        let mut turn = 0_usize;
        let mut moments = 0;
        // Not all of them are lost for ever.
        let chances = [chances, alloc::vec![2]].concat();
        let mut chance = || {
            turn += 1;
            // A moment that fails five times is given up, which another test looks at.
            let drawn = chances[turn % chances.len()];
            if drawn == 0 { moments += 1; }
            if drawn == 0 && moments % 3 != 0 { 2 } else { drawn }
        };
        ask(&db, now, BackupAct::Take).unwrap();
        prop_assert_eq!(ask(&db, now, BackupAct::Restore), Err(ErrorCode::Conflict));
        prop_assert_eq!(ask(&db, now, BackupAct::Delete), Err(ErrorCode::Conflict));
        world.run(&db, &mut now, &mut chance);
        let shown = ask(&db, now, BackupAct::Show).unwrap();
        let expected: u64 = world.holds.values().sum();
        prop_assert_eq!(&shown["state"], "kept", "{}", &shown);
        prop_assert_eq!(shown["parts"].as_u64(), Some(expected));
        prop_assert_eq!(world.parts.len() as u64, expected);
        prop_assert_eq!(shown["rows"].as_u64().unwrap() + shown["stored_objects"].as_u64().unwrap(), expected * 3);
        for object in objects {
            prop_assert!(world.released.iter().any(|of| of == object));
        }
        // Not over a tenant that is there.
        prop_assert_eq!(ask(&db, now, BackupAct::Restore), Err(ErrorCode::Conflict));
        db.run("UPDATE tenants SET state = 'erased'", &[]).unwrap();
        ask(&db, now, BackupAct::Restore).unwrap();
        prop_assert_eq!(state_of(&db), "restoring");
        prop_assert!(tell(&db, now, 0, None).is_some(), "nobody begins meanwhile");
        world.run(&db, &mut now, &mut chance);
        let all: Vec<String> = world.parts.values().cloned().collect();
        prop_assert_eq!(&world.written, &all);
        prop_assert_eq!(world.finished.last().map(String::as_str), Some("t:acme:gate"));
        prop_assert_eq!(state_of(&db), "suspended");
        prop_assert!(world.opened.is_empty(), "nothing runs before somebody says so");
        prop_assert_eq!(ask(&db, now, BackupAct::Delete), Err(ErrorCode::Conflict));
        prop_assert_eq!(tell(&db, now, 100, None), None);
        world.run(&db, &mut now, &mut chance);
        world.opened.dedup();
        prop_assert_eq!(&world.opened, &["t:acme:jobs:0", "t:acme:jobs:1"]);
        ask(&db, now, BackupAct::Delete).unwrap();
        world.run(&db, &mut now, &mut chance);
        prop_assert!(world.deleted);
        prop_assert_eq!(ask(&db, now, BackupAct::Show), Err(ErrorCode::NotFound));
        prop_assert_eq!(db.run("SELECT 1 FROM backup_part", &[]).unwrap().len(), 0);
    }
}

#[test]
fn a_moment_that_does_not_come_is_tried_five_times() {
    let db = directory();
    let mut now = 10;
    tell(&db, now, 1, None);
    ask(&db, now, BackupAct::Take).unwrap();
    let mut world = World::default();
    let mut turn = 0;
    world.run(&db, &mut now, &mut || {
        turn += 1;
        if turn == 1 { 2 } else { 0 }
    });
    let shown = ask(&db, now, BackupAct::Show).unwrap();
    assert_eq!(shown["state"], "failed");
    assert_eq!(turn, 6, "{shown}");
}

#[test]
fn a_broken_part_leaves_the_tenant_what_it_was() {
    for was_there in [false, true] {
        let db = directory();
        let mut now = 10;
        tell(&db, now, 1, None);
        let mut world = World::default();
        world.holds.insert("t:acme:gate".into(), 2);
        ask(&db, now, BackupAct::Take).unwrap();
        world.run(&db, &mut now, &mut || 2);
        let before = if was_there { "erased" } else { "absent" };
        match was_there {
            true => db.run("UPDATE tenants SET state = 'erased'", &[]).unwrap(),
            false => db.run("DELETE FROM tenants", &[]).unwrap(),
        };
        world.parts.insert(2, "changed".into());
        ask(&db, now, BackupAct::Restore).unwrap();
        world.run(&db, &mut now, &mut || 2);
        let shown = ask(&db, now, BackupAct::Show).unwrap();
        assert_eq!(
            (&shown["state"], &shown["reason"]),
            (&"failed".into(), &"Part 2 is broken.".into())
        );
        assert!(world.written.is_empty());
        assert_eq!(state_of(&db), before);
        // Mended, it comes back.
        world.parts.insert(2, "t:acme:gate 2".into());
        ask(&db, now, BackupAct::Restore).unwrap();
        world.run(&db, &mut now, &mut || 2);
        assert_eq!(state_of(&db), "suspended");
    }
}

#[test]
fn an_erasure_takes_backups_along_unless_they_are_kept_and_then_those_alone_that_are_whole() {
    for keep_backups in [false, true] {
        let db = directory();
        let mut now = 10;
        tell(&db, now, 1, None);
        let mut world = World::default();
        world.holds.insert("t:acme:gate".into(), 1);
        ask(&db, now, BackupAct::Take).unwrap();
        world.run(&db, &mut now, &mut || 2);
        let second = BackupId::parse("bak_2").unwrap();
        let call = Call::Backups {
            tenant: tenant(),
            backup: Some(second.clone()),
            act: BackupAct::Take,
            by: operator(),
        };
        handle(&db, UnixMs(now), call).unwrap().unwrap();
        assert_eq!(ask(&db, now, BackupAct::Bring), Err(ErrorCode::Conflict), "whole");
        let call = Call::Erase {
            tenant: tenant(),
            by: operator(),
            keep_backups,
        };
        handle(&db, UnixMs(now), call).unwrap().unwrap();
        let states: Vec<BackupState> = work::all(&db, &tenant()).unwrap().iter().map(Work::state).collect();
        let kept: &[BackupState] = match keep_backups {
            true => &[BackupState::Failed, BackupState::Kept],
            false => &[],
        };
        assert_eq!(states, kept);
        assert_eq!(next_wake(&db).unwrap(), None);
    }
}

#[test]
fn rows_of_the_version_before_are_still_read() {
    crate::database::vectors::are_still_read::<super::work::Work>("directory::backups::work::Work");
}
