//! How long an answer takes tells no more than what it says.
//!
//! Another tenant's thing and nothing at all are asked for in turn, so that whatever else the machine does falls on both
//! alike, and their times are compared by rank (Mann and Whitney, 1947), which a few slow answers do not move. Across a network much less
//! than this can be told.

use std::time::{Duration, Instant};

use tidegate_tests::http::Answer;

use super::operations::{by_token, operations};
use super::things::{OWNER, SCOPES, server};
use super::{Stocked, Takes};

/// How often each is asked for.
const ROUNDS: usize = 60;
/// From how many deviations on two samples are different, of the 6.6 that there can be. Chance alone goes beyond it once in a
/// hundred thousand comparisons, and each that does is made once more.
const DIFFERENT: f64 = 4.5;

/// How far apart by rank two samples of the same size are, in standard deviations of what chance alone would make.
fn apart(one: &[Duration], other: &[Duration]) -> f64 {
    let mut all: Vec<(Duration, bool)> = one.iter().map(|time| (*time, true)).collect();
    all.extend(other.iter().map(|time| (*time, false)));
    all.sort_unstable();
    let ranks = all.iter().zip(1_u32..).filter(|((_, is_one), _)| *is_one);
    let sum: f64 = ranks.map(|(_, rank)| f64::from(rank)).sum();
    let size = |sample: &[Duration]| f64::from(u32::try_from(sample.len()).expect("a small sample"));
    let (n, m) = (size(one), size(other));
    let expected = n * (n + m + 1.0) / 2.0;
    (sum - expected) / (n * m * (n + m + 1.0) / 12.0).sqrt()
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Asks for one and for the other, in turn.
fn times(ask: impl Fn(usize) -> Answer) -> [Vec<Duration>; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        // Each goes first as often as second: a connection or a cache that is warm helps both alike.
        for place in [round % 2, 1 - round % 2] {
            let begun = Instant::now();
            let answer = ask(place);
            let took = begun.elapsed();
            assert!(answer.status < 500, "{}", answer.text());
            times[place].push(took);
        }
    }
    times
}

#[test]
fn ranks_tell_samples_apart_and_leave_equal_ones_alone() {
    let of = |from: u64, step: u64| {
        (0..60)
            .map(|at| Duration::from_micros(from + at * step))
            .collect::<Vec<_>>()
    };
    assert!(apart(&of(1000, 10), &of(1005, 10)).abs() < 1.0, "the same spread");
    assert!(apart(&of(1000, 10), &of(1600, 10)) < -9.0, "all of one are faster");
    assert!(apart(&of(1600, 10), &of(1000, 10)) > 9.0);
    let mut slow = of(1000, 10);
    slow.iter_mut().take(6).for_each(|time| *time *= 100);
    assert!(
        apart(&slow, &of(1000, 10)).abs() < 3.0,
        "some slow answers prove nothing"
    );
}

#[test]
fn another_tenants_things_take_as_long_as_nothing() {
    let server = server();
    let (theirs, mine) = (Stocked::new(&server), Stocked::new(&server));
    let credential = by_token(&mine.tenant.token(OWNER, SCOPES));
    let nothing = theirs.things.made_up();
    let of = [&theirs.things, &nothing];
    let (mut compared, mut told_apart) = (0, Vec::new());
    for operation in operations() {
        let asks = operation.names_something(&theirs.things) && operation.row.takes != Takes::Attempt;
        // A worker's request for jobs waits for some.
        if !asks || operation.row.operation == "leaseJobs" {
            continue;
        }
        let mut found = times(|place| operation.ask(&server, &credential, of[place]));
        if apart(&found[0], &found[1]).abs() > DIFFERENT {
            // What differs does so again.
            found = times(|place| operation.ask(&server, &credential, of[place]));
        }
        let z = apart(&found[0], &found[1]);
        println!(
            "{:20} theirs {:?}, nothing {:?}: {z:+.1}",
            operation.row.operation,
            median(&found[0]),
            median(&found[1])
        );
        compared += 1;
        if z.abs() > DIFFERENT {
            told_apart.push(operation.row.operation);
        }
    }
    // That one object more were asked would be seen: this is how far apart none and one are.
    let client = mine.tenant.client_with(OWNER, SCOPES);
    let absent = format!("/v1/jobs/{}", mine.things.made_up().job);
    let found = times(|place| client.get([absent.as_str(), "/healthz"][place]));
    let hop = apart(&found[0], &found[1]);
    println!("{compared} operations; an object asked against none: {hop:+.1}");
    assert!(hop > DIFFERENT, "what would tell things apart is not seen: {hop}");
    assert!(compared >= 30, "{compared}");
    assert!(told_apart.is_empty(), "{told_apart:?}");
}
