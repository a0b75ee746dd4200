//! The URL of an endpoint that is told something, or that does a job: guarded against server-side request forgery.

use alloc::format;
use alloc::string::{String, ToString};

use super::address::Host;
use super::location::{BASE_BYTES_MAX, BaseUrl, OTHER_PROTOCOL, Scheme};

/// What a target is, for error messages.
const FORM: &str = "a URL `https://host/path` of at most 2048 printable ASCII characters, without user and fragment";
const PUBLIC: &str = "a public host";
const TLS: &str = "a URL that begins with `https://`";

/// Somebody's endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    url: String,
    host: String,
    loopback: bool,
}

impl Target {
    /// Reads the URL of an endpoint: `https`, on a public host. Plain `http` and the addresses `127.0.0.0/8` and `[::1]`
    /// are taken as well where both come together, and marked: whoever sends asks the deployment whether that may be.
    ///
    /// Errors: what would have been right.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > BASE_BYTES_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains(['#', '\\']) {
            return Err(FORM);
        }
        let (base, query) = match text.find('?') {
            Some(mark) => text.split_at_checked(mark).unwrap_or_default(),
            None => (text, ""),
        };
        let (scheme, rest) = base.split_once("://").unwrap_or_default();
        if !matches!(scheme.to_ascii_lowercase().as_str(), "https" | "http") || rest.contains('@') {
            return Err(FORM);
        }
        // The path as it was written: an endpoint may tell `/hook` and `/hook/` apart.
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at_checked(slash).unwrap_or_default(),
            None => (rest, "/"),
        };
        super::location::check_path(path)?;
        let base = BaseUrl::parse(&format!("{scheme}://{authority}"))?;
        let loopback = match &base.host {
            Host::V4(address) => address.is_loopback(),
            Host::V6(address) => address.is_loopback(),
            Host::Name(_) => false,
        };
        if !loopback {
            if base.host.is_private() {
                return Err(PUBLIC);
            }
            if base.scheme != Scheme::Https {
                return Err(TLS);
            }
            if base.is_for_another_protocol() {
                return Err(OTHER_PROTOCOL);
            }
        }
        Ok(Self {
            url: format!("{}{path}{query}", base.prefix()),
            host: base.host.to_string(),
            loopback,
        })
    }

    /// The URL, in its one spelling.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its host, by which its share of the places is counted.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it lies on the machine itself: only where the deployment says so.
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }
}

/// Which targets a request may name: one URL, or with `*` at its end all that begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    beginning: String,
    whole: bool,
}

impl Allowed {
    /// What it looks like, for error messages.
    pub const EXPECTED: &'static str =
        "the URL of an endpoint, or one with `*` at its end, behind the host and a slash";

    /// Reads one. `None` where it is none, or where its star could stand for another host.
    pub fn parse(text: &str) -> Option<Self> {
        let beginning = text.strip_suffix('*');
        let target = Target::parse(beginning.unwrap_or(text)).ok()?;
        let host_is_whole = text.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        (beginning.is_none() || host_is_whole).then_some(Self {
            beginning: target.url,
            whole: beginning.is_none(),
        })
    }

    /// Whether `target` is meant.
    pub fn takes(&self, target: &Target) -> bool {
        if self.whole {
            target.url == self.beginning
        } else {
            target.url.starts_with(&self.beginning)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_endpoint_is_taken_in_one_spelling() {
        for (given, url) in [
            ("https://hooks.example.com", "https://hooks.example.com/"),
            ("https://hooks.example.com/", "https://hooks.example.com/"),
            (
                "HTTPS://Hooks.Example.COM:443/a/b?c=d&e=%2F",
                "https://hooks.example.com/a/b?c=d&e=%2F",
            ),
            ("https://hooks.example.com?x", "https://hooks.example.com/?x"),
            ("https://hooks.example.com/tail/", "https://hooks.example.com/tail/"),
            ("https://hooks.example.com:8443/x", "https://hooks.example.com:8443/x"),
            ("https://1.1.1.1/x", "https://1.1.1.1/x"),
            ("https://[2606:4700::1111]/x", "https://[2606:4700::1111]/x"),
        ] {
            let target = Target::parse(given).unwrap();
            assert_eq!((target.url(), target.is_loopback()), (url, false), "{given}");
        }
    }

    #[test]
    fn what_is_inside_somebodys_network_is_refused_in_every_spelling() {
        for host in [
            // Private, shared, link-local, documentation, multicast, reserved; plain and at the edges of the blocks.
            "10.0.0.1",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.0.1",
            "169.254.169.254",
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.9",
            "198.18.0.1",
            "198.19.255.255",
            "192.0.0.1",
            "192.88.99.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "168.63.129.16",
            // The same in other spellings.
            "2852039166",
            "0xa9fea9fe",
            "0xA9.0xFE.0xA9.0xFE",
            "0251.0376.0251.0376",
            "169.254.43518",
            "10.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "017700000001",
            "127.0.0.1.",
            "0177.0.0.1",
            "0x7f.0.0.1",
            "1.0x2",
            "10.0.0.01",
            "%31%30.0.0.1",
            "１０.0.0.1",
            "10。0。0。1",
            // IPv6: unspecified, unique local, link-local, multicast, documentation, discard, mapped, compatible, NAT64,
            // 6to4, Teredo, site-local, with a zone.
            "[::]",
            "[fc00::1]",
            "[fd12:3456::1]",
            "[fe80::1]",
            "[fe80::1%25eth0]",
            "[ff02::1]",
            "[2001:db8::1]",
            "[100::1]",
            "[::ffff:10.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[::ffff:127.0.0.1]",
            "[0:0:0:0:0:ffff:7f00:1]",
            "[::10.0.0.1]",
            "[64:ff9b::10.0.0.1]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b:1::a00:1]",
            "[2002:a00:1::]",
            "[2001::1]",
            "[fec0::1]",
            "[3fff::1]",
            "[fd00:ec2::254]",
            // Names.
            "localhost",
            "LOCALHOST",
            "a.localhost",
            "localhost.",
            "printer",
            "metadata",
            "metadata.google.internal",
            "METADATA.google.Internal",
            "metadata.goog",
            "metadata.tencentyun.com",
            "x.local",
            "db.corp",
            "nas.home.arpa",
            "a.lan",
            "x.intranet",
        ] {
            let url = format!("https://{host}/hook");
            assert!(Target::parse(&url).is_err(), "{url}");
        }
    }

    #[test]
    fn only_tls_without_credentials_and_to_ports_of_its_own_is_taken() {
        for url in [
            "http://hooks.example.com/",
            "ftp://hooks.example.com/",
            "file:///etc/passwd",
            "//hooks.example.com/",
            "",
            "hooks.example.com",
            "https:hooks.example.com",
            "https://",
            "https:///x",
            "https://user@hooks.example.com/",
            "https://user:word@hooks.example.com/",
            "https://hooks.example.com@10.0.0.1/",
            "https://hooks.example.com#x",
            "https://hooks.example.com/#x",
            "https://hooks.example.com\\@10.0.0.1/",
            "https://hooks.example.com/a b",
            "https://hooks.example.com/\n",
            "https://hooks.example.com:22/",
            "https://hooks.example.com:25/",
            "https://hooks.example.com:80/",
            "https://hooks.example.com:6667/",
            "https://hooks.example.com:0/",
            "https://hooks.example.com:65536/",
            "https://hooks.example.com:/",
            "https://hooks.example.com/../x",
            "https://hooks.example.com/%2e%2e/x",
            "https://hooks_example..com/",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
        assert!(Target::parse(&format!("https://hooks.example.com/{}", "x".repeat(2048))).is_err());
    }

    #[test]
    fn the_machine_itself_is_taken_and_marked() {
        for url in [
            "http://127.0.0.1:9999/x",
            "http://127.8.8.8/",
            "https://[::1]:22/x",
            "http://[::1]/x?y",
        ] {
            assert!(Target::parse(url).unwrap().is_loopback(), "{url}");
        }
    }

    #[test]
    fn a_beginning_means_what_lies_below_it_and_no_other_host() {
        let takes = |pattern: &str, url: &str| Allowed::parse(pattern).unwrap().takes(&Target::parse(url).unwrap());
        assert!(takes("https://hooks.example.com/*", "https://HOOKS.example.com/a/b?c"));
        assert!(takes("https://hooks.example.com/a*", "https://hooks.example.com/abc"));
        assert!(takes("https://hooks.example.com", "https://hooks.example.com/"));
        assert!(!takes("https://hooks.example.com/a", "https://hooks.example.com/ab"));
        assert!(!takes("https://hooks.example.com/a/*", "https://hooks.example.com/b"));
        assert!(!takes(
            "https://hooks.example.com/*",
            "https://hooks.example.com.evil.org/"
        ));
        assert!(!takes("https://hooks.example.com/*", "https://hooks.example.com:8443/"));
        for pattern in [
            "https://hooks.example.com*",
            "https://*.example.com/",
            "*",
            "https://*",
            "http://a.example/*",
            "",
        ] {
            assert_eq!(Allowed::parse(pattern), None, "{pattern}");
        }
    }
}
