//! Where a caller comes from, as limits count it.

use alloc::format;
use alloc::string::{String, ToString};
use core::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

/// The network of a caller: an IPv4 address, or the first 64 bits of an IPv6 one, because whoever has one of those has all 2⁶⁴
/// behind them (RFC 6177). Unknown where nothing that can be trusted says it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, Encode, Decode)]
#[serde(transparent)]
pub struct Network(Option<String>);

impl Network {
    /// The network of an address. One that is none is unknown.
    pub fn of(address: &str) -> Self {
        let text = match address.trim().parse() {
            Ok(IpAddr::V4(address)) => address.to_string(),
            Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
                Some(address) => address.to_string(),
                None => {
                    let [a, b, c, d, ..] = address.segments();
                    format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
                }
            },
            Err(_) => return Self(None),
        };
        Self(Some(text))
    }

    /// As text; `None` where it is unknown.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether it is unknown.
    pub fn is_unknown(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_customer_is_one_network_however_the_address_is_spelled() {
        for (address, network) in [
            ("203.0.113.7", Some("203.0.113.7")),
            (" 203.0.113.7 ", Some("203.0.113.7")),
            ("::ffff:203.0.113.7", Some("203.0.113.7")),
            ("::ffff:cb00:7107", Some("203.0.113.7")),
            ("2001:db8:1:2:3:4:5:6", Some("2001:db8:1:2::/64")),
            ("2001:DB8:1:2::", Some("2001:db8:1:2::/64")),
            ("2001:db8:1:3::1", Some("2001:db8:1:3::/64")),
            ("::1", Some("::/64")),
            ("203.0.113.07", None),
            ("203.0.113.7:80", None),
            ("[2001:db8::1]", None),
            ("fe80::1%eth0", None),
            ("203.0.113.7, 10.0.0.1", None),
            ("localhost", None),
            ("", None),
        ] {
            assert_eq!(Network::of(address).as_str(), network, "{address}");
        }
    }
}
