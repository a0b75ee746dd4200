//! `core.pause`: a wait without an attempt under way. The run puts itself off until the time has come, and holds neither a
//! place nor an invocation meanwhile.

use alloc::string::ToString;

use serde_json::json;
use tidegate_protocol::event::{JsonText, Progress};
use tidegate_protocol::fields::Fields;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::DELAY_MS_MAX;
use crate::operation::{Context, Done};

/// Puts itself off until `ms` milliseconds after its first run; the moment is in its checkpoint.
///
/// Errors: `VALIDATION_ERROR` for a payload that cannot be used, and those of the checkpoint.
pub(super) async fn pause(context: &impl Context, payload: &str) -> Result<Done, Error> {
    let mut fields = Fields::split(payload)?;
    fields.refuse_others(&["ms"]);
    let expected = "milliseconds to wait, at most a day";
    if fields.raw("ms").is_none() {
        fields.fault("ms", expected, "nothing");
    }
    let ms = fields.optional_number("ms", expected, 0, DELAY_MS_MAX).unwrap_or(0);
    fields.finish("The payload cannot be used.")?;
    let until = match context.checkpoint().await? {
        Some(bytes) => read(&bytes)?,
        None => {
            let until = context.now().plus(ms);
            let bytes = until.0.to_string().into_bytes();
            context.save_checkpoint(bytes, Progress::default()).await?;
            until
        }
    };
    let left = until.since(context.now());
    if left > 0 {
        return Ok(Done::Snoozed { ms: left });
    }
    let result = JsonText::of(&json!({ "waited_ms": ms })).unwrap_or_else(JsonText::null);
    Ok(Done::Result(result))
}

fn read(checkpoint: &[u8]) -> Result<UnixMs, Error> {
    let text = core::str::from_utf8(checkpoint).ok();
    let until = text.and_then(|text| text.parse().ok()).map(UnixMs);
    until.ok_or_else(|| Error::new(ErrorCode::InternalError, "The checkpoint cannot be read."))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use alloc::vec::Vec;
    use core::cell::{Cell, RefCell};
    use core::pin::pin;
    use core::task::Poll;
    use std::task::Waker;

    use super::*;
    use tidegate_protocol::calls::reporting::MetadataPatch;
    use tidegate_protocol::ids::StreamName;

    use crate::operation::{Incoming, Opened, Outgoing, Reader};

    /// A clock and a checkpoint.
    #[derive(Default)]
    struct Memory {
        now: Cell<u64>,
        checkpoint: RefCell<Option<Vec<u8>>>,
    }

    struct Nothing;

    impl Reader for Nothing {
        async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
            Ok(None)
        }
    }

    impl Context for Memory {
        type Reader = Nothing;
        fn now(&self) -> UnixMs {
            UnixMs(self.now.get())
        }
        async fn sleep(&self, _: u64) {
            panic!("a pause waits outside of its runs");
        }
        async fn progress(&self, _: Progress) -> Result<(), Error> {
            Ok(())
        }
        async fn output(&self, _: &StreamName, _: &str) -> Result<(), Error> {
            panic!("nothing is written");
        }
        async fn patch_metadata(&self, _: Vec<MetadataPatch>) -> Result<(), Error> {
            panic!("nothing is changed");
        }
        async fn checkpoint(&self) -> Result<Option<Vec<u8>>, Error> {
            Ok(self.checkpoint.borrow().clone())
        }
        async fn save_checkpoint(&self, bytes: Vec<u8>, _: Progress) -> Result<(), Error> {
            *self.checkpoint.borrow_mut() = Some(bytes);
            Ok(())
        }
        async fn open(&self, _: &str, _: u64, _: Option<&str>) -> Result<Option<Opened<Nothing>>, Error> {
            Ok(None)
        }
        async fn put(&self, _: &str, _: &str, _: Vec<u8>) -> Result<(), Error> {
            Ok(())
        }
        async fn fetch(&self, _: Outgoing) -> Result<Incoming, Error> {
            panic!("nothing is called");
        }
    }

    fn run(memory: &Memory, payload: &str) -> Result<Done, Error> {
        let mut context = core::task::Context::from_waker(Waker::noop());
        match pin!(pause(memory, payload)).poll(&mut context) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("it waits"),
        }
    }

    #[test]
    fn a_pause_puts_itself_off_until_its_time_however_often_it_is_run() {
        let memory = Memory::default();
        memory.now.set(1_000_000);
        for (at, left) in [(1_000_000, 5000), (1_001_000, 4000), (1_004_999, 1)] {
            memory.now.set(at);
            assert_eq!(run(&memory, r#"{"ms":5000}"#), Ok(Done::Snoozed { ms: left }));
        }
        memory.now.set(1_005_000);
        let result = JsonText::parse(r#"{"waited_ms":5000}"#).unwrap();
        assert_eq!(run(&memory, r#"{"ms":5000}"#), Ok(Done::Result(result)));
    }

    #[test]
    fn a_payload_or_a_checkpoint_that_cannot_be_used_is_refused() {
        for payload in ["{}", r#"{"ms":-1}"#, r#"{"ms":86400001}"#, r#"{"ms":1,"steps":2}"#] {
            let error = run(&Memory::default(), payload).unwrap_err();
            assert_eq!(error.code, ErrorCode::ValidationError, "{payload}");
        }
        let memory = Memory::default();
        *memory.checkpoint.borrow_mut() = Some(b"soon".to_vec());
        assert_eq!(run(&memory, r#"{"ms":1}"#).unwrap_err().code, ErrorCode::InternalError);
    }
}
