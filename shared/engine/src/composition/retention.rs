//! How long ended jobs and their results are kept: the field `retention` of a composition, and of an action.

use tidegate_protocol::time::format_duration;

use super::defaults::{RETENTION_MS, RETENTION_MS_RANGE};
use super::object::Object;

/// How long ended jobs and their results are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retention {
    /// The job, and its key. Milliseconds.
    pub jobs_ms: u64,
    /// Its result, where that may go before. Milliseconds.
    pub results_ms: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            jobs_ms: RETENTION_MS,
            results_ms: None,
        }
    }
}

/// Reads the field of a composition: what holds for actions that say nothing.
pub(super) fn read_retention(fields: &mut Object<'_, '_>) -> Retention {
    if fields.has("retention") {
        read_object(fields, Retention::default())
    } else {
        fields.take("retention");
        Retention::default()
    }
}

/// Reads the field of an action: a duration, which is that of its jobs, or an object. What it does not say is as the
/// composition says.
pub(super) fn read_action_retention(fields: &mut Object<'_, '_>, default: Retention) -> Retention {
    match fields.take("retention") {
        None => default,
        Some(value) if value.is_object() => read_object(fields, default),
        Some(_) => Retention {
            jobs_ms: fields
                .duration("retention", RETENTION_MS_RANGE)
                .unwrap_or(default.jobs_ms),
            ..default
        },
    }
}

fn read_object(fields: &mut Object<'_, '_>, default: Retention) -> Retention {
    let pointer = fields.at("retention");
    let Some(value) = fields.take("retention") else {
        return default;
    };
    let Some(mut fields) = Object::read(value, &pointer, fields.faults) else {
        return default;
    };
    let jobs_ms = fields.duration("jobs", RETENTION_MS_RANGE).unwrap_or(default.jobs_ms);
    let results_ms = fields.duration("results", RETENTION_MS_RANGE);
    if let Some(results_ms) = results_ms.filter(|results_ms| *results_ms > jobs_ms) {
        let expected = alloc::format!("no longer than the jobs are kept, {}", format_duration(jobs_ms));
        fields.fault("results", expected, &format_duration(results_ms));
    }
    fields.finish();
    Retention {
        jobs_ms,
        results_ms: results_ms.or(default.results_ms),
    }
}
