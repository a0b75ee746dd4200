//! The section `browsers` of a composition: pages of which origins may use the tenant.
//!
//! An origin (RFC 6454, section 6.2) is where a page comes from, as its browser says. What is no browser says what it likes, so
//! that the list keeps pages away, and nobody else.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value;
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::defaults::ORIGINS_MAX;
use super::object::{Object, child, describe, note};

const ORIGIN: &str = "an origin as browsers send it, such as `https://app.example.com` or `http://localhost:5173`; or \
                      `http://localhost:*` for all ports of this machine, or `*` for every origin";
/// Hosts that are the machine itself. Only for them a list may leave the port open: nobody else has a port there.
const LOOPBACK_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
/// The ports that browsers leave out.
const DEFAULT_PORTS: [(&str, u16); 2] = [("http", 80), ("https", 443)];
const SCHEME_CHARS_MAX: usize = 32;
/// The longest name of a host (RFC 1035, section 2.3.4).
const HOST_CHARS_MAX: usize = 253;

/// Pages of which origins may use a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origins {
    /// The composition does not say: any may open sockets, and none is let read an answer over HTTP.
    #[default]
    Unsaid,
    /// Those of the list.
    Listed(Vec<Listed>),
}

/// An entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// Every origin.
    All,
    /// This one, to the letter.
    Origin(String),
    /// This one, which has no port, with any port or none.
    AnyPort(String),
}

impl Listed {
    fn means(&self, origin: &str) -> bool {
        match self {
            Self::All => true,
            Self::Origin(listed) => listed == origin,
            Self::AnyPort(listed) => origin.strip_prefix(listed.as_str()).is_some_and(|rest| {
                let port = rest.strip_prefix(':');
                rest.is_empty() || port.is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
            }),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let (scheme, authority) = text.split_once("://")?;
        if !is_scheme(scheme) {
            return None;
        }
        // The colons within an IPv6 address are in brackets.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let default = DEFAULT_PORTS.iter().find(|known| known.0 == scheme);
        match port {
            Some("*") => {
                let is_known = default.is_some() && LOOPBACK_HOSTS.contains(&host);
                is_known.then(|| Self::AnyPort(format!("{scheme}://{host}")))
            }
            Some(port) => {
                let number: u16 = port.parse().ok()?;
                let is_sent = number.to_string() == port && number > 0 && default.is_none_or(|known| known.1 != number);
                (is_sent && is_host(host)).then(|| Self::Origin(text.to_string()))
            }
            None => is_host(host).then(|| Self::Origin(text.to_string())),
        }
    }
}

/// RFC 3986, section 3.1, in lower case, as browsers send it.
fn is_scheme(text: &str) -> bool {
    text.len() <= SCHEME_CHARS_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'))
}

/// A name or an address, in lower case; an international name as it is in the DNS.
fn is_host(text: &str) -> bool {
    let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f' | b':' | b'.'))
    };
    let is_name = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'))
    };
    let inner = address.unwrap_or(text);
    !inner.is_empty() && inner.len() <= HOST_CHARS_MAX && address.map_or_else(|| is_name(text), is_address)
}

/// What `text` was probably meant to be: without a path, in lower case, without the port that browsers leave out.
fn meant(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", &text));
    let authority = rest.split(['/', '?', '#']).next()?;
    let default = DEFAULT_PORTS.iter().find(|known| known.0 == scheme);
    let authority = default
        .and_then(|(_, port)| authority.strip_suffix(&format!(":{port}")))
        .unwrap_or(authority);
    let origin = format!("{scheme}://{authority}");
    Listed::parse(&origin).map(|_| origin)
}

impl Origins {
    /// Whether the answer to a request of a page of `origin` may be read by it.
    pub fn lists(&self, origin: &str) -> bool {
        match self {
            Self::Unsaid => false,
            Self::Listed(listed) => listed.iter().any(|listed| listed.means(origin)),
        }
    }

    /// Whether a socket may be opened, by a page of `origin` where it is one.
    ///
    /// Errors: `FORBIDDEN` for an origin that is not listed, where there is a list.
    pub fn check_socket(&self, origin: Option<&str>) -> Result<(), Error> {
        match origin {
            Some(origin) if *self != Self::Unsaid && !self.lists(origin) => Err(Error::new(
                ErrorCode::Forbidden,
                "Pages of this origin may not use the tenant: it is not in `browsers.origins` of the composition.",
            )),
            _ => Ok(()),
        }
    }

    /// Reads the section. What is wrong is noted.
    pub(super) fn read(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Self {
        let Some(mut fields) = Object::read(value, pointer, faults) else {
            return Self::default();
        };
        let origins = match fields.require("origins", "a list of origins") {
            Some(Value::Array(items)) => read_list(items, &fields.at("origins"), fields.faults),
            Some(other) => {
                fields.fault("origins", "a list of origins", &describe(other));
                Self::default()
            }
            None => Self::default(),
        };
        fields.finish();
        origins
    }
}

fn read_list(items: &[Value], pointer: &str, faults: &mut Vec<Fault>) -> Origins {
    if items.len() > ORIGINS_MAX {
        note(faults, || {
            Fault::new(pointer, format!("at most {ORIGINS_MAX} origins"), "more of them")
        });
    }
    let mut listed = Vec::new();
    for (index, item) in items.iter().take(ORIGINS_MAX).enumerate() {
        match item.as_str().and_then(Listed::parse) {
            Some(origin) => listed.push(origin),
            None => note(faults, || Fault {
                suggestion: item.as_str().and_then(meant),
                ..Fault::new(child(pointer, &index.to_string()), ORIGIN, &describe(item))
            }),
        }
    }
    Origins::Listed(listed)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<Origins, Vec<Fault>> {
        let mut faults = Vec::new();
        let origins = Origins::read(value, "/browsers", &mut faults);
        if faults.is_empty() { Ok(origins) } else { Err(faults) }
    }

    fn listed(origins: &[&str]) -> Origins {
        read(&json!({ "origins": origins })).unwrap()
    }

    #[test]
    fn what_is_listed_is_let_in_to_the_letter_and_nothing_beside_it() {
        let origins = listed(&[
            "https://app.example.com",
            "http://localhost:*",
            "https://[2001:db8::1]:8443",
            "capacitor://localhost",
        ]);
        for (origin, expected) in [
            ("https://app.example.com", true),
            ("http://app.example.com", false),
            ("https://app.example.com:8443", false),
            ("https://app.example.com.evil.example", false),
            ("https://evil.example/https://app.example.com", false),
            ("https://sub.app.example.com", false),
            ("http://localhost", true),
            ("http://localhost:5173", true),
            ("http://localhost:", false),
            ("http://localhost:x", false),
            ("http://localhost.evil.example", false),
            ("http://localhost:5173.evil.example", false),
            ("https://localhost:5173", false),
            ("https://[2001:db8::1]:8443", true),
            ("https://[2001:db8::1]", false),
            ("capacitor://localhost", true),
            ("null", false),
            ("", false),
            ("*", false),
        ] {
            assert_eq!(origins.lists(origin), expected, "{origin}");
            assert_eq!(origins.check_socket(Some(origin)).is_ok(), expected, "{origin}");
        }
        // What is no browser sends no origin.
        assert!(origins.check_socket(None).is_ok());
    }

    #[test]
    fn without_a_list_sockets_open_for_all_and_answers_are_read_by_none() {
        let unsaid = Origins::default();
        assert!(!unsaid.lists("https://app.example.com"));
        assert!(unsaid.check_socket(Some("https://app.example.com")).is_ok());
    }

    #[test]
    fn an_empty_list_is_for_no_page_and_a_star_for_every_one() {
        let (none, all) = (listed(&[]), listed(&["*"]));
        assert!(!none.lists("null") && none.check_socket(Some("null")).is_err() && none.check_socket(None).is_ok());
        assert!(all.lists("null") && all.check_socket(Some("https://x.example")).is_ok());
    }

    #[test]
    fn every_fault_is_named_with_what_was_probably_meant() {
        for (text, suggestion) in [
            ("https://app.example.com/", Some("https://app.example.com")),
            ("https://App.Example.com", Some("https://app.example.com")),
            ("https://app.example.com:443", Some("https://app.example.com")),
            ("http://app.example.com:80/chat?x", Some("http://app.example.com")),
            ("app.example.com", Some("https://app.example.com")),
            ("https://*.example.com", None),
            ("https://app.example.com:*", None),
            ("https://app.example.com:0", None),
            ("https://app.example.com:08443", None),
            ("https://app.example.com:65536", None),
            ("capacitor://localhost:*", None),
            ("https://", None),
            ("https://[]", None),
            ("https://[g]", None),
            ("https://bücher.example", None),
            ("://x", None),
            ("", None),
        ] {
            let faults = read(&json!({ "origins": ["https://good.example", text] })).unwrap_err();
            let [fault] = faults.as_slice() else {
                panic!("{text}: {faults:?}");
            };
            assert_eq!(fault.pointer, "/browsers/origins/1", "{text}");
            assert_eq!(fault.suggestion.as_deref(), suggestion, "{text}");
        }
        for (value, pointer) in [
            (json!([]), "/browsers"),
            (json!({}), "/browsers/origins"),
            (json!({ "origins": "*" }), "/browsers/origins"),
            (json!({ "origins": [7] }), "/browsers/origins/0"),
            (json!({ "origins": [], "origin": [] }), "/browsers/origin"),
            (
                json!({ "origins": std::vec!["https://a.example"; ORIGINS_MAX + 1] }),
                "/browsers/origins",
            ),
        ] {
            let faults = read(&value).unwrap_err();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_eq!(faults[0].pointer, pointer);
        }
    }

    proptest! {
        /// What browsers can send, a list can hold; and what a list suggests, it takes.
        #[test]
        fn an_origin_that_a_browser_sends_can_be_listed(
            host in "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\\.[a-z]{2,8}){0,3}", port in prop::option::of(1_u16..), tls: bool
        ) {
            let scheme = if tls { "https" } else { "http" };
            let port = port.filter(|port| *port != if tls { 443 } else { 80 });
            let origin = match port {
                Some(port) => std::format!("{scheme}://{host}:{port}"),
                None => std::format!("{scheme}://{host}"),
            };
            prop_assert!(listed(&[&origin]).lists(&origin));
        }

        #[test]
        fn a_suggestion_is_right(text in "\\PC{0,40}") {
            if let Some(meant) = meant(&text) {
                prop_assert!(Listed::parse(&meant).is_some());
            }
        }
    }
}
