//! `core.count`: counts, and shows what a job can say while it runs. Each number is a line of a stream, and the metadata
//! of its progress is kept by changes: how many there were, and each tenth of them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::json;
use tidegate_protocol::Error;
use tidegate_protocol::calls::reporting::{MetadataPatch, PatchOp};
use tidegate_protocol::event::{JsonText, Progress};
use tidegate_protocol::fields::Fields;
use tidegate_protocol::ids::StreamName;

use super::DELAY_MS_MAX;
use crate::operation::{Context, Done};

/// The highest number that is counted to: about half a megabyte of text.
const COUNT_MAX: u64 = 100_000;
/// The stream where none is named.
const STREAM: &str = "log";

/// Counts from 1 to `to`, with `ms` milliseconds spread over all of it, and writes each number to `stream`.
///
/// Errors: `VALIDATION_ERROR` for a payload that cannot be used.
pub(super) async fn count(context: &impl Context, payload: &str) -> Result<Done, Error> {
    let mut fields = Fields::split(payload)?;
    fields.refuse_others(&["to", "ms", "stream"]);
    let expected = "a whole number from 1 to 100000";
    if fields.raw("to").is_none() {
        fields.fault("to", expected, "nothing");
    }
    let to = fields.optional_number("to", expected, 1, COUNT_MAX).unwrap_or(1);
    let ms = fields
        .optional_number("ms", "milliseconds to take, at most a day", 0, DELAY_MS_MAX)
        .unwrap_or(0);
    let stream = stream(&mut fields);
    fields.finish("The payload cannot be used.")?;
    let Some(stream) = stream else {
        return Err(Error::new(
            tidegate_protocol::ErrorCode::InternalError,
            "No stream is named.",
        ));
    };
    let started = context.now();
    context.progress(Progress::default()).await?;
    for number in 1..=to {
        let due = started.plus(ms * number / to);
        let now = context.now();
        if due > now {
            context.sleep(due.since(now)).await;
        }
        context.output(&stream, &format!("{number}\n")).await?;
        // A tenth of the way each time: changes are not thinned, and each costs a row.
        if (number * 10) / to > ((number - 1) * 10) / to {
            context.patch_metadata(patches(number)).await?;
        }
        context.progress(at(number, to)).await?;
    }
    let result = json!({ "counted": to, "stream": stream.as_str() });
    Ok(Done::Result(JsonText::of(&result).unwrap_or_else(JsonText::null)))
}

/// The stream that the payload names. `None` where what is wrong with it has been noted.
fn stream(fields: &mut Fields<'_>) -> Option<StreamName> {
    let Some(raw) = fields.raw("stream") else {
        return StreamName::parse(STREAM);
    };
    let named: Option<String> = serde_json::from_str(raw.get()).ok();
    let stream = named.as_deref().and_then(StreamName::parse);
    if stream.is_none() {
        fields.fault("stream", StreamName::EXPECTED, raw.get());
    }
    stream
}

fn patches(number: u64) -> Vec<MetadataPatch> {
    let change = |op, key: &str, value: u64| MetadataPatch {
        op,
        key: key.into(),
        value: JsonText::parse(&value.to_string()).unwrap_or_else(JsonText::null),
    };
    alloc::vec![
        change(PatchOp::Set, "latest", number),
        change(PatchOp::Increment, "tenths", 1),
        change(PatchOp::Append, "passed", number),
    ]
}

fn at(number: u64, to: u64) -> Progress {
    #[expect(clippy::cast_precision_loss, reason = "at most 100,000")]
    let percentage = number as f64 * 100.0 / to as f64;
    Progress {
        percentage,
        message: Some(format!("{number} of {to}")),
        metadata: None,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::cell::{Cell, RefCell};
    use core::pin::pin;
    use core::task::Poll;
    use std::task::Waker;

    use tidegate_protocol::ErrorCode;
    use tidegate_protocol::time::UnixMs;

    use super::*;
    use crate::operation::{Incoming, Opened, Outgoing, Reader};

    /// A clock that goes on while the operation sleeps, and all that it says.
    #[derive(Default)]
    struct Memory {
        now: Cell<u64>,
        written: RefCell<Vec<(String, String)>>,
        patches: RefCell<Vec<MetadataPatch>>,
        percentages: RefCell<Vec<f64>>,
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
        async fn sleep(&self, ms: u64) {
            self.now.set(self.now.get() + ms);
        }
        async fn progress(&self, progress: Progress) -> Result<(), Error> {
            self.percentages.borrow_mut().push(progress.percentage);
            Ok(())
        }
        async fn output(&self, stream: &StreamName, chunk: &str) -> Result<(), Error> {
            self.written.borrow_mut().push((stream.to_string(), chunk.into()));
            Ok(())
        }
        async fn patch_metadata(&self, patches: Vec<MetadataPatch>) -> Result<(), Error> {
            self.patches.borrow_mut().extend(patches);
            Ok(())
        }
        async fn checkpoint(&self) -> Result<Option<Vec<u8>>, Error> {
            panic!("nothing is stored");
        }
        async fn save_checkpoint(&self, _: Vec<u8>, _: Progress) -> Result<(), Error> {
            panic!("nothing is stored");
        }
        async fn open(&self, _: &str, _: u64, _: Option<&str>) -> Result<Option<Opened<Nothing>>, Error> {
            panic!("nothing is read");
        }
        async fn put(&self, _: &str, _: &str, _: Vec<u8>) -> Result<(), Error> {
            panic!("nothing is stored");
        }
        async fn fetch(&self, _: Outgoing) -> Result<Incoming, Error> {
            panic!("nothing is called");
        }
    }

    fn run(memory: &Memory, payload: &str) -> Result<Done, Error> {
        let mut context = core::task::Context::from_waker(Waker::noop());
        match pin!(count(memory, payload)).poll(&mut context) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("it waits"),
        }
    }

    #[test]
    fn each_number_is_a_line_and_each_tenth_a_change() {
        let memory = Memory::default();
        let done = run(&memory, r#"{"to":25,"ms":1000,"stream":"numbers"}"#);
        let result = JsonText::parse(r#"{"counted":25,"stream":"numbers"}"#).unwrap();
        assert_eq!((done, memory.now.get()), (Ok(Done::Result(result)), 1000));
        let written = memory.written.borrow();
        assert!(written.iter().all(|(stream, _)| stream == "numbers"));
        let text: String = written.iter().map(|(_, chunk)| chunk.as_str()).collect();
        let expected: String = (1..=25).map(|number| format!("{number}\n")).collect();
        assert_eq!(text, expected);
        assert_eq!(memory.patches.borrow().len(), 10 * 3);
        assert_eq!(memory.percentages.borrow().last(), Some(&100.0));
    }

    #[test]
    fn a_payload_that_cannot_be_used_is_refused_with_every_fault() {
        for (payload, faults) in [
            ("{}", 1),
            (r#"{"to":0}"#, 1),
            (r#"{"to":100001,"ms":86400001,"stream":""}"#, 3),
            (r#"{"to":1,"stream":7,"steps":1}"#, 2),
        ] {
            let error = run(&Memory::default(), payload).unwrap_err();
            assert_eq!(
                (error.code, error.details.len()),
                (ErrorCode::ValidationError, faults),
                "{payload}"
            );
        }
    }
}
