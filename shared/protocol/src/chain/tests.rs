//! What a walk of the trail finds, one test for each guarantee.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::*;

/// A trail of `count` entries, the first `unchained` of them of before there was a chain.
fn trail(unchained: u64, count: u64) -> (Vec<String>, Vec<Head>) {
    let mut head = Head::unchained(0);
    let mut heads = vec![head];
    let mut entries = Vec::new();
    for number in 1..=count {
        let text = kept(&serde_json::json!({ "what": "queue.paused", "at": number, "who": { "user": "ann" } }));
        if number <= unchained {
            head = Head::unchained(number);
            entries.push(shown(number, None, &text));
        } else {
            let before = head.hash.to_string();
            head = head.link(&text);
            entries.push(shown(number, Some((&before, &head.hash.to_string())), &text));
        }
        heads.push(head);
    }
    (entries, heads)
}

fn walk(entries: &[String], start: Head, noted: &[Head]) -> Result<Head, Broken> {
    let mut walk = Walk::new(start, noted.to_vec())?;
    for entry in entries {
        walk.take(entry)?;
    }
    walk.finish()?;
    Ok(walk.head())
}

const fn broken(seq: u64, fault: Fault) -> Result<Head, Broken> {
    Err(Broken { seq, fault })
}

/// Another entry in the place of one: its hash is right, and what comes after it is not chained to it.
fn forged(seq: u64, heads: &[Head]) -> String {
    let before = heads[usize::try_from(seq).unwrap() - 1];
    let text = kept(&serde_json::json!({ "what": "queue.resumed" }));
    let after = before.link(&text);
    shown(seq, Some((&before.hash.to_string(), &after.hash.to_string())), &text)
}

#[test]
fn a_hash_covers_the_number_the_one_before_and_the_entry_as_canonical_json() {
    // Made by `printf '…' | sha256sum`.
    let genesis = Head::unchained(0);
    assert_eq!(
        genesis.to_string(),
        "0:2a18f97c894731de12eec60a1dddf83b8d95f4332d5974f0b9f6fdbda75a5733"
    );
    let entry: Value = serde_json::from_str(
        r#"{ "seq": 9, "what": "a\"\u0007\n\/é", "hash": 1, "b": [1, [], {}], "a": { "seq": 1, "B": null, "b": true }, "previous_hash": "" }"#,
    )
    .unwrap();
    let text = canonical(&entry);
    assert_eq!(
        text,
        r#"{"a":{"B":null,"b":true,"seq":1},"b":[1,[],{}],"what":"a\"\u0007\n/é"}"#
    );
    assert_eq!(
        genesis.link(&text).to_string(),
        "1:22af3b4328a008fc51851d1669ee3d48cd7a352303456156a2880b35c9017f31"
    );
    assert_eq!(kept(&serde_json::json!([2])), r#"{"told":[2]}"#);
    assert_eq!(shown(3, None, "{}"), r#"{"seq":3}"#);
}

#[test]
fn a_head_is_read_as_it_is_written_and_in_no_other_way() {
    let head = Head::unchained(7);
    let text = head.to_string();
    assert_eq!(Head::parse(&text), Some(head));
    for bad in [
        "",
        ":",
        "7",
        "7:",
        text.strip_prefix('7').unwrap(),
        text.strip_suffix(|_: char| true).unwrap(),
        &alloc::format!("0{text}"),
        &alloc::format!("+{text}"),
        &alloc::format!("{text}0"),
        &text.to_uppercase(),
        &text.replace('a', "+"),
    ] {
        assert_eq!(Head::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_trail_as_it_was_written_is_whole_with_entries_of_before_the_chain_or_behind_a_checkpoint() {
    for unchained in [0, 3, 5] {
        let (entries, heads) = trail(unchained, 5);
        assert_eq!(walk(&entries, heads[0], &heads), Ok(heads[5]), "{unchained}");
        for from in 1..=5 {
            assert_eq!(walk(&entries[from..], heads[from], &heads[from..]), Ok(heads[5]));
        }
    }
    // Before there was a chain, old entries were deleted without a trace.
    let (entries, heads) = trail(3, 5);
    assert_eq!(walk(&entries[2..], heads[0], &[]), Ok(heads[5]));
}

#[test]
fn each_way_to_tamper_is_found_and_the_first_bad_entry_named() {
    let (entries, heads) = trail(0, 6);
    let tampered = |change: &dyn Fn(&mut Vec<String>)| {
        let mut entries = entries.clone();
        change(&mut entries);
        walk(&entries, heads[0], &heads[6..])
    };
    let cases = [
        (
            "a word changed",
            tampered(&|all| all[2] = all[2].replace("ann", "bob")),
            broken(3, Fault::Changed),
        ),
        (
            "a member more",
            tampered(&|all| all[2] = all[2].replace("{\"seq\":3", "{\"x\":1,\"seq\":3")),
            broken(3, Fault::Changed),
        ),
        (
            "its number changed",
            tampered(&|all| all[2] = all[2].replace("\"seq\":3", "\"seq\":4")),
            broken(4, Fault::Changed),
        ),
        (
            "another in its place",
            tampered(&|all| all[2] = forged(3, &heads)),
            broken(4, Fault::Unlinked),
        ),
        (
            "the last one replaced",
            tampered(&|all| all[5] = forged(6, &heads)),
            broken(6, Fault::NotAsNoted),
        ),
        (
            "one removed",
            tampered(&|all| drop(all.remove(2))),
            broken(4, Fault::Missing(3)),
        ),
        (
            "several removed",
            tampered(&|all| drop(all.drain(1..4))),
            broken(5, Fault::Missing(2)),
        ),
        (
            "the first removed",
            tampered(&|all| drop(all.remove(0))),
            broken(2, Fault::Missing(1)),
        ),
        (
            "two swapped",
            tampered(&|all| all.swap(2, 3)),
            broken(4, Fault::Missing(3)),
        ),
        (
            "one twice",
            tampered(&|all| all.insert(3, all[2].clone())),
            broken(3, Fault::Reordered(3)),
        ),
        (
            "one put in between",
            tampered(&|all| all.insert(2, forged(3, &heads))),
            broken(3, Fault::Reordered(3)),
        ),
        (
            "one without a hash",
            tampered(&|all| all[2] = shown(3, None, "{}")),
            broken(3, Fault::Unchained),
        ),
        (
            "the first without a hash",
            tampered(&|all| all[0] = shown(1, None, "{}")),
            broken(2, Fault::Unlinked),
        ),
        (
            "no entry",
            tampered(&|all| all[2] = "[]".into()),
            broken(3, Fault::Unreadable),
        ),
        (
            "half a chain",
            tampered(&|all| all[2] = all[2].replace("previous_hash", "previous")),
            broken(3, Fault::Unreadable),
        ),
        ("cut off", tampered(&|all| all.truncate(4)), broken(6, Fault::CutOff)),
        ("emptied", tampered(&|all| all.clear()), broken(6, Fault::CutOff)),
    ];
    for (name, found, expected) in cases {
        assert_eq!(found, expected, "{name}");
    }
    // Cut off, and nobody noted more: that is what a head is noted for.
    assert_eq!(walk(&entries[..4], heads[0], &heads[..5]), Ok(heads[4]));
    // What was noted lies before the start, or is not the start.
    assert_eq!(
        walk(&entries[3..], heads[3], &heads[2..3]),
        broken(2, Fault::NotReached)
    );
    let other = Head {
        hash: heads[1].hash,
        ..heads[3]
    };
    assert_eq!(walk(&entries[3..], heads[3], &[other]), broken(3, Fault::NotAsNoted));
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_one_change_removal_swap_or_repeat_is_found(
            (unchained, count) in (0_u64..3, 4_u64..20),
            (kind, at, other) in (0..5, any::<prop::sample::Index>(), any::<prop::sample::Index>()),
            (byte, bit) in (any::<prop::sample::Index>(), 0_u8..7),
        ) {
            let (whole, heads) = trail(unchained, count);
            let mut entries = whole.clone();
            let noted = heads.last().copied().unwrap();
            // Entries of before the chain prove nothing but that they are there.
            let chained = usize::try_from(unchained).unwrap();
            let at = chained + at.index(entries.len() - chained);
            let other = chained + other.index(entries.len() - chained);
            match kind {
                0 => {
                    let mut bytes = entries[at].clone().into_bytes();
                    let byte = byte.index(bytes.len());
                    bytes[byte] ^= 1 << bit;
                    entries[at] = String::from_utf8(bytes).unwrap();
                }
                1 => drop(entries.remove(at)),
                2 => entries.swap(at, other),
                3 => entries.insert(other, whole[at].clone()),
                _ => entries.truncate(at),
            }
            let same = entries == whole;
            let found = walk(&entries, heads[0], &[noted]);
            prop_assert_eq!(found.is_ok(), same, "{:?}", found);
        }
    }
}
