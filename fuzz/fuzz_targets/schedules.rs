//! Cron expressions in any zone, and the moments that they name.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_engine::schedules::{Timetable, parse_expression, parse_zone};
use tidegate_protocol::time::UnixMs;

/// Zones that any data is to reach, with their odd days.
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"];

fuzz_target!(|input: (u8, u64, &str)| {
    let (zone, at, text) = input;
    let _ = parse_zone(text);
    let Ok(cron) = parse_expression(text) else { return };
    let zone = ZONES[usize::from(zone) % ZONES.len()];
    let Ok(timetable) = Timetable::new(cron, parse_zone(zone).expect("a zone")) else {
        return;
    };
    // Some years around now.
    let at = UnixMs(1_500_000_000_000 + at % 1_000_000_000_000);
    if let Some(next) = timetable.next_after(at) {
        assert!(next > at, "never early");
        assert_eq!(next.0 % 1000, 0, "a whole second");
    }
});
