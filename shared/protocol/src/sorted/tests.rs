//! The sorted map beside the standard library's, step by step.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::{SortedMap, SortedSet};

/// A value so large that a chunk holds eight entries, so that short runs split and join many chunks.
type Large = [u64; 100];

fn large(value: u8) -> Large {
    [u64::from(value); 100]
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u16, u8),
    Remove(u16),
    Entry(u16, u8),
    PopFirst,
    PopLast,
    Retain(u16),
    Range(u16, u16),
    Append(Vec<(u16, u8)>),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..200_u16;
    prop_oneof![
        12 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
        8 => key.clone().prop_map(Step::Remove),
        4 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Entry(key, value)),
        2 => Just(Step::PopFirst),
        2 => Just(Step::PopLast),
        1 => (2..5_u16).prop_map(Step::Retain),
        3 => (key.clone(), key.clone()).prop_map(|(from, to)| Step::Range(from.min(to), from.max(to))),
        1 => prop::collection::vec((key, any::<u8>()), 0..40).prop_map(Step::Append),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Each operation answers as the standard library's does, and leaves the same entries in the same order.
    #[test]
    fn a_sorted_map_does_what_the_standard_one_does(steps in prop::collection::vec(step(), 0..400)) {
        let mut ours: SortedMap<u16, Large> = SortedMap::new();
        let mut theirs: BTreeMap<u16, Large> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(key, value) => prop_assert_eq!(ours.insert(key, large(value)), theirs.insert(key, large(value))),
                Step::Remove(key) => prop_assert_eq!(ours.remove(&key), theirs.remove(&key)),
                Step::Entry(key, value) => {
                    let change = |held: &mut Large| held[0] = held[0].wrapping_add(1);
                    let held = *ours.entry(key).and_modify(change).or_insert(large(value));
                    prop_assert_eq!(held, *theirs.entry(key).and_modify(change).or_insert(large(value)));
                }
                Step::PopFirst => prop_assert_eq!(ours.pop_first(), theirs.pop_first()),
                Step::PopLast => prop_assert_eq!(ours.pop_last(), theirs.pop_last()),
                Step::Retain(by) => {
                    ours.retain(|key, _| key % by != 0);
                    theirs.retain(|key, _| key % by != 0);
                }
                Step::Range(from, to) => {
                    prop_assert!(ours.range(from..to).eq(theirs.range(from..to)));
                    prop_assert!(ours.range(from..=to).rev().eq(theirs.range(from..=to).rev()));
                    prop_assert!(ours.range(from..).eq(theirs.range(from..)));
                    prop_assert!(ours.range(..to).eq(theirs.range(..to)));
                }
                Step::Append(more) => {
                    let mut more_of_ours = more.iter().map(|(key, value)| (*key, large(*value))).collect();
                    ours.append(&mut more_of_ours);
                    prop_assert!(more_of_ours.is_empty());
                    theirs.extend(more.iter().map(|(key, value)| (*key, large(*value))));
                }
                Step::Clear => { ours.clear(); theirs.clear(); }
            }
            prop_assert_eq!(ours.len(), theirs.len());
            prop_assert_eq!(ours.is_empty(), theirs.is_empty());
            prop_assert_eq!(ours.first_key_value(), theirs.first_key_value());
            prop_assert_eq!(ours.last_key_value(), theirs.last_key_value());
            prop_assert!(ours.iter().eq(theirs.iter()));
            prop_assert!(ours.iter().rev().eq(theirs.iter().rev()));
            prop_assert!(ours.iter_mut().map(|(key, value)| (*key, *value)).eq(theirs.clone()));
        }
        for key in 0..200 {
            prop_assert_eq!(ours.get(&key), theirs.get(&key));
        }
        // Entry by entry, a map made anew is the same, though its chunks are not.
        prop_assert_eq!(&ours.iter().map(|(key, value)| (*key, *value)).collect::<SortedMap<_, _>>(), &ours);
        prop_assert!(ours.into_iter().rev().eq(theirs.into_iter().rev()));
    }

    /// A set is written and read as a list, a map as a map, in JSON and in CBOR as the standard library's are.
    #[test]
    fn they_are_written_as_the_standard_ones(members in prop::collection::btree_set("[a-z]{0,3}", 0..300)) {
        let set: SortedSet<String> = members.iter().cloned().collect();
        let map: SortedMap<String, usize> = members.iter().map(|member| (member.clone(), member.len())).collect();
        let same: BTreeMap<String, usize> = map.iter().map(|(key, value)| (key.clone(), *value)).collect();
        prop_assert_eq!(serde_json::to_string(&set).unwrap(), serde_json::to_string(&members).unwrap());
        prop_assert_eq!(serde_json::to_string(&map).unwrap(), serde_json::to_string(&same).unwrap());
        let bytes = tidegate_cbor::to_vec(&set);
        prop_assert_eq!(&bytes, &minicbor_serde::to_vec(&members).unwrap());
        prop_assert_eq!(&tidegate_cbor::from_slice::<SortedSet<String>>(&bytes).unwrap(), &set);
        let bytes = tidegate_cbor::to_vec(&map);
        prop_assert_eq!(&bytes, &minicbor_serde::to_vec(&same).unwrap());
        prop_assert_eq!(tidegate_cbor::from_slice::<SortedMap<String, usize>>(&bytes).unwrap(), map);
    }
}

#[test]
fn a_set_does_what_the_standard_one_does() {
    let mut ours: SortedSet<u32> = (0..5000).rev().map(|number| number * 7 % 5000).collect();
    let mut theirs: BTreeSet<u32> = (0..5000).collect();
    assert!(ours.iter().eq(theirs.iter()));
    assert!(!ours.insert(7), "it was there");
    assert!(ours.remove(&7) && theirs.remove(&7) && !ours.remove(&7));
    ours.retain(|number| number % 3 != 1);
    theirs.retain(|number| number % 3 != 1);
    assert_eq!(ours.len(), theirs.len());
    assert_eq!(
        (ours.pop_first(), ours.pop_last()),
        (theirs.pop_first(), theirs.pop_last())
    );
    assert_eq!((ours.first(), ours.last()), (theirs.first(), theirs.last()));
    assert!(ours.range(100..=200).eq(theirs.range(100..=200)));
    assert!(ours.is_subset(&(0..5000).collect()) && !ours.is_subset(&SortedSet::from([2, 3])));
    assert_eq!(ours.difference(&(3..5000).collect()).collect::<Vec<_>>(), [&2]);
    assert!(ours.into_iter().eq(theirs));
}

#[test]
fn what_shrinks_does_not_stay_scattered() {
    let mut map: SortedMap<u32, Large> = (0..800).map(|key| (key, large(1))).collect();
    assert_eq!(
        map.chunks(),
        100,
        "what grows at its end has full chunks, of eight such entries"
    );
    for key in (0..800).filter(|key| key % 80 != 0) {
        map.remove(&key);
    }
    assert_eq!(map.len(), 10);
    assert!(map.chunks() <= 6, "{} chunks hold 10 entries", map.chunks());
}

#[test]
fn keys_are_found_by_what_they_lend() {
    let map: SortedMap<String, u8> = [("one".to_string(), 1), ("two".to_string(), 2)].into();
    assert_eq!(map.get("two"), Some(&2));
    assert_eq!(map.get_key_value("three"), None);
    assert!(map.contains_key("one") && !map.contains_key(""));
}
