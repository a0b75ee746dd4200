//! A column: a line of the overview, and a section of its own.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use super::super::histogram::Histogram;
use super::super::instant::{self, Precision};
use super::super::summary::{ColumnSummary, NumbersSummary, TextsSummary};
use super::chart;
use super::figures::{escape, number, percent, percentage, whole};

/// Milliseconds of a day.
const DAY_MS: f64 = 86_400_000.0;
/// What stands where there is nothing to say.
const NONE: &str = "<span aria-label=\"none\">–</span>";

/// A line of the overview.
pub(super) fn row(page: &mut String, at: usize, column: &ColumnSummary, rows: u64) {
    let (min, max) = ends(column);
    let mean = column
        .numbers
        .as_ref()
        .and_then(|numbers| numbers.mean)
        .map_or_else(|| String::from(NONE), number);
    let histogram = match (&column.numbers, &column.times) {
        (Some(numbers), _) => Some(&numbers.histogram),
        (None, times) => times.as_ref().map(|times| &times.histogram),
    };
    let spark = histogram.map_or_else(String::new, chart::spark);
    let _ = writeln!(
        page,
        "<tr><th scope=\"row\"><a href=\"#c{at}\">{}</a></th><td><span class=\"type\">{}</span></td><td>{}</td>\
         <td class=\"n\">{}</td><td class=\"n cut\">{min}</td><td class=\"n\">{mean}</td><td class=\"n cut\">{max}</td>\
         <td>{spark}</td></tr>",
        escape(&column.name),
        column.kind.as_str(),
        nulls(column, rows),
        distinct(column),
    );
}

fn nulls(column: &ColumnSummary, rows: u64) -> String {
    format!(
        "<span class=\"nulls\">{}<span class=\"bar miss\"><i style=\"width:{:.1}%\"></i></span></span>",
        percentage(column.nulls, rows),
        percent(column.nulls, rows)
    )
}

fn distinct(column: &ColumnSummary) -> String {
    let about = if column.distinct.approximate { "≈ " } else { "" };
    format!("{about}{}", whole(column.distinct.count))
}

/// The least and the greatest value.
fn ends(column: &ColumnSummary) -> (String, String) {
    if let Some(numbers) = &column.numbers {
        (number(numbers.min), number(numbers.max))
    } else if let Some(times) = &column.times {
        (escape(&times.min), escape(&times.max))
    } else if let Some(texts) = &column.texts {
        (escape(&texts.min), escape(&texts.max))
    } else {
        (String::from(NONE), String::from(NONE))
    }
}

/// The section of a column.
pub(super) fn section(page: &mut String, at: usize, column: &ColumnSummary, rows: u64) {
    let _ = write!(
        page,
        "<section class=\"column\" id=\"c{at}\" aria-labelledby=\"h{at}\"><header><h3 id=\"h{at}\">{}</h3>\
         <span class=\"type\">{}</span><p>{} values · {} missing ({}) · {} distinct</p></header><div class=\"split\">",
        escape(&column.name),
        column.kind.as_str(),
        whole(column.count),
        whole(column.nulls),
        percentage(column.nulls, rows),
        distinct(column)
    );
    page.push_str("<div>");
    if let Some(numbers) = &column.numbers {
        number_stats(page, numbers);
    }
    if let Some(times) = &column.times {
        page.push_str("<h4>Span</h4><dl class=\"stats\">");
        stat(page, " class=\"wide\"", "First", &escape(&times.min));
        stat(page, " class=\"wide\"", "Last", &escape(&times.max));
        page.push_str("</dl><h4 style=\"margin-top:16px\">Quantiles</h4><dl class=\"stats\">");
        let quantiles = &times.quantiles;
        for (name, value) in [
            ("5 %", &quantiles.p5),
            ("25 %", &quantiles.p25),
            ("Median", &quantiles.p50),
            ("75 %", &quantiles.p75),
            ("95 %", &quantiles.p95),
        ] {
            stat(page, " class=\"wide\"", name, &escape(value));
        }
        page.push_str("</dl>");
    }
    if column.numbers.is_none()
        && let Some(texts) = &column.texts
    {
        text_stats(page, texts);
    }
    if !column.kinds.is_empty() {
        page.push_str("<h4 style=\"margin-top:16px\">Types found</h4><dl class=\"stats\">");
        for kind in &column.kinds {
            stat(page, "", kind.kind.as_str(), &whole(kind.count));
        }
        page.push_str("</dl>");
    }
    if column.count == 0 {
        page.push_str("<p class=\"note\">There is no value in this column.</p>");
    }
    page.push_str("</div>");
    if let Some(numbers) = &column.numbers {
        page.push_str(&chart::plot(&column.name, &numbers.histogram, &number));
    } else if let Some(times) = &column.times {
        page.push_str(&chart::plot(&column.name, &times.histogram, &|at| {
            moment(at, &times.histogram)
        }));
    }
    top(page, column);
    page.push_str("</div></section>\n");
}

/// A moment on the axis of a histogram: a day, where bins are no finer.
fn moment(at: f64, histogram: &Histogram) -> String {
    let is_coarse = histogram.bins.first().is_some_and(|bin| bin.to - bin.from >= DAY_MS);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "milliseconds near a moment that was read"
    )]
    let at = at as i64;
    instant::text(at, if is_coarse { Precision::Day } else { Precision::Second })
}

fn stat(page: &mut String, class: &str, name: &str, value: &str) {
    let _ = write!(page, "<div{class}><dt>{name}</dt><dd>{value}</dd></div>");
}

fn number_stats(page: &mut String, numbers: &NumbersSummary) {
    let optional = |value: Option<f64>| value.map_or_else(|| String::from(NONE), number);
    page.push_str("<h4>Numbers</h4><dl class=\"stats\">");
    stat(page, "", "Min", &number(numbers.min));
    stat(page, "", "Mean", &optional(numbers.mean));
    stat(page, "", "Max", &number(numbers.max));
    stat(page, "", "Std. deviation", &optional(numbers.deviation));
    page.push_str("</dl><h4 style=\"margin-top:16px\">Quantiles</h4><dl class=\"stats\">");
    let quantiles = &numbers.quantiles;
    for (name, value) in [
        ("1 %", quantiles.p1),
        ("5 %", quantiles.p5),
        ("25 %", quantiles.p25),
        ("Median", quantiles.p50),
        ("75 %", quantiles.p75),
        ("95 %", quantiles.p95),
        ("99 %", quantiles.p99),
    ] {
        stat(page, "", name, &number(value));
    }
    page.push_str("</dl>");
}

fn text_stats(page: &mut String, texts: &TextsSummary) {
    page.push_str("<h4>Length in characters</h4><dl class=\"stats\">");
    stat(page, "", "Shortest", &whole(texts.length_min));
    stat(page, "", "Mean", &number(libm::round(texts.length_mean * 10.0) / 10.0));
    stat(page, "", "Longest", &whole(texts.length_max));
    page.push_str("</dl><h4 style=\"margin-top:16px\">In alphabetical order</h4><dl class=\"stats\">");
    stat(page, " class=\"wide\"", "First", &escape(&texts.min));
    stat(page, " class=\"wide\"", "Last", &escape(&texts.max));
    page.push_str("</dl>");
}

fn top(page: &mut String, column: &ColumnSummary) {
    // A list of values that each come once says nothing but which came first.
    let repeats = column
        .top
        .first()
        .is_some_and(|top| top.count > 1 || column.distinct.count <= 5);
    if !repeats {
        if column.count > 0 {
            let what = if column.top.is_empty() {
                "No value is frequent."
            } else {
                "Every value comes once."
            };
            let _ = write!(
                page,
                "<div><h4>Most frequent</h4><p class=\"note\" style=\"margin:0\">{what}</p></div>"
            );
        }
        return;
    }
    let highest = column.top.first().map_or(1, |top| top.count);
    page.push_str("<div><h4>Most frequent</h4><ol class=\"top\">");
    for top in &column.top {
        let about = if top.error > 0 { "≈ " } else { "" };
        let value = escape(&top.value);
        let _ = write!(
            page,
            "<li><span><b title=\"{value}\">{value}</b><em>{about}{} · {}</em></span>\
             <span class=\"bar\" aria-hidden=\"true\"><i style=\"width:{:.1}%\"></i></span></li>",
            whole(top.count),
            percentage(top.count, column.count),
            percent(top.count, highest)
        );
    }
    page.push_str("</ol></div>");
}
