//! Server-side request forgery: no composition, no request and no redirect makes the server ask inside somebody's network.
//!
//! The engine and the patterns have the long tables, place by place. Here each spelling goes through the public API to every
//! place that takes a URL, and is one clear fault there.

use serde_json::{Value, json};
use tidegate_tests::http::Answer;
use tidegate_tests::receiver::{self, Receiver};
use tidegate_tests::socket::job_of;
use tidegate_tests::tenant::{Tenant, composition};

/// Hosts, with a port where that is the point, and what else can stand between a scheme and a path.
const HOSTILE: &[&str] = &[
    // An address of the machine itself, as readers of old take it.
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0177.0.0.1",
    "0x7f.1",
    "0x7f.0.0.0x1",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "127.0.0.01",
    "0",
    "0.0.0.0",
    // Inside of IPv6.
    "[::]",
    "[::ffff:127.0.0.1]:8080",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::a00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:7f00:1::]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[fc00::1]",
    "[ff02::1]",
    // Metadata, private, shared, special, multicast and reserved.
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "168.63.129.16",
    "100.100.100.200",
    "metadata.google.internal",
    "metadata.goog",
    "metadata",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "192.0.0.1",
    "192.0.0.192",
    "198.18.0.1",
    "198.19.255.254",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    // Names of the machine, and of a network's inside.
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost..",
    "foo.localhost",
    "db.internal",
    "router.local",
    // Somebody else's host in front.
    "example.com@127.0.0.1",
    "user:word@10.0.0.1",
    "127.0.0.1:80\\@example.com",
    "example.com\\@127.0.0.1",
    "example.com#@127.0.0.1",
    "127.0.0.1%00.example.com",
    "127.0.0.1%2f@example.com",
    // Characters that readers drop or fold.
    "127.0.0.1\t",
    "127.\n0.0.1",
    "\r\n127.0.0.1",
    " 127.0.0.1",
    "１２７.0.0.1",
    "127。0。0。1",
    "ⓛocalhost",
    "local\u{ad}host",
    "loc\u{200b}alhost",
    // Ports that are none, and those of other protocols.
    "example.com:0",
    "example.com:65536",
    "example.com:",
    "example.com:080",
    "example.com:22",
    "example.com:25",
    "example.com:2049",
    "example.com:6667",
    "",
];

/// Other schemes, and what only looks like a URL.
const NO_URLS: &[&str] = &[
    "file:///etc/passwd",
    "gopher://127.0.0.1:25/x",
    "ftp://example.com/",
    "data:text/plain,x",
    "//169.254.169.254/",
    "https:169.254.169.254",
    "https:/example.com/",
    "javascript:1",
    "",
];

/// Every place of a composition that takes a URL: its name, and a document with `url` there.
fn places(url: &str) -> Vec<(&'static str, Value)> {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut document = composition(None);
        change(&mut document);
        document
    };
    let upstream = json!({ "use": "http", "config": { "upstreams": { "main": { "base_url": url } } } });
    let handler = json!({ "use": "http-handler", "config": { "url": url } });
    vec![
        (
            "/patterns/up/config/upstreams/main/base_url",
            with(&|document| document["patterns"]["up"] = upstream.clone()),
        ),
        (
            "/patterns/own/config/url",
            with(&|document| document["patterns"]["own"] = handler.clone()),
        ),
        (
            "/actions/slow/on_end/url",
            with(&|document| document["actions"]["slow"]["on_end"] = json!({ "url": url })),
        ),
        (
            "/actions/slow/on_end/from_request/0",
            with(&|document| document["actions"]["slow"]["on_end"] = json!({ "from_request": [url] })),
        ),
    ]
}

fn put(tenant: &Tenant, document: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    let admin = tenant.client_with("root", "admin");
    admin.send(
        "PUT",
        "/v1/admin/composition",
        &headers,
        document.to_string().as_bytes(),
    )
}

/// Whatever else there is to say of it, the place is named, once.
fn is_one_fault(answer: &Answer, pointer: &str, url: &str) {
    let problem = answer.problem(422, "VALIDATION_ERROR");
    let details = problem["details"].as_array().expect("faults");
    assert_eq!(details.len(), 1, "{url} at {pointer}: {problem}");
    assert_eq!(details[0]["pointer"], pointer, "{url}: {problem}");
    assert!(
        details[0]["expected"].as_str().is_some_and(|text| !text.is_empty()),
        "{problem}"
    );
}

#[test]
fn a_url_that_leads_inside_is_one_fault_wherever_it_is_written() {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["actions"]["slow"]["on_end"] = json!({ "from_request": ["https://hooks.example.com/*"] });
    tenant.put_composition(&document);
    let active = tenant
        .client_with("root", "admin")
        .get("/v1/admin/composition")
        .json(200);
    let client = tenant.client("alice");
    let urls = HOSTILE
        .iter()
        .flat_map(|host| ["https", "http"].map(|scheme| format!("{scheme}://{host}/x")))
        .chain(NO_URLS.iter().map(|url| (*url).to_owned()));
    let mut refused = 0;
    for url in urls {
        for (pointer, document) in places(&url) {
            is_one_fault(&put(&tenant, &document), pointer, &url);
            refused += 1;
        }
        let body = json!({ "action": "slow", "payload": { "ms": 1 }, "on_end": { "url": url } });
        is_one_fault(&client.post("/v1/requests", &body), "/on_end/url", &url);
        refused += 1;
    }
    // Nothing of it was taken; and the same places take what is public.
    assert_eq!(
        tenant
            .client_with("root", "admin")
            .get("/v1/admin/composition")
            .json(200),
        active
    );
    assert_eq!(client.get("/v1/jobs").json(200)["jobs"], json!([]));
    for (pointer, document) in places("https://hooks.example.com:8443/x") {
        assert_eq!(put(&tenant, &document).status, 200, "{pointer}");
    }
    println!("{refused} URLs refused");
}

/// An answer that points elsewhere.
fn redirect(status: u16, to: &str) -> receiver::Answer {
    let mut answer = receiver::Answer::of(status, "{}");
    answer.headers.push(("location", to.to_owned()));
    answer
}

#[test]
fn a_redirect_is_not_followed_by_calls_nor_by_messages() {
    let (inside, outside) = (Receiver::start(), Receiver::start());
    let tenant = Tenant::shared();
    let mut document = composition(None);
    let main = json!({ "base_url": outside.url(), "allow_private": true, "timeout": "5s" });
    document["patterns"]["up"] = json!({ "use": "http", "config": { "upstreams": { "main": main } } });
    document["patterns"]["own"] = json!({ "use": "http-handler", "config": { "url": outside.url() } });
    let with = json!({ "upstream": "main", "method": "POST" });
    document["actions"]["call"] = json!({ "run": "up.call", "mode": "sync", "with": with });
    document["actions"]["own"] = json!({ "run": "own.handle", "retry": { "attempts": 1 } });
    document["actions"]["slow"]["on_end"] = json!({ "url": outside.url(), "retry": { "attempts": 1 } });
    tenant.put_composition(&document);
    let client = tenant.client("alice");
    let mut asked = 0;
    for status in [301, 302, 303, 307, 308] {
        // Of a call, of a job that an endpoint does, and of the message about a job's end.
        outside.answer(vec![redirect(status, &inside.url()); 3]);
        let called = client.post("/v1/requests", &json!({ "action": "call", "payload": {} }));
        assert_eq!(called.json(502)["code"], "UPSTREAM_ERROR", "{status}");
        let job = job_of(
            &client
                .post("/v1/requests", &json!({ "action": "own", "payload": {} }))
                .json(202),
        );
        let ended = client.get(&format!("/v1/jobs/{job}?wait=30")).json(200);
        assert_eq!(ended["status"], "failed", "{status}: {ended}");
        client
            .post("/v1/requests", &json!({ "action": "slow", "payload": { "ms": 1 } }))
            .json(202);
        asked += 3;
        outside.wait_for(asked);
    }
    assert_eq!(inside.received().len(), 0, "a redirect was followed");
}
