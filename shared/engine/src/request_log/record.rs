//! What a line says of a request, and how it is written.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};

use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::frames::Mode;
use tidegate_protocol::ids::{JobId, RequestId, TenantId};
use tidegate_protocol::time::UnixMs;

use super::config::Config;
use crate::redaction::Redactor;

/// Bytes of a payload that a line shows at most; a longer one is shown as a text that was cut. The platform takes 256 KiB of
/// lines from one request.
pub const PAYLOAD_BYTES_MAX: usize = 8 * 1024;
/// Bytes of any other text.
const TEXT_BYTES_MAX: usize = 1024;

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Over HTTP.
    Http,
    /// As a frame on a socket.
    Socket,
}

/// A request that was answered. What is not known is left out of its line.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// When it came.
    pub at: UnixMs,
    /// Its id.
    pub request_id: &'a RequestId,
    /// Its tenant.
    pub tenant: Option<&'a TenantId>,
    /// Who asked: the verified principal.
    pub who: Option<&'a Principal>,
    /// How it came.
    pub transport: Transport,
    /// The method; of a frame, its type.
    pub method: &'a str,
    /// The template of the path, and never the path: that holds ids and names of objects.
    pub route: &'a str,
    /// The action, as it was asked for.
    pub action: Option<&'a str>,
    /// The mode that was asked for.
    pub mode: Option<Mode>,
    /// The status; of a frame, the one that HTTP would have answered with.
    pub status: u16,
    /// The code of the error.
    pub code: Option<&'a str>,
    /// The error in words. Text of our own is shown as it is; any other without its secrets.
    pub message: Option<Cow<'static, str>>,
    /// From when it came until it was answered. Milliseconds.
    pub duration_ms: u64,
    /// Bytes that came, as far as that is known.
    pub bytes_in: Option<u64>,
    /// Bytes of the answer, as far as that is known.
    pub bytes_out: Option<u64>,
    /// The job that it became.
    pub job: Option<JobId>,
    /// The body or frame, where the payload may be shown.
    pub body: Option<&'a str>,
    /// The socket that it came on.
    pub connection: Option<&'a str>,
}

/// A line that is being written.
struct Line<'r> {
    out: String,
    redactor: &'r Redactor,
}

impl Line<'_> {
    /// Something that is JSON already.
    fn raw(&mut self, name: &str, json: &str) {
        self.out.push_str(if self.out.is_empty() { "{\"" } else { ",\"" });
        self.out.push_str(name);
        self.out.push_str("\":");
        self.out.push_str(json);
    }

    /// A text of our own, which holds no secret.
    fn own(&mut self, name: &str, text: &str) {
        if let Ok(json) = serde_json::to_string(text) {
            self.raw(name, &json);
        }
    }

    /// A text from outside.
    fn text(&mut self, name: &str, text: &str) {
        let text = self.redactor.text(text);
        self.own(name, cut(&text, TEXT_BYTES_MAX));
    }

    fn number(&mut self, name: &str, number: impl ToString) {
        self.raw(name, &number.to_string());
    }
}

/// The beginning of `text`, of at most so many bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

impl Config {
    /// The line of `record`; `None` where it is not written.
    pub fn line(&self, record: &Record<'_>) -> Option<String> {
        let (rule, rate) = self.sample(record)?;
        let mut line = Line {
            out: String::with_capacity(512),
            redactor: &self.redactor,
        };
        let severity = match record.status {
            500.. => "ERROR",
            400.. => "WARN",
            _ => "INFO",
        };
        line.own("timestamp", &record.at.to_string());
        line.own("severity", severity);
        line.own("event.name", "tidegate.request");
        line.text("request_id", record.request_id.as_str());
        line.own(
            "network.protocol.name",
            match record.transport {
                Transport::Http => "http",
                Transport::Socket => "websocket",
            },
        );
        line.own("http.request.method", record.method);
        line.own("http.route", record.route);
        line.number("http.response.status_code", record.status);
        line.number("duration_ms", record.duration_ms);
        if let Some(tenant) = record.tenant {
            line.own("tenant", tenant.as_str());
        }
        if let Some(principal) = record.who {
            line.text("user.id", principal.user.as_str());
            let key = principal.credential.key();
            line.own(
                "credential.kind",
                match principal.credential {
                    Credential::Token { .. } => "token",
                    Credential::Key { .. } => "api_key",
                    Credential::Signature { .. } => "signature",
                },
            );
            if let Some(key) = key {
                line.own("credential.key_id", key.as_str());
            }
            if let Some(network) = principal.network.as_str().filter(|_| self.shows_network) {
                line.own("client.address", network);
            }
        }
        if let Some(connection) = record.connection {
            line.own("connection_id", connection);
        }
        if let Some(action) = record.action {
            line.text("action", action);
        }
        if let Some(mode) = record.mode {
            line.own(
                "mode",
                match mode {
                    Mode::Auto => "auto",
                    Mode::Sync => "sync",
                    Mode::Async => "async",
                },
            );
        }
        if let Some(job) = record.job {
            line.own("job_id", &job.to_string());
        }
        if let Some(code) = record.code {
            line.own("error.type", code);
        }
        match &record.message {
            Some(Cow::Borrowed(own)) => line.own("error.message", own),
            Some(Cow::Owned(text)) => line.text("error.message", text),
            None => {}
        }
        if let Some(bytes) = record.bytes_in {
            line.number("http.request.body.size", bytes);
        }
        if let Some(bytes) = record.bytes_out {
            line.number("http.response.body.size", bytes);
        }
        if let Some(body) = record.body.filter(|_| self.shows_payload) {
            self.body(&mut line, body);
        }
        line.own("sampled_by", rule);
        line.raw("sample_rate", &format!("{rate}"));
        line.out.push('}');
        Some(line.out)
    }

    /// What was sent, without its secrets: a body or frame that is JSON as JSON.
    fn body(&self, line: &mut Line<'_>, body: &str) {
        let shown = self.redactor.json(body);
        let is_json = serde_json::from_str::<&serde_json::value::RawValue>(&shown).is_ok();
        if is_json && shown.len() <= PAYLOAD_BYTES_MAX {
            // A line is a line: between its tokens JSON may hold ends of lines, inside its texts it cannot.
            line.raw("request", &shown.replace(['\n', '\r'], " "));
        } else {
            line.own("request.cut", cut(&shown, PAYLOAD_BYTES_MAX));
        }
    }
}
