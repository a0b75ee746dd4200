//! Which of a tenant's shards a worker's call asks for jobs next, and for how many.
//!
//! First every shard is asked once without waiting; where none has a job, the call waits at as many shards at once as it wants
//! jobs, and goes on to the next ones after [`SLICE_MS`]. What is asked for at one time is never more than what is still
//! wanted, so that no job is leased to a worker that has no room for it. As soon as one shard has given something, the
//! calls that wait beside it are ended.
//!
//! So a job is found at once by a worker that wants as many jobs as there are shards, or more; and else within
//! [`SLICE_MS`] times the shards divided by the jobs wanted, rounded up.

use alloc::vec::Vec;

use tidegate_protocol::ids::ShardIndex;
use tidegate_protocol::time::UnixMs;

/// How long some of several shards are waited at before the next are. Milliseconds.
pub const SLICE_MS: u64 = 500;

/// What one shard is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The shard.
    pub shard: ShardIndex,
    /// So many jobs at most. None: only that the call that waits there ends.
    pub max: u32,
    /// How long to wait where it has none. Milliseconds.
    pub wait_ms: u64,
}

/// One call of a worker on its way through the shards.
///
/// Whoever carries it out asks what [`Search::next`] says, all at once, tells each answer by [`Search::answered`], asks
/// what that says beside, and comes back when everything is answered, until there is nothing more to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    shards: u16,
    /// The shard that is asked next.
    cursor: u16,
    /// Shards that were not asked yet.
    fresh: u16,
    max: u32,
    found: u32,
    until: UnixMs,
    /// Shards that are waited at.
    waited_at: Vec<ShardIndex>,
}

impl Search {
    /// A call for `max` jobs that waits until `until`. It begins at any shard, by `chance`, so that no one's jobs always come
    /// last.
    pub fn new(shards: u16, max: u32, until: UnixMs, chance: u64) -> Self {
        let shards = shards.max(1);
        let cursor = u16::try_from(chance % u64::from(shards)).unwrap_or(0);
        Self {
            shards,
            cursor,
            fresh: shards,
            max,
            found: 0,
            until,
            waited_at: Vec::new(),
        }
    }

    /// What is asked next, all at once; nothing where the call is over.
    pub fn next(&mut self, now: UnixMs) -> Vec<Ask> {
        self.waited_at.clear();
        let left_ms = self.until.since(now);
        if self.max == 0 {
            // A worker that leaves ends its calls everywhere.
            let all = core::mem::take(&mut self.fresh);
            return self.ask(all, 0, 0);
        }
        let wanted = self.max.saturating_sub(self.found);
        let at_once = |shards: u16| u16::try_from(wanted).unwrap_or(u16::MAX).min(shards);
        if self.fresh > 0 {
            let asked = at_once(self.fresh);
            self.fresh -= asked;
            // The only shard is waited at right away.
            let wait_ms = if self.shards == 1 { left_ms } else { 0 };
            return self.ask(asked, wanted, wait_ms);
        }
        if self.found > 0 || left_ms == 0 || self.shards == 1 {
            return Vec::new();
        }
        let asked = at_once(self.shards);
        let wait_ms = if asked == self.shards {
            left_ms
        } else {
            left_ms.min(SLICE_MS)
        };
        let asks = self.ask(asked, wanted, wait_ms);
        self.waited_at = asks.iter().map(|ask| ask.shard).collect();
        asks
    }

    /// A shard gave so many jobs. Says where else calls are to be ended that wait beside it.
    pub fn answered(&mut self, shard: ShardIndex, jobs: usize) -> Vec<Ask> {
        self.found = self.found.saturating_add(u32::try_from(jobs).unwrap_or(u32::MAX));
        self.waited_at.retain(|other| *other != shard);
        if jobs == 0 {
            return Vec::new();
        }
        let ended = core::mem::take(&mut self.waited_at).into_iter();
        let end = |shard| Ask {
            shard,
            max: 0,
            wait_ms: 0,
        };
        ended.map(end).collect()
    }

    /// The next shards, `wanted` jobs divided between them.
    fn ask(&mut self, shards: u16, wanted: u32, wait_ms: u64) -> Vec<Ask> {
        let (part, more) = match u32::from(shards) {
            0 => (0, 0),
            shards => (wanted / shards, wanted % shards),
        };
        let one = |index: u16| {
            let shard = ShardIndex(self.cursor);
            self.cursor = (self.cursor + 1) % self.shards;
            let max = part + u32::from(u32::from(index) < more);
            Ask { shard, max, wait_ms }
        };
        (0..shards).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::SortedSet;

    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    fn search(shards: u16, max: u32, wait_ms: u64) -> Search {
        Search::new(shards, max, NOW.plus(wait_ms), 0)
    }

    fn ask(shard: u16, max: u32, wait_ms: u64) -> Ask {
        let shard = ShardIndex(shard);
        Ask { shard, max, wait_ms }
    }

    #[test]
    fn the_only_shard_is_waited_at_once_and_for_all_of_the_time() {
        let mut search = search(1, 3, 20_000);
        assert_eq!(search.next(NOW), [ask(0, 3, 20_000)]);
        assert_eq!(search.answered(ShardIndex(0), 0), []);
        assert_eq!(search.next(NOW.plus(20_000)), []);
    }

    #[test]
    fn who_wants_one_job_of_several_shards_never_asks_for_two() {
        let mut search = search(3, 1, 600);
        let mut asked = Vec::new();
        let mut now = NOW;
        loop {
            let asks = search.next(now);
            let Some(first) = asks.first() else { break };
            assert_eq!((asks.len(), first.max), (1, 1));
            asked.push((first.shard.0, first.wait_ms));
            now = now.plus(first.wait_ms);
            search.answered(first.shard, 0);
        }
        assert_eq!(asked, [(0, 0), (1, 0), (2, 0), (0, 500), (1, 100)]);
    }

    #[test]
    fn who_wants_as_many_as_there_are_shards_waits_at_all_of_them_and_leaves_the_rest_when_one_gives() {
        let mut search = search(3, 7, 20_000);
        let parts = |wait_ms| vec![ask(0, 3, wait_ms), ask(1, 2, wait_ms), ask(2, 2, wait_ms)];
        assert_eq!(search.next(NOW), parts(0));
        for shard in 0..3 {
            assert_eq!(search.answered(ShardIndex(shard), 0), []);
        }
        assert_eq!(search.next(NOW), parts(20_000));
        assert_eq!(search.answered(ShardIndex(1), 1), [ask(0, 0, 0), ask(2, 0, 0)]);
        // What another was given at the same moment is kept as well, and nothing is ended twice.
        assert_eq!(search.answered(ShardIndex(0), 2), []);
        assert_eq!(search.answered(ShardIndex(2), 0), []);
        assert_eq!(search.next(NOW.plus(9)), []);
    }

    #[test]
    fn who_leaves_says_so_everywhere() {
        let mut search = search(3, 0, 20_000);
        assert_eq!(search.next(NOW), [ask(0, 0, 0), ask(1, 0, 0), ask(2, 0, 0)]);
        assert_eq!(search.next(NOW), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A model of shards of which one has a job from some moment on.
        #[test]
        fn a_job_on_any_shard_is_found_within_the_bound(
            shards in 1_u16..40, max in 1_u32..60, chance: u64, holder in 0_u16..40, comes_ms in 0_u64..10_000
        ) {
            let holder = holder % shards;
            // Long enough to come round once more after the job has come.
            let mut search = Search::new(shards, max, NOW.plus(10_000 + 40 * SLICE_MS), chance);
            let mut now = NOW;
            let comes = NOW.plus(comes_ms);
            let mut all = SortedSet::new();
            let found = 'found: loop {
                let asks = search.next(now);
                prop_assert!(!asks.is_empty(), "it gave up");
                let total: u32 = asks.iter().map(|ask| ask.max).sum();
                prop_assert!(total <= max, "more than is wanted");
                let different: SortedSet<u16> = asks.iter().map(|ask| ask.shard.0).collect();
                prop_assert_eq!(different.len(), asks.len());
                prop_assert!(asks.iter().all(|ask| ask.max > 0));
                all.extend(different);
                let wait_ms = asks[0].wait_ms;
                prop_assert!(wait_ms == 0 || all.len() == usize::from(shards), "waited before all were asked");
                for ask in &asks {
                    if ask.shard.0 == holder && comes <= now.plus(wait_ms) {
                        break 'found now.max(comes);
                    }
                }
                for ask in asks {
                    prop_assert_eq!(search.answered(ask.shard, 0), vec![]);
                }
                now = now.plus(wait_ms);
            };
            let groups = u64::from(shards).div_ceil(u64::from(max).min(u64::from(shards)));
            let bound_ms = if groups == 1 { 0 } else { SLICE_MS * groups };
            prop_assert!(found.since(comes) <= bound_ms, "found after {}", found.since(comes));
        }
    }
}
