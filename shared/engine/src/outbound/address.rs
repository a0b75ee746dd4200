//! The host of an upstream, in its one allowed spelling, and whether it lies inside somebody's network.
//!
//! Hosts are ASCII: another script is written as `xn--…`. So no table of Unicode is needed, and no two spellings mean the
//! same host. An address is only taken in the form that every reader reads alike: `127.1`, `0x7f.1` and `017700000001`
//! are refused as such, whatever they would mean.
//!
//! A public name may still resolve to a private address. The platform resolves names and does not say to what; keeping
//! such answers away is its task.

use alloc::string::String;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

const NAME_CHARS_MAX: usize = 253;
const LABEL_CHARS_MAX: usize = 63;

/// Endings of names that are only known inside a network, or mean the machine itself (RFC 6761, RFC 6762, RFC 8375, the
/// root zone's reserved `internal`, and customs of old).
const INNER_ENDINGS: &[&str] = &[
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "home.arpa",
];

/// Names of metadata services that lie in public zones and resolve to addresses of the inside.
const METADATA_NAMES: &[&str] = &[
    "metadata.goog",
    "metadata.packet.net",
    "metadata.platformequinix.com",
    "metadata.tencentyun.com",
];

/// The host of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name in lower case, without a dot at its end.
    Name(String),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
}

impl Host {
    /// Reads a host as it stands in a URL, an IPv6 address in its brackets.
    ///
    /// Errors: what would have been right.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(inner) = text.strip_prefix('[') {
            let address = inner.strip_suffix(']').and_then(|inner| inner.parse().ok());
            return address
                .map(Self::V6)
                .ok_or("an IPv6 address in brackets, without a zone");
        }
        let last = text.rsplit('.').next().unwrap_or_default();
        if is_number(last) {
            let address = text.parse().map(Self::V4);
            return address.map_err(|_| "an IPv4 address as four decimal numbers, without leading zeros");
        }
        let labels_ok = text.split('.').all(is_label);
        if text.len() > NAME_CHARS_MAX || !labels_ok {
            return Err("a host of ASCII letters, digits, '-' and '_' between single dots, none at the end");
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }

    /// Whether the host is not on the public internet by its very name or address: private, loopback, link-local,
    /// metadata, multicast, documentation or otherwise reserved.
    pub fn is_private(&self) -> bool {
        match self {
            Self::Name(name) => is_inner_name(name),
            Self::V4(address) => is_reserved_v4(*address),
            Self::V6(address) => is_reserved_v6(*address),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => match address.segments() {
                // In hexadecimal, as the URL standard writes it, and not with dots as the type does.
                [0, 0, 0, 0, 0, 0xffff, high, low] => write!(f, "[::ffff:{high:x}:{low:x}]"),
                _ => write!(f, "[{address}]"),
            },
        }
    }
}

/// Whether a URL parser takes a last label as a part of an IPv4 address (WHATWG URL, "ends in a number").
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()),
    }
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_CHARS_MAX).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A name of one label is looked up inside the network. What is given is in lower case.
fn is_inner_name(name: &str) -> bool {
    !name.contains('.')
        || METADATA_NAMES.contains(&name)
        || INNER_ENDINGS.iter().any(|ending| {
            let before = name.strip_suffix(ending);
            before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
        })
}

/// The IANA registry of special-purpose addresses, multicast, and the metadata address that is a public one.
fn is_reserved_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (0 | 10 | 127, _, _) | (224.., _, _) => true,
        (100, 64..=127, _) | (169, 254, _) | (172, 16..=31, _) | (192, 168, _) | (198, 18..=19, _) => true,
        (192, 0, 0 | 2) | (192, 88, 99) | (198, 51, 100) | (203, 0, 113) => true,
        _ => address == Ipv4Addr::new(168, 63, 129, 16),
    }
}

/// Everything outside of the global unicast block, and in it what stands for an IPv4 address or is reserved.
fn is_reserved_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    match (first, second) {
        (0x2001, 0x0000..=0x01ff | 0x0db8) | (0x2002, _) | (0x3fff, 0x0000..=0x0fff) => true,
        (0x2000..=0x3fff, _) => false,
        _ => embedded_v4(address).is_none_or(is_reserved_v4),
    }
}

/// The IPv4 address inside of `::ffff:a.b.c.d` (mapped) or `64:ff9b::a.b.c.d` (translated).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let translated = matches!(address.segments(), [0x64, 0xff9b, 0, 0, 0, 0, _, _]);
    let [.., a, b, c, d] = address.octets();
    if translated {
        return Some(Ipv4Addr::new(a, b, c, d));
    }
    address.to_ipv4_mapped()
}
