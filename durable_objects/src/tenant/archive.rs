//! Carries the oldest entries of the audit trail into object storage. Which they are, and that they are deleted only then, is
//! decided in [`tidegate_engine::audit::archive`].

use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, select};
use tidegate_engine::audit::archive::{archived, due};
use tidegate_engine::audit::{ENTRIES_MAX, Segment};
use tidegate_protocol::Error;

use super::Shell;
use crate::platform::{beside, log_error, now, unavailable};
use crate::runtime::variable;
use crate::storage;
use crate::timer::sleep;

/// How long object storage may take for a segment. Milliseconds.
const STORING_MS_MAX: u64 = 20_000;

impl Shell {
    /// Archives what is due, a segment after the other. One that is not stored is tried again with a later entry.
    pub(super) fn archive(self: &Rc<Self>) {
        // What a backup has as rows would be in object storage as well by the time that is copied.
        if self.archiving.get() || crate::backup::is_under_way(&**self) {
            return;
        }
        let Some(segment) = self.due() else { return };
        self.archiving.set(true);
        let shell = self.clone();
        beside(&self.state, async move {
            let mut next = Some(segment);
            while let Some(segment) = next.take() {
                if let Err(error) = shell.store(&segment).await {
                    log_error("the audit trail was not archived", error);
                    break;
                }
                match shell.db.transaction(|db| archived(db, segment.last)) {
                    Ok(()) => next = shell.due(),
                    Err(error) => log_error("a turn was rolled back", error),
                }
            }
            shell.archiving.set(false);
        });
    }

    fn due(&self) -> Option<Segment> {
        let kept = variable(&self.env, "TIDEGATE_AUDIT_ENTRIES").and_then(|text| text.parse().ok());
        match self.db.transaction(|db| due(db, now(), kept.unwrap_or(ENTRIES_MAX))) {
            Ok(segment) => segment,
            Err(error) => {
                log_error("a turn was rolled back", error);
                None
            }
        }
    }

    async fn store(&self, segment: &Segment) -> Result<(), Error> {
        let name = self.name.as_ref().ok_or_else(Error::not_found)?;
        let key = storage::audit(name.tenant()) + &storage::segment(segment.first, segment.last.seq);
        let bucket = self.env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))?;
        let put = pin!(bucket.put(key, segment.text.clone().into_bytes()).execute());
        match select(put, pin!(sleep(STORING_MS_MAX))).await {
            Either::Left((stored, _)) => stored.map(drop).map_err(unavailable("storing a segment")),
            Either::Right(_) => Err(unavailable("storing a segment")("it takes too long".into())),
        }
    }
}
