//! Sorted maps and sets whose code is small.
//!
//! They do what `BTreeMap` and `BTreeSet` of the standard library do, by the same names. A map of those brings ten
//! kilobytes of code for each pair of types, most of it the balancing of nodes, and here are a hundred such pairs: a sixth of the bundle. These
//! keep their entries in a list of short sorted lists ([`map`]), which takes a tenth of that code.
//!
//! The shape is that of a B+ tree of two levels. A look-up is two binary searches. An insertion or a removal moves at most one
//! short list; only each time that one overflows or becomes empty is a place in the outer list made or closed.

pub mod map;
pub mod set;
#[cfg(test)]
mod tests;

pub use map::SortedMap;
pub use set::SortedSet;
