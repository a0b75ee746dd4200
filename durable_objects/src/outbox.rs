//! Sends items to one place in order: while one batch is under way, the next one fills.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use tidegate_protocol::ids::ObjectName;

use crate::remote::Way;

/// Items of one batch at most. A call between objects takes 32 MiB; an item is at most some 70 KiB.
pub const BATCH_ITEMS_MAX: usize = 256;

/// Items on their way to one object.
pub struct Outbox<T> {
    way: Way,
    waiting: RefCell<VecDeque<T>>,
    busy: Cell<bool>,
}

impl<T> Outbox<T> {
    /// Nothing yet, for the object `name`.
    pub fn new(name: ObjectName) -> Self {
        Self {
            way: Way::new(name),
            waiting: RefCell::new(VecDeque::new()),
            busy: Cell::new(false),
        }
    }

    /// The way to the object, for what is sent again where it has broken.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// The object.
    pub fn name(&self) -> &ObjectName {
        self.way.name()
    }

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
