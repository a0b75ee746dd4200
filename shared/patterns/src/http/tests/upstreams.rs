//! Which upstreams can be configured.

use alloc::format;

use proptest::prelude::*;
use serde_json::json;

use super::super::{BaseUrl, Host};
use super::{check, config};

#[test]
fn a_private_host_is_refused_in_every_spelling_unless_it_is_allowed() {
    // Spelled as every reader reads them: refused for where they lie, and taken where the author says so.
    for host in [
        "localhost",
        "LOCALHOST",
        "a.localhost",
        "metadata",
        "intranet",
        "router.lan",
        "nas.local",
        "db.corp",
        "x.home",
        "metadata.google.internal",
        "METADATA.GOOGLE.INTERNAL",
        "metadata.goog",
        "Metadata.Goog",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "metadata.tencentyun.com",
        "svc.cluster.local",
        "printer.home.arpa",
        "localhost.localdomain",
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "240.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "192.88.99.1",
        "168.63.129.16",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:169.254.169.254]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::169.254.169.254]",
        "[64:ff9b:1::1]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[fec0::1]",
        "[2001:db8::1]",
        "[2002:7f00:1::]",
        "[2001::1]",
        "[3fff::1]",
        "[100::1]",
        "[5f00::1]",
    ] {
        for scheme in ["https", "http"] {
            let url = format!("{scheme}://{host}:8080/x");
            let refused = json!({"base_url": url});
            check(
                &config(&refused).1,
                &["/upstreams/main/base_url | a public host"],
                &refused,
            );
            let allowed = json!({"base_url": url, "allow_private": true});
            check(&config(&allowed).1, &[], &allowed);
        }
    }
    for host in [
        "api.example.com",
        "1.1.1.1",
        "8.8.8.8",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.0.1",
        "100.128.0.1",
        "192.169.0.1",
        "[2606:4700::1111]",
        "[::ffff:1.1.1.1]",
        "[64:ff9b::1.1.1.1]",
        "a-b.example",
        "xn--bcher-kva.example",
        "notlocalhost.com",
        "internal.example.com",
        "localhost.example.com",
        "1.example.com",
        "a_b.example.com",
    ] {
        let public = json!({"base_url": format!("https://{host}")});
        check(&config(&public).1, &[], &public);
    }
}

#[test]
fn a_url_that_readers_take_differently_is_refused_even_where_private_hosts_are_allowed() {
    for url in [
        // Other spellings of addresses.
        "http://2130706433",
        "http://0x7f000001",
        "http://0x7f.1",
        "http://0177.0.0.1",
        "http://017700000001",
        "http://127.1",
        "http://127.0.1",
        "http://127.0.0.01",
        "http://127.0.0.1.",
        "http://127.0.0.0x1",
        "http://0",
        "http://0x",
        "http://1.2.3.4.5",
        "http://256.1.1.1",
        "http://a.1",
        "http://example.0xff",
        "http://[::1%25eth0]",
        "http://[::1%eth0]",
        "http://[::1",
        "http://::1",
        "http://[]",
        "http://[127.0.0.1]",
        "http://[::ffff:127.1]",
        "http://[v1.a]",
        // Other spellings of names.
        "http://localhost.",
        "http://localhost..",
        "http://example.com.",
        "http://.example.com",
        "http://a..b",
        "http://ex ample.com",
        "http://ｌｏｃａｌｈｏｓｔ",
        "http://１２７.0.0.1",
        "http://127。0。0。1",
        "http://ⓔxample.com",
        "http://bücher.example",
        "http://%6c%6fcalhost",
        "http://127.0.0.1%2f",
        "http://-a.example",
        "http://a-.example",
        "http://exa\u{ad}mple.com",
        "http://a,b.example",
        "http://a;b",
        "http://a*b.example",
        "http://a!b",
        // Users, and what looks like a host and is none.
        "http://user@example.com",
        "http://user:pass@example.com",
        "http://example.com@127.0.0.1",
        "http://a@b@c",
        "http://example.com:80@127.0.0.1",
        "http://@example.com",
        "http://:@example.com",
        "http://example.com\\@127.0.0.1",
        "http:\\\\example.com",
        "http://example.com#@127.0.0.1",
        "http://example.com?@127.0.0.1",
        "http://example.com#",
        "http://example.com?",
        "http://example.com/?a=b",
        // Schemes.
        "example.com",
        "//example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "javascript://example.com",
        "http:example.com",
        "http:/example.com",
        "https:///example.com",
        "http://",
        "https://",
        "http:///",
        "ws://a.example",
        " http://example.com",
        "http://example.com ",
        "\thttp://example.com",
        "ht\ntp://example.com",
        "",
        // Ports.
        "http://example.com:",
        "http://example.com:0",
        "http://example.com:65536",
        "http://example.com:080",
        "http://example.com:+80",
        "http://example.com:-1",
        "http://example.com:8o",
        "http://example.com::80",
        "http://example.com:80:80",
        "http://[::1]80",
        "http://[::1]:",
        "http://[::1]]:80",
        "http://[[::1]]",
        "http://:80",
        "http://example.com:99999999999999999999",
        // Paths.
        "http://example.com/..",
        "http://example.com/a/../b",
        "http://example.com/.",
        "http://example.com/a/./b",
        "http://example.com//a",
        "http://example.com/a//b",
        "http://example.com/%2e%2e",
        "http://example.com/%2E./a",
        "http://example.com/a%2fb",
        "http://example.com/a%5cb",
        "http://example.com/%00",
        "http://example.com/%0d%0a",
        "http://example.com/%252e",
        "http://example.com/%",
        "http://example.com/%4",
        "http://example.com/%zz",
        "http://example.com/..;/a",
        "http://example.com/a b",
        "http://example.com/é",
        "http://example.com/a\r\nHost: b",
        "http://example.com/\"",
        "http://example.com/<a>",
        "http://example.com/a\\b",
        "http://example.com/.;a/b",
    ] {
        let upstream = json!({"base_url": url, "allow_private": true});
        let (config, faults) = config(&upstream);
        assert!(config.upstreams.is_empty() && faults.len() == 1, "{url:?}: {faults:?}");
        assert_eq!(faults[0].pointer, "/upstreams/main/base_url");
        assert!(!faults[0].got.contains("pass@"), "{faults:?}");
    }
}

#[test]
fn a_base_url_is_kept_in_one_spelling() {
    for (text, prefix) in [
        ("HTTPS://API.Example.COM:443/v1/", "https://api.example.com/v1"),
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:443/", "http://a.example:443"),
        ("https://a.example:80/a/b%20c", "https://a.example:80/a/b%20c"),
        ("https://[2606:4700:0:0::1111]:8443", "https://[2606:4700::1111]:8443"),
        ("https://1.1.1.1", "https://1.1.1.1"),
        ("https://[::ffff:1.1.1.1]", "https://[::ffff:101:101]"),
    ] {
        assert_eq!(BaseUrl::parse(text).unwrap().prefix(), prefix, "{text}");
    }
}

#[test]
fn every_fault_of_a_configuration_is_found_with_its_place() {
    let at = "/upstreams/main";
    for (upstream, expected) in [
        (json!(1), &["/upstreams/main | an object"][..]),
        (
            json!({}),
            &["/upstreams/main/base_url | the URL that every call begins with"],
        ),
        (
            json!({"base_url": 1}),
            &["/upstreams/main/base_url | a URL that begins"],
        ),
        (
            json!({"base_url": "https://a.example", "timeout": "16m", "allow_private": "no", "header": {}}),
            &[
                "/upstreams/main/timeout | from 1ms to 15m",
                "/upstreams/main/allow_private | true or false",
                "/upstreams/main/header | no such field | headers",
            ],
        ),
        (
            json!({"base_url": "https://a.example", "headers": {
                "Host": "b.example", "connection": "close", "Transfer-Encoding": "chunked", "content-length": "0",
                "idempotency-key": "k", "x-forwarded-for": "127.0.0.1", "CF-Connecting-IP": "1.1.1.1", "a b": "c",
                "": "c", "x:y": "c", "x-crlf": "secret\r\nHost: b.example", "x-nul": "secret\u{0}", "x-é": "c",
                "x-letter": "secret é", "x-number": 1, "x-tidegate-tenant": "other", "proxy-authorization": "secret",
            }}),
            &[
                "/upstreams/main/headers/Host | the name of a header",
                "/upstreams/main/headers/connection | the name of a header",
                "/upstreams/main/headers/Transfer-Encoding | the name of a header",
                "/upstreams/main/headers/content-length | the name of a header",
                "/upstreams/main/headers/idempotency-key | the name of a header",
                "/upstreams/main/headers/x-forwarded-for | the name of a header",
                "/upstreams/main/headers/CF-Connecting-IP | the name of a header",
                "/upstreams/main/headers/a b | the name of a header",
                "/upstreams/main/headers/ | the name of a header",
                "/upstreams/main/headers/x:y | the name of a header",
                "/upstreams/main/headers/x-crlf | printable ASCII",
                "/upstreams/main/headers/x-nul | printable ASCII",
                "/upstreams/main/headers/x-é | the name of a header",
                "/upstreams/main/headers/x-letter | printable ASCII",
                "/upstreams/main/headers/x-number | printable ASCII",
                "/upstreams/main/headers/x-tidegate-tenant | the name of a header",
                "/upstreams/main/headers/proxy-authorization | the name of a header",
            ],
        ),
        (
            json!({"base_url": "https://a.example", "headers": {"X-A": "1", "x-a": "2"}}),
            &["/upstreams/main/headers/x-a | each header once"],
        ),
    ] {
        check(&config(&upstream).1, expected, &json!({at: upstream}));
    }
}

#[test]
fn each_default_of_an_upstream_is_what_the_reference_says() {
    let (config, faults) = config(&json!({"base_url": "https://a.example"}));
    assert_eq!(faults, []);
    let upstream = &config.upstreams["main"];
    assert_eq!((upstream.timeout_ms, upstream.headers.len()), (10_000, 0));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,60}", tail in "[a-z0-9.:/@\\[\\]%#?\\\\-]{0,30}") {
        let _ = (BaseUrl::parse(&text), Host::parse(&text));
        let _ = (BaseUrl::parse(&format!("https://{tail}")), Host::parse(&tail));
    }

    /// The reader that the runtime follows (WHATWG URL) sees the same scheme, host, port and path in all that is taken.
    #[test]
    fn what_is_taken_is_read_alike_by_a_reader_of_the_url_standard(
        tail in "([a-z]{1,3}\\.|[0-9]{1,3}\\.|0x[0-9a-f]{1,2}\\.|\\[::[0-9a-f:.]{1,12}\\]|xn--[a-z]{1,2}\\.){0,4}[a-z0-9]{0,4}(:[0-9]{0,5})?(/[a-z.%0-9;]{0,4}){0,3}",
    ) {
        let text = format!("https://{tail}");
        if let Ok(base) = BaseUrl::parse(&text) {
            let read = url::Url::parse(&text);
            // An `xn--` name that is no name is refused by the runtime itself.
            if let Ok(read) = read {
                prop_assert_eq!(read.scheme(), "https");
                let host = format!("{}", base.host);
                prop_assert_eq!(read.host_str(), Some(host.as_str()));
                prop_assert_eq!(read.port(), base.port);
                prop_assert_eq!(read.path().trim_end_matches('/'), base.path.as_str());
                prop_assert!(read.username().is_empty() && read.query().is_none() && read.fragment().is_none());
            } else {
                prop_assert!(tail.contains("xn--"), "{}", text);
            }
        }
    }
}

#[test]
fn a_port_of_another_protocol_is_refused_unless_private_hosts_are_allowed() {
    for port in [1, 22, 25, 53, 81, 445, 1023, 2049, 5060, 6000, 6667, 10080] {
        let url = format!("https://api.example.com:{port}");
        check(
            &config(&json!({"base_url": url})).1,
            &["/upstreams/main/base_url | no port, the scheme's own"],
            &json!(url),
        );
        let allowed = json!({"base_url": url, "allow_private": true});
        check(&config(&allowed).1, &[], &allowed);
    }
    for url in [
        "https://api.example.com:443",
        "http://api.example.com:80",
        "https://api.example.com:1024",
        "https://api.example.com:8443",
        "http://api.example.com:8080",
        "https://api.example.com:65535",
    ] {
        check(&config(&json!({"base_url": url})).1, &[], &json!(url));
    }
}
