//! How a source signs, and the reading of what it says beside the body.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_protocol::time::UnixMs;

use super::Text;

/// Signatures of one message that are looked at: a source in the middle of a rotation sends two.
const SIGNATURES_MAX: usize = 8;
/// Bytes of a header that is read, at most. Eight signatures of SHA-512 fit.
const HEADER_BYTES_MAX: usize = 4096;
/// Characters of an event's id at most.
pub const ID_CHARS_MAX: usize = 256;

/// What makes the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-512.
    HmacSha512,
}

/// How the signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits.
    Hex,
    /// Base64.
    Base64,
}

/// How the text of the secret says the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretForm {
    /// It is the key.
    Text,
    /// It is the base64 of the key, behind `whsec_` or without.
    Base64,
}

/// A part of what is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A text.
    Text(Text),
    /// The event's id.
    Id,
    /// The time, as it came.
    Timestamp,
    /// The body, byte for byte.
    Body,
}

/// Where something stands in what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a header.
    Header(Text),
    /// In an item of the signature's own header, behind this prefix.
    Item(Text),
    /// In a field of the JSON body: its name, after those of the fields around it.
    Field(Vec<Text>),
}

/// How a source signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheme {
    /// What makes the signature.
    pub algorithm: Algorithm,
    /// How it is written.
    pub encoding: Encoding,
    /// How the secret's text says the key.
    pub secret: SecretForm,
    /// The header that holds the signature.
    pub header: Text,
    /// What stands between several items of that header. `None`: it is one.
    pub separator: Option<char>,
    /// What stands before a signature.
    pub prefix: Text,
    /// What is signed.
    pub content: Vec<Part>,
    /// Where the time is said. It is part of what is signed.
    pub timestamp: Option<Place>,
    /// Where the event's id is said: part of what is signed, or in the body. `None`: the body says which event it is.
    pub id: Option<Place>,
    /// Where the event's type is said: the first of these that is there. Not always signed.
    pub kinds: Vec<Place>,
    /// Events of these types are answered and make no job, unless they are asked for: a source tries the address with them.
    pub pings: &'static [&'static str],
    /// Whether the source asks for a text back, in a signed body of the type `url_verification`.
    pub challenges: bool,
}

/// What a source says that it has signed, and is not believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The signatures; one of them has to be right.
    pub signatures: Vec<String>,
    /// The event's id, where that is part of what is signed.
    pub id: Option<String>,
    /// The time, where there is one, as it came.
    pub timestamp: Option<String>,
}

/// Why a webhook is not believed. The sender is not told which of these it was; the tenant's audit trail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsigned {
    /// The header of the signature is not there, or holds none of the form that is expected.
    NoSignature,
    /// An id is signed, and is not there.
    NoId,
    /// A time is signed, and is not there, or is no number of seconds.
    NoTimestamp,
    /// The signature is another than that of any secret that is good.
    WrongSignature,
    /// It was signed too long ago: perhaps somebody says it again.
    TooOld,
    /// It was signed too far in the future: one of the clocks is wrong.
    TooNew,
}

impl Unsigned {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::NoSignature,
        Self::NoId,
        Self::NoTimestamp,
        Self::WrongSignature,
        Self::TooOld,
        Self::TooNew,
    ];

    /// The reason's name in the audit trail.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSignature => "no_signature",
            Self::NoId => "no_id",
            Self::NoTimestamp => "no_timestamp",
            Self::WrongSignature => "wrong_signature",
            Self::TooOld => "too_old",
            Self::TooNew => "too_new",
        }
    }
}

/// Reads what `scheme` looks for in the headers. `header` gives the value of one, by its name in lower case.
///
/// Errors: what is missing.
pub fn signed(scheme: &Scheme, header: impl Fn(&str) -> Option<String>) -> Result<Signed, Unsigned> {
    let header = |name: &str| header(name).filter(|value| value.len() <= HEADER_BYTES_MAX);
    let value = header(&scheme.header).ok_or(Unsigned::NoSignature)?;
    let items: Vec<&str> = match scheme.separator {
        Some(separator) => value.split(separator).map(str::trim).collect(),
        None => alloc::vec![value.trim()],
    };
    let behind = |prefix: &str| {
        let mut found = items.iter().filter_map(|item| item.strip_prefix(prefix));
        found.next().map(ToOwned::to_owned)
    };
    let read = |place: &Place| match place {
        Place::Header(name) => header(name).map(|value| value.trim().to_string()),
        Place::Item(prefix) => behind(prefix),
        Place::Field(_) => None,
    };
    let signatures = items.iter().filter_map(|item| item.strip_prefix(&*scheme.prefix));
    let signatures: Vec<String> = signatures
        .filter(|signature| !signature.is_empty())
        .take(SIGNATURES_MAX)
        .map(ToOwned::to_owned)
        .collect();
    if signatures.is_empty() {
        return Err(Unsigned::NoSignature);
    }
    let timestamp = scheme.timestamp.as_ref().and_then(read);
    if scheme.content.contains(&Part::Timestamp) && timestamp.as_deref().and_then(seconds).is_none() {
        return Err(Unsigned::NoTimestamp);
    }
    let id = scheme.id.as_ref().and_then(read).filter(|id| is_id(id));
    if scheme.content.contains(&Part::Id) && id.is_none() {
        return Err(Unsigned::NoId);
    }
    Ok(Signed {
        signatures,
        id,
        timestamp,
    })
}

/// The parts of what is signed, to be put behind each other.
pub fn content_of<'a>(scheme: &'a Scheme, signed: &'a Signed, body: &'a [u8]) -> Vec<&'a [u8]> {
    let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default().as_bytes();
    let parts = scheme.content.iter().map(|part| match part {
        Part::Text(text) => text.as_bytes(),
        Part::Id => text(&signed.id),
        Part::Timestamp => text(&signed.timestamp),
        Part::Body => body,
    });
    parts.collect()
}

impl Signed {
    /// When it was signed, where that is said.
    pub fn at(&self) -> Option<UnixMs> {
        self.timestamp.as_deref().and_then(seconds)
    }

    /// Whether it was signed about now.
    ///
    /// Errors: `TooOld`, `TooNew`.
    pub fn is_of_now(&self, now: UnixMs, tolerance_ms: u64) -> Result<(), Unsigned> {
        match self.at() {
            Some(at) if now.since(at) > tolerance_ms => Err(Unsigned::TooOld),
            Some(at) if at.since(now) > tolerance_ms => Err(Unsigned::TooNew),
            _ => Ok(()),
        }
    }
}

/// A time as whole seconds since 1970, in digits alone: another spelling of the same number is another text to sign.
fn seconds(text: &str) -> Option<UnixMs> {
    let plain = (1..=11).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: u64 = plain.then(|| text.parse().ok())??;
    seconds.checked_mul(1000).map(UnixMs)
}

fn is_id(text: &str) -> bool {
    (1..=ID_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}
