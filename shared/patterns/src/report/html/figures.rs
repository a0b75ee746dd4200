//! Numbers and texts as a person reads them.

use alloc::format;
use alloc::string::{String, ToString};

/// A text without any meaning to HTML, in content and in quoted attributes.
pub(in super::super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 8);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Not allowed in a document, and of no shape; and marks that would turn the direction of what follows.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push('\u{fffd}'),
            other if other.is_control() && other != '\n' && other != '\t' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A whole number, in groups of three from five digits on, so that years stay years.
pub(in super::super) fn whole(number: u64) -> String {
    group(&number.to_string())
}

/// A number of six significant digits.
pub(in super::super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 {
        return String::from("0");
    }
    if !(1e-4..1e15).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let digits = match magnitude {
        _ if magnitude == libm::trunc(magnitude) => 0,
        _ if magnitude >= 100_000.0 => 1,
        _ if magnitude >= 1000.0 => 2,
        _ if magnitude >= 1.0 => 4,
        _ => 6,
    };
    let text = format!("{magnitude:.digits$}");
    let (units, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let (sign, point) = (
        if value < 0.0 { "−" } else { "" },
        if fraction.is_empty() { "" } else { "." },
    );
    format!("{sign}{}{point}{fraction}", group(units))
}

/// Bytes, in the decimal units of storage.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
pub(in super::super) fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// A share of the whole in percent, from 0 to 100.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        (part as f64 * 100.0 / whole as f64).clamp(0.0, 100.0)
    }
}

/// A percentage that is never shown as none, nor as all, where it is not.
pub(in super::super) fn percentage(part: u64, whole: u64) -> String {
    match percent(part, whole) {
        _ if part == 0 => String::from("0 %"),
        _ if part >= whole => String::from("100 %"),
        share if share < 0.1 => String::from("&lt; 0.1 %"),
        share if share > 99.9 => String::from("&gt; 99.9 %"),
        share => format!("{share:.1} %"),
    }
}

fn group(digits: &str) -> String {
    if digits.len() < 5 {
        return digits.to_string();
    }
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
