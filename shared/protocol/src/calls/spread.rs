//! How the partitions of a tenant's jobs are spread over objects, and what an object is told as there come to be more.
//!
//! A job stays in the object that accepted it. What moves as a tenant grows is who accepts the next one, and partitions
//! move to new objects alone: so a partition has had a few owners, each with a higher index than the one before, and
//! whatever may lie with an earlier one is found by going along that row.

use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};

use super::queueing::Pause;
use crate::ids::{JobNumber, PARTITIONS, Partition, ShardIndex};

/// How often a tenant may grow: what may be found in several objects is asked for in each of them in turn.
pub const GROWTHS_MAX: usize = 8;

/// The object that takes a partition's new jobs, where there are `shards` of them (linear hashing; W. Litwin, 1980).
///
/// One object more takes over half the partitions of one other, and no other moves. A partition whose index is that of
/// an object always belongs to it. The shares are equal where `shards` is a power of two; else some objects have twice
/// the share of others.
pub const fn owner(partition: Partition, shards: u16) -> ShardIndex {
    let shards = clamp(shards);
    let mask = shards.next_power_of_two() - 1;
    let low = partition.index() & mask;
    ShardIndex(if low < shards { low } else { low & (mask >> 1) })
}

const fn clamp(shards: u16) -> u16 {
    match shards {
        0 => 1,
        1..=PARTITIONS => shards,
        _ => PARTITIONS,
    }
}

/// A partition that `shard` owns, where there are `shards`: `partition` itself where that is one.
pub fn own(partition: Partition, shard: ShardIndex, shards: u16) -> Partition {
    if owner(partition, shards) == shard {
        return partition;
    }
    let mask = clamp(shards).next_power_of_two() - 1;
    Partition::of_hash(u64::from((partition.index() & !mask) | (shard.0 & mask)))
}

/// The owner of a partition that came after `shard`, in a tenant that has had so many shards, the first number first.
/// `None` where `shard` owns it still, or never did.
pub fn owner_after(partition: Partition, shard: ShardIndex, history: &[u16]) -> Option<ShardIndex> {
    let mut owners = history.iter().map(|shards| owner(partition, *shards));
    owners.find(|owner| *owner == shard)?;
    owners.find(|owner| *owner != shard)
}

/// A number of shards that a tenant has, or had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Spread {
    /// How many.
    pub shards: u16,
    /// Jobs of the partitions that moved with it have higher numbers than this, unless a clock went back: the earlier
    /// owner has none above it.
    pub from: JobNumber,
}

/// Every number of shards that a tenant has had, the first one first. Never empty to those who ask it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[serde(transparent)]
pub struct Spreads(pub Vec<Spread>);

impl Spreads {
    /// Those of a tenant that never grew.
    pub fn only(shards: u16) -> Self {
        let from = JobNumber(0);
        Self(alloc::vec![Spread { shards, from }])
    }

    /// How many shards there are now.
    pub fn shards(&self) -> u16 {
        self.0.last().map_or(1, |spread| spread.shards)
    }

    /// Which numbers there were.
    pub fn history(&self) -> Vec<u16> {
        self.0.iter().map(|spread| spread.shards).collect()
    }

    /// Who is asked first for a key of `partition`: its first owner. One that has no such key, and owns the partition no
    /// longer, names the next.
    pub fn for_key(&self, partition: Partition) -> ShardIndex {
        owner(partition, self.0.first().map_or(1, |spread| spread.shards))
    }

    /// Who is asked first for a job: the owner of its partition when it was accepted. One that has no such job, and owns
    /// the partition no longer, names the next.
    pub fn for_number(&self, number: JobNumber) -> ShardIndex {
        let then = self.0.iter().rev().find(|spread| spread.from < number);
        owner(
            number.partition(),
            then.or(self.0.first()).map_or(1, |spread| spread.shards),
        )
    }

    /// Who takes new work of `partition`.
    pub fn for_new(&self, partition: Partition) -> ShardIndex {
        owner(partition, self.shards())
    }
}

/// Where an object stands among those of its tenant. Limits and bounds of a whole tenant are divided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Place {
    /// Its index.
    pub shard: ShardIndex,
    /// How many there are.
    pub shards: u16,
}

impl Default for Place {
    fn default() -> Self {
        let shard = ShardIndex(0);
        Self { shard, shards: 1 }
    }
}

impl Place {
    /// The part of `whole` that falls to this object. The parts of all objects add up to the whole.
    pub fn part(self, whole: u32) -> u32 {
        let shards = u32::from(self.shards.max(1));
        whole / shards + u32::from(u32::from(self.shard.0) < whole % shards)
    }
}

/// What an object may do by now. It only ever rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It takes jobs and starts none: it does not know yet what is paused.
    Asleep,
    /// It starts what counts under no throttle: others may still start by more than their new part of one.
    Limited,
    /// Everything.
    #[default]
    Open,
}

/// What an object is told of its tenant's growth.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Growth {
    /// The object's own index.
    pub shard: ShardIndex,
    /// Every number of shards that the tenant has had, the new one last.
    pub history: Vec<u16>,
    /// What it may do.
    pub standing: Standing,
    /// What is paused. Taken over by an object that wakes up.
    pub pauses: Vec<Pause>,
    /// The object gives out higher numbers than this: earlier owners of its partitions have given out up to it.
    #[serde(default)]
    pub after: JobNumber,
}

/// What an object says that was told of a growth. From then on it takes no new key of a partition that it has lost, and
/// gives out no number of one.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Grown {
    /// The highest number that it has given out.
    pub last: JobNumber,
    /// What is paused there.
    pub pauses: Vec<Pause>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partitions() -> impl Iterator<Item = Partition> {
        (0..u64::from(PARTITIONS)).map(Partition::of_hash)
    }

    #[test]
    fn one_more_object_takes_partitions_and_no_other_gets_or_loses_all() {
        for shards in 1..PARTITIONS {
            let mut left = alloc::vec![0_u32; usize::from(shards) + 1];
            for partition in partitions() {
                let (before, after) = (owner(partition, shards), owner(partition, shards + 1));
                assert!(
                    after == before || after == ShardIndex(shards),
                    "{partition:?} of {shards}"
                );
                left[usize::from(after.0)] += 1;
            }
            let (least, most) = (left.iter().min().unwrap(), left.iter().max().unwrap());
            assert!(*least > 0 && *most <= 2 * least, "{shards}: {least} to {most}");
        }
    }

    #[test]
    fn powers_of_two_share_equally_and_a_partition_of_an_objects_index_is_its_own() {
        for shards in [1, 2, 4, 64, 1024] {
            let of_first = partitions().filter(|partition| owner(*partition, shards) == ShardIndex(0));
            assert_eq!(of_first.count(), usize::from(PARTITIONS / shards));
        }
        for shards in 1..=PARTITIONS {
            for shard in 0..shards {
                assert_eq!(owner(Partition::of_hash(shard.into()), shards), ShardIndex(shard));
            }
        }
        assert_eq!(owner(Partition::of_hash(1023), 0), ShardIndex(0));
        assert_eq!(owner(Partition::of_hash(1023), u16::MAX), ShardIndex(1023));
    }

    #[test]
    fn a_number_is_asked_for_where_it_was_given_out() {
        let partition = Partition::of_hash(3);
        let at = |ms: u64| JobNumber::next(crate::time::UnixMs(1_800_000_000_000 + ms), partition, JobNumber(0));
        let spread = |shards, from| Spread { shards, from };
        let spreads = Spreads(alloc::vec![
            spread(1, JobNumber(0)),
            spread(2, at(10)),
            spread(4, at(20))
        ]);
        for (ms, shard) in [(0, 0), (10, 0), (11, 1), (20, 1), (21, 3)] {
            assert_eq!(spreads.for_number(at(ms)), ShardIndex(shard), "{ms}");
        }
        assert_eq!(spreads.for_key(partition), ShardIndex(0));
        assert_eq!(spreads.for_new(partition), ShardIndex(3));
        assert_eq!(spreads.history(), [1, 2, 4]);
        assert_eq!(owner_after(partition, ShardIndex(0), &[1, 2, 4]), Some(ShardIndex(1)));
        assert_eq!(owner_after(partition, ShardIndex(1), &[1, 2, 4]), Some(ShardIndex(3)));
        assert_eq!(owner_after(partition, ShardIndex(3), &[1, 2, 4]), None);
        assert_eq!(owner_after(partition, ShardIndex(2), &[1, 2, 4]), None);
    }

    proptest! {
        /// Whoever begins with the first owner and goes on as it is told meets every owner once, and ends with the last.
        #[test]
        fn the_row_of_owners_ends_with_the_newest(hash: u64, mut history in proptest::collection::vec(1_u16..=1024, 1..6)) {
            history.sort_unstable();
            history.dedup();
            let partition = Partition::of_hash(hash);
            let mut at = owner(partition, history[0]);
            let mut met = alloc::vec![at];
            while let Some(next) = owner_after(partition, at, &history) {
                prop_assert!(next > at);
                at = next;
                met.push(at);
            }
            prop_assert_eq!(at, owner(partition, history[history.len() - 1]));
            for shards in &history {
                prop_assert!(met.contains(&owner(partition, *shards)));
            }
        }

        #[test]
        fn an_object_gives_out_numbers_of_its_own_partitions(hash: u64, shards in 1_u16..=1024, index: u16) {
            let shard = ShardIndex(index % shards);
            let partition = Partition::of_hash(hash);
            let found = own(partition, shard, shards);
            prop_assert_eq!(owner(found, shards), shard);
            prop_assert!(owner(partition, shards) != shard || found == partition);
        }

        #[test]
        fn parts_add_up_to_the_whole(whole in 0_u32..5000, shards in 1_u16..=1024) {
            let parts = (0..shards).map(|shard| Place { shard: ShardIndex(shard), shards }.part(whole));
            prop_assert_eq!(parts.sum::<u32>(), whole);
        }
    }
}
