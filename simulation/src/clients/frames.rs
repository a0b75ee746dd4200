//! Frames that reach a client: each is checked against what happened, and against what this client was told before.

use tidegate_protocol::Error;
use tidegate_protocol::event::Happening;
use tidegate_protocol::frames::ServerFrame;
use tidegate_protocol::ids::{JobId, RequestId};

use super::{Stream, field};
use crate::world::{Check, World};

impl World {
    pub fn frame_down(&mut self, socket: usize, text: &str) -> Check {
        let client = self.sockets[socket].client;
        if !self.sockets[socket].open {
            return Ok(());
        }
        self.only_own(client, text)?;
        let kind = field(text, "type").ok_or_else(|| format!("a frame without a type: {text}"))?;
        let request = field(text, "request_id").unwrap_or_default().to_owned();
        if self.clients[client].intrusions.contains(&request) {
            return self.intrusion_answered(kind, text);
        }
        let job = field(text, "job_id").and_then(JobId::parse);
        let seq = field(text, "seq").and_then(|seq| seq.parse::<u64>().ok());
        match (kind, job, seq) {
            ("acknowledgment", Some(job), Some(seq)) => {
                self.oracle.check_acknowledged(job)?;
                self.counters.deduplicated += u64::from(text.contains("\"deduplicated\":true"));
                self.clients[client].following.insert((request.clone(), job));
                self.told(client, request, job, seq, false)
            }
            ("snapshot", Some(job), Some(seq)) => {
                self.counters.snapshots_seen += 1;
                self.clients[client].following.insert((request.clone(), job));
                let attaching = self.clients[client].attaching.remove(&request).is_some();
                let stream = self.clients[client].streams.entry((request.clone(), job)).or_default();
                if attaching && stream.seq >= seq && text.contains("\"gap\":true") {
                    return Err(format!("a gap behind everything: {text}"));
                }
                // A snapshot may say again what is known, never less.
                stream.seq = stream.seq.min(seq.saturating_sub(1));
                self.told(client, request, job, seq, false)
            }
            ("progress" | "retrying" | "output" | "started" | "complete" | "error", Some(job), Some(seq)) => {
                self.event_seen(client, request, job, seq, text)
            }
            ("response", _, _) => {
                self.counters.responses_seen += 1;
                match field(text, "job").and_then(JobId::parse) {
                    Some(job) => self.oracle.check_result(job, text),
                    None => Ok(()),
                }
            }
            ("error", None, _) => self.error_seen(client, &request, text),
            ("ok", _, _) => {
                let client = &mut self.clients[client];
                if let Some(job) = client.detaching.remove(&request) {
                    client.following.retain(|(_, other)| *other != job);
                }
                Ok(())
            }
            ("welcome" | "goodbye", _, _) => Ok(()),
            _ => Err(format!("an unexpected frame: {text}")),
        }
    }

    pub(super) fn intrusion_answered(&mut self, kind: &str, text: &str) -> Check {
        match (kind, field(text, "code")) {
            ("error", Some("NOT_FOUND")) => {
                self.counters.intrusions_refused += 1;
                Ok(())
            }
            ("error", Some("UNAVAILABLE" | "RATE_LIMITED")) => Ok(()),
            _ => Err(format!("an intruder was told: {text}")),
        }
    }

    pub(super) fn error_seen(&mut self, client: usize, request: &str, text: &str) -> Check {
        let code = field(text, "code").unwrap_or_default();
        self.counters.mismatched += u64::from(code == "IDEMPOTENCY_MISMATCH");
        if let Some(job) = self.clients[client].attaching.remove(request) {
            self.clients[client].following.retain(|(id, _)| id != request);
            if code == "NOT_FOUND" {
                return self.refused(client, job, &Error::not_found());
            }
        }
        Ok(())
    }

    pub(super) fn event_seen(&mut self, client: usize, request: String, job: JobId, seq: u64, text: &str) -> Check {
        let id = RequestId::parse(&request).ok_or("a request id")?;
        let Some(event) = self.oracle.event(job, seq) else {
            return Err(format!("an event that never happened: {text}"));
        };
        let terminal = event.what.is_terminal();
        let expected = ServerFrame::event(id, job, event).encode();
        if expected != text {
            return Err(format!("an event was told in two ways: {text} and {expected}"));
        }
        self.counters.events_seen += 1;
        self.counters.output_seen += u64::from(matches!(event.what, Happening::Output(_)));
        self.counters.ends_seen += u64::from(terminal);
        let attaching = self.clients[client].attaching.remove(&request).is_some();
        if attaching && terminal {
            // The answer to an attach that has everything: the end of an ended job is its snapshot.
            let stream = self.clients[client].streams.entry((request.clone(), job)).or_default();
            stream.seq = stream.seq.min(seq.saturating_sub(1));
        }
        self.told(client, request, job, seq, terminal)
    }

    pub(super) fn told(&mut self, client: usize, request: String, job: JobId, seq: u64, terminal: bool) -> Check {
        let client = &mut self.clients[client];
        let stream = client.streams.entry((request.clone(), job)).or_default();
        if stream.ended || stream.seq >= seq {
            return Err(format!(
                "{} was told {seq} of {job} under {request} after {stream:?}",
                client.mark
            ));
        }
        *stream = Stream { seq, ended: terminal };
        if terminal {
            client.following.remove(&(request, job));
        }
        let known = client.jobs.entry(job).or_default();
        known.seq = known.seq.max(seq);
        known.ended |= terminal;
        Ok(())
    }
}
