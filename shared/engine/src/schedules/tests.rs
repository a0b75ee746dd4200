//! What a timetable gives, as tables: what OCPS says, what clocks do that are put forward and back, what never comes.

extern crate std;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::time::UnixMs;

use super::*;

fn moment(text: &str) -> UnixMs {
    UnixMs::parse(text).unwrap_or_else(|| panic!("{text} is no moment"))
}

/// The next moments after `from`, in UTC.
fn next(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let timetable = Timetable::new(parse_expression(expression).unwrap(), parse_zone(zone).unwrap()).unwrap();
    let mut at = moment(from);
    let mut found = Vec::new();
    while found.len() < count
        && let Some(next) = timetable.next_after(at)
    {
        found.push(next.to_string().replace(".000Z", "Z"));
        at = next;
    }
    found
}

#[track_caller]
fn check(expression: &str, zone: &str, from: &str, expected: &[&str]) {
    assert_eq!(
        next(expression, zone, from, expected.len()),
        expected,
        "{expression} in {zone} after {from}"
    );
}

#[test]
fn ocps_1_0_fields_lists_ranges_steps_names_and_nicknames() {
    let from = "2025-01-01T00:00:00Z";
    for (expression, expected) in [
        ("15 10 1 10 *", ["2025-10-01T10:15:00Z", "2026-10-01T10:15:00Z"]),
        (
            "*/15 0-4,8-12 * JAN-MAR,DEC MON-FRI",
            ["2025-01-01T00:15:00Z", "2025-01-01T00:30:00Z"],
        ),
        // The days of the month or those of the week.
        ("0 12 1 * MON", ["2025-01-01T12:00:00Z", "2025-01-06T12:00:00Z"]),
        ("0 0 * * 7", ["2025-01-05T00:00:00Z", "2025-01-12T00:00:00Z"]),
        ("0 0 * * sun", ["2025-01-05T00:00:00Z", "2025-01-12T00:00:00Z"]),
        ("@yearly", ["2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
        ("@annually", ["2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
        ("@monthly", ["2025-02-01T00:00:00Z", "2025-03-01T00:00:00Z"]),
        ("@weekly", ["2025-01-05T00:00:00Z", "2025-01-12T00:00:00Z"]),
        ("@daily", ["2025-01-02T00:00:00Z", "2025-01-03T00:00:00Z"]),
        ("@hourly", ["2025-01-01T01:00:00Z", "2025-01-01T02:00:00Z"]),
    ] {
        check(expression, "UTC", from, &expected);
    }
}

#[test]
fn ocps_1_1_and_1_2_seconds_years_last_nth_and_nearest_weekday() {
    let from = "2025-01-01T00:00:00Z";
    for (expression, expected) in [
        ("30 15 10 1 10 *", ["2025-10-01T10:15:30Z", "2026-10-01T10:15:30Z"]),
        ("* * * * * *", ["2025-01-01T00:00:01Z", "2025-01-01T00:00:02Z"]),
        (
            "0 0 12 1 1 * 2025-2027/2",
            ["2025-01-01T12:00:00Z", "2027-01-01T12:00:00Z"],
        ),
        ("0 0 L * *", ["2025-01-31T00:00:00Z", "2025-02-28T00:00:00Z"]),
        ("0 0 * * 5L", ["2025-01-31T00:00:00Z", "2025-02-28T00:00:00Z"]),
        ("0 0 * * FRI#L", ["2025-01-31T00:00:00Z", "2025-02-28T00:00:00Z"]),
        ("0 0 * * 2#2", ["2025-01-14T00:00:00Z", "2025-02-11T00:00:00Z"]),
        // The 5th of July 2025 is a Saturday, the 5th of July 2026 a Sunday.
        ("0 0 5W 7 *", ["2025-07-04T00:00:00Z", "2026-07-06T00:00:00Z"]),
        ("0 0 LW * *", ["2025-01-31T00:00:00Z", "2025-02-28T00:00:00Z"]),
        ("0 0 31W * *", ["2025-01-31T00:00:00Z", "2025-03-31T00:00:00Z"]),
    ] {
        check(expression, "UTC", from, &expected);
    }
}

#[test]
fn ocps_1_3_and_1_4_the_question_mark_the_plus_and_steps() {
    let from = "2025-01-01T00:00:00Z";
    for (expression, expected) in [
        ("0 0 1 * ?", ["2025-02-01T00:00:00Z", "2025-03-01T00:00:00Z"]),
        // With a plus, the day of the month and the day of the week.
        ("0 12 1 * +MON", ["2025-09-01T12:00:00Z", "2025-12-01T12:00:00Z"]),
        ("0 12 13 * +FRI", ["2025-06-13T12:00:00Z", "2026-02-13T12:00:00Z"]),
        ("10-50/20 * * * *", ["2025-01-01T00:10:00Z", "2025-01-01T00:30:00Z"]),
    ] {
        check(expression, "UTC", from, &expected);
    }
}

#[test]
fn what_is_no_expression_is_refused() {
    for text in [
        "",
        " ",
        "*",
        "* * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "0/10 * * * *",
        "30/10 * * * *",
        "/10 * * * *",
        "* 5/15 * * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "0 0 +1 * *",
        "@reboot",
        " @Reboot ",
        "@never",
        "a b c d e",
        "* * * * * * * *",
        "0 3 * * *;",
        "0 3 * * é",
        "1,,2 * * * *",
        "1, * * * *",
        "0 0 0 1 1 * 99999",
        "-1 * * * *",
        "0 0 L-9 * *",
        "\u{0}",
    ] {
        assert!(
            matches!(parse_expression(text), Err(Unusable::Expression(_))),
            "{text:?}"
        );
    }
    assert!(parse_expression(&"0,".repeat(200)).is_err());
}

#[test]
fn what_never_comes_is_refused() {
    let utc = parse_zone("UTC").unwrap();
    for text in [
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "0 0 1 * +SUN#5",
        "0 0 0 29 2 * 2099",
        "0 0 0 1 1 * 2024",
        "* * 31 2 *",
    ] {
        let begun = std::time::Instant::now();
        let refused = Timetable::new(parse_expression(text).unwrap(), utc.clone());
        assert_eq!(refused.err(), Some(Unusable::Never), "{text}");
        assert!(begun.elapsed().as_secs() < 5, "{text} took {:?}", begun.elapsed());
    }
}

#[test]
fn a_fixed_time_that_a_clock_leaves_out_comes_right_after_the_gap() {
    // Berlin goes from 02:00 to 03:00 on the 29th of March 2026, New York on the 8th; Lord Howe by half an hour only.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T00:00:00Z",
        &["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    );
    check(
        "0 2 * * *",
        "Europe/Berlin",
        "2026-03-28T12:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"],
    );
    check(
        "0 3 * * *",
        "Europe/Berlin",
        "2026-03-28T12:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T01:00:00Z"],
    );
    check(
        "30 2 * * *",
        "America/New_York",
        "2026-03-07T12:00:00Z",
        &["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"],
    );
    check(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T00:00:00Z",
        &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
    );
    check(
        "45 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T00:00:00Z",
        &["2026-10-03T15:45:00Z", "2026-10-04T15:45:00Z"],
    );
    // Casablanca puts its clock back for Ramadan and forward after it, from 02:00 to 03:00 on the 22nd of March 2026.
    check(
        "30 2 * * *",
        "Africa/Casablanca",
        "2026-03-21T12:00:00Z",
        &["2026-03-22T02:00:00Z", "2026-03-23T01:30:00Z"],
    );
    // Cairo skips midnight itself, on the 24th of April 2026.
    check(
        "0 0 * * *",
        "Africa/Cairo",
        "2026-04-23T00:00:00Z",
        &["2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"],
    );
}

#[test]
fn a_fixed_time_that_comes_twice_fires_at_the_first() {
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    );
    // Between the two as well, and at the second one.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-25T00:30:00Z",
        &["2026-10-26T01:30:00Z"],
    );
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-25T01:15:00Z",
        &["2026-10-26T01:30:00Z"],
    );
    check(
        "30 1 * * *",
        "America/New_York",
        "2026-10-31T12:00:00Z",
        &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
    );
    check(
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T00:00:00Z",
        &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
    );
    check(
        "30 2 * * *",
        "Africa/Casablanca",
        "2026-02-14T12:00:00Z",
        &["2026-02-15T01:30:00Z", "2026-02-16T02:30:00Z"],
    );
}

#[test]
fn an_interval_passes_over_a_gap_and_counts_what_comes_twice_twice() {
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-03-29T00:15:00Z",
        &["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"],
    );
    check(
        "*/30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T01:30:00Z",
        &["2026-03-30T00:00:00Z", "2026-03-30T00:30:00Z"],
    );
    check(
        "0 * * * *",
        "Europe/Berlin",
        "2026-10-24T23:00:00Z",
        &["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"],
    );
    check(
        "*/20 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T14:10:00Z",
        &[
            "2026-04-04T14:20:00Z",
            "2026-04-04T14:40:00Z",
            "2026-04-04T15:10:00Z",
            "2026-04-05T14:30:00Z",
        ],
    );
}

#[test]
fn zones_are_found_by_name_and_offsets_need_no_hour() {
    check(
        "0 9 * * *",
        "Asia/Kathmandu",
        "2026-01-01T00:00:00Z",
        &["2026-01-01T03:15:00Z"],
    );
    check(
        "0 9 * * *",
        "asia/kathmandu",
        "2026-01-01T00:00:00Z",
        &["2026-01-01T03:15:00Z"],
    );
    check(
        "0 9 * * *",
        "Etc/GMT+12",
        "2026-01-01T00:00:00Z",
        &["2026-01-01T21:00:00Z"],
    );
    for name in [
        "",
        "Local",
        "Europe/Atlantis",
        "CEST",
        "+02:00",
        "Europe/Berlin ",
        "../etc/passwd",
        "é",
    ] {
        assert_eq!(parse_zone(name).err(), Some(Unusable::Zone), "{name}");
    }
}

#[test]
fn the_far_future_is_reached() {
    check("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00Z"]);
    check(
        "0 0 29 2 +MON",
        "UTC",
        "2072-03-01T00:00:00Z",
        &["2112-02-29T00:00:00Z"],
    );
    check(
        "0 3 * 7 *",
        "Europe/Berlin",
        "2999-08-01T00:00:00Z",
        &["3000-07-01T01:00:00Z"],
    );
    check(
        "0 0 0 1 1 * 4999",
        "UTC",
        "2026-01-01T00:00:00Z",
        &["4999-01-01T00:00:00Z"],
    );
    let timetable = Timetable::parse("0 0 0 1 1 * 2030", "UTC").unwrap();
    assert_eq!(timetable.next_after(moment("2030-01-01T00:00:00Z")), None);
    assert_eq!(
        Timetable::parse("* * * * *", "UTC")
            .unwrap()
            .next_after(UnixMs(u64::MAX)),
        None
    );
}

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_text_makes_a_panic(text in "[ 0-9*,/#?+@LWA-Za-z-]{0,40}|([0-9*?L]{1,2}(-[0-9]{1,2})?(/[0-9]{1,2})?[W#L]{0,1} ){5,7}", at in 0..5_000_000_000_000_u64) {
        if let Ok(cron) = parse_expression(&text) {
            let timetable = Timetable { cron, zone: parse_zone("Europe/Berlin").unwrap() };
            let _ = timetable.next_after(UnixMs(at));
        }
    }

    /// A second opinion on the order: nothing lies between a moment and the next one that is found from earlier on.
    #[test]
    fn the_next_moment_is_the_same_from_anywhere_before_it(
        expression in prop::sample::select(&["*/7 * * * *", "30 2 * * *", "15 1 * * 0", "0,30 1-3 * * *", "*/50 59 23 L * *", "0 0 * * +FRI#2"][..]),
        zone in prop::sample::select(ZONES),
        at in 1_735_689_600_000..1_900_000_000_000_u64,
        part in 0..1000_u64,
    ) {
        let timetable = Timetable::parse(expression, zone).unwrap();
        let next = timetable.next_after(UnixMs(at)).unwrap();
        prop_assert!(next.0 > at);
        prop_assert_eq!(next.0 % 1000, 0);
        let between = at + (next.0 - 1 - at) * part / 1000;
        prop_assert_eq!(timetable.next_after(UnixMs(between)), Some(next));
    }
}

/// A second opinion on every zone: what the clock shows, and what a clock's time means.
#[test]
fn every_zone_is_read_as_jiff_reads_it() {
    let mut count = 0;
    for name in Zone::names() {
        let zone = Zone::find(name).unwrap_or_else(|| panic!("{name} cannot be read"));
        let other = jiff::tz::TimeZone::get(name).unwrap();
        count += 1;
        // Steps of five days and some, from 2025 on: near enough to meet both sides of every change.
        for n in 0..(30 * 72) {
            let at = 1_735_689_600 + n * 443_000;
            let civil = other.to_datetime(jiff::Timestamp::from_second(at).unwrap());
            compare(name, &zone, &other, at, civil);
        }
        // And an hour at a time through every day on which a clock changes.
        let start = jiff::Timestamp::from_second(1_735_689_600).unwrap();
        for change in other.following(start).take(8) {
            for quarter in -12..=12 {
                let at = change.timestamp().as_second() + quarter * 900;
                let civil = other.to_datetime(jiff::Timestamp::from_second(at).unwrap());
                compare(name, &zone, &other, at, civil);
                for ahead in [-3600, -1800, 1800, 3600] {
                    let civil = civil.checked_add(jiff::SignedDuration::from_secs(ahead)).unwrap();
                    meant(name, &zone, &other, civil);
                }
            }
        }
    }
    assert!(count > 500, "{count} zones");
}

fn compare(name: &str, zone: &Zone, other: &jiff::tz::TimeZone, at: i64, civil: jiff::civil::DateTime) {
    let shown = zone.shown(at).unwrap();
    let ours = (shown.year, shown.month, shown.day, shown.second_of_day, shown.weekday);
    let weekday = civil.weekday().to_sunday_zero_offset();
    let theirs = (
        i32::from(civil.year()),
        unsigned(civil.month()),
        unsigned(civil.day()),
        second_of_day(civil),
        unsigned(weekday),
    );
    assert_eq!(ours, theirs, "{name} at {at}");
    meant(name, zone, other, civil);
}

/// A field of a date, which is never negative.
fn unsigned(field: i8) -> u32 {
    u32::try_from(field).unwrap()
}

fn second_of_day(civil: jiff::civil::DateTime) -> u32 {
    unsigned(civil.hour()) * 3600 + unsigned(civil.minute()) * 60 + unsigned(civil.second())
}

fn meant(name: &str, zone: &Zone, other: &jiff::tz::TimeZone, civil: jiff::civil::DateTime) {
    use jiff::tz::AmbiguousOffset::{Fold, Gap, Unambiguous};
    let at = |offset: jiff::tz::Offset| offset.to_timestamp(civil).unwrap().as_second();
    let theirs = match other.to_ambiguous_timestamp(civil).offset() {
        Unambiguous { offset } => zone::Meant::Once(at(offset)),
        Fold { before, after } => zone::Meant::Twice(at(before), at(after)),
        Gap { .. } => zone::Meant::Never,
    };
    let ours = zone.meant(
        i32::from(civil.year()),
        unsigned(civil.month()),
        unsigned(civil.day()),
        second_of_day(civil),
    );
    assert_eq!(ours, Some(theirs), "{name}: {civil}");
}
