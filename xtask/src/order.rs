//! The order of the functions in a wasm module, which decides how well it compresses.
//!
//! What compresses a bundle (DEFLATE, RFC 1951) sees 32 KiB at a time. Generic code is compiled once for each type, and those
//! copies are alike but megabytes apart, because the linker leaves them where they were made. Next to each other, each is little
//! more than a reference to the one before it.
//!
//! How much two functions have in common is estimated from sketches of the sequences of bytes in them: of all sequences whose
//! hash falls into a bin, a sketch keeps the least (Li, Owen, Zhang: One Permutation Hashing, 2012). From a function, the
//! order goes on to the one that is most like it; where none is, to the next in the module.

use std::collections::HashMap;

use anyhow::{Context, Result};

use crate::wasm::{self, Section};

/// The bins of a sketch.
const BINS: usize = 64;
/// The length of the sequences that are compared: the shortest that the compression can refer to twice over. Bytes.
const SEQUENCE: usize = 6;
/// Bins in which two functions are the same, at least, to be neighbours.
const ALIKE: u16 = 2;
/// What more functions than these have in common tells nothing about them.
const COMMON: usize = 1_500;

/// Gives each function of `module` a name that sorts where the function should be. A module that has names already loses them.
///
/// Errors: a module that cannot be read.
pub fn name_by_order(module: &[u8]) -> Result<Vec<u8>> {
    let mut imported = 0;
    let mut bodies = Vec::new();
    for section in wasm::sections(module)? {
        match section.kind {
            wasm::IMPORT => imported = wasm::imported_functions(section.content)?,
            wasm::CODE => bodies = wasm::bodies(section.content)?,
            _ => {}
        }
    }
    let mut names = Vec::new();
    let order = by_likeness(&bodies);
    for (place, function) in order.into_iter().enumerate() {
        names.push((imported + u32::try_from(function)?, format!("f{place:06}")));
    }
    names.sort_unstable();
    let mut named = wasm::without_names(module)?;
    Section::of_function_names(&names)
        .context("too many functions")?
        .append_to(&mut named);
    Ok(named)
}

/// The places of `bodies` in an order in which those that are alike are neighbours.
fn by_likeness(bodies: &[&[u8]]) -> Vec<usize> {
    let sketches: Vec<[Option<u64>; BINS]> = bodies.iter().map(|body| sketch(body)).collect();
    let mut having: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
    for (function, sketch) in sketches.iter().enumerate() {
        for (bin, least) in sketch.iter().enumerate() {
            if let Some(least) = least {
                having.entry((bin, *least)).or_default().push(function);
            }
        }
    }
    let mut placed = vec![false; bodies.len()];
    let mut order = Vec::with_capacity(bodies.len());
    let mut in_common = vec![0_u16; bodies.len()];
    for first in 0..bodies.len() {
        let mut next = Some(first).filter(|first| !placed[*first]);
        while let Some(function) = next {
            placed[function] = true;
            order.push(function);
            let mut candidates = Vec::new();
            for (bin, least) in sketches[function].iter().enumerate() {
                let Some(least) = least else { continue };
                let Some(others) = having.get_mut(&(bin, *least)) else {
                    continue;
                };
                others.retain(|other| !placed[*other]);
                if others.len() > COMMON {
                    continue;
                }
                for &other in others.iter() {
                    if in_common[other] == 0 {
                        candidates.push(other);
                    }
                    in_common[other] += 1;
                }
            }
            // Of several that are as like it, the nearest.
            next = candidates
                .iter()
                .copied()
                .filter(|other| in_common[*other] >= ALIKE)
                .max_by_key(|other| (in_common[*other], std::cmp::Reverse(other.abs_diff(function))));
            for candidate in candidates {
                in_common[candidate] = 0;
            }
        }
    }
    order
}

fn sketch(body: &[u8]) -> [Option<u64>; BINS] {
    let mut least = [None; BINS];
    for sequence in body.windows(SEQUENCE) {
        let number = sequence
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let hash = mixed(number);
        let bin = usize::try_from(hash % BINS as u64).unwrap_or(0);
        let slot = &mut least[bin];
        if slot.is_none_or(|so_far| hash < so_far) {
            *slot = Some(hash);
        }
    }
    least
}

/// Spreads numbers over all 64 bits: the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
/// Generators, 2014).
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(seed: u64, bytes: usize) -> Vec<u8> {
        (0..bytes as u64)
            .map(|at| mixed(seed * 1_000_003 + at).to_le_bytes()[0])
            .collect()
    }

    #[test]
    fn copies_become_neighbours_and_every_function_stays() {
        // Ten kinds of functions, three copies of each, far apart and each changed in one place.
        let mut bodies = Vec::new();
        for copy in 0..3 {
            for kind in 0..10 {
                let mut body = body(kind, 200);
                body[100] ^= copy + 1;
                bodies.push(body);
            }
        }
        let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let order = by_likeness(&bodies);
        let kinds: Vec<usize> = order.iter().map(|function| function % 10).collect();
        assert_eq!(kinds, (0..30).map(|place| place / 3).collect::<Vec<_>>());
        let mut all = order;
        all.sort_unstable();
        assert_eq!(all, (0..30).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_like_nothing_stays_where_it_is() {
        let bodies: Vec<Vec<u8>> = (0..20).map(|seed| body(seed, 60)).collect();
        let mut bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        bodies.push(&[]);
        assert_eq!(by_likeness(&bodies), (0..21).collect::<Vec<_>>());
    }
}
