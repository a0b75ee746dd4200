//! What channels promise, whatever is lost, late, cut or asleep: each follower is sent every message once and in order, or told
//! of the gap; what was confirmed is there.

mod log;
mod presence;
mod world;

use world::{Chances, World};

/// Histories of one kind.
fn histories(seeds: core::ops::Range<u64>, section: &str, chances: Chances) {
    for seed in seeds {
        let mut world = World::new(seed, section, chances);
        for _ in 0..160 {
            world.step();
        }
        world.settle();
    }
}

const STORED: &str = r#"{"c": {"publish": true, "history": {"messages": 40, "age": "1d"}}}"#;
const ATTENDED: &str =
    r#"{"c": {"publish": true, "presence": true, "presence_grace": "2s", "history": {"messages": 40, "age": "1d"}}}"#;
const EPHEMERAL: &str = r#"{"c": {"publish": true, "ephemeral": true}}"#;
const CACHED: &str = r#"{"c": {"publish": true, "cache": true, "history": {"messages": 3, "age": "1d"}}}"#;

#[test]
fn followers_miss_nothing_while_nothing_fails() {
    histories(
        0..150,
        STORED,
        Chances {
            lost: 0,
            crashes: 0,
            naps: 12,
        },
    );
    histories(
        0..50,
        EPHEMERAL,
        Chances {
            lost: 0,
            crashes: 0,
            naps: 0,
        },
    );
}

#[test]
fn followers_miss_nothing_whatever_is_lost_or_dies() {
    histories(
        1000..1300,
        STORED,
        Chances {
            lost: 12,
            crashes: 6,
            naps: 8,
        },
    );
    histories(
        2000..2150,
        CACHED,
        Chances {
            lost: 12,
            crashes: 6,
            naps: 8,
        },
    );
    histories(
        3000..3150,
        EPHEMERAL,
        Chances {
            lost: 12,
            crashes: 6,
            naps: 8,
        },
    );
}

#[test]
fn everybody_sees_who_is_there_while_nothing_fails() {
    let chances = |naps| Chances {
        lost: 0,
        crashes: 0,
        naps,
    };
    histories(4000..4100, ATTENDED, chances(0));
    histories(4100..4250, ATTENDED, chances(12));
}

#[test]
fn everybody_sees_who_is_there_in_the_end_whatever_is_lost_or_dies() {
    histories(
        5000..5300,
        ATTENDED,
        Chances {
            lost: 12,
            crashes: 6,
            naps: 8,
        },
    );
}

#[test]
#[ignore = "a minute of it, by hand"]
fn followers_miss_nothing_in_many_histories() {
    histories(
        10_000..40_000,
        STORED,
        Chances {
            lost: 12,
            crashes: 6,
            naps: 8,
        },
    );
    histories(
        40_000..60_000,
        CACHED,
        Chances {
            lost: 12,
            crashes: 6,
            naps: 8,
        },
    );
}
