//! The parts by themselves: values, moments, the sketch, the grid, the counts.

use alloc::format;
use alloc::vec::Vec;

use proptest::prelude::*;

use crate::report::column::Numbers;
use crate::report::distinct::Distinct;
use crate::report::grid::Grid;
use crate::report::hash::hash;
use crate::report::histogram;
use crate::report::instant::{self, Precision};
use crate::report::limits::{GRID_BINS_MAX, Tier};
use crate::report::moments::Moments;
use crate::report::sketch::{RELATIVE_ERROR, Sketch};
use crate::report::top::{Top, beginning};
use crate::report::value::{Value, classify, classify_json, classify_text};
use tidegate_protocol::SortedMap;

#[test]
fn a_value_is_what_its_writing_says() {
    let day = 86_400_000;
    let cases: &[(&str, Option<Value>)] = &[
        ("", None),
        ("null", None),
        ("\\N", None),
        ("NaN", None),
        ("NA", Some(Value::Text)),
        ("0", Some(Value::Integer(0.0))),
        ("-12", Some(Value::Integer(-12.0))),
        ("999999999999999", Some(Value::Integer(999_999_999_999_999.0))),
        ("9999999999999999", Some(Value::Code)),
        ("00501", Some(Value::Code)),
        ("007.5", Some(Value::Text)),
        ("-01", Some(Value::Text)),
        ("+49", Some(Value::Text)),
        ("1.5", Some(Value::Number(1.5))),
        (".5", Some(Value::Number(0.5))),
        ("-0.1", Some(Value::Number(-0.1))),
        ("1e3", Some(Value::Number(1000.0))),
        ("1.7976931348623157e308", Some(Value::Number(f64::MAX))),
        ("1e999", Some(Value::Text)),
        ("1e", Some(Value::Text)),
        ("1.2.3", Some(Value::Text)),
        ("-", Some(Value::Text)),
        (".", Some(Value::Text)),
        ("12 apples", Some(Value::Text)),
        ("TRUE", Some(Value::Boolean)),
        ("false", Some(Value::Boolean)),
        ("truth", Some(Value::Text)),
        ("1970-01-02", Some(Value::Date(day))),
        ("1970/01/02", Some(Value::Date(day))),
        ("1970-01/02", Some(Value::Text)),
        ("2023-02-29", Some(Value::Text)),
        ("2024-02-29", Some(Value::Date(19_782 * day))),
        ("1970-01-01T00:00:01Z", Some(Value::DateTime(1000))),
        ("1970-01-01 01:00:00.25+01:00", Some(Value::DateTime(250))),
        ("1970-01-01T25:00", Some(Value::Text)),
        ("1969-12-31T23:59:59.999", Some(Value::DateTime(-1))),
    ];
    for (text, expected) in cases {
        assert_eq!(classify(text.as_bytes()), *expected, "{text}");
    }
    assert_eq!(classify_text(b"12"), Value::Text);
    assert_eq!(
        classify_json(b"12345678901234567890"),
        Some(Value::Number(12_345_678_901_234_567_890.0))
    );
    assert_eq!(classify_json(b"[1]"), Some(Value::Json));
    assert_eq!(classify_json(b"null"), None);
}

#[test]
fn a_value_is_cut_between_characters() {
    for (text, max, expected) in [
        ("abc", 3, "abc"),
        ("abcd", 3, "abc"),
        ("aéb", 2, "a"),
        ("aéb", 3, "aé"),
        ("€€", 4, "€"),
    ] {
        assert_eq!(beginning(text.as_bytes(), max), expected.as_bytes(), "{text} {max}");
    }
}

#[test]
fn distinct_values_are_exact_up_to_the_bound_and_close_beyond() {
    let mut distinct = Distinct::default();
    for round in 0..2 {
        for value in 0..Tier::Narrow.distinct_exact_max() {
            distinct.add(hash(format!("value {value}").as_bytes()), Tier::Narrow);
        }
        assert_eq!(
            (distinct.count(), distinct.is_approximate()),
            (Tier::Narrow.distinct_exact_max() as u64, false),
            "{round}"
        );
    }
    for size in [2000, 10_000, 50_000, 200_000_u32] {
        let mut distinct = Distinct::default();
        for value in 0..size {
            distinct.add(hash(&value.to_le_bytes()), Tier::Narrow);
        }
        // Four standard errors.
        let error = (distinct.count() as f64 / f64::from(size) - 1.0).abs();
        assert!(
            error < 0.065 && distinct.is_approximate(),
            "{size}: {}",
            distinct.count()
        );
    }
}

#[test]
fn a_frequent_value_is_found_among_many_rare_ones() {
    let mut top = Top::default();
    let mut add = |text: &str| top.add(hash(text.as_bytes()), text.as_bytes(), Tier::Narrow);
    for row in 0..50_000 {
        add(&format!("rare {row}"));
        if row % 10 == 0 {
            add("frequent");
        }
    }
    let ranked = top.ranked();
    let (candidate, count) = ranked[0];
    assert_eq!(candidate.value, b"frequent");
    assert!(
        top.is_approximate() && count >= 5000 && count - candidate.error <= 5000,
        "{count} {}",
        candidate.error
    );
}

proptest! {
    #[test]
    fn every_number_is_read_as_the_standard_library_reads_it(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?") {
        let expected: f64 = text.parse().unwrap();
        match classify(text.as_bytes()).unwrap() {
            Value::Integer(number) | Value::Number(number) => prop_assert_eq!(number.to_bits(), expected.to_bits()),
            Value::Code => prop_assert!(text.trim_start_matches('-').len() > 15),
            _ => prop_assert!(!expected.is_finite()),
        }
    }

    #[test]
    fn a_moment_is_read_as_it_is_written(at in -62_167_219_200_000..253_402_300_800_000_i64) {
        prop_assert_eq!(classify(instant::text(at, Precision::Millisecond).as_bytes()), Some(Value::DateTime(at)));
        let day = at.div_euclid(86_400_000) * 86_400_000;
        prop_assert_eq!(classify(instant::text(at, Precision::Day).as_bytes()), Some(Value::Date(day)));
        let second = at.div_euclid(1000) * 1000;
        prop_assert_eq!(classify(instant::text(at, Precision::Second).as_bytes()), Some(Value::DateTime(second)));
    }

    #[test]
    fn counts_of_values_are_exact_while_they_are_few(values in prop::collection::vec(0..Tier::Narrow.candidates_max(), 0..2000)) {
        let mut top = Top::default();
        let mut expected = SortedMap::new();
        for value in &values {
            let text = format!("{value}");
            let was_there = top.add(hash(text.as_bytes()), text.as_bytes(), Tier::Narrow);
            let count = expected.entry(text.into_bytes()).or_insert(0_u64);
            prop_assert_eq!(was_there, *count > 0);
            *count += 1;
        }
        prop_assert!(!top.is_approximate());
        let found: SortedMap<_, _> = top.ranked().into_iter().map(|(found, count)| (found.value.clone(), count)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn counts_of_values_are_bounds_when_they_are_many(values in prop::collection::vec(0..1000_u32, 0..6000)) {
        let mut top = Top::default();
        let mut exact: SortedMap<Vec<u8>, u64> = SortedMap::new();
        for value in &values {
            // Some values far more often than others.
            let text = format!("{}", value * value / 1500);
            top.add(hash(text.as_bytes()), text.as_bytes(), Tier::Narrow);
            *exact.entry(text.into_bytes()).or_default() += 1;
        }
        for (found, count) in top.ranked() {
            let exact = exact[&found.value];
            prop_assert!(count >= exact && count - found.error <= exact);
        }
    }

    #[test]
    fn counts_stay_bounds_when_fewer_values_are_followed(values in prop::collection::vec(0..300_u32, 0..3000), at in 0..3000_usize) {
        let (mut top, mut tier) = (Top::default(), Tier::Narrow);
        let mut exact: SortedMap<Vec<u8>, u64> = SortedMap::new();
        for (row, value) in values.iter().enumerate() {
            if row == at {
                tier = Tier::Wide;
                top.shrink(tier);
            }
            let text = format!("{}", value * value / 900);
            top.add(hash(text.as_bytes()), text.as_bytes(), tier);
            *exact.entry(text.into_bytes()).or_default() += 1;
        }
        top.shrink(Tier::Wide);
        let ranked = top.ranked();
        prop_assert!(ranked.len() <= Tier::Wide.candidates_max());
        for (found, count) in ranked {
            let exact = exact[&found.value];
            prop_assert!(count >= exact && count - found.error <= exact);
        }
    }

    #[test]
    fn a_sketch_made_smaller_is_one_that_was_always_small(values in prop::collection::vec(any_finite(), 0..300), at in 0..300_usize) {
        let (mut shrunk, mut small, mut tier) = (Sketch::default(), Sketch::default(), Tier::Narrow);
        for (row, value) in values.iter().enumerate() {
            if row == at {
                tier = Tier::Wide;
                shrunk.shrink(tier);
            }
            shrunk.add(*value, tier);
            small.add(*value, Tier::Wide);
        }
        shrunk.shrink(Tier::Wide);
        prop_assert_eq!(shrunk, small);
    }

    #[test]
    fn mean_and_deviation_agree_with_the_formula(values in prop::collection::vec(-1e6..1e6_f64, 2..200)) {
        let mut moments = Moments::default();
        values.iter().for_each(|value| moments.add(*value));
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt();
        prop_assert!((moments.mean().unwrap() - mean).abs() < 1e-6);
        prop_assert!((moments.deviation().unwrap() - deviation).abs() < 1e-6 * deviation.max(1.0));
    }

    #[test]
    fn a_quantile_is_within_one_percent(mut values in prop::collection::vec(magnitudes(), 1..300), place in any::<prop::sample::Index>()) {
        let mut sketch = Sketch::default();
        let mut numbers = Numbers::default();
        for value in &values {
            sketch.add(*value, Tier::Narrow);
            numbers.add(*value, Tier::Narrow);
        }
        values.sort_by(f64::total_cmp);
        let rank = place.index(values.len());
        let exact = values[rank];
        let within = |found: f64| (found - exact).abs() <= RELATIVE_ERROR * exact.abs() * 1.000_001;
        prop_assert!(within(sketch.at_rank(rank as u64).unwrap().point()));
        let refined = histogram::at_rank(&numbers, rank as u64);
        prop_assert!(within(refined), "{refined} for {exact}");
    }

    #[test]
    fn the_grid_does_not_hang_on_the_order(values in prop::collection::vec(any_finite(), 1..60)) {
        let mut there = Grid::default();
        values.iter().for_each(|value| there.add(*value));
        let mut back = Grid::default();
        values.iter().rev().for_each(|value| back.add(*value));
        prop_assert_eq!(&there, &back);
        prop_assert!(there.bins().count() <= GRID_BINS_MAX);
        prop_assert_eq!(there.bins().map(|(_, count)| count).sum::<u64>(), values.len() as u64);
    }
}

/// Magnitudes within the span of the sketch, of both signs, and zero.
fn magnitudes() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        (-6.0..9.0_f64).prop_map(|exponent| 10_f64.powf(exponent)),
        (-6.0..9.0_f64).prop_map(|exponent| -(10_f64.powf(exponent))),
        (1..100_i32).prop_map(f64::from),
    ]
}

fn any_finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        magnitudes(),
        any::<f64>().prop_filter("finite", |value| value.is_finite())
    ]
}
