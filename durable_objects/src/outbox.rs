//! Sends items to one place in order: while one batch is under way, the next one fills.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Items of one batch at most. A call between objects takes 32 MiB; an item is at most some 70 KiB.
pub const BATCH_ITEMS_MAX: usize = 256;

/// Items on their way to one place.
pub struct Outbox<T> {
    waiting: RefCell<VecDeque<T>>,
    busy: Cell<bool>,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self {
            waiting: RefCell::new(VecDeque::new()),
            busy: Cell::new(false),
        }
    }
}

impl<T> Outbox<T> {
    /// Adds an item. Whoever is told `true` sends batches, with [`Self::next`], until there are none.
    #[must_use]
    pub fn push(&self, item: T) -> bool {
        self.waiting.borrow_mut().push_back(item);
        !self.busy.replace(true)
    }

    /// The next batch; `None` when all is sent, and the sending is over.
    pub fn next(&self) -> Option<Vec<T>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            self.busy.set(false);
            return None;
        }
        let count = waiting.len().min(BATCH_ITEMS_MAX);
        Some(waiting.drain(..count).collect())
    }
}
