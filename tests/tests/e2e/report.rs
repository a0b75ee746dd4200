//! The real job: a report on a file in the tenant's storage, from the request to the page that a person opens.

use serde_json::{Value, json};
use tidegate_tests::stage::{Between, Follower, Stage};
use tidegate_tests::tenant::Tenant;

use crate::three_ways;

three_ways! {
    a_report_on_a_csv_file_is_right_and_kept(super::report_on_csv);
}

const ROWS: u64 = 20_000;

/// A file whose figures are known: `n` is 1 to ROWS, `city` one of four, `note` empty in every tenth row; and one row
/// that is broken.
fn csv() -> String {
    let cities = ["Aarhus", "\"Bath, Somerset\"", "Cádiz", "Dakar"];
    let mut text = String::from("n,city,note\n");
    for n in 1..=ROWS {
        let note = if n % 10 == 0 { "" } else { "x" };
        let city = cities[usize::try_from(n).expect("small") % 4];
        text.push_str(&format!("{n},{city},{note}\n"));
        if n == 100 {
            text.push_str("this row has,too,many,fields\n");
        }
    }
    text
}

/// Every key that ends in `suffix` anywhere in `value`.
fn keys(value: &Value, suffix: &str) -> Vec<String> {
    match value {
        Value::String(text) if text.ends_with(suffix) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(|item| keys(item, suffix)).collect(),
        Value::Object(fields) => fields.values().flat_map(|field| keys(field, suffix)).collect(),
        _ => Vec::new(),
    }
}

fn report_on_csv(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let stored = client.send(
        "PUT",
        "/v1/objects/in/data.csv",
        &[("content-type", "text/csv")],
        csv().as_bytes(),
    );
    assert!(matches!(stored.status, 200 | 201), "{}", stored.text());
    let mut socket = stage.tenant.socket("alice");
    let frame = json!({ "action": "report.summarize", "payload": { "object": "in/data.csv" } });
    let (request, job) = socket.enqueue(frame);
    stage.interrupt();
    let mut follower = stage.resume(Follower::new(socket, "alice", request, job));
    let end = follower.end();
    assert_eq!(end["type"], "complete", "{end}");

    let client = stage.tenant.client("alice");
    let summary = keys(&end["result"], ".json")
        .pop()
        .unwrap_or_else(|| panic!("no JSON result in {end}"));
    let page = keys(&end["result"], ".html")
        .pop()
        .unwrap_or_else(|| panic!("no report in {end}"));
    let summary = client.get(&format!("/v1/objects/{summary}")).json(200);
    assert_figures(&summary);
    let page = client.get(&format!("/v1/objects/{page}"));
    assert_eq!(page.status, 200);
    let html = String::from_utf8(page.body).expect("the page is UTF-8");
    for part in ["<!doctype html", "<svg", "city", "Bath, Somerset", "Cádiz"] {
        assert!(
            html.to_lowercase().contains(&part.to_lowercase()),
            "{part} is on the page"
        );
    }
    assert!(
        !html.contains("<script src") && !html.contains("http://"),
        "the page stands alone"
    );
    stage.finish(Some(&follower.job));
}

fn assert_figures(summary: &Value) {
    assert_eq!(summary["rows"], ROWS, "{summary}");
    assert_eq!(summary["broken_rows"], 1, "{summary}");
    // After the header and a hundred good rows.
    assert_eq!(summary["broken"][0]["line"], 102, "{summary}");
    let columns = summary["columns"].as_array().expect("a list of columns");
    let column = |name: &str| {
        let found = columns.iter().find(|column| column["name"] == name);
        found.unwrap_or_else(|| panic!("no column {name}: {summary}"))
    };
    let (n, city, note) = (column("n"), column("city"), column("note"));
    assert_eq!(
        (&n["type"], &n["count"], &n["nulls"]),
        (&json!("integer"), &json!(ROWS), &json!(0)),
        "{n}"
    );
    let number = |pointer: &str| {
        n.pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("{pointer}: {n}"))
    };
    let rows = 20_000.0_f64;
    for (pointer, expected, tolerance) in [
        ("/numbers/min", 1.0, 0.0),
        ("/numbers/max", rows, 0.0),
        ("/numbers/mean", (rows + 1.0) / 2.0, 1e-6),
        ("/numbers/deviation", rows / 12.0_f64.sqrt(), 1.0),
        ("/numbers/quantiles/p50", rows / 2.0, 0.02 * rows),
        ("/numbers/quantiles/p99", rows * 0.99, 0.02 * rows),
        ("/distinct/count", rows, 0.06 * rows),
    ] {
        let got = number(pointer);
        assert!(
            (got - expected).abs() <= tolerance,
            "{pointer} is {got}, not {expected}"
        );
    }
    assert_eq!(city["distinct"]["count"], 4, "{city}");
    let top = city["top"].as_array().expect("the most frequent values");
    assert!(top.iter().all(|value| value["count"] == ROWS / 4), "{city}");
    assert_eq!(note["nulls"], ROWS / 10, "{note}");
    assert_eq!(note["count"], ROWS - ROWS / 10, "{note}");
}

#[test]
fn a_report_on_what_is_no_table_or_not_there_fails_clearly() {
    let tenant = Tenant::shared();
    let client = tenant.client("alice");
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    client.send("PUT", "/v1/objects/noise.csv", &[("content-type", "text/csv")], &bytes);
    for object in ["noise.csv", "absent.csv"] {
        let body = json!({ "action": "report.summarize", "payload": { "object": object } });
        let answer = client.post_with("/v1/requests", &[("prefer", "wait=30")], &body);
        assert!((400..=500).contains(&answer.status), "{object}: {}", answer.text());
        let problem: Value = answer.json(answer.status);
        assert!(
            problem["detail"].as_str().is_some_and(|text| !text.is_empty()),
            "{object}: {problem}"
        );
    }
}
