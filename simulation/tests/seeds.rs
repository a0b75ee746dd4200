//! A short run of the simulation for every `cargo test`.

use tidegate_simulation::{Counters, Options, run};

#[test]
fn no_rule_is_broken_in_two_hundred_histories() {
    let mut total = Counters::default();
    for seed in 0..200 {
        match run(Options {
            seed,
            steps: 300,
            trace: false,
        }) {
            Ok(counters) => total += counters,
            Err(rule) => panic!("seed {seed}: {rule}"),
        }
    }
    let never: Vec<&str> = total
        .all()
        .into_iter()
        .filter(|(_, count)| *count == 0)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(never, Vec::<&str>::new(), "a fault that never happens proves nothing");
}

#[test]
fn a_seed_is_always_the_same_history() {
    let once = || {
        run(Options {
            seed: 7,
            steps: 600,
            trace: false,
        })
    };
    assert_eq!(once(), once());
}
