//! The page: everything escaped, nothing from elsewhere.

use alloc::string::{String, ToString};

use proptest::prelude::*;

use crate::report::html::figures::{escape, number, percentage, size, whole};
use crate::report::render_html;
use crate::report::tests::summary_of;

#[test]
fn figures_are_shown_as_people_read_them() {
    for (value, expected) in [
        (0.0, "0"),
        (-0.0, "0"),
        (2024.0, "2024"),
        (12_345.0, "12,345"),
        (-1_234_567.25, "−1,234,567.2"),
        (1.5, "1.5"),
        (0.001_25, "0.00125"),
        (1e300, "1.000e300"),
        (1e-9, "1.000e-9"),
    ] {
        assert_eq!(number(value), expected, "{value}");
    }
    assert_eq!(whole(1_000_000), "1,000,000");
    assert_eq!(
        (
            size(999).as_str(),
            size(12_300_000).as_str(),
            size(2_000_000_000).as_str()
        ),
        ("999 B", "12.3 MB", "2.00 GB")
    );
    assert_eq!(
        (percentage(1, 100_000).as_str(), percentage(0, 0).as_str()),
        ("&lt; 0.1 %", "0 %")
    );
    assert_eq!(percentage(99_999, 100_000), "&gt; 99.9 %");
}

#[test]
fn what_comes_from_the_object_is_never_markup() {
    let hostile = "<script>alert('x')</script>\"&";
    let text = alloc::format!(
        "\"{0}\",b\n\"{0}\",1\n\"{0}\",2\n\"{0}\"\n",
        hostile.replace('"', "\"\"")
    );
    let summary = summary_of("a.csv", text.as_bytes()).unwrap();
    assert_eq!((summary.rows, summary.broken_rows), (2, 1));
    let page = render_html(&summary, hostile, hostile);
    assert!(!page.contains("<script") && !page.contains("alert('"), "{page}");
    assert!(page.matches("&lt;script&gt;").count() >= 6);
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let summary = summary_of("a.csv", b"a,b,c\n1,x,2024-01-01\n2,,2024-01-02\n3\n").unwrap();
    let page = render_html(&summary, "a.csv", "2026-01-01T00:00:00Z");
    for forbidden in ["<script", "http://", "https://", "url(", "@import", "src="] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for expected in [
        "<h1>a.csv</h1>",
        "1 field instead of 3 fields",
        "<td class=\"n\">4</td>",
        "2026-01-01T00:00:00Z",
        "<svg",
    ] {
        assert!(page.contains(expected), "{expected}\n{page}");
    }
    for tag in [
        "section", "div", "table", "dl", "ol", "svg", "span", "header", "main", "footer", "p",
    ] {
        let opened =
            page.matches(&alloc::format!("<{tag}>")).count() + page.matches(&alloc::format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&alloc::format!("</{tag}>")).count(), "{tag}");
    }
}

proptest! {
    #[test]
    fn an_escaped_text_has_no_markup_and_no_controls(text in any::<String>()) {
        let escaped = escape(&text);
        prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
        prop_assert!(escaped.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        let entities = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        let left = entities.iter().fold(escaped.to_string(), |left, entity| left.replace(entity, ""));
        prop_assert!(!left.contains('&'));
    }

    #[test]
    fn every_finite_number_is_shown(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
        let shown = number(value);
        let read: f64 = shown.replace('−', "-").replace(',', "").parse().unwrap();
        prop_assert!((read - value).abs() <= value.abs() * 6e-3 + 1e-300, "{} {}", shown, value);
    }
}
