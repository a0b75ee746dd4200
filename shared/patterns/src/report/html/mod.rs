//! The report as one page: no scripts, nothing from elsewhere, so that it can be sent on as a file.

mod chart;
mod column;
pub(super) mod figures;

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use super::profile::Format;
use super::summary::Summary;
use figures::{escape, percentage, size, whole};

const STYLE: &str = include_str!("style.css");

/// The page of a summary. `generated_at` is shown as it is. Everything that comes from the object is escaped.
pub fn render_html(summary: &Summary, title: &str, generated_at: &str) -> String {
    let mut page = String::with_capacity(STYLE.len() + 4096 + summary.columns.len() * 4096);
    let title = escape(title);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body><header><h1>{title}</h1><p class=\"meta\">{} · {} · \
         {}</p></header>\n<main>",
        format_name(summary),
        size(summary.bytes),
        escape(generated_at)
    );
    cards(&mut page, summary);
    overview(&mut page, summary);
    if !summary.columns.is_empty() {
        page.push_str("<h2>Columns in detail</h2>\n");
        for (at, column) in summary.columns.iter().enumerate() {
            column::section(&mut page, at, column, summary.rows);
        }
    }
    broken(&mut page, summary);
    page.push_str("</main>\n");
    footer(&mut page, summary);
    page.push_str("</body></html>\n");
    page
}

fn format_name(summary: &Summary) -> String {
    match (summary.format, summary.delimiter) {
        (Format::Ndjson, _) => String::from("NDJSON"),
        (Format::Csv, None | Some(',')) => String::from("CSV"),
        (Format::Csv, Some('\t')) => String::from("CSV, separated by tabs"),
        (Format::Csv, Some(';')) => String::from("CSV, separated by semicolons"),
        (Format::Csv, Some('|')) => String::from("CSV, separated by bars"),
        (Format::Csv, Some(other)) => format!("CSV, separated by <code>{}</code>", escape(&format!("{other}"))),
    }
}

fn cards(page: &mut String, summary: &Summary) {
    let columns = summary.columns.len() as u64;
    let cells = columns.saturating_mul(summary.rows);
    let missing: u64 = summary.columns.iter().map(|column| column.nulls).sum();
    let read = summary.rows + summary.broken_rows;
    page.push_str("<dl class=\"cards\">");
    let mut card = |class: &str, name: &str, value: &str, note: &str| {
        let _ = write!(
            page,
            "<div class=\"card{class}\"><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>"
        );
    };
    let missing_share = percentage(missing, cells);
    card("", "Rows", &whole(summary.rows), "read without a fault");
    card("", "Columns", &whole(columns), &types(summary));
    card(
        "",
        "Missing values",
        &missing_share,
        &format!("{} of {} cells", whole(missing), whole(cells)),
    );
    if summary.broken_rows > 0 {
        let note = format!(
            "{} of {} · <a href=\"#broken\">see below</a>",
            percentage(summary.broken_rows, read),
            whole(read)
        );
        card(" warn", "Broken rows", &whole(summary.broken_rows), &note);
    } else {
        card(
            "",
            "Broken rows",
            "0",
            "<span class=\"good\">every row could be read</span>",
        );
    }
    page.push_str("</dl>\n");
}

/// How many columns there are of the most usual types.
fn types(summary: &Summary) -> String {
    let is_number = |kind: &str| matches!(kind, "integer" | "number");
    let count = |wanted: &dyn Fn(&str) -> bool| summary.columns.iter().filter(|c| wanted(c.kind.as_str())).count();
    let (numbers, texts) = (count(&is_number), count(&|kind| kind == "string"));
    let others = summary.columns.len() - numbers - texts;
    let mut text = format!("{numbers} numeric, {texts} text");
    if others > 0 {
        let _ = write!(text, ", {others} other");
    }
    text
}

fn overview(page: &mut String, summary: &Summary) {
    page.push_str(
        "<h2>Overview</h2>\n<div class=\"panel\" tabindex=\"0\" role=\"region\" aria-label=\"Overview of the columns\">\
         <table><thead><tr><th scope=\"col\">Column</th><th scope=\"col\">Type</th><th scope=\"col\">Missing</th>\
         <th scope=\"col\" class=\"n\">Distinct</th><th scope=\"col\" class=\"n\">Min</th>\
         <th scope=\"col\" class=\"n\">Mean</th><th scope=\"col\" class=\"n\">Max</th>\
         <th scope=\"col\">Distribution</th></tr></thead><tbody>\n",
    );
    for (at, column) in summary.columns.iter().enumerate() {
        column::row(page, at, column, summary.rows);
    }
    page.push_str("</tbody></table></div>\n");
}

fn broken(page: &mut String, summary: &Summary) {
    if summary.broken_rows == 0 {
        return;
    }
    let shown = summary.broken.len() as u64;
    page.push_str("<h2 id=\"broken\">Broken rows</h2>\n");
    if shown < summary.broken_rows {
        let _ = write!(
            page,
            "<p class=\"note\">The first {shown} of {}.</p>",
            whole(summary.broken_rows)
        );
    }
    page.push_str(
        "<div class=\"panel\" tabindex=\"0\" role=\"region\" aria-label=\"Broken rows\"><table><thead><tr>\
         <th scope=\"col\" class=\"n\">Line</th><th scope=\"col\">Reason</th><th scope=\"col\">Beginning of the row</th>\
         </tr></thead><tbody>\n",
    );
    for row in &summary.broken {
        let _ = writeln!(
            page,
            "<tr><td class=\"n\">{}</td><td>{}</td><td><code>{}</code></td></tr>",
            whole(row.line),
            escape(&row.reason),
            escape(&row.excerpt)
        );
    }
    page.push_str("</tbody></table></div>\n");
}

fn footer(page: &mut String, summary: &Summary) {
    page.push_str(
        "<footer><p>Quantiles are within 1 % of the value, those far smaller than the greatest number within a fiftieth \
         of the range, and times within a hundredth of the span. A count with ≈ is an estimate: distinct values with a \
         standard error of 1.6 %, frequent values as upper bounds. Standard deviations are those of a sample. Empty \
         fields, <code>null</code>, <code>NaN</code>, <code>N/A</code> and <code>\\N</code> count as missing.</p>",
    );
    if summary.ignored_fields > 0 {
        let _ = write!(
            page,
            "<p>{} fields were left out, because the rows have more than {} different names.</p>",
            whole(summary.ignored_fields),
            super::limits::COLUMNS_MAX
        );
    }
    page.push_str("</footer>\n");
}
