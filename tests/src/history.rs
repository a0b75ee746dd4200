//! What must hold for the events of every job, whoever reads them and however: checked on each event that any test sees.
//!
//! - `seq` rises strictly on every stream;
//! - nothing follows a job's end, and every reader sees the same one end;
//! - a `seq` means the same event to every reader;
//! - progress never goes backwards within an attempt;
//! - no `retrying` and no progress comes after the end, on any stream.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Everything that the readers of one test have seen, by job.
#[derive(Default)]
pub struct Observer {
    jobs: Mutex<HashMap<String, BTreeMap<u64, String>>>,
}

/// One reader's view of one job: a socket's answers to one request, or one SSE stream.
#[derive(Default)]
pub struct Stream {
    seq: Option<u64>,
    ended: bool,
    progress: Option<(u64, f64)>,
}

/// Whether `frame` is the one terminal event of its job.
pub fn is_terminal(frame: &Value) -> bool {
    match frame["type"].as_str() {
        Some("complete") => true,
        Some("error") => frame["job_id"].is_string() && frame["seq"].is_u64(),
        Some("snapshot") => {
            matches!(
                frame["status"].as_str(),
                Some("succeeded" | "failed" | "cancelled" | "expired")
            )
        }
        _ => false,
    }
}

fn is_stored_event(frame: &Value) -> bool {
    match frame["type"].as_str() {
        Some("progress" | "retrying" | "output" | "complete") => true,
        Some("error") => is_terminal(frame),
        _ => false,
    }
}

impl Stream {
    /// Takes the next frame of this stream and checks it against what came before, here and elsewhere.
    ///
    /// # Panics
    /// Where a guarantee of the protocol is broken.
    pub fn see(&mut self, observer: &Observer, frame: &Value) {
        let Some(job) = frame["job_id"].as_str() else { return };
        let Some(seq) = frame["seq"].as_u64() else { return };
        assert!(!self.ended, "a frame after the end of {job}: {frame}");
        if let Some(last) = self.seq {
            assert!(seq > last, "seq must rise strictly, but {last} is followed by {frame}");
        }
        self.seq = Some(seq);
        self.ended = is_terminal(frame);
        if frame["type"] == "progress" {
            self.see_progress(frame);
        }
        if is_stored_event(frame) {
            observer.record(job, seq, frame);
        }
    }

    fn see_progress(&mut self, frame: &Value) {
        let attempt = frame["attempt"]
            .as_u64()
            .unwrap_or_else(|| panic!("progress without an attempt: {frame}"));
        let percentage = frame["percentage"]
            .as_f64()
            .unwrap_or_else(|| panic!("progress without percentage: {frame}"));
        assert!((0.0..=100.0).contains(&percentage), "a percentage is 0 to 100: {frame}");
        if let Some((last_attempt, last)) = self.progress {
            assert!(
                attempt >= last_attempt,
                "attempts never go backwards: {frame} after attempt {last_attempt}"
            );
            assert!(
                attempt > last_attempt || percentage >= last,
                "progress never goes backwards within an attempt: {frame} after {last} %"
            );
        }
        self.progress = Some((attempt, percentage));
    }

    /// The `seq` of the last frame.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }

    /// Whether the job has ended, as far as this stream has seen.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

impl Observer {
    fn record(&self, job: &str, seq: u64, frame: &Value) {
        // What a reader is called must not count: everything else of an event is the same for all.
        let mut event = frame.clone();
        if let Some(fields) = event.as_object_mut() {
            fields.remove("request_id");
        }
        let event = event.to_string();
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let events = jobs.entry(job.to_owned()).or_default();
        if let Some(before) = events.get(&seq) {
            assert_eq!(*before, event, "event {seq} of {job} is not the same for every reader");
        }
        events.insert(seq, event);
        let ends: Vec<&u64> = events
            .iter()
            .filter(|(_, event)| text_is_terminal(event))
            .map(|(seq, _)| seq)
            .collect();
        assert!(ends.len() <= 1, "{job} has more than one terminal event: {events:#?}");
        if let (Some(end), Some((last, _))) = (ends.first(), events.last_key_value()) {
            assert_eq!(*end, last, "{job} has events after its end: {events:#?}");
        }
    }

    /// How many terminal events of `job` were seen: 0 or 1, or the test would have failed already.
    pub fn ends(&self, job: &str) -> usize {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get(job).map_or(0, |events| {
            events.values().filter(|event| text_is_terminal(event)).count()
        })
    }
}

fn text_is_terminal(event: &str) -> bool {
    serde_json::from_str::<Value>(event).is_ok_and(|event| is_terminal(&event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn progress(seq: u64, attempt: u64, percentage: f64) -> Value {
        json!({"type":"progress","job_id":"job_a","seq":seq,"attempt":attempt,"percentage":percentage})
    }

    fn complete(seq: u64) -> Value {
        json!({"type":"complete","job_id":"job_a","seq":seq,"attempt":1,"result":1})
    }

    fn accepts(streams: &[&[Value]]) -> bool {
        let observer = Observer::default();
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for frames in streams {
                let mut stream = Stream::default();
                frames.iter().for_each(|frame| stream.see(&observer, frame));
            }
        }))
        .is_ok()
    }

    #[test]
    fn only_histories_that_keep_the_guarantees_are_accepted() {
        for (name, good, streams) in [
            ("plain", true, vec![vec![progress(1, 1, 10.0), complete(2)]]),
            (
                "a new attempt starts over",
                true,
                vec![vec![progress(1, 1, 50.0), progress(2, 2, 10.0), complete(3)]],
            ),
            (
                "two readers",
                true,
                vec![vec![complete(2)], vec![progress(1, 1, 0.0), complete(2)]],
            ),
            (
                "seq repeated",
                false,
                vec![vec![progress(1, 1, 10.0), progress(1, 1, 10.0)]],
            ),
            ("seq falls", false, vec![vec![progress(2, 1, 10.0), complete(1)]]),
            ("two ends", false, vec![vec![complete(1), complete(2)]]),
            (
                "two ends, two readers",
                false,
                vec![vec![complete(1)], vec![complete(2)]],
            ),
            (
                "after the end",
                false,
                vec![vec![complete(2)], vec![progress(3, 1, 1.0)]],
            ),
            (
                "backwards",
                false,
                vec![vec![progress(1, 1, 10.0), progress(2, 1, 9.0)]],
            ),
            (
                "one seq, two events",
                false,
                vec![vec![progress(1, 1, 1.0)], vec![progress(1, 1, 2.0)]],
            ),
        ] {
            let streams: Vec<&[Value]> = streams.iter().map(Vec::as_slice).collect();
            assert_eq!(accepts(&streams), good, "{name}");
        }
    }
}
