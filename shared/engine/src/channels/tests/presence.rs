//! A channel with more members than are named, and with as many as there may be.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::channel::{Attendance, Call, Departure, Keep, Medium, Presentation, Reply};
use tidegate_protocol::ids::{HubIndex, UserId};
use tidegate_protocol::limits::{PRESENCE_MEMBERS_MAX, PRESENCE_NAMED_MAX};
use tidegate_protocol::presence::{Heard, News, Told, Watched};
use tidegate_protocol::time::UnixMs;

use super::super::{Channel, Effect, Moment, STEPS};
use crate::database::migrate;
use crate::database::native::Native;

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const HUB: HubIndex = HubIndex(0);

struct Bench {
    db: Native,
    channel: Channel,
}

impl Bench {
    fn new() -> Self {
        let db = Native::in_memory().unwrap();
        migrate(&db, STEPS).unwrap();
        let mut random = || 1;
        let mut moment = Moment {
            now: NOW,
            random: &mut random,
        };
        let channel = Channel::load(&db, &mut moment).unwrap();
        Self { db, channel }
    }

    /// What the channel answers, and what it tells the hub of presence.
    fn ask(&mut self, call: Call) -> (Result<Reply, tidegate_protocol::Error>, Option<Told>) {
        let mut random = || 1;
        let mut moment = Moment {
            now: NOW,
            random: &mut random,
        };
        let (mut replies, effects) = self.channel.handle(&self.db, &mut moment, vec![call]).unwrap();
        (replies.remove(0), told(effects))
    }

    fn enter(&mut self, n: usize) -> (Result<Reply, tidegate_protocol::Error>, Option<Told>) {
        self.ask(Call::Follow {
            hub: HUB,
            after: None,
            keep: Keep {
                messages: 1,
                age_ms: 1000,
                bytes: 1000,
                medium: Medium::Memory,
            },
            presence: Some(Attendance {
                member: Some(Presentation {
                    user: UserId::parse(&format!("user-{n:05}")).unwrap(),
                    data: None,
                }),
                grace_ms: 0,
            }),
        })
    }

    /// The hub has heard, and is in the state that it was told.
    fn heard(&mut self, told: &Told) -> Option<Told> {
        let heard = Heard {
            watched: Watched::Yes(Some(told.to)),
            own: None,
        };
        let effects = self.channel.heard_presence(&self.db, NOW, HUB, Ok(heard)).unwrap();
        self::told(effects)
    }
}

fn told(effects: Vec<Effect>) -> Option<Told> {
    effects.into_iter().find_map(|effect| match effect {
        Effect::TellPresence { told, .. } => Some(told),
        Effect::Tell { .. } => None,
    })
}

#[test]
fn above_so_many_members_the_count_alone_is_told_and_not_each_time() {
    let mut bench = Bench::new();
    for n in 0..PRESENCE_NAMED_MAX {
        let (reply, told) = bench.enter(n);
        reply.unwrap();
        if let Some(told) = told {
            assert!(matches!(told.news, News::Changes(_)), "{told:?}");
            assert_eq!(bench.heard(&told), None);
        }
    }
    // One more, and there are too many to be named: that is told once, whole.
    let (reply, told) = bench.enter(PRESENCE_NAMED_MAX);
    let Ok(Reply::Following {
        presence: Some(attended),
        ..
    }) = reply
    else {
        panic!("{reply:?}");
    };
    assert_eq!(attended.roster.members.len(), PRESENCE_NAMED_MAX);
    assert_eq!(attended.roster.count, 251);
    let told = told.unwrap();
    let News::Whole(roster) = &told.news else {
        panic!("{told:?}")
    };
    assert_eq!((roster.members.len(), roster.count), (PRESENCE_NAMED_MAX, 251));
    assert_eq!(bench.heard(&told), None);
    // From now on, what is told is never further from the truth than a hundredth.
    let (mut last, mut times) = (251_u64, 0);
    for n in 251..1000_usize {
        let count = u64::try_from(n).unwrap() + 1;
        let (_, told) = bench.enter(n);
        if let Some(told) = told {
            assert_eq!(told.news, News::Count(count));
            (last, times) = (count, times + 1);
            assert_eq!(bench.heard(&told), None);
        }
        assert!((count - last) * 100 < last, "{last} was told of {count}");
    }
    assert!(times < 200, "{times}");
    // Below the bound again, everybody is named again.
    let mut told = None;
    for n in 0..750 {
        let (_, now) = bench.ask(Call::Leave {
            hub: HUB,
            user: UserId::parse(&format!("user-{n:05}")).unwrap(),
            departure: Departure::Now,
        });
        if let Some(now) = now {
            assert_eq!(bench.heard(&now), None);
            told = Some(now);
        }
    }
    let told = told.unwrap();
    let News::Whole(roster) = &told.news else {
        panic!("{told:?}")
    };
    assert_eq!((roster.members.len(), roster.count), (250, 250));
}

#[test]
fn a_channel_has_so_many_members_and_no_more_and_the_next_may_watch() {
    let mut bench = Bench::new();
    for n in 0..PRESENCE_MEMBERS_MAX {
        bench.enter(n).0.unwrap();
    }
    let refused = bench.enter(PRESENCE_MEMBERS_MAX).0.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    // Whoever is there already is no one more.
    bench.enter(7).0.unwrap();
    let Ok(Reply::Roster(attended)) = bench.ask(Call::Roster).0 else {
        panic!("no roster");
    };
    assert_eq!(attended.roster.count, u64::try_from(PRESENCE_MEMBERS_MAX).unwrap());
}
