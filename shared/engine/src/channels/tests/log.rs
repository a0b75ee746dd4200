//! What is kept, and for how long; keys; rows.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::channel::{Call, Keep, Medium, Reply};
use tidegate_protocol::channels::{Cursor, HistoryPage, Publication, Published};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{HubIndex, IdempotencyKey, Offset, UserId};
use tidegate_protocol::time::UnixMs;

use super::super::{CONFIRM_MS, Channel, Effect, Moment, STEPS};
use crate::database::native::Native;
use crate::database::{Database, migrate};

struct Bench {
    db: Native,
    channel: Channel,
    now: u64,
    keep: Keep,
}

const BEGIN: u64 = 1_800_000_000_000;

fn load(db: &Native) -> Channel {
    let mut random = || 1;
    let mut moment = Moment {
        now: UnixMs(BEGIN),
        random: &mut random,
    };
    Channel::load(db, &mut moment).unwrap()
}

fn follow(hub: HubIndex, keep: Keep) -> Call {
    Call::Follow {
        hub,
        after: None,
        keep,
        presence: None,
    }
}

impl Bench {
    fn new(messages: u64, age_ms: u64, bytes: u64) -> Self {
        let db = Native::in_memory().unwrap();
        migrate(&db, STEPS).unwrap();
        let channel = load(&db);
        let medium = Medium::Rows;
        Self {
            db,
            channel,
            now: BEGIN,
            keep: Keep {
                messages,
                age_ms,
                bytes,
                medium,
            },
        }
    }

    fn restart(&mut self) {
        self.channel = load(&self.db);
    }

    fn ask(&mut self, call: Call) -> Result<Reply, tidegate_protocol::Error> {
        let now = self.now;
        let mut random = || now;
        let mut moment = Moment {
            now: UnixMs(now),
            random: &mut random,
        };
        let (mut replies, _) = self.channel.handle(&self.db, &mut moment, vec![call]).unwrap();
        replies.remove(0)
    }

    fn publish(&mut self, data: &str, key: Option<&str>, user: &str) -> Result<Published, tidegate_protocol::Error> {
        let call = Call::Publish {
            publication: Publication {
                data: JsonText::parse(data).unwrap(),
                idempotency_key: key.map(|key| IdempotencyKey::parse(key).unwrap()),
            },
            publisher: UserId::parse(user),
            keep: self.keep,
        };
        match self.ask(call)? {
            Reply::Published(published) => Ok(published),
            other => panic!("{other:?}"),
        }
    }

    fn page(&mut self, after: Option<Cursor>, limit: u64) -> HistoryPage {
        let keep = self.keep;
        match self.ask(Call::History { after, limit, keep }).unwrap() {
            Reply::Page(page) => page,
            other => panic!("{other:?}"),
        }
    }

    fn offsets(&mut self) -> Vec<u64> {
        self.page(None, 1000)
            .messages
            .iter()
            .map(|message| message.offset.0)
            .collect()
    }

    fn rows(&self, table: &'static str) -> u64 {
        let sql = match table {
            "message" => "SELECT count(*) FROM message",
            "published" => "SELECT count(*) FROM published",
            _ => "SELECT count(*) FROM follower",
        };
        self.db.run(sql, &[]).unwrap().remove(0).number().unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// Against a list that keeps everything: what is shown is exactly what the bounds allow by count and age, and rows are
    /// never much more.
    #[test]
    fn what_is_shown_is_what_the_bounds_allow(
        steps in proptest::collection::vec((0_u64..4000, 0_u8..10), 1..120),
        messages in 1_u64..12,
    ) {
        let (age_ms, mut bench) = (20_000, Bench::new(messages, 20_000, 1 << 20));
        let mut all: Vec<(u64, u64)> = Vec::new();
        for (wait, kind) in steps {
            bench.now += wait;
            match kind {
                0 => bench.restart(),
                1 => {
                    bench.channel.wake(&bench.db, UnixMs(bench.now)).unwrap();
                }
                _ => {
                    let published = bench.publish("1", None, "ann").unwrap();
                    all.push((published.offset.0, bench.now));
                }
            }
            if all.is_empty() {
                continue;
            }
            let head = all.last().unwrap().0;
            let shown: Vec<u64> = all
                .iter()
                .filter(|(offset, at)| offset + messages > head && at + age_ms >= bench.now)
                .map(|(offset, _)| *offset)
                .collect();
            prop_assert_eq!(bench.offsets(), shown);
            prop_assert!(bench.rows("message") <= messages + messages / 4 + 1);
            prop_assert_eq!(bench.channel.at().unwrap().offset.0, head);
        }
    }

    /// Pages that follow each other's cursors give what one page gives.
    #[test]
    fn pages_give_everything_once(count in 1_u64..300, limit in 1_u64..90) {
        let mut bench = Bench::new(1000, 1 << 40, 1 << 30);
        for n in 0..count {
            bench.publish(&format!("{n}"), None, "ann").unwrap();
        }
        bench.restart();
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = bench.page(after, limit);
            all.extend(page.messages.iter().map(|message| message.offset.0));
            match page.next {
                Some(next) => after = Some(Cursor::parse(&next).unwrap()),
                None => break,
            }
        }
        prop_assert_eq!(all, (1..=count).collect::<Vec<_>>());
    }
}

#[test]
fn bytes_are_bounded_and_the_newest_message_stays() {
    let mut bench = Bench::new(1000, 1 << 40, 100_000);
    let large = format!("\"{}\"", "x".repeat(30_000));
    for _ in 0..10 {
        bench.publish(&large, None, "ann").unwrap();
    }
    let kept = bench.offsets();
    assert!((3..=4).contains(&kept.len()), "{kept:?}");
    assert_eq!(kept.last(), Some(&10));
    let mut bench = Bench::new(1000, 1 << 40, 10);
    bench.publish(&large, None, "ann").unwrap();
    bench.publish(&large, None, "ann").unwrap();
    assert_eq!(bench.offsets(), [2]);
}

#[test]
fn a_key_is_one_message_for_ten_minutes_and_of_one_publisher() {
    let mut bench = Bench::new(10, 1 << 40, 1 << 20);
    let first = bench.publish("1", Some("k"), "ann").unwrap();
    bench.restart();
    bench.now += 599_000;
    let again = bench.publish("1", Some("k"), "ann").unwrap();
    assert_eq!((again.offset, again.deduplicated), (first.offset, true));
    for (data, user) in [("2", "ann"), ("1", "bob")] {
        let error = bench.publish(data, Some("k"), user).unwrap_err();
        assert_eq!(error.code, ErrorCode::IdempotencyMismatch);
    }
    bench.now += 2_000;
    let later = bench.publish("2", Some("k"), "ann").unwrap();
    assert_eq!((later.offset, later.deduplicated), (Offset(2), false));
    assert_eq!(bench.rows("published"), 1);
}

#[test]
fn what_is_too_old_goes_by_the_alarm_and_its_place_stays() {
    let mut bench = Bench::new(10, 60_000, 1 << 20);
    let last = (0..3).map(|_| bench.publish("1", None, "ann").unwrap()).last().unwrap();
    let alarm = bench.channel.next_alarm(UnixMs(bench.now)).unwrap();
    assert_eq!(alarm.0, BEGIN + 60_001);
    // A fresh instance does it as well: it knows from its row how much is kept.
    bench.restart();
    bench.now = alarm.0;
    bench.channel.wake(&bench.db, alarm).unwrap();
    assert_eq!(bench.rows("message"), 0);
    bench.restart();
    let at = bench.channel.at().unwrap();
    assert_eq!((at.epoch, at.offset), (last.epoch, last.offset));
    assert_eq!(bench.publish("2", None, "ann").unwrap().offset, Offset(4));
}

#[test]
fn a_hub_that_has_not_confirmed_is_asked_by_an_instance_that_has_forgotten_it() {
    let mut bench = Bench::new(10, 1 << 40, 1 << 20);
    let (hub, keep) = (HubIndex(1), bench.keep);
    bench.ask(follow(hub, keep)).unwrap();
    bench.publish("1", None, "ann").unwrap();
    let alarm = bench.channel.next_alarm(UnixMs(bench.now)).unwrap();
    assert_eq!(alarm.0, BEGIN + CONFIRM_MS);
    bench.restart();
    let effects = bench.channel.wake(&bench.db, alarm).unwrap();
    let [
        Effect::Tell {
            after, until, messages, ..
        },
    ] = effects.as_slice()
    else {
        panic!("{effects:?}");
    };
    assert_eq!((after.offset, *until, messages.len()), (Offset(0), Offset(1), 1));
    // It says that nobody follows, and is left alone from then on.
    let mut random = || 1;
    let mut moment = Moment {
        now: alarm,
        random: &mut random,
    };
    assert_eq!(bench.channel.told(&bench.db, &mut moment, hub, Ok(None)).unwrap(), []);
    assert_eq!(bench.rows("follower"), 0);
}

#[test]
fn rows_that_went_back_in_time_begin_another_life() {
    let mut bench = Bench::new(10, 1 << 40, 1 << 20);
    let (hub, keep) = (HubIndex(1), bench.keep);
    bench.ask(follow(hub, keep)).unwrap();
    let first = bench.publish("1", None, "ann").unwrap();
    // The hub heard of more than these rows know.
    let ahead = Cursor {
        epoch: first.epoch.clone(),
        offset: Offset(9),
    };
    let now = bench.now + 5;
    let mut random = || 7;
    let mut moment = Moment {
        now: UnixMs(now),
        random: &mut random,
    };
    bench
        .channel
        .told(&bench.db, &mut moment, hub, Ok(Some(ahead)))
        .unwrap();
    let at = bench.channel.at().unwrap();
    assert!(at.epoch > first.epoch && at.offset == Offset(1), "{at:?}");
    bench.restart();
    assert_eq!(bench.channel.at(), Some(at));
}
