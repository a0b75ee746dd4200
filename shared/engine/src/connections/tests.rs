use alloc::collections::VecDeque;
use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::database::migrate;
use crate::database::native::Native;

const MOST: NonZeroU32 = NonZeroU32::new(40).unwrap();

fn gate() -> Native {
    let db = Native::in_memory().unwrap();
    migrate(&db, &[PLACES]).unwrap();
    db
}

fn hub(n: usize) -> HubIndex {
    HubIndex(u16::try_from(n).unwrap())
}

#[test]
fn a_hub_is_lent_some_ahead_and_never_more_than_there_are() {
    let db = gate();
    assert_eq!(lend(&db, hub(0), 0, MOST, Recalls::Possible).unwrap(), Lent::Places(3));
    assert_eq!(
        lend(&db, hub(1), 30, MOST, Recalls::Possible).unwrap(),
        Lent::Places(33)
    );
    assert_eq!(lend(&db, hub(2), 0, MOST, Recalls::Possible).unwrap(), Lent::Places(3));
    assert_eq!(
        lend(&db, hub(1), 33, MOST, Recalls::Possible).unwrap(),
        Lent::Places(34)
    );
}

#[test]
fn what_others_do_not_need_is_called_back_before_anybody_is_refused() {
    let db = gate();
    lend(&db, hub(0), 0, MOST, Recalls::Possible).unwrap();
    lend(&db, hub(1), 36, MOST, Recalls::Possible).unwrap();
    let Lent::Recall(recalled) = lend(&db, hub(1), 37, MOST, Recalls::Possible).unwrap() else {
        panic!("nobody was asked");
    };
    assert_eq!(recalled, [Recalled { hub: hub(0), serial: 1 }]);
    returned(&db, recalled[0], 1).unwrap();
    assert_eq!(lend(&db, hub(1), 37, MOST, Recalls::Done).unwrap(), Lent::Places(39));
    // Nobody has any left: that is a refusal.
    assert_eq!(lend(&db, hub(1), 39, MOST, Recalls::Done).unwrap(), Lent::Places(39));
}

#[test]
fn what_is_said_of_an_earlier_loan_lowers_nothing() {
    let db = gate();
    lend(&db, hub(0), 0, MOST, Recalls::Possible).unwrap();
    let old = Recalled { hub: hub(0), serial: 1 };
    assert_eq!(lend(&db, hub(0), 3, MOST, Recalls::Possible).unwrap(), Lent::Places(6));
    returned(&db, old, 0).unwrap();
    assert_eq!(lend(&db, hub(1), 34, MOST, Recalls::Done).unwrap(), Lent::Places(34));
}

#[test]
fn nothing_is_given_back_while_an_answer_is_on_its_way() {
    let mut places = Places::default();
    places.ask();
    assert_eq!(places.recalled(0), None);
    places.hear(Some(3));
    assert_eq!((places.room(2), places.room(3)), (Room::Yes, Room::Ask));
    assert_eq!(places.recalled(1), Some(1));
    assert_eq!(places.room(1), Room::Ask);
}

/// What happens in a history of hubs, each message of which may be late or lost.
#[derive(Debug, Clone)]
enum Event {
    /// Somebody connects to a hub.
    Connect(usize),
    /// Somebody leaves it.
    Close(usize),
    /// The memory of a hub is lost, its connections stay.
    Sleep(usize),
    /// A hub and all of its connections are gone.
    Crash(usize),
    /// The message that waits at this place arrives.
    Arrive(usize),
    /// The message that waits at this place is lost.
    Lose(usize),
}

#[derive(Debug)]
enum Message {
    Question { hub: usize, life: u32, live: u32 },
    Answer { hub: usize, life: u32, held: u32 },
    Recall(Recalled),
    Returned { recalled: Recalled, live: Option<u32> },
}

const HUBS: usize = 3;

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0..HUBS).prop_map(Event::Connect),
        3 => (0..HUBS).prop_map(Event::Close),
        1 => (0..HUBS).prop_map(Event::Sleep),
        1 => (0..HUBS).prop_map(Event::Crash),
        12 => (0_usize..4).prop_map(Event::Arrive),
        1 => (0_usize..4).prop_map(Event::Lose),
    ];
    proptest::collection::vec(event, 0..300)
}

proptest! {
    /// A life of a hub ends with its memory: what was on its way to it is heard by nobody.
    #[test]
    fn there_are_never_more_connections_than_places(events in events(), most in 1_u32..30) {
        let most = NonZeroU32::new(most).unwrap();
        let db = gate();
        let mut hubs = vec![(Places::default(), 0_u32, 0_u32); HUBS];
        let mut mail = VecDeque::new();
        for event in events {
            match event {
                Event::Connect(n) => {
                    let (places, live, life) = &mut hubs[n];
                    match places.room(*live) {
                        Room::Yes => *live += 1,
                        Room::Ask => {
                            places.ask();
                            mail.push_back(Message::Question { hub: n, life: *life, live: *live });
                        }
                    }
                }
                Event::Close(n) => hubs[n].1 = hubs[n].1.saturating_sub(1),
                Event::Sleep(n) => hubs[n] = (Places::default(), hubs[n].1, hubs[n].2 + 1),
                Event::Crash(n) => hubs[n] = (Places::default(), 0, hubs[n].2 + 1),
                Event::Lose(at) => drop(mail.remove(at)),
                Event::Arrive(at) => match mail.remove(at) {
                    None => {}
                    Some(Message::Question { hub: n, life, live }) => {
                        match lend(&db, hub(n), live, most, Recalls::Possible).unwrap() {
                            Lent::Places(held) => mail.push_back(Message::Answer { hub: n, life, held }),
                            Lent::Recall(recalled) => {
                                mail.extend(recalled.into_iter().map(Message::Recall));
                                mail.push_back(Message::Question { hub: n, life, live });
                            }
                        }
                    }
                    // Heard by nobody, where that life has ended.
                    Some(Message::Answer { hub: n, life, held }) if hubs[n].2 == life => hubs[n].0.hear(Some(held)),
                    Some(Message::Answer { .. } | Message::Returned { live: None, .. }) => {}
                    Some(Message::Recall(recalled)) => {
                        let (places, live, _) = &mut hubs[usize::from(recalled.hub.0)];
                        let live = places.recalled(*live);
                        mail.push_back(Message::Returned { recalled, live });
                    }
                    Some(Message::Returned {
                        recalled,
                        live: Some(live),
                    }) => returned(&db, recalled, live).unwrap(),
                },
            }
            let live: u32 = hubs.iter().map(|(_, live, _)| live).sum();
            prop_assert!(live <= most.get(), "{live} of {most}");
        }
    }

    /// Whoever is refused, was refused because all places are taken: every message arrives, and one question is asked at a time.
    #[test]
    fn nobody_is_refused_while_a_place_is_free(asks in proptest::collection::vec((0..HUBS, any::<bool>()), 0..200), most in 1_u32..30) {
        let most = NonZeroU32::new(most).unwrap();
        let db = gate();
        let mut hubs = vec![(Places::default(), 0_u32); HUBS];
        for (n, leaves) in asks {
            if leaves {
                hubs[n].1 = hubs[n].1.saturating_sub(1);
                continue;
            }
            let all: u32 = hubs.iter().map(|(_, live)| live).sum();
            if hubs[n].0.room(hubs[n].1) == Room::Ask {
                hubs[n].0.ask();
                let mut lent = lend(&db, hub(n), hubs[n].1, most, Recalls::Possible).unwrap();
                if let Lent::Recall(recalled) = lent {
                    for recalled in recalled {
                        let (places, live) = &mut hubs[usize::from(recalled.hub.0)];
                        if let Some(live) = places.recalled(*live) {
                            returned(&db, recalled, live).unwrap();
                        }
                    }
                    lent = lend(&db, hub(n), hubs[n].1, most, Recalls::Done).unwrap();
                }
                let Lent::Places(held) = lent else { panic!("asked twice") };
                hubs[n].0.hear(Some(held));
            }
            if hubs[n].0.room(hubs[n].1) == Room::Yes {
                hubs[n].1 += 1;
            } else {
                prop_assert_eq!(all, most.get(), "refused");
            }
        }
    }
}
