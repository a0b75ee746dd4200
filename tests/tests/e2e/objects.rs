//! The tenant's own storage: whole, in parts, under conditions.

use tidegate_tests::http::{Answer, Client};
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::Tenant;

use crate::three_ways;

three_ways! {
    an_object_is_kept_as_it_was_put(super::kept);
}

fn put(client: &Client, key: &str, body: &[u8]) -> Answer {
    let answer = client.send(
        "PUT",
        &format!("/v1/objects/{key}"),
        &[("content-type", "text/plain")],
        body,
    );
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    answer
}

fn kept(between: Between) {
    let mut stage = Stage::new(between, None);
    stage.tenant.socket("alice").echoes();
    let body: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    put(&stage.tenant.client("alice"), "bytes.bin", &body);
    stage.interrupt();
    let answer = stage.tenant.client("alice").get("/v1/objects/bytes.bin");
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "the bytes are the same");
    assert_eq!(answer.header("content-length"), "300000");
    stage.tenant.socket("alice").echoes();
    stage.finish(None);
}

#[test]
fn an_object_answers_head_ranges_and_conditions_as_http_says() {
    let tenant = Tenant::shared();
    let client = tenant.client("alice");
    let path = "/v1/objects/letters.txt";
    let stored = put(&client, "letters.txt", b"abcdefghij");
    assert_eq!(stored.json(stored.status)["size"], 10, "{}", stored.text());

    let whole = client.get(path);
    assert_eq!(whole.body, b"abcdefghij");
    assert_eq!(whole.header("content-type"), "text/plain");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    let etag = whole.header("etag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "{etag}");

    let head = client.send("HEAD", path, &[], &[]);
    assert_eq!(
        (head.status, head.body.len(), head.header("content-length")),
        (200, 0, "10")
    );
    assert_eq!(head.header("etag"), etag);

    for (range, status, body, content_range) in [
        ("bytes=0-2", 206, &b"abc"[..], "bytes 0-2/10"),
        ("bytes=7-", 206, b"hij", "bytes 7-9/10"),
        ("bytes=-4", 206, b"ghij", "bytes 6-9/10"),
        ("bytes=5-100", 206, b"fghij", "bytes 5-9/10"),
        ("bytes=-100", 206, b"abcdefghij", "bytes 0-9/10"),
    ] {
        let answer = client.send("GET", path, &[("range", range)], &[]);
        assert_eq!((answer.status, &answer.body[..]), (status, body), "{range}");
        assert_eq!(answer.header("content-range"), content_range, "{range}");
    }
    let answer = client.send("GET", path, &[("range", "bytes=10-20")], &[]);
    answer.problem(416, "RANGE_NOT_SATISFIABLE");
    assert_eq!(answer.header("content-range"), "bytes */10");
    // What is no range of bytes is passed over.
    for range in ["lines=1-2", "bytes=5-2", "bytes=x"] {
        assert_eq!(
            client.send("GET", path, &[("range", range)], &[]).status,
            200,
            "{range}"
        );
    }

    let other = "\"another\"";
    for (name, value, method, status) in [
        ("if-none-match", etag.as_str(), "GET", 304),
        ("if-none-match", &etag, "HEAD", 304),
        ("if-none-match", other, "GET", 200),
        ("if-none-match", "*", "GET", 304),
        ("if-match", &etag, "GET", 200),
        ("if-match", other, "GET", 412),
        ("if-match", other, "PUT", 412),
        ("if-none-match", "*", "PUT", 412),
        ("if-match", other, "DELETE", 412),
    ] {
        let body: &[u8] = if method == "PUT" { b"changed" } else { b"" };
        let answer = client.send(method, path, &[(name, value)], body);
        assert_eq!(answer.status, status, "{method} {name}: {value}: {}", answer.text());
        assert_eq!(client.get(path).body, b"abcdefghij", "{method} {name}: {value}");
    }

    let answer = client.send("PUT", path, &[("if-match", &etag)], b"changed");
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    assert_eq!(client.get(path).body, b"changed");
    assert_ne!(client.get(path).header("etag"), etag);
    let fresh = "/v1/objects/fresh.txt";
    let answer = client.send("PUT", fresh, &[("if-none-match", "*")], b"new");
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());

    assert_eq!(client.send("DELETE", path, &[], &[]).status, 204);
    client.get(path).is_not_found();
    let head = client.send("HEAD", path, &[], &[]);
    assert_eq!((head.status, head.body.len()), (404, 0));
}

#[test]
fn a_key_may_be_any_path_and_any_script() {
    let tenant = Tenant::shared();
    let client = tenant.client("alice");
    let keys = [
        "a/b/c.txt",
        "a//b",
        "with%20space.txt",
        "100%25.txt",
        "%E6%B0%B4/%D9%85%D8%AF.csv",
        "emoji-%F0%9F%8C%8A",
        "a%2Fslash",
        "q%3Fmark%23hash",
    ];
    for (index, key) in keys.iter().enumerate() {
        put(&client, key, format!("object {index}").as_bytes());
    }
    for (index, key) in keys.iter().enumerate() {
        let answer = client.get(&format!("/v1/objects/{key}"));
        assert_eq!(
            (answer.status, answer.body),
            (200, format!("object {index}").into_bytes()),
            "{key}"
        );
    }
    let long = "k".repeat(2000);
    for key in ["", "%00", "%FF%FE", "..", &long] {
        let answer = client.send(
            "PUT",
            &format!("/v1/objects/{key}"),
            &[("content-type", "text/plain")],
            b"x",
        );
        assert!((400..500).contains(&answer.status), "{key}: {}", answer.text());
    }
}

#[test]
fn objects_are_shared_by_the_users_of_a_tenant() {
    let tenant = Tenant::shared();
    put(&tenant.client("alice"), "shared.txt", b"ours");
    assert_eq!(tenant.client("bob").get("/v1/objects/shared.txt").body, b"ours");
}
