//! What whoever makes an attempt says of it: signs of life, progress, an outcome.

use alloc::string::String;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::calls::reporting::Notes;
use crate::error::{Error, ErrorCode, Retry};
use crate::event::{JsonText, Progress};
use crate::fields::Fields;
use crate::limits::{FAILURE_BYTES_MAX, PROGRESS_BYTES_MAX, QUEUE_TIMEOUT_MS_MAX};
use crate::time::UnixMs;

/// What a failure may say: one of the codes of the catalogue.
const CODE: &str = "a code of the error catalogue";
const MESSAGE: &str = "a text of 1 to 4096 bytes";
const SNOOZE: &str = "milliseconds, at most thirty days";

/// An attempt goes on (`200`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LeaseRenewed {
    /// When the lease ends unless another report comes.
    pub lease_until: UnixMs,
    /// Where the job was cancelled: until when the attempt may bring itself to an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_until: Option<UnixMs>,
}

/// The body of `POST /v1/attempts/{id}:report`.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportBody {
    /// How far the attempt is; `None` is a sign of life alone.
    pub progress: Option<Progress>,
    /// What it has written, and changes of the metadata.
    pub notes: Option<Notes>,
}

impl ReportBody {
    /// Reads the body, which may be empty.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Ok(Self {
                progress: None,
                notes: None,
            });
        }
        let mut fields = Fields::split(text)?;
        fields.refuse_others(&["progress", "output", "metadata_patch", "number"]);
        let progress = fields.object("progress", "an object").map(|mut inner| {
            let progress = read_progress(&mut inner);
            fields.take_faults(inner);
            progress
        });
        let output = fields.optional("output", "a list of `{stream, chunk}`, each with a text");
        let metadata_patch = fields.optional("metadata_patch", "a list of `{op, key, value}`");
        let notes = Notes {
            number: fields.optional_number("number", "a whole number from 1", 1, u64::MAX >> 11),
            metadata_patch: metadata_patch.unwrap_or_default(),
            output: output.unwrap_or_default(),
        };
        fields.finish("The report cannot be used.")?;
        Ok(Self {
            progress,
            notes: (!notes.is_empty()).then_some(notes),
        })
    }
}

fn read_progress(fields: &mut Fields<'_>) -> Progress {
    fields.refuse_others(&["percentage", "message", "metadata"]);
    let percentage = fields
        .optional::<f64>("percentage", "a number from 0 to 100")
        .unwrap_or(0.0);
    if !(0.0..=100.0).contains(&percentage) {
        let got = fields.raw("percentage").map_or("", RawValue::get);
        fields.fault("percentage", "a number from 0 to 100", got);
    }
    let message = fields.optional_text("message", "a text of at most 4096 bytes", |text| {
        (text.len() <= PROGRESS_BYTES_MAX).then(|| String::from(text))
    });
    let metadata = fields.raw("metadata");
    if let Some(raw) = metadata
        && !(raw.get().starts_with('{') && raw.get().len() <= PROGRESS_BYTES_MAX)
    {
        fields.fault("metadata", "an object of at most 4096 bytes", raw.get());
    }
    Progress {
        percentage,
        message,
        metadata: metadata.map(JsonText::from),
    }
}

/// The body of `POST /v1/attempts/{id}:finish`.
#[derive(Debug, Clone, PartialEq)]
pub enum FinishBody {
    /// The attempt gave a result.
    Succeeded {
        /// The result; `null` where none was given.
        result: JsonText,
    },
    /// The attempt failed.
    Failed {
        /// Why, and whether trying again may help.
        error: Error,
    },
    /// What the attempt waits for is not there yet: it wants to run again later. Costs no attempt.
    Snoozed {
        /// How much later. Milliseconds.
        ms: u64,
    },
}

impl FinishBody {
    /// Reads the body.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut fields = Fields::split(text)?;
        let outcome = fields.required_text("outcome", "`succeeded`, `failed` or `snoozed`", |text| {
            ["succeeded", "failed", "snoozed"]
                .into_iter()
                .find(|known| *known == text)
        });
        // Of a body without a usable outcome, all members may be meant.
        let known: &[&str] = match outcome {
            Some("succeeded") => &["outcome", "result"],
            Some("failed") => &["outcome", "error"],
            Some(_) => &["outcome", "ms"],
            None => &["outcome", "result", "error", "ms"],
        };
        fields.refuse_others(known);
        let read = match outcome {
            Some("failed") => {
                if fields.raw("error").is_none() {
                    fields.fault("error", "an object with a `message`", "nothing");
                }
                let inner = fields.object("error", "an object with a `message`");
                inner.map(|mut inner| {
                    let error = read_failure(&mut inner);
                    fields.take_faults(inner);
                    Self::Failed { error }
                })
            }
            Some("snoozed") => {
                if fields.raw("ms").is_none() {
                    fields.fault("ms", SNOOZE, "nothing");
                }
                let ms = fields.optional_number("ms", SNOOZE, 0, QUEUE_TIMEOUT_MS_MAX);
                ms.map(|ms| Self::Snoozed { ms })
            }
            _ => Some(Self::Succeeded {
                result: fields.raw("result").map_or_else(JsonText::null, JsonText::from),
            }),
        };
        fields.finish("The outcome cannot be used.")?;
        read.ok_or_else(|| Error::new(ErrorCode::ValidationError, "The outcome cannot be used."))
    }
}

/// Everything may be tried again but what a code of the caller's own fault says; what the failure itself says counts more.
fn read_failure(fields: &mut Fields<'_>) -> Error {
    fields.refuse_others(&["code", "message", "retryable", "retry_after_ms"]);
    let code = fields.optional_text("code", CODE, |text| {
        ErrorCode::ALL.iter().copied().find(|code| code.as_str() == text)
    });
    let message = fields.required_text("message", MESSAGE, |text| {
        (1..=FAILURE_BYTES_MAX)
            .contains(&text.len())
            .then(|| String::from(text))
    });
    let retryable = fields.optional::<bool>("retryable", "`true` or `false`");
    let retry_after_ms = fields.optional_number("retry_after_ms", SNOOZE, 0, QUEUE_TIMEOUT_MS_MAX);
    if let (Some(false), Some(raw)) = (retryable, fields.raw("retry_after_ms")) {
        fields.fault("retry_after_ms", "nothing where `retryable` is `false`", raw.get());
    }
    let code = code.unwrap_or(ErrorCode::ProcessingFailed);
    let by_code = code.status() >= 500 || matches!(code.retry(), Retry::Later);
    Error {
        retryable: retryable.unwrap_or(by_code || retry_after_ms.is_some()),
        retry_after_ms,
        ..Error::new(code, message.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn pointers<T: core::fmt::Debug>(result: Result<T, Error>) -> Vec<String> {
        let error = result.expect_err("a fault");
        let mut found: Vec<String> = error.details.into_iter().map(|fault| fault.pointer).collect();
        found.sort();
        found
    }

    #[test]
    fn a_report_may_be_empty_or_say_how_far_the_attempt_is() {
        for empty in ["", " \n", "{}", r#"{"progress":null}"#] {
            let nothing = ReportBody {
                progress: None,
                notes: None,
            };
            assert_eq!(ReportBody::parse(empty), Ok(nothing), "{empty}");
        }
        let read = ReportBody::parse(r#"{"progress":{"percentage":12.5,"message":"half","metadata":{"n":1}}}"#);
        let progress = read.unwrap().progress.unwrap();
        assert_eq!((progress.percentage, progress.message.as_deref()), (12.5, Some("half")));
        assert_eq!(progress.metadata.as_ref().map(JsonText::as_str), Some(r#"{"n":1}"#));
        let read = ReportBody::parse(r#"{"progress":{}}"#).unwrap();
        assert_eq!(read.progress, Some(Progress::default()));
    }

    #[test]
    fn a_report_may_bring_text_and_changes_of_the_metadata() {
        let read = ReportBody::parse(
            r#"{"output":[{"stream":"log","chunk":"a"}],"metadata_patch":[{"op":"append","key":"k","value":[1]}],"number":3}"#,
        );
        let notes = read.unwrap().notes.unwrap();
        assert_eq!(
            (notes.output.len(), notes.metadata_patch.len(), notes.number),
            (1, 1, Some(3))
        );
        assert_eq!(notes.metadata_patch[0].value.as_str(), "[1]");
        let wrong = r#"{"output":[{"stream":"","chunk":"a"}],"metadata_patch":[{"op":"drop"}],"number":0}"#;
        assert_eq!(
            pointers(ReportBody::parse(wrong)),
            ["/metadata_patch", "/number", "/output"]
        );
    }

    #[test]
    fn every_fault_of_a_report_is_told_at_once() {
        let long = "x".repeat(PROGRESS_BYTES_MAX + 1);
        let text =
            alloc::format!(r#"{{"progress":{{"percentage":101,"message":"{long}","metadata":[1],"eta":5}},"x":1}}"#);
        assert_eq!(
            pointers(ReportBody::parse(&text)),
            [
                "/progress/eta",
                "/progress/message",
                "/progress/metadata",
                "/progress/percentage",
                "/x"
            ]
        );
        for wrong in [
            r#"{"progress":5}"#,
            r#"{"progress":{"percentage":-1}}"#,
            r#"{"progress":{"percentage":"1"}}"#,
        ] {
            assert_eq!(pointers(ReportBody::parse(wrong)).len(), 1, "{wrong}");
        }
        assert!(ReportBody::parse("[]").is_err() && ReportBody::parse("x").is_err());
    }

    fn failure(text: &str) -> Error {
        match FinishBody::parse(&alloc::format!(r#"{{"outcome":"failed","error":{text}}}"#)) {
            Ok(FinishBody::Failed { error }) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_attempt_ends_in_one_of_three_ways() {
        let result = JsonText::parse("[1, 2]").unwrap();
        assert_eq!(
            FinishBody::parse(r#"{"outcome":"succeeded","result":[1, 2]}"#),
            Ok(FinishBody::Succeeded { result })
        );
        let result = JsonText::null();
        assert_eq!(
            FinishBody::parse(r#"{"outcome":"succeeded"}"#),
            Ok(FinishBody::Succeeded { result })
        );
        assert_eq!(
            FinishBody::parse(r#"{"outcome":"snoozed","ms":5}"#),
            Ok(FinishBody::Snoozed { ms: 5 })
        );
        assert_eq!(failure(r#"{"message":"no"}"#).code, ErrorCode::ProcessingFailed);
    }

    #[test]
    fn whatever_fails_is_tried_again_but_for_the_callers_own_faults_and_what_says_otherwise() {
        for (text, retryable, after) in [
            (r#"{"message":"m"}"#, true, None),
            (r#"{"message":"m","code":"UPSTREAM_ERROR"}"#, true, None),
            (r#"{"message":"m","code":"VALIDATION_ERROR"}"#, false, None),
            (r#"{"message":"m","code":"NOT_FOUND"}"#, false, None),
            (r#"{"message":"m","code":"RATE_LIMITED"}"#, true, None),
            (r#"{"message":"m","retryable":false}"#, false, None),
            (r#"{"message":"m","code":"NOT_FOUND","retryable":true}"#, true, None),
            (
                r#"{"message":"m","code":"NOT_FOUND","retry_after_ms":7}"#,
                true,
                Some(7),
            ),
        ] {
            let error = failure(text);
            assert_eq!((error.retryable, error.retry_after_ms), (retryable, after), "{text}");
        }
    }

    #[test]
    fn every_fault_of_an_outcome_is_told_at_once() {
        for (text, expected) in [
            ("{}", &["/outcome"] as &[&str]),
            (r#"{"outcome":"done","result":1}"#, &["/outcome"]),
            (r#"{"outcome":"succeeded","error":{}}"#, &["/error"]),
            (r#"{"outcome":"failed"}"#, &["/error"]),
            (
                r#"{"outcome":"failed","error":"no","result":1}"#,
                &["/error", "/result"],
            ),
            (
                r#"{"outcome":"failed","error":{"code":"X","retryable":1,"retry_after_ms":-1,"why":2}}"#,
                &[
                    "/error/code",
                    "/error/message",
                    "/error/retry_after_ms",
                    "/error/retryable",
                    "/error/why",
                ],
            ),
            (
                r#"{"outcome":"failed","error":{"message":"m","retryable":false,"retry_after_ms":5}}"#,
                &["/error/retry_after_ms"],
            ),
            (r#"{"outcome":"snoozed"}"#, &["/ms"]),
            (r#"{"outcome":"snoozed","ms":1e3}"#, &["/ms"]),
        ] {
            assert_eq!(pointers(FinishBody::parse(text)), expected, "{text}");
        }
    }
}
