//! What an attempt writes between two reports: who waits for it to be sent, and who is woken to send it.

use std::cell::RefCell;

use futures_channel::oneshot;
use tidegate_engine::reporting::Gathered;
use tidegate_protocol::Error;
use tidegate_protocol::calls::reporting::{MetadataPatch, Notes};
use tidegate_protocol::ids::StreamName;
use tidegate_protocol::time::UnixMs;

use crate::platform::now;

/// What is gathered, for whoever reports next.
#[derive(Default)]
pub struct Gathering {
    gathered: RefCell<Gathered>,
    sender: RefCell<Option<oneshot::Sender<()>>>,
    waiting: RefCell<Vec<oneshot::Sender<()>>>,
}

impl Gathering {
    /// Takes text; gives back what has no room before the next report.
    ///
    /// Errors: `VALIDATION_ERROR` for one stream too many.
    pub fn write<'t>(&self, stream: &StreamName, text: &'t str) -> Result<&'t str, Error> {
        let rest = self.gathered.borrow_mut().write(now(), stream, text)?;
        self.wake();
        Ok(rest)
    }

    /// Takes changes of the metadata.
    ///
    /// Errors: `VALIDATION_ERROR` for one that cannot be made.
    pub fn patch(&self, patches: Vec<MetadataPatch>) -> Result<(), Error> {
        self.gathered.borrow_mut().patch(now(), patches)?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        if let Some(sender) = self.sender.borrow_mut().take() {
            // Whoever was to be woken may be awake already.
            let _awake = sender.send(());
        }
    }

    /// Ends as soon as there is something to send.
    pub async fn something(&self) {
        while self.is_empty() {
            let (sender, receiver) = oneshot::channel();
            *self.sender.borrow_mut() = Some(sender);
            let _ended = receiver.await;
        }
    }

    /// When what is there is to be sent.
    pub fn due_at(&self) -> Option<UnixMs> {
        self.gathered.borrow().due_at()
    }

    /// Whether no more is to be gathered before a report.
    pub fn is_full(&self) -> bool {
        self.gathered.borrow().is_full()
    }

    /// Whether there is nothing to send, and nothing on its way.
    pub fn is_empty(&self) -> bool {
        self.gathered.borrow().is_empty()
    }

    /// Whether a report is on its way.
    pub fn is_sending(&self) -> bool {
        self.gathered.borrow().is_sending()
    }

    /// What the next report carries.
    pub fn send(&self) -> Option<Notes> {
        self.gathered.borrow_mut().send()
    }

    /// The notes of this number are with the object, or refused for good.
    pub fn arrived(&self, number: Option<u64>) {
        self.gathered.borrow_mut().arrived(number);
        self.settle();
    }

    /// Nobody knows whether what was on its way has arrived.
    pub fn lost(&self) {
        self.gathered.borrow_mut().lost();
        self.settle();
    }

    fn settle(&self) {
        for sender in self.waiting.borrow_mut().drain(..) {
            let _gone = sender.send(());
        }
    }

    /// Ends when the report that is on its way has arrived or is lost.
    pub async fn settled(&self) {
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().push(sender);
        let _ended = receiver.await;
    }
}
