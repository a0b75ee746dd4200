//! The chain of the audit trail: what the hash of an entry is, and whether entries are the ones that were written.
//!
//! Pure, and used by both sides: the gate that writes the trail and whoever checks it. An entry's hash covers its number,
//! the hash of the entry before and the entry itself, as canonical JSON (RFC 8785: keys in order, no blanks). So a change
//! of one entry changes every hash after it, and whoever noted a [`Head`] elsewhere can tell.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The members of an entry that tell of the chain. They are no part of what is hashed.
pub const MEMBERS: [&str; 3] = ["seq", "previous_hash", "hash"];

/// What each hashed text begins with: nothing else that is hashed can be taken for an entry.
const DOMAIN: &str = "tidegate-audit-1";

/// A SHA-256 hash; as text, 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads what [`Hash`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = core::str::from_utf8(pair).ok()?;
            *byte = pair
                .bytes()
                .all(|digit| digit.is_ascii_hexdigit())
                .then(|| u8::from_str_radix(pair, 16).ok())??;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An entry's number and hash: all that has to be noted elsewhere to tell later whether anything up to it was changed. As
/// text, `SEQ:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The entry's number; 0 where there is no entry.
    pub seq: u64,
    /// What the next entry is chained to.
    pub hash: Hash,
}

impl Head {
    /// The end of a trail of `entries` entries of which none is in the chain, as those of before there was one: what the
    /// first entry of the chain is chained to.
    pub fn unchained(entries: u64) -> Self {
        Self {
            seq: entries,
            hash: Hash::of(format!("{DOMAIN}\ngenesis\n{entries}")),
        }
    }

    /// The head once `entry`, as [`canonical`] text, is chained to this one.
    #[must_use]
    pub fn link(self, entry: &str) -> Self {
        let seq = self.seq.saturating_add(1);
        Self {
            seq,
            hash: hashed(seq, self.hash, entry),
        }
    }

    /// Reads what [`Head`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (seq, hash) = text.split_once(':')?;
        let (seq, hash) = (seq.parse().ok()?, Hash::parse(hash)?);
        let head = Self { seq, hash };
        // One way to write each: no sign, no zero in front.
        (head.to_string() == text).then_some(head)
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

fn hashed(seq: u64, previous: Hash, entry: &str) -> Hash {
    Hash::of(format!("{DOMAIN}\n{seq}\n{previous}\n{entry}"))
}

/// An entry as it is hashed: canonical JSON, without the members that tell of the chain.
pub fn canonical(entry: &Value) -> String {
    let mut text = String::new();
    write_value(entry, &MEMBERS, &mut text);
    text
}

/// Keys are put in order here: that in which a map of JSON gives them depends on how it was built.
fn write_value(value: &Value, without: &[&str], text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut ordered: Vec<(&str, &Value)> = Vec::with_capacity(members.len());
            for (key, value) in members {
                if !without.contains(&key.as_str()) {
                    let place = ordered.partition_point(|(other, _)| other.encode_utf16().lt(key.encode_utf16()));
                    ordered.insert(place, (key, value));
                }
            }
            text.push('{');
            for (index, (key, value)) in ordered.into_iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_string(key, text);
                text.push(':');
                write_value(value, &[], text);
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_value(value, &[], text);
            }
            text.push(']');
        }
        Value::String(string) => write_string(string, text),
        Value::Number(number) => text.push_str(&number.to_string()),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Null => text.push_str("null"),
    }
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    for char in string.chars() {
        match char {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            control if control < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => text.push(other),
        }
    }
    text.push('"');
}

/// Why a trail is not the one that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be read as an entry.
    Unreadable,
    /// It is not what its hash was made of.
    Changed,
    /// It was chained to another entry than the one before it.
    Unlinked,
    /// Entries are missing before it, from this number on.
    Missing(u64),
    /// It stands behind an entry with its own or a higher number, this one.
    Reordered(u64),
    /// It has no hash, though an entry before it has one.
    Unchained,
    /// It is not the entry whose hash was noted.
    NotAsNoted,
    /// The trail ends before it, though it was noted.
    CutOff,
    /// It was noted, and lies before the first entry that was looked at.
    NotReached,
}

/// The first bad entry of a trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its number.
    pub seq: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seq = self.seq;
        match self.fault {
            Fault::Unreadable => write!(f, "Entry {seq} cannot be read."),
            Fault::Changed => write!(f, "Entry {seq} was changed: it is not what its hash was made of."),
            Fault::Unlinked => write!(
                f,
                "Entry {seq} was not written after the one that stands before it: one of the two was replaced."
            ),
            Fault::Missing(first) if first.saturating_add(1) == seq => write!(f, "Entry {first} is missing."),
            Fault::Missing(first) => write!(f, "Entries {first} to {} are missing.", seq.saturating_sub(1)),
            Fault::Reordered(last) => write!(f, "Entry {seq} stands behind entry {last}."),
            Fault::Unchained => write!(f, "Entry {seq} has no hash, though an entry before it has one."),
            Fault::NotAsNoted => write!(f, "Entry {seq} is not the one whose hash was noted."),
            Fault::CutOff => write!(f, "Entry {seq} was noted, and the trail ends before it."),
            Fault::NotReached => write!(
                f,
                "Entry {seq} was noted, and lies before the first entry that was looked at: walk the archive as well."
            ),
        }
    }
}

impl core::error::Error for Broken {}

/// Walks a trail, oldest entry first, and stops at the first bad one.
#[derive(Debug, Clone)]
pub struct Walk {
    head: Head,
    noted: Vec<Head>,
    entries: u64,
    chained: u64,
}

impl Walk {
    /// A walk that begins behind `start`, and finds the heads that were `noted`. A trail begins behind
    /// [`Head::unchained`]`(0)`; what is left of one whose oldest entries were archived, behind its checkpoint.
    ///
    /// Errors: [`Fault::NotReached`] where what was noted lies before the start, [`Fault::NotAsNoted`] where it is the
    /// start and another.
    pub fn new(start: Head, noted: Vec<Head>) -> Result<Self, Broken> {
        let walk = Self {
            head: start,
            noted,
            entries: 0,
            chained: 0,
        };
        if let Some(early) = walk.noted.iter().find(|noted| noted.seq < start.seq) {
            return Err(Broken {
                seq: early.seq,
                fault: Fault::NotReached,
            });
        }
        walk.compare()?;
        Ok(walk)
    }

    /// Takes the next entry, as the API shows it.
    ///
    /// Errors: what is wrong with it.
    pub fn take(&mut self, entry: &str) -> Result<(), Broken> {
        let expected = self.head.seq.saturating_add(1);
        let broken = |seq, fault| Err(Broken { seq, fault });
        let Ok(entry) = serde_json::from_str::<Value>(entry) else {
            return broken(expected, Fault::Unreadable);
        };
        let Some(seq) = entry.get("seq").and_then(Value::as_u64) else {
            return broken(expected, Fault::Unreadable);
        };
        if seq < expected {
            return broken(seq, Fault::Reordered(self.head.seq));
        }
        // Before there was a chain, the oldest entries were deleted without a trace.
        let head = match (entry.get("previous_hash"), entry.get("hash")) {
            (None, None) if self.chained > 0 => return broken(seq, Fault::Unchained),
            (None, None) if seq > expected && self.head.seq > 0 => return broken(seq, Fault::Missing(expected)),
            (None, None) => Head::unchained(seq),
            (Some(Value::String(previous)), Some(Value::String(hash))) => {
                let (Some(previous), Some(hash)) = (Hash::parse(previous), Hash::parse(hash)) else {
                    return broken(seq, Fault::Unreadable);
                };
                if hashed(seq, previous, &canonical(&entry)) != hash {
                    return broken(seq, Fault::Changed);
                }
                if seq > expected {
                    return broken(seq, Fault::Missing(expected));
                }
                if previous != self.head.hash {
                    return broken(seq, Fault::Unlinked);
                }
                self.chained += 1;
                Head { seq, hash }
            }
            _ => return broken(seq, Fault::Unreadable),
        };
        self.entries += 1;
        self.head = head;
        self.compare()
    }

    /// Where the walk has got.
    pub fn head(&self) -> Head {
        self.head
    }

    /// How many entries were looked at, and how many of them are in the chain.
    pub fn counts(&self) -> (u64, u64) {
        (self.entries, self.chained)
    }

    /// Ends the walk.
    ///
    /// Errors: [`Fault::CutOff`] where the trail ends before a head that was noted.
    pub fn finish(&self) -> Result<(), Broken> {
        match self.noted.iter().map(|noted| noted.seq).max() {
            Some(seq) if seq > self.head.seq => Err(Broken {
                seq,
                fault: Fault::CutOff,
            }),
            _ => Ok(()),
        }
    }

    fn compare(&self) -> Result<(), Broken> {
        let Head { seq, hash } = self.head;
        let differs = self.noted.iter().any(|noted| noted.seq == seq && noted.hash != hash);
        if differs {
            return Err(Broken {
                seq,
                fault: Fault::NotAsNoted,
            });
        }
        Ok(())
    }
}

/// An entry as it is shown and archived: its `text`, as it was hashed, with the members that tell of the chain in front.
pub fn shown(seq: u64, chained: Option<(&str, &str)>, text: &str) -> String {
    let rest = text.strip_prefix('{').unwrap_or("}");
    let comma = if rest == "}" { "" } else { "," };
    let chained = chained.map(|(previous, hash)| format!(",\"previous_hash\":\"{previous}\",\"hash\":\"{hash}\""));
    format!("{{\"seq\":{seq}{}{comma}{rest}", chained.unwrap_or_default())
}

/// What the trail keeps of an entry that some part has told: its canonical text, which is an object in any case.
pub fn kept(told: &Value) -> String {
    match told {
        Value::Object(_) => canonical(told),
        other => format!("{{\"told\":{}}}", canonical(other)),
    }
}

#[cfg(test)]
mod tests;
