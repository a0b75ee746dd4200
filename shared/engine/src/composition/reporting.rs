//! How often an action's attempts report, and how much of what they write is kept.

use alloc::format;
use core::ops::RangeInclusive;

use tidegate_protocol::calls::reporting::{Durability, Reporting};
use tidegate_protocol::limits::{OUTPUT_KEEP_BYTES_MAX, OUTPUT_KEEP_BYTES_MIN};

use super::object::{Object, describe};

/// What `every` may be. Each event costs a row. Milliseconds.
const EVERY_MS_RANGE: RangeInclusive<u64> = 100..=3_600_000;

/// How the action's attempts report. What is wrong has been noted, and stands at its default.
pub(super) fn read_reporting(fields: &mut Object<'_, '_>) -> Reporting {
    let mut reporting = Reporting::default();
    if let Some(value) = fields.take("progress") {
        let pointer = fields.at("progress");
        if let Some(mut progress) = Object::read(value, &pointer, fields.faults) {
            let every_ms = progress.duration("every", EVERY_MS_RANGE);
            reporting.every_ms = every_ms.unwrap_or(reporting.every_ms);
            if progress.one_of("durability", &["last", "all"]) == Some("all") {
                reporting.durability = Durability::All;
            }
            progress.finish();
        }
    }
    if let Some(value) = fields.take("output") {
        let pointer = fields.at("output");
        if let Some(mut output) = Object::read(value, &pointer, fields.faults) {
            reporting.keep_bytes = read_size(&mut output).unwrap_or(reporting.keep_bytes);
            output.finish();
        }
    }
    reporting
}

fn read_size(output: &mut Object<'_, '_>) -> Option<u64> {
    let value = output.take("keep")?;
    let bytes = value.as_str().and_then(parse_size);
    match bytes {
        Some(bytes) if (OUTPUT_KEEP_BYTES_MIN..=OUTPUT_KEEP_BYTES_MAX).contains(&bytes) => return Some(bytes),
        Some(_) => {
            let (from, to) = (OUTPUT_KEEP_BYTES_MIN / KIB, OUTPUT_KEEP_BYTES_MAX / KIB / KIB);
            output.fault("keep", format!("a size from {from}KiB to {to}MiB"), &describe(value));
        }
        None => output.fault(
            "keep",
            "a size with its unit (KiB or MiB), such as \"1MiB\"",
            &describe(value),
        ),
    }
    None
}

const KIB: u64 = 1024;
const _: () = assert!(OUTPUT_KEEP_BYTES_MIN.is_multiple_of(KIB) && OUTPUT_KEEP_BYTES_MAX.is_multiple_of(KIB * KIB));

/// A whole number with its unit. `None` for anything else.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit {
        "KiB" => KIB,
        "MiB" => KIB * KIB,
        _ => return None,
    };
    // What is too large for a number is no size of anything here; it is told the range.
    Some(number.parse::<u64>().ok()?.saturating_mul(unit))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use serde_json::{Value, json};

    use super::*;

    fn read(action: &Value) -> (Reporting, Vec<alloc::string::String>) {
        let mut faults = Vec::new();
        let mut fields = Object::read(action, "", &mut faults).unwrap();
        let reporting = read_reporting(&mut fields);
        (reporting, faults.into_iter().map(|fault| fault.pointer).collect())
    }

    #[test]
    fn an_action_says_how_often_and_how_much_and_nothing_is_the_default() {
        assert_eq!(read(&json!({})), (Reporting::default(), Vec::new()));
        let action = json!({"progress": {"every": "250ms", "durability": "all"}, "output": {"keep": "2MiB"}});
        let expected = Reporting {
            every_ms: 250,
            durability: Durability::All,
            keep_bytes: 2 << 20,
        };
        assert_eq!(read(&action), (expected, Vec::new()));
    }

    #[test]
    fn every_fault_is_noted_where_it_is() {
        for (action, pointers) in [
            (json!({"progress": {"every": "99ms"}}), &["/progress/every"][..]),
            (
                json!({"progress": {"durability": "some", "x": 1}}),
                &["/progress/durability", "/progress/x"],
            ),
            (json!({"output": {"keep": "31KiB"}}), &["/output/keep"]),
            (json!({"output": {"keep": "5MiB"}}), &["/output/keep"]),
            (
                json!({"output": {"keep": "18446744073709551615MiB"}}),
                &["/output/keep"],
            ),
            (json!({"output": {"keep": 4096}}), &["/output/keep"]),
            (json!({"output": {"keep": "1MB"}}), &["/output/keep"]),
            (json!({"output": [], "progress": "1s"}), &["/progress", "/output"]),
        ] {
            assert_eq!(read(&action).1, pointers, "{action}");
        }
    }
}
