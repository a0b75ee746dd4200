//! Where a request goes: the configured beginning of a URL, and what may follow it.
//!
//! A strict reader of our own, because it must only take the URLs that every other reader takes alike. The final URL is
//! put together from checked parts and never parsed again, so nothing in a payload can move it to another host.

use alloc::format;
use alloc::string::{String, ToString};

use super::address::Host;

/// Bytes of a URL at most. Common servers take 8 KiB.
pub const URL_BYTES_MAX: usize = 8 * 1024;
/// Bytes of `base_url` and of `path` at most.
pub const BASE_BYTES_MAX: usize = 2048;

/// What a port should be, where [`BaseUrl::is_for_another_protocol`].
pub const OTHER_PROTOCOL: &str = "no port, the scheme's own, or one from 1024 on that no other protocol is known by";

/// Ports from 1024 on that the fetch standard blocks (WHATWG Fetch, "port blocking"): what listens there speaks another
/// protocol, and might take the lines of a request for its own.
const BLOCKED_PORTS: &[u16] = &[
    1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// The scheme of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

/// The beginning of every URL of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// The scheme.
    pub scheme: Scheme,
    /// The host.
    pub host: Host,
    /// The port; `None`: the scheme's own.
    pub port: Option<u16>,
    /// The beginning of every path: empty, or with a slash in front and none at the end.
    pub path: String,
}

impl BaseUrl {
    /// Reads an absolute URL of scheme, host, port and path.
    ///
    /// Errors: what would have been right.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > BASE_BYTES_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("a URL of at most 2048 printable ASCII characters, without spaces");
        }
        if text.contains(['?', '#', '\\']) {
            return Err("a URL without query, fragment and '\\'");
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return Err("a URL that begins with `https://` or `http://`"),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at_checked(slash).unwrap_or_default(),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err("a URL without a user; credentials are a header");
        }
        // The colons of an IPv6 address stand inside of brackets.
        let after_address = authority.rfind(']').map_or(0, |bracket| bracket + 1);
        let colon = authority.get(after_address..).and_then(|tail| tail.find(':'));
        let (host, port) = match colon {
            Some(colon) => {
                let (host, port) = authority.split_at_checked(after_address + colon).unwrap_or_default();
                (host, Some(parse_port(port.trim_start_matches(':'), port)?))
            }
            None => (authority, None),
        };
        let host = Host::parse(host)?;
        check_path(path)?;
        let port = port.filter(|port| *port != scheme.default_port());
        let path = path.strip_suffix('/').unwrap_or(path).to_string();
        Ok(Self {
            scheme,
            host,
            port,
            path,
        })
    }

    /// Whether something else than HTTP is expected at its port: it is below 1024 and not the scheme's own, or blocked by the
    /// fetch standard.
    pub fn is_for_another_protocol(&self) -> bool {
        self.port
            .is_some_and(|port| port < 1024 || BLOCKED_PORTS.contains(&port))
    }

    /// Scheme, host, port and path, as every URL of the upstream begins.
    pub fn prefix(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{scheme}://{}{port}{}", self.host, self.path)
    }
}

impl Scheme {
    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Reads a port from its `digits`; `whole` still has its one colon.
fn parse_port(digits: &str, whole: &str) -> Result<u16, &'static str> {
    let plain =
        digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0') && whole.len() == digits.len() + 1;
    let port = if plain { digits.parse().ok() } else { None };
    port.ok_or("a port from 1 to 65535 behind one colon")
}

/// Checks a path that the author wrote: empty, or from its first slash on, in the form of a URL.
///
/// Errors: what would have been right.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Ok(());
    }
    let Some(segments) = path.strip_prefix('/').filter(|_| path.len() <= BASE_BYTES_MAX) else {
        return Err("a path of at most 2048 characters that begins with '/'");
    };
    let mut left = segments.split('/').count();
    for segment in segments.split('/') {
        left -= 1;
        if segment.is_empty() && left > 0 {
            return Err("a path without empty segments");
        }
        if is_dots(segment) {
            return Err("a path without the segments `.` and `..`");
        }
        check_escapes(segment)?;
    }
    Ok(())
}

/// Whether servers may take the segment as "here" or "up", alone or with parameters behind it (`..;`).
fn is_dots(segment: &str) -> bool {
    segment == "." || segment.starts_with("..") || segment.starts_with(".;")
}

/// Only characters that stand in a path as themselves, and escapes that no second reading turns into something else.
fn check_escapes(segment: &str) -> Result<(), &'static str> {
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
        if plain {
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let decoded = match (byte, digit(), digit()) {
            (b'%', Some(high), Some(low)) => high * 16 + low,
            _ => return Err("a path of characters that need no escape, and of escapes `%41`"),
        };
        // A control character, '%', '.', '/', '\' or DEL behind an escape is a way around a check.
        if decoded < 0x20 || [0x25, 0x2e, 0x2f, 0x5c, 0x7f].contains(&decoded) {
            return Err("a path without escaped control characters, '%', '.', '/' and '\\'");
        }
    }
    Ok(())
}

/// Whether `segment` can be one segment of a path: no slash in any direction, nothing that is an escape already, no
/// control character, not empty, not "here" or "up".
pub fn is_segment(segment: &str) -> bool {
    !segment.is_empty()
        && !is_dots(segment)
        && !segment.contains(|c: char| matches!(c, '/' | '\\' | '%') || c.is_control())
}

/// Escapes everything but the characters that mean themselves everywhere in a URL (RFC 3986, "unreserved").
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
