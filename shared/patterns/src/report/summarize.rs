//! The operation `summarize`: reads an object of the tenant's storage, and writes the report beside it.
//!
//! It may be stopped at any moment: what it has read lies in a checkpoint, and the object is opened again behind it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_protocol::event::{JsonText, Progress};
use tidegate_protocol::fields::Fields;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::error::ReportError;
use super::html::figures::size;
use super::html::render_html;
use super::profile::{Format, Options, Profile};
use super::summary::{ColumnSummary, Summary};
use crate::operation::{Context, Done, Opened, Reader};

/// Columns named in the result; the report has all of them.
const COLUMNS_SHOWN: usize = 50;
/// Bytes of a key: what S3 and R2 allow, less the ending of a report.
const KEY_BYTES_MAX: usize = 1000;

/// How much is done at a time. Bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// After which a checkpoint is saved: what an interrupted run loses at most, some seconds of work.
    pub(super) checkpoint_bytes: u64,
    /// After which a run ends: a run has 300 s of processor time, in which it reads several times as much.
    pub(super) run_bytes: u64,
}

/// The pace of every run outside of tests.
pub(super) const PACE: Pace = Pace {
    checkpoint_bytes: 32 << 20,
    run_bytes: 512 << 20,
};
const _: () = assert!(PACE.checkpoint_bytes <= PACE.run_bytes);

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    options: Options,
    /// What the keys of the report begin with.
    output: String,
}

impl Request {
    /// Reads a payload.
    ///
    /// Errors: `VALIDATION_ERROR` with all faults of it.
    pub(super) fn read(payload: &str) -> Result<Self, Error> {
        const KEY: &str = "a key of 1 to 1000 bytes without control characters";
        const FORMAT: &str = "`csv` or `ndjson`";
        const DELIMITER: &str = "one ASCII character that is no quote, letter, digit or line end";
        let mut fields = Fields::split(payload)?;
        fields.refuse_others(&["object", "format", "delimiter", "output"]);
        let object = fields.required_text("object", KEY, key);
        let output = fields.optional_text("output", KEY, key);
        let format = fields.optional_text("format", FORMAT, |text| match text {
            "csv" => Some(Format::Csv),
            "ndjson" => Some(Format::Ndjson),
            _ => None,
        });
        let delimiter = fields.optional_text("delimiter", DELIMITER, delimiter);
        if delimiter.is_some() && format == Some(Format::Ndjson) {
            fields.fault("delimiter", "no delimiter, as NDJSON has none", "one");
        }
        fields.finish("The payload cannot be used.")?;
        let name = object.unwrap_or_default();
        let output = output.unwrap_or_else(|| name.clone());
        // A delimiter says that it is CSV, whatever it looks like.
        let format = format.or(delimiter.map(|_| Format::Csv));
        Ok(Self {
            options: Options {
                name,
                format,
                delimiter,
            },
            output,
        })
    }
}

fn key(text: &str) -> Option<String> {
    let is_key = (1..=KEY_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    is_key.then(|| text.to_string())
}

fn delimiter(text: &str) -> Option<u8> {
    match *text.as_bytes() {
        [byte] if byte.is_ascii_punctuation() && byte != b'"' => Some(byte),
        [b'\t'] => Some(b'\t'),
        [b' '] => Some(b' '),
        _ => None,
    }
}

/// How far the operation is, as it lies in a checkpoint.
#[derive(Serialize, Deserialize)]
struct Saved {
    etag: String,
    size: u64,
    /// When the first run began, so that the result tells how long all of them took. Unix time in milliseconds.
    started: u64,
    profile: Vec<u8>,
}

/// How far the operation is.
struct Work {
    etag: String,
    /// The whole object. Bytes.
    size: u64,
    started: UnixMs,
    profile: Profile,
}

impl Work {
    /// Nothing, where the checkpoint is of another version: the work begins anew then.
    fn resume(checkpoint: &[u8]) -> Option<Self> {
        let saved: Saved = postcard::from_bytes(checkpoint).ok()?;
        let profile = Profile::resume(&saved.profile).ok()?;
        Some(Self {
            etag: saved.etag,
            size: saved.size,
            started: UnixMs(saved.started),
            profile,
        })
    }

    fn saved(&self) -> Vec<u8> {
        let saved = Saved {
            etag: self.etag.clone(),
            size: self.size,
            started: self.started.0,
            profile: self.profile.checkpoint(),
        };
        postcard::to_allocvec(&saved).unwrap_or_default()
    }

    fn progress(&self) -> Progress {
        let read = self.profile.bytes_read();
        #[expect(clippy::cast_precision_loss, reason = "shown in percent")]
        let percentage = if self.size == 0 {
            100.0
        } else {
            (read as f64 * 100.0 / self.size as f64).min(100.0)
        };
        let message = format!("{} of {}, {} rows", size(read), size(self.size), self.profile.rows());
        Progress {
            percentage,
            message: Some(message),
            metadata: None,
        }
    }
}

/// Runs the operation.
///
/// Errors: `NOT_FOUND` for an object that is not there, `PROCESSING_FAILED` for one that is no table, and the
/// context's own.
pub(super) async fn summarize(context: &impl Context, request: Request, pace: Pace) -> Result<Done, Error> {
    let resumed = context.checkpoint().await?.as_deref().and_then(Work::resume);
    let (mut work, reader) = open(context, &request, resumed).await?;
    context.progress(work.progress()).await?;
    if let Some(reader) = reader
        && !read(context, &mut work, reader, pace).await?
    {
        return Ok(Done::Unfinished);
    }
    let (bytes, size) = (work.profile.bytes_read(), work.size);
    if bytes != size {
        let message = format!("The object ended after {bytes} of {size} bytes.");
        return Err(Error::new(ErrorCode::Unavailable, message));
    }
    let summary = work.profile.finish().map_err(|error| failed(&error))?;
    write(context, &request.output, &summary, work.started).await
}

/// Opens the object where the work goes on: at its beginning where there is none yet, or where it was replaced. There
/// is no reader where everything is read.
async fn open<C: Context>(
    context: &C,
    request: &Request,
    resumed: Option<Work>,
) -> Result<(Work, Option<C::Reader>), Error> {
    let name = &request.options.name;
    if let Some(work) = resumed {
        let offset = work.profile.bytes_read();
        if offset >= work.size {
            return Ok((work, None));
        }
        match context.open(name, offset, Some(&work.etag)).await {
            Ok(Some(opened)) => return Ok((work, Some(opened.reader))),
            Ok(None) => return Err(missing(name)),
            Err(error) if error.code == ErrorCode::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    let Opened { size, etag, reader } = context.open(name, 0, None).await?.ok_or_else(|| missing(name))?;
    let profile = Profile::new(request.options.clone());
    Ok((
        Work {
            etag,
            size,
            started: context.now(),
            profile,
        },
        Some(reader),
    ))
}

/// Bytes that are read before whoever shares the thread has had a turn: a third of a millisecond of work. An executor that
/// is the objects' own script holds up every object of its isolate as long as it computes, and what a client waits for
/// passes through several of them.
pub(super) const BUSY_BYTES_MAX: usize = 16 * 1024;

/// Reads on; whether the object came to its end. A checkpoint is saved on the way.
async fn read(context: &impl Context, work: &mut Work, mut reader: impl Reader, pace: Pace) -> Result<bool, Error> {
    let began_at = work.profile.bytes_read();
    let mut saved_at = began_at;
    let mut busy = 0;
    while let Some(chunk) = reader.next().await? {
        for piece in chunk.chunks(BUSY_BYTES_MAX) {
            if busy + piece.len() > BUSY_BYTES_MAX {
                give_way(context).await;
                busy = 0;
            }
            busy += piece.len();
            work.profile.feed(piece).map_err(|error| failed(&error))?;
        }
        let bytes = work.profile.bytes_read();
        let is_over = bytes - began_at >= pace.run_bytes && bytes < work.size;
        if is_over || bytes - saved_at >= pace.checkpoint_bytes {
            context.save_checkpoint(work.saved(), work.progress()).await?;
            saved_at = bytes;
        } else {
            context.progress(work.progress()).await?;
        }
        if is_over {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lets whoever shares the thread have a turn. To await a store is not enough: one that is in the same process answers
/// without anyone else running, and what a client has sent is read only when nothing else is left to do.
async fn give_way(context: &impl Context) {
    context.sleep(0).await;
}

/// Writes the report, and says what is in it.
async fn write(context: &impl Context, output: &str, summary: &Summary, started: UnixMs) -> Result<Done, Error> {
    let (json_key, html_key) = (format!("{output}.report.json"), format!("{output}.report.html"));
    let data = serde_json::to_vec(summary).map_err(|fault| {
        Error::new(
            ErrorCode::InternalError,
            format!("The report cannot be written: {fault}."),
        )
    })?;
    give_way(context).await;
    context.put(&json_key, "application/json", data).await?;
    give_way(context).await;
    let page = render_html(summary, &summary.object, &context.now().to_string());
    context
        .put(&html_key, "text/html; charset=utf-8", page.into_bytes())
        .await?;
    let columns: Vec<_> = summary.columns.iter().take(COLUMNS_SHOWN).map(column).collect();
    let result = json!({
        "object": summary.object,
        "rows": summary.rows,
        "columns": columns,
        "broken_rows": summary.broken_rows,
        "bytes": summary.bytes,
        "elapsed_ms": context.now().since(started),
        "report": { "json": json_key, "html": html_key },
    });
    Ok(Done::Result(JsonText::of(&result).unwrap_or_else(JsonText::null)))
}

fn column(column: &ColumnSummary) -> Value {
    let (mut min, mut max, mut mean) = (Value::Null, Value::Null, Value::Null);
    if let Some(numbers) = &column.numbers {
        (min, max, mean) = (json!(numbers.min), json!(numbers.max), json!(numbers.mean));
    } else if let Some(times) = &column.times {
        (min, max) = (json!(times.min), json!(times.max));
    } else if let Some(texts) = &column.texts {
        (min, max) = (json!(texts.min), json!(texts.max));
    }
    json!({
        "name": column.name,
        "type": column.kind,
        "nulls": column.nulls,
        "min": min,
        "max": max,
        "mean": mean,
        "distinct": column.distinct.count,
    })
}

fn missing(key: &str) -> Error {
    Error::new(ErrorCode::NotFound, format!("There is no object `{key}`."))
}

/// The object stays what it is, so that another attempt would fail as well.
fn failed(error: &ReportError) -> Error {
    let mut failed = Error::new(ErrorCode::ProcessingFailed, error.to_string());
    failed.retryable = false;
    failed
}
