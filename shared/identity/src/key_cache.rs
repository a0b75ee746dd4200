//! When an issuer's published keys are fetched, and by whom: one at a time, and seldom.
//!
//! The requests of an isolate share this, but not what they wait for: on the platform, no request may wait for another's call.
//! So whoever needs keys that another is fetching looks again a little later.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::keys::KeySet;

/// How long a key set is used. Milliseconds.
const FRESH_MS: u64 = 600_000;
/// How long after a fetch no other follows for a key that the set lacks: a flood of tokens with invented keys must not become a
/// flood of fetches. Milliseconds.
const UNKNOWN_MS: u64 = 30_000;
/// How long after a fetch that failed no other follows. Milliseconds.
const FAILED_MS: u64 = 5_000;
/// How long a fetch may be under way before it counts as lost, with the request that made it. Milliseconds.
const LOST_MS: u64 = 10_000;
/// How soon to look again for what another is fetching. Milliseconds.
const AGAIN_MS: u64 = 20;

/// Which keys are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Those at hand, if they are not too old.
    Known,
    /// Newer ones, where there may be any: those at hand lack the key that a token names.
    Newer,
}

/// What whoever needs keys does next.
#[derive(Debug, Clone)]
pub enum Step {
    /// Use these.
    Use(KeySet),
    /// Fetch them, say what came of it by [`KeyCache::fetched`], and ask again.
    Fetch,
    /// Another is fetching them: ask again after this time. Milliseconds.
    Wait(u64),
    /// There are none, and it is too soon to try again.
    Unavailable {
        /// When to. Milliseconds from now.
        after_ms: u64,
    },
}

#[derive(Debug, Clone, Default)]
struct Entry {
    keys: Option<(KeySet, u64)>,
    fetching_since: Option<u64>,
    failed_at: Option<u64>,
}

/// The key sets that were fetched, by address: as many as issuers are configured.
#[derive(Debug, Clone, Default)]
pub struct KeyCache(BTreeMap<String, Entry>);

impl KeyCache {
    /// A cache without keys.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// What to do for the keys at `url`.
    pub fn step(&mut self, url: &str, now_ms: u64, wanted: Wanted) -> Step {
        let entry = self.0.entry(url.to_owned()).or_default();
        let age = |at: u64| now_ms.saturating_sub(at);
        let enough = match wanted {
            Wanted::Known => FRESH_MS,
            Wanted::Newer => UNKNOWN_MS,
        };
        let under_way = entry.fetching_since.is_some_and(|since| age(since) < LOST_MS);
        let failed = entry.failed_at.map(age).filter(|age| *age < FAILED_MS);
        match (&entry.keys, under_way, failed) {
            (Some((keys, at)), ..) if age(*at) < enough => Step::Use(keys.clone()),
            // Old keys are better than none while others are fetched, or cannot be.
            (Some((keys, _)), true, _) if wanted == Wanted::Known => Step::Use(keys.clone()),
            (_, true, _) => Step::Wait(AGAIN_MS),
            (Some((keys, _)), false, Some(_)) => Step::Use(keys.clone()),
            (None, false, Some(age)) => Step::Unavailable {
                after_ms: FAILED_MS.saturating_sub(age),
            },
            (_, false, None) => {
                entry.fetching_since = Some(now_ms);
                Step::Fetch
            }
        }
    }

    /// What came of a fetch. `None`: it failed.
    pub fn fetched(&mut self, url: &str, now_ms: u64, keys: Option<KeySet>) {
        let entry = self.0.entry(url.to_owned()).or_default();
        entry.fetching_since = None;
        match keys {
            Some(keys) => {
                entry.keys = Some((keys, now_ms));
                entry.failed_at = None;
            }
            None => entry.failed_at = Some(now_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://id.example.com/keys";

    fn keys(kid: &str) -> KeySet {
        // The key of RFC 8037, appendix A.2.
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let set = alloc::format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}]}}"#);
        KeySet::parse_fetched(&set).unwrap()
    }

    fn name(step: &Step) -> String {
        match step {
            Step::Use(keys) => keys.keys()[0].kid().unwrap().to_owned(),
            Step::Fetch => "fetch".into(),
            Step::Wait(_) => "wait".into(),
            Step::Unavailable { after_ms } => alloc::format!("unavailable for {after_ms}"),
        }
    }

    #[test]
    fn one_fetches_and_the_others_wait_for_it() {
        let mut cache = KeyCache::new();
        let mut step = |now, wanted| name(&cache.step(URL, now, wanted));
        assert_eq!(step(0, Wanted::Known), "fetch");
        assert_eq!(step(1, Wanted::Known), "wait");
        assert_eq!(step(9_999, Wanted::Newer), "wait");
        // The request that fetched is gone, and its fetch with it.
        assert_eq!(step(10_000, Wanted::Known), "fetch");
        assert_eq!(step(10_001, Wanted::Known), "wait");
        cache.fetched(URL, 10_002, Some(keys("a")));
        assert_eq!(name(&cache.step(URL, 10_003, Wanted::Known)), "a");
        assert_eq!(
            name(&cache.step("https://other.example.com", 10_003, Wanted::Known)),
            "fetch"
        );
    }

    #[test]
    fn keys_are_used_for_ten_minutes_and_renewed_beside_those_who_use_them() {
        let mut cache = KeyCache::new();
        cache.fetched(URL, 0, Some(keys("a")));
        assert_eq!(name(&cache.step(URL, 599_999, Wanted::Known)), "a");
        assert_eq!(name(&cache.step(URL, 600_000, Wanted::Known)), "fetch");
        assert_eq!(name(&cache.step(URL, 600_001, Wanted::Known)), "a");
        cache.fetched(URL, 600_002, Some(keys("b")));
        assert_eq!(name(&cache.step(URL, 600_003, Wanted::Known)), "b");
    }

    #[test]
    fn a_key_that_is_not_there_is_looked_for_once_in_thirty_seconds() {
        let mut cache = KeyCache::new();
        cache.fetched(URL, 0, Some(keys("a")));
        assert_eq!(name(&cache.step(URL, 29_999, Wanted::Newer)), "a");
        assert_eq!(name(&cache.step(URL, 30_000, Wanted::Newer)), "fetch");
        // Whoever names it waits; whoever names one that is there does not.
        assert_eq!(name(&cache.step(URL, 30_001, Wanted::Newer)), "wait");
        assert_eq!(name(&cache.step(URL, 30_001, Wanted::Known)), "a");
        cache.fetched(URL, 30_002, Some(keys("b")));
        assert_eq!(name(&cache.step(URL, 30_003, Wanted::Newer)), "b");
    }

    #[test]
    fn an_issuer_that_is_away_is_asked_once_in_five_seconds_and_its_old_keys_are_used() {
        let mut cache = KeyCache::new();
        cache.fetched(URL, 0, None);
        assert_eq!(name(&cache.step(URL, 1, Wanted::Known)), "unavailable for 4999");
        assert_eq!(name(&cache.step(URL, 5_000, Wanted::Known)), "fetch");
        cache.fetched(URL, 5_001, Some(keys("a")));
        assert_eq!(name(&cache.step(URL, 700_000, Wanted::Known)), "fetch");
        cache.fetched(URL, 700_001, None);
        for wanted in [Wanted::Known, Wanted::Newer] {
            assert_eq!(name(&cache.step(URL, 704_999, wanted)), "a");
        }
        assert_eq!(name(&cache.step(URL, 705_001, Wanted::Known)), "fetch");
    }
}
