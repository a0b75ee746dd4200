//! Bodies of workers and of whoever makes an attempt elsewhere; of those who pause, reschedule and cancel.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_protocol::calls::queueing::{ActionPattern, PauseScope, Priority};
use tidegate_protocol::frames::reschedule;
use tidegate_protocol::http::{FinishBody, LEASED_JOBS_MAX, LeaseBody, ReportBody};
use tidegate_protocol::ids::StreamName;

fuzz_target!(|text: &str| {
    if let Ok(lease) = LeaseBody::parse(text) {
        assert!(u64::from(lease.max) <= LEASED_JOBS_MAX);
        assert!((1..=128).contains(&lease.worker.chars().count()));
    }
    if let Ok(report) = ReportBody::parse(text)
        && let Some(progress) = report.progress
    {
        assert!((0.0..=100.0).contains(&progress.percentage));
    }
    match FinishBody::parse(text) {
        Ok(FinishBody::Failed { error }) => assert!(!error.message.is_empty()),
        Ok(_) => {}
        Err(error) => assert!(!error.message.is_empty()),
    }
    let _ = (PauseScope::parse(text), reschedule(text));
    if let Some(pattern) = ActionPattern::parse(text) {
        assert_eq!(pattern.as_str(), text);
    }
    if let Some(priority) = Priority::parse(text) {
        assert_eq!(priority.as_str(), text);
    }
    if let Some(stream) = StreamName::parse(text) {
        assert_eq!(stream.as_str(), text);
    }
});
