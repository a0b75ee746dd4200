//! Identifiers. Each is a type of its own, so that a job's id cannot be passed for a user's.
//!
//! Ids that Tidegate makes sort by time and say their kind in a prefix. A job's id carries its number, and the number
//! carries the partition, so that nothing has to be looked up to find the object that holds the job.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use tidegate_cbor::{Decode, Encode, Reader, Writer};

use crate::limits::ID_CHARS_MAX;
use crate::time::UnixMs;

macro_rules! text_id {
    ($($(#[$doc:meta])* $name:ident, $expected:literal, $pattern:literal, $check:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("pattern" = $pattern)))]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// What a text of this kind looks like, for error messages.
            pub const EXPECTED: &'static str = $expected;

            /// Takes `text` where it has the form of this kind.
            pub fn parse(text: &str) -> Option<Self> {
                let check: fn(&str) -> bool = $check;
                check(text).then(|| Self(text.to_owned()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Encode for $name {
            fn encode(&self, writer: &mut Writer) {
                writer.text(&self.0);
            }
        }

        impl Decode for $name {
            fn blank() -> Self {
                Self(String::new())
            }

            fn decode(&mut self, reader: &mut Reader<'_>) {
                match Self::parse(reader.text()) {
                    Some(id) => *self = id,
                    None => reader.fault(Self::EXPECTED),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| serde::de::Error::custom(Self::EXPECTED))
            }
        }
    )*};
}

fn is_id(text: &str) -> bool {
    (1..=ID_CHARS_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'))
}

fn is_epoch(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn is_action(text: &str) -> bool {
    is_id(text) && !text.contains(':')
}

fn is_schedule(text: &str) -> bool {
    text.len() <= 48 && is_name(text)
}

fn is_secret(text: &str) -> bool {
    text.len() <= 64 && is_name(text)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
}

fn is_printable(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= ID_CHARS_MAX && !text.chars().any(char::is_control)
}

fn is_tenant(text: &str) -> bool {
    let name = match text.split_once('.') {
        Some(("eu" | "fedramp", name)) => name,
        Some(_) => return false,
        None => text,
    };
    (1..=48).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

text_id! {
    /// A tenant: `[a-z0-9-]{1,48}`, behind `eu.` or the like where it has a jurisdiction. Never with a colon.
    TenantId, "a tenant id: 1 to 48 characters of a-z, 0-9 and -, with an optional leading jurisdiction",
        "^((eu|fedramp)\\.)?[a-z0-9-]{1,48}$", is_tenant;
    /// A user of a tenant: the verified token's subject.
    UserId, "a user: 1 to 128 characters without control characters",
        "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,128}$", is_printable;
    /// The name of an action in a composition.
    ActionName, "1 to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-'",
        "^[A-Za-z0-9._-]{1,128}$", is_action;
    /// The name of a schedule in a composition.
    ScheduleName, "a name of 1 to 48 characters of a-z, 0-9, '_' and '-', a letter first",
        "^[a-z][a-z0-9_-]{0,47}$", is_schedule;
    /// The name of a source of webhooks in a composition.
    WebhookSource, "a name of 1 to 48 characters of a-z, 0-9, '_' and '-', a letter first",
        "^[a-z][a-z0-9_-]{0,47}$", is_schedule;
    /// The name of a stream that a job writes text to.
    StreamName, "1 to 128 printable characters",
        "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,128}$", is_printable;
    /// The name of a pool of workers.
    PoolName, "a name of 1 to 48 characters of a-z, 0-9, '_' and '-', a letter first",
        "^[a-z][a-z0-9_-]{0,47}$", is_schedule;
    /// A client's name for one request of its own, echoed on every answer to it.
    RequestId, "1 to 128 characters of A-Z, a-z, 0-9, '.', '_', ':' and '-'",
        "^[A-Za-z0-9._:-]{1,128}$", is_id;
    /// A client's name for one piece of work: the same key, the same execution.
    IdempotencyKey, "1 to 128 printable characters",
        "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,128}$", is_printable;
    /// A revision of a composition, by content.
    Revision, "a revision: 1 to 128 characters of A-Z, a-z, 0-9, '.', '_', ':' and '-'",
        "^[A-Za-z0-9._:-]{1,128}$", is_id;
    /// One socket's connection.
    ConnectionId, "a connection id",
        "^[A-Za-z0-9._:-]{1,128}$", is_id;
    /// An API key's id, by which it is spoken of. It opens nothing.
    ApiKeyId, "an API key's id, such as key_06fc4b8x…",
        "^key_[A-Za-z0-9._:-]{1,124}$", is_api_key;
    /// A channel of a tenant. What stands before its first colon is its namespace.
    ChannelName, "1 to 128 characters of A-Z, a-z, 0-9, '.', '_', ':' and '-'",
        "^[A-Za-z0-9._:-]{1,128}$", is_id;
    /// One life of a channel's log: offsets count within it. A later one sorts after an earlier one.
    Epoch, "an epoch: 1 to 32 characters of a-z and 0-9",
        "^[a-z0-9]{1,32}$", is_epoch;
    /// An endpoint of a tenant's customer, by which it is spoken of.
    EndpointId, "an endpoint's id, such as end_06fc4b8x…",
        "^end_[A-Za-z0-9._:-]{1,124}$", is_endpoint;
    /// A backup of a tenant.
    BackupId, "a backup's id, such as bak_06fc4b8x…",
        "^bak_[a-z0-9]{1,32}$", is_backup;
    /// What a token is called (`jti`), as far as a revocation can name it.
    TokenId, "a token's id: 1 to 64 printable characters",
        "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,64}$", is_token;
    /// A W3C trace context (`traceparent`), carried downstream as it came.
    TraceParent, "a W3C traceparent: 00-<32 hex>-<16 hex>-<2 hex>",
        "^([0-9a-e][0-9a-f]|f[0-9a-e])-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$", is_traceparent;
    /// The requests of one call, together: `bat_`, and 18 characters of time and chance or 25 that come from a key.
    BatchId, "a batch's id, such as bat_06fc4b8x…",
        "^bat_([0-9a-hjkmnp-tv-z]{18}|[0-9a-hjkmnp-tv-z]{25})$", is_batch;
    /// The name of a secret of a tenant.
    SecretName, "a name of 1 to 64 characters of a-z, 0-9, '_' and '-', a letter first",
        "^[a-z][a-z0-9_-]{0,63}$", is_secret;
}

impl TenantId {
    /// The jurisdiction that the tenant's objects have to stay in.
    pub fn jurisdiction(&self) -> Option<&str> {
        self.0.split_once('.').map(|(jurisdiction, _)| jurisdiction)
    }
}

fn is_api_key(text: &str) -> bool {
    text.len() > 4 && text.starts_with("key_") && is_id(text)
}

fn is_endpoint(text: &str) -> bool {
    text.len() > 4 && text.starts_with("end_") && is_id(text)
}

fn is_backup(text: &str) -> bool {
    text.strip_prefix("bak_").is_some_and(|rest| {
        (1..=32).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

fn is_token(text: &str) -> bool {
    text.len() <= 64 && is_printable(text)
}

fn is_batch(text: &str) -> bool {
    text.strip_prefix(BatchId::PREFIX)
        .is_some_and(|rest| matches!(rest.len(), 18 | 25) && rest.bytes().all(|b| ALPHABET.contains(&b)))
}

fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut hex = |length: usize| {
        parts
            .next()
            .is_some_and(|p| p.len() == length && p.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    };
    hex(2) && hex(32) && hex(16) && hex(2) && parts.next().is_none() && !text.starts_with("ff")
}

/// Partitions of a tenant's jobs: fixed for ever, so that growing the number of objects moves partitions, not keys.
pub const PARTITIONS: u16 = 1024;

/// One of the [`PARTITIONS`] of a tenant's jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
pub struct Partition(u16);

impl Partition {
    /// The partition that `hash` falls into.
    pub const fn of_hash(hash: u64) -> Self {
        let low = hash.to_le_bytes();
        Self(u16::from_le_bytes([low[0], low[1]]) % PARTITIONS)
    }

    /// The partition's index, below [`PARTITIONS`].
    pub const fn index(self) -> u16 {
        self.0
    }
}

/// The number of a job inside its tenant: its row's key.
///
/// 53 bits, so that it survives a double: milliseconds since 2025 (41 bits), partition (10 bits), a counter (2 bits).
/// Numbers of one object rise with time, and two objects can never give out the same one, so a partition can move with
/// its rows to another object as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
pub struct JobNumber(pub u64);

/// 2025-01-01T00:00:00Z.
const EPOCH_MS: u64 = 1_735_689_600_000;
const TICK_BITS: u32 = 2;
const PARTITION_BITS: u32 = 10;
const NUMBER_MAX: u64 = (1 << 53) - 1;
const _: () = assert!(1 << PARTITION_BITS == PARTITIONS);

impl JobNumber {
    /// The first number that can be given out at `moment`.
    pub const fn first_at(moment: UnixMs) -> Self {
        Self((moment.0.saturating_sub(EPOCH_MS) << (TICK_BITS + PARTITION_BITS)) & NUMBER_MAX)
    }

    /// The lowest number of `partition` that is neither before `moment` nor at or below `last`, the object's latest.
    ///
    /// Where the clock stands still or jumps back, numbers go on a millisecond at a time ahead of it.
    pub const fn next(moment: UnixMs, partition: Partition, last: Self) -> Self {
        let tick_span = 1 << TICK_BITS;
        let span = 1 << (TICK_BITS + PARTITION_BITS);
        let now = Self::first_at(moment).0;
        let ms = if now > last.0 { now } else { last.0 - last.0 % span };
        let candidate = ms + partition.0 as u64 * tick_span;
        if candidate > last.0 {
            Self(candidate)
        } else if last.0 < candidate + tick_span - 1 {
            Self(last.0 + 1)
        } else {
            Self(candidate + span)
        }
    }

    /// The partition this job belongs to.
    pub const fn partition(self) -> Partition {
        let low = (self.0 >> TICK_BITS).to_le_bytes();
        Partition(u16::from_le_bytes([low[0], low[1]]) % PARTITIONS)
    }

    /// About when the job was accepted. Exact to the millisecond unless the clock stood still.
    pub const fn moment(self) -> UnixMs {
        UnixMs((self.0 >> (TICK_BITS + PARTITION_BITS)) + EPOCH_MS)
    }
}

/// Crockford's base 32, lower case: no letter that reads like a digit; sorts as the number does.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Writes the low `digits * 5` bits of `value`, most significant first.
pub fn base32(value: u64, digits: u32) -> String {
    (0..digits)
        .rev()
        .filter_map(|place| {
            let digit = (value >> (place * 5)) & 31;
            ALPHABET.get(usize::try_from(digit).ok()?).map(|b| char::from(*b))
        })
        .collect()
}

fn parse_base32(text: &str) -> Option<u64> {
    text.bytes().try_fold(0_u64, |value, byte| {
        let digit = ALPHABET.iter().position(|b| *b == byte)?;
        value.checked_mul(32)?.checked_add(u64::try_from(digit).ok()?)
    })
}

/// A job's id: `job_`, 11 characters of its number, 6 of chance, so that an id cannot be met by counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    number: JobNumber,
    tail: u32,
}

const NUMBER_DIGITS: usize = 11;
const TAIL_DIGITS: usize = 6;
const TAIL_MASK: u32 = (1 << 30) - 1;

impl JobId {
    /// The prefix of a job's id.
    pub const PREFIX: &'static str = "job_";

    /// The id of the job `number`, with 30 bits of `random`.
    pub const fn new(number: JobNumber, random: u32) -> Self {
        Self {
            number,
            tail: random & TAIL_MASK,
        }
    }

    /// The number that finds the row.
    pub const fn number(self) -> JobNumber {
        self.number
    }

    /// The part that comes from chance.
    pub const fn tail(self) -> u32 {
        self.tail
    }

    /// Reads an id. `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(Self::PREFIX)?;
        if digits.len() != NUMBER_DIGITS + TAIL_DIGITS {
            return None;
        }
        let (number, tail) = digits.split_at_checked(NUMBER_DIGITS)?;
        let number = parse_base32(number).filter(|n| *n <= NUMBER_MAX)?;
        let tail = u32::try_from(parse_base32(tail)?).ok()?;
        Some(Self {
            number: JobNumber(number),
            tail,
        })
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}{}",
            Self::PREFIX,
            base32(self.number.0, 11),
            base32(u64::from(self.tail), 6)
        )
    }
}

impl Serialize for JobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.number.0, self.tail).serialize(serializer)
        }
    }
}

impl Encode for JobId {
    fn encode(&self, writer: &mut Writer) {
        (self.number.0, self.tail).encode(writer);
    }
}

impl Decode for JobId {
    fn blank() -> Self {
        Self {
            number: JobNumber(0),
            tail: 0,
        }
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        reader.items(&mut [&mut self.number.0, &mut self.tail]);
        self.tail &= TAIL_MASK;
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected a job id"))
        } else {
            let (number, tail) = <(u64, u32)>::deserialize(deserializer)?;
            Ok(Self {
                number: JobNumber(number),
                tail: tail & TAIL_MASK,
            })
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for JobId {
    fn schema_name() -> alloc::borrow::Cow<'static, str> {
        "JobId".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^job_[0-7][0-9a-hjkmnp-tv-z]{16}$" })
    }
}

/// An id of Tidegate's own making: a prefix, the time, chance.
pub fn server_id(prefix: &str, now: UnixMs, random: u64) -> String {
    format!("{prefix}{}{}", base32(now.0, 10), base32(random, 8))
}

impl RequestId {
    /// A request id for a client that sent none.
    pub fn generate(now: UnixMs, random: u64) -> Self {
        Self(server_id("req_", now, random))
    }
}

impl BatchId {
    /// The prefix of a batch's id.
    pub const PREFIX: &'static str = "bat_";

    /// The id of a new batch.
    pub fn generate(now: UnixMs, random: u64) -> Self {
        Self(server_id(Self::PREFIX, now, random))
    }
}

impl ApiKeyId {
    /// The id of a new key.
    pub fn generate(now: UnixMs, random: u64) -> Self {
        Self(server_id("key_", now, random))
    }
}

impl EndpointId {
    /// The id of a new endpoint.
    pub fn generate(now: UnixMs, random: u64) -> Self {
        Self(server_id("end_", now, random))
    }
}

impl BackupId {
    /// The id of a new backup.
    pub fn generate(now: UnixMs, random: u64) -> Self {
        Self(server_id("bak_", now, random))
    }
}

impl ConnectionId {
    /// The id of a new connection.
    pub fn generate(now: UnixMs, random: u64) -> Self {
        Self(server_id("con_", now, random))
    }
}

/// A fencing token: rises with every claim of a job, so that a report of an earlier claim can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
pub struct FencingToken(pub u64);

/// The place of an event in a job's history; strictly increasing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl ChannelName {
    /// The part before the first colon, whose rules the composition names; the whole name where it has none.
    pub fn namespace(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl Epoch {
    /// The epoch of a log that begins now.
    pub fn generate(now: UnixMs, random: u64) -> Self {
        Self(server_id("", now, random))
    }
}

/// The place of a message in its channel's log: 1, 2, 3…, without gaps. 0 stands before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The index of one of a tenant's hubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
pub struct HubIndex(pub u16);

/// The index of one of a tenant's `Jobs` objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
pub struct ShardIndex(pub u16);

/// An object of the deployment, by name. The name says the tenant, and the object checks it against every call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectName {
    /// A tenant's hub.
    Hub(TenantId, HubIndex),
    /// A shard of a tenant's jobs.
    Jobs(TenantId, ShardIndex),
    /// A tenant's gate.
    Tenant(TenantId),
    /// One channel of a tenant.
    Channel(TenantId, ChannelName),
}

impl ObjectName {
    /// Reads an object's name.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.splitn(4, ':');
        let ("t", tenant, kind) = (parts.next()?, TenantId::parse(parts.next()?)?, parts.next()?) else {
            return None;
        };
        let mut index = || parts.next().and_then(|n| n.parse::<u16>().ok());
        let read = match kind {
            "hub" => Self::Hub(tenant, HubIndex(index()?)),
            "jobs" => Self::Jobs(tenant, ShardIndex(index()?)),
            "gate" => Self::Tenant(tenant),
            "ch" => Self::Channel(tenant, ChannelName::parse(parts.next()?)?),
            _ => return None,
        };
        (parts.next().is_none() && read.to_string() == name).then_some(read)
    }

    /// The tenant that the object belongs to.
    pub fn tenant(&self) -> &TenantId {
        match self {
            Self::Hub(tenant, _) | Self::Jobs(tenant, _) | Self::Tenant(tenant) | Self::Channel(tenant, _) => tenant,
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub(tenant, index) => write!(f, "t:{tenant}:hub:{}", index.0),
            Self::Jobs(tenant, index) => write!(f, "t:{tenant}:jobs:{}", index.0),
            Self::Tenant(tenant) => write!(f, "t:{tenant}:gate"),
            Self::Channel(tenant, channel) => write!(f, "t:{tenant}:ch:{channel}"),
        }
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): for spreading, not for secrets.
pub fn fnv1a(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(core::iter::once(&0xff)) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_take_their_own_form_and_no_other() {
        let long = "a".repeat(129);
        for (text, id, action, tenant) in [
            ("a", true, true, true),
            ("report.summarize", true, true, false),
            ("a:b", true, false, false),
            ("", false, false, false),
            ("a b", false, false, false),
            ("eu.acme", true, true, true),
            ("xx.acme", true, true, false),
            ("Acme", true, true, false),
            (long.as_str(), false, false, false),
        ] {
            assert_eq!(RequestId::parse(text).is_some(), id, "id {text}");
            assert_eq!(ActionName::parse(text).is_some(), action, "action {text}");
            assert_eq!(TenantId::parse(text).is_some(), tenant, "tenant {text}");
        }
    }

    #[test]
    fn an_object_is_named_in_one_way_only() {
        let tenant = TenantId::parse("acme").unwrap();
        let name = ObjectName::Hub(tenant, HubIndex(3));
        assert_eq!(ObjectName::parse("t:acme:hub:3"), Some(name));
        for wrong in [
            "t:acme:hub:03",
            "t:acme:hub:3:",
            "t:acme:hub",
            "t:Acme:hub:3",
            "t:acme:gate:1",
            "acme",
            "",
        ] {
            assert_eq!(ObjectName::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_job_id_survives_its_text(ms in EPOCH_MS..EPOCH_MS + (1 << 41) - 1, hash: u64, random: u32) {
            let number = JobNumber::next(UnixMs(ms), Partition::of_hash(hash), JobNumber(0));
            let id = JobId::new(number, random);
            prop_assert_eq!(JobId::parse(&id.to_string()), Some(id));
            prop_assert_eq!(number.moment(), UnixMs(ms));
            prop_assert_eq!(number.partition(), Partition::of_hash(hash));
        }

        #[test]
        fn numbers_rise_and_keep_their_partition_whatever_the_clock_does(
            steps in proptest::collection::vec((0_u64..5, any::<u64>()), 1..200),
        ) {
            let mut last = JobNumber(0);
            for (offset, hash) in steps {
                let partition = Partition::of_hash(hash);
                let number = JobNumber::next(UnixMs(EPOCH_MS + 1_000_000 + offset), partition, last);
                prop_assert!(number > last);
                prop_assert_eq!(number.partition(), partition);
                last = number;
            }
        }

        #[test]
        fn reading_a_job_id_never_panics(text in "\\PC{0,30}") {
            let _ = JobId::parse(&text);
        }
    }

    #[test]
    fn ids_sort_by_time() {
        let id = |ms| JobId::new(JobNumber::first_at(UnixMs(ms)), 0).to_string();
        assert!(id(EPOCH_MS + 5) < id(EPOCH_MS + 6) && id(EPOCH_MS + 6) < id(EPOCH_MS + 100_000_000));
    }
}
