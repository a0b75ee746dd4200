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
