//! The ledger and the budgets: against a model that adds up, and by the calendar.

extern crate std;

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::Value as Json;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::access::Access;
use tidegate_protocol::calls::tenant::AuditQuery;
use tidegate_protocol::calls::usage::{Meter, Source};

use super::*;
use crate::audit;
use crate::database::migrate;
use crate::database::native::Native;
use tidegate_protocol::{SortedMap, SortedSet};

const START: UnixMs = UnixMs(1_800_000_000_000);

fn ledger() -> Native {
    let db = Native::in_memory().unwrap();
    migrate(&db, crate::tenancy::STEPS).unwrap();
    db
}

fn report(source: u64, run: u64, seq: u64, meter: Meter, units: u64) -> Report {
    let mut counts = Counts::default();
    counts.add(meter, units);
    Report {
        source: Source(source),
        run,
        seq,
        counts,
    }
}

fn tell(db: &Native, now: UnixMs, report: Report) -> bool {
    hear(db, now, [report].into_iter()).unwrap()
}

fn all(db: &Native, window: Window, now: UnixMs) -> SortedMap<UnixMs, Vec<u64>> {
    let windows = windows(db, window, UnixMs(0), now.plus(500 * DAY_MS)).unwrap();
    windows.into_iter().map(|(at, counts)| (at, counts.0)).collect()
}

#[derive(Debug, Clone)]
enum Step {
    /// An object counts.
    Count(usize, usize, u64),
    /// It sends its report, which arrives later, or never.
    Send(usize),
    /// One of the reports under way arrives; it may arrive again. Its answer comes back, or does not.
    Arrive(usize, bool),
    /// An object dies and begins anew.
    Crash(usize),
    /// Time passes at the gate.
    Pass(u64),
    /// The gate's clock steps back.
    Back(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..3, 0..Meter::ALL.len(), 1_u64..1_000).prop_map(|(who, meter, units)| Step::Count(who, meter, units)),
        4 => (0_usize..3).prop_map(Step::Send),
        8 => (any::<usize>(), any::<bool>()).prop_map(|(which, answered)| Step::Arrive(which, answered)),
        1 => (0_usize..3).prop_map(Step::Crash),
        2 => (1_u64..3 * HOUR_MS).prop_map(Step::Pass),
        1 => (1_u64..20).prop_map(|days| Step::Pass(days * DAY_MS)),
        1 => (1_u64..2 * HOUR_MS).prop_map(Step::Back),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Whatever is doubled, lost, late and reordered, whoever dies, and however the clock steps: what the ledger holds is what
    /// was told, in the window in which it was heard of first, and never twice.
    #[test]
    fn the_ledger_holds_what_was_told_once(steps in prop::collection::vec(step(), 1..160)) {
        let db = ledger();
        let mut now = START;
        let mut latest = now;
        let mut runs = 0_u64;
        let mut begin = |who: usize| {
            runs += 1;
            (runs, Tally::new(Source(who as u64), runs))
        };
        let mut objects: Vec<(u64, Tally)> = (0..3).map(&mut begin).collect();
        let mut before = [0_u64; 3];
        let mut under_way = Vec::<(usize, Report)>::new();
        let mut counted = SortedSet::new();
        let mut model = SortedMap::<UnixMs, Counts>::new();
        for step in steps {
            match step {
                Step::Count(who, meter, units) => objects[who].1.add(Meter::ALL[meter], units),
                Step::Send(who) => under_way.extend(objects[who].1.report().map(|report| (who, report))),
                Step::Arrive(which, answered) => {
                    // What was sent by an instance before the last ended with it long ago.
                    under_way.retain(|(who, report)| report.run == objects[*who].0 || report.run == before[*who]);
                    if under_way.is_empty() {
                        continue;
                    }
                    let (who, report) = under_way[which % under_way.len()].clone();
                    tell(&db, now, report.clone());
                    // Of one run, a report that is overtaken was confirmed before, or its successor would not be there.
                    if counted.insert((report.source, report.run, report.seq)) {
                        model.entry(Window::Hour.start(now)).or_default().add_all(&report.counts);
                    }
                    if answered && report.run == objects[who].0 {
                        objects[who].1.confirmed(now, report.seq);
                    }
                }
                Step::Crash(who) => {
                    before[who] = objects[who].0;
                    objects[who] = begin(who);
                }
                Step::Pass(ms) if now.0 + ms < START.0 + 300 * DAY_MS => now = now.plus(ms),
                Step::Pass(_) => {}
                Step::Back(ms) => now = UnixMs(now.0 - ms),
            }
            latest = latest.max(now);
        }
        for window in [Window::Day, Window::Month] {
            let mut expected = SortedMap::<UnixMs, Counts>::new();
            for (hour, counts) in &model {
                expected.entry(window.start(*hour)).or_default().add_all(counts);
            }
            let expected: SortedMap<_, _> = expected.into_iter().map(|(at, counts)| (at, counts.0)).collect();
            prop_assert_eq!(all(&db, window, latest), expected);
        }
        // What budgets go by is what the windows of now hold.
        let open = ledger::at(&db, now).unwrap();
        for window in [Window::Hour, Window::Day, Window::Month] {
            let held = Counts(all(&db, window, latest).remove(&window.start(now)).unwrap_or_default());
            for meter in Meter::ALL {
                prop_assert_eq!(held.of(meter), open.used(window).of(meter));
            }
        }
    }
}

#[test]
fn hours_become_days_and_days_are_forgotten() {
    let db = ledger();
    let first = Window::Day.start(START);
    tell(&db, first, report(1, 1, 1, Meter::Jobs, 3));
    tell(&db, first.plus(5 * HOUR_MS), report(1, 1, 2, Meter::Jobs, 4));
    let later = first.plus(HOURS_KEPT_MS + DAY_MS);
    tell(&db, later, report(1, 1, 3, Meter::Jobs, 5));
    let jobs = |counts: Vec<u64>| Counts(counts).of(Meter::Jobs);
    let hours: Vec<u64> = all(&db, Window::Hour, later).into_values().map(jobs).collect();
    assert_eq!(hours, [5]);
    let days: Vec<u64> = all(&db, Window::Day, later).into_values().map(jobs).collect();
    assert_eq!(days, [7, 5]);
    let long_after = first.plus(DAYS_KEPT_MS + DAY_MS);
    tell(&db, long_after, report(1, 1, 4, Meter::Jobs, 6));
    let days: Vec<u64> = all(&db, Window::Day, long_after).into_values().map(jobs).collect();
    assert_eq!(days, [5, 6]);
}

fn budgets(text: &str) -> Vec<Budget> {
    parse_budgets(&std::format!(r#"{{"budgets":{text}}}"#)).unwrap()
}

fn entries(db: &Native, now: UnixMs) -> Vec<Json> {
    let query = AuditQuery {
        limit: 200,
        after: Some(0),
        ..AuditQuery::default()
    };
    let page = audit::list(db, now, &query).unwrap();
    page.entries
        .iter()
        .map(|entry| serde_json::from_str(entry.as_str()).unwrap())
        .collect()
}

fn refusal(db: &Native, now: UnixMs) -> Option<ErrorCode> {
    let access = Access {
        spent: spent(db).unwrap(),
        ..Access::default()
    };
    check(&access, now).err().map(|error| error.code)
}

#[test]
fn a_budget_warns_once_then_refuses_until_its_window_ends() {
    let db = ledger();
    let day = Window::Day.start(START);
    let few = budgets(r#"{"few":{"meter":"jobs","per":"day","units":10,"warn_percent":75}}"#);
    set_budgets(&db, day, SetBy::Composition, &few).unwrap();
    assert!(!tell(&db, day, report(1, 1, 1, Meter::Jobs, 7)));
    assert!(entries(&db, day).is_empty());
    // 75 % of 10 are 7.5: the eighth warns, and the ninth says nothing more.
    assert!(!tell(&db, day, report(1, 1, 2, Meter::Jobs, 1)));
    assert!(!tell(&db, day, report(1, 1, 3, Meter::Jobs, 1)));
    assert_eq!(refusal(&db, day), None);
    assert!(tell(&db, day, report(1, 1, 4, Meter::Jobs, 5)));
    assert!(!tell(&db, day, report(1, 1, 5, Meter::Jobs, 5)));
    let whats: Vec<Json> = entries(&db, day)
        .into_iter()
        .map(|entry| entry["what"].clone())
        .collect();
    assert_eq!(whats, ["budget.warned", "budget.spent"]);
    assert_eq!(entries(&db, day)[0]["target"]["budget"], "few");
    assert_eq!(refusal(&db, day.plus(DAY_MS - 1)), Some(ErrorCode::QuotaExceeded));
    // The next day admits, and warns again.
    let next = day.plus(DAY_MS);
    assert_eq!(refusal(&db, next), None);
    tell(&db, next, report(1, 1, 6, Meter::Jobs, 8));
    assert_eq!(refusal(&db, next), None);
    assert_eq!(entries(&db, next).len(), 3);
}

#[test]
fn budgets_that_are_set_anew_look_at_what_was_used() {
    let db = ledger();
    tell(&db, START, report(1, 1, 1, Meter::Requests, 100));
    let tight =
        budgets(r#"{"r":{"meter":"requests","per":"month","units":50},"x":{"meter":"jobs","per":"day","units":1}}"#);
    assert!(set_budgets(&db, START, SetBy::Operator, &tight).unwrap());
    assert_eq!(refusal(&db, START), Some(ErrorCode::QuotaExceeded));
    // The same once more changes nothing, nor does one of the tenant's own.
    assert!(!set_budgets(&db, START, SetBy::Operator, &tight).unwrap());
    let own = budgets(r#"{"r":{"meter":"requests","per":"month","units":5000}}"#);
    assert!(!set_budgets(&db, START, SetBy::Composition, &own).unwrap());
    assert_eq!(entries(&db, START).len(), 2);
    assert!(set_budgets(&db, START, SetBy::Operator, &own).unwrap());
    assert_eq!(refusal(&db, START), None);
    assert_eq!(spent(&db).unwrap(), None);
}

#[test]
fn of_two_spent_budgets_the_one_that_ends_last_is_named() {
    let db = ledger();
    let both = r#"{"a":{"meter":"jobs","per":"day","units":1},"b":{"meter":"jobs","per":"month","units":1}}"#;
    set_budgets(&db, START, SetBy::Composition, &budgets(both)).unwrap();
    tell(&db, START, report(1, 1, 1, Meter::Jobs, 1));
    assert_eq!(spent(&db).unwrap(), Some(("b".into(), Window::Month.end(START))));
}

#[test]
fn all_faults_of_budgets_are_told() {
    let bad = r#"{"budgets":{"A":{"meter":"job","per":"week","units":0,"warn_percent":101,"x":1},"b":7}}"#;
    let error = parse_budgets(bad).unwrap_err();
    let pointers: Vec<&str> = error.details.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        [
            "/budgets/A",
            "/budgets/A/meter",
            "/budgets/A/per",
            "/budgets/A/units",
            "/budgets/A/warn_percent",
            "/budgets/A/x",
            "/budgets/b"
        ]
    );
    assert!(parse_budgets("[]").is_err() && parse_budgets("{}").is_err() && parse_budgets("no").is_err());
}

#[test]
fn an_export_is_one_line_for_each_window() {
    let db = ledger();
    let day = Window::Day.start(START);
    tell(&db, day, report(1, 1, 1, Meter::RowsWritten, 1_000_000));
    tell(&db, day.plus(DAY_MS), report(1, 1, 2, Meter::Jobs, 2));
    let shown = |form| {
        let text = show(
            &db,
            day,
            Window::Day,
            (day, day.plus(2 * DAY_MS)),
            &Prices::default(),
            form,
        )
        .unwrap()
        .unwrap();
        serde_json::from_str::<Json>(text.as_str()).unwrap()
    };
    let csv = shown(UsageForm::Csv);
    let mut reader = csv::Reader::from_reader(csv.as_str().unwrap().as_bytes());
    let names = reader.headers().unwrap().clone();
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    let field = |record: usize, name: &str| {
        let at = names.iter().position(|known| known == name).unwrap();
        records[record].get(at).unwrap()
    };
    assert_eq!(
        (
            field(0, "rows_written"),
            field(0, "estimated_cost"),
            field(0, "currency")
        ),
        ("1000000", "1", "USD")
    );
    assert_eq!(
        (field(1, "jobs"), field(1, "at")),
        ("2", std::format!("{}", day.plus(DAY_MS)).as_str())
    );
    let lines = shown(UsageForm::Lines);
    let lines: Vec<Json> = lines
        .as_str()
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        vec![&lines[0]["meters"]["rows_written"], &lines[1]["meters"]["jobs"]],
        [1_000_000, 2]
    );
    let view = shown(UsageForm::View);
    assert_eq!(view["usage"][0], lines[0]);
    assert_eq!(view["total"]["estimated_cost"], 1.0);
}
