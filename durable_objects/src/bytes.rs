//! Bytes that go from the memory of this module to the platform's, and back.
//!
//! Each object that is made on the way is garbage a moment later, and what calls leave behind is most of what the platform's
//! collector stops everything for. The conversions of js-sys make a view of this module's memory for every copy; here is one
//! for all of them.

use std::cell::RefCell;

use js_sys::{Uint8Array, WebAssembly};
use wasm_bindgen::JsCast;

thread_local! {
    /// All of this module's memory, and how many views of it there were. A view is of no use any more, and its length is 0,
    /// when the memory has grown.
    static MEMORY: RefCell<(Option<Uint8Array>, u64)> = const { RefCell::new((None, 0)) };
}

/// Uses the view of this module's memory, and its number.
fn with_memory<T>(work: impl FnOnce(&Uint8Array, u64) -> T) -> T {
    MEMORY.with_borrow_mut(|(kept, number)| {
        let good = kept.take().filter(|view| view.length() > 0);
        let view = good.unwrap_or_else(|| {
            *number += 1;
            let memory: WebAssembly::Memory = wasm_bindgen::memory().unchecked_into();
            Uint8Array::new(&memory.buffer())
        });
        work(kept.insert(view), *number)
    })
}

/// Where bytes lie in this module's memory, which has 2^32 of them at most.
fn offset(address: usize) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}

/// Where `bytes` begin in this module's memory, and where they end.
fn place(bytes: &[u8]) -> (u32, u32) {
    let from = bytes.as_ptr().expose_provenance();
    (offset(from), offset(from.saturating_add(bytes.len())))
}

/// A copy of `bytes` for the platform.
pub fn give(bytes: &[u8]) -> Uint8Array {
    let (from, to) = place(bytes);
    with_memory(|memory, _| memory.slice(from, to))
}

/// Lends bytes to the platform, see [`lending`].
pub struct Lender(());

impl Lender {
    /// `bytes` where they lie. No copy, and no buffer of its own, which costs the collector more than the view.
    pub fn lend(&self, bytes: &[u8]) -> Uint8Array {
        let (from, to) = place(bytes);
        with_memory(|memory, _| memory.subarray(from, to))
    }
}

/// What `make` makes of bytes that it lends to a call of the platform, which comes next, without anything made in between, and
/// has read them when it returns. All of them are as they were when `make` is done.
pub fn lending<T>(make: impl Fn(&Lender) -> T) -> T {
    loop {
        let begun = with_memory(|_, number| number);
        let made = make(&Lender(()));
        // Memory that has grown meanwhile, as it may with anything that is made, leaves what was lent before it empty.
        if with_memory(|_, number| number) == begun {
            return made;
        }
    }
}

/// A copy of the platform's bytes.
pub fn take(bytes: &Uint8Array) -> Vec<u8> {
    let mut taken = vec![0; usize::try_from(bytes.length()).unwrap_or(0)];
    // The address is asked for before the view is, as the memory may have grown for it.
    let to = offset(taken.as_mut_ptr().expose_provenance());
    with_memory(|memory, _| memory.set(bytes, to));
    taken
}
