//! Refusals in the audit trail: in aggregate, so that a flood of them buys neither rows nor calls.
//!
//! Whoever refuses counts in a [`Tally`] and tells the gate at most once a minute. The gate's [`Journal`] writes an entry with the
//! first refusal of an hour, and another each time there are ten times as many: a million refusals are seven entries. What was
//! refused since then is in memory, and goes into the next entry; where an object is evicted before, it is lost. So what the trail
//! says was refused at least.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::mem;

use tidegate_protocol::ErrorCode;
use tidegate_protocol::http::{AuditRefusal, AuditTarget, AuditWhat, AuditWho};
use tidegate_protocol::ids::{UserId, WebhookSource};
use tidegate_protocol::time::UnixMs;

use super::note_by;
use crate::database::{Database, DatabaseError};
use crate::inbound::Unsigned;

/// How seldom whoever refuses tells the gate. Milliseconds.
pub const TELL_MS: u64 = 60_000;
/// How seldom a reader of the trail makes an entry of what is in memory. Milliseconds.
const READ_MS: u64 = 60_000;
/// After which time the first refusal is an entry again. Milliseconds.
const WINDOW_MS: u64 = 3_600_000;
/// How many times as many refusals there are when the next entry is written.
const GROWTH: u64 = 10;
/// Kinds of refusals that are counted by themselves. Compositions have 32 limits.
const KINDS_MAX: usize = 48;

/// What a refusal is about, beside its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About<'a> {
    /// The caller.
    Caller,
    /// A limit on requests, by name.
    Limit(&'a str),
    /// A webhook that was not signed as it has to be: its source, and why.
    Webhook(&'a str),
}

impl<'a> About<'a> {
    /// What `refused` says that it is about.
    pub fn of(refused: &'a AuditRefusal) -> Self {
        match (&refused.limit, &refused.webhook) {
            (Some(limit), _) => Self::Limit(limit),
            (None, Some(webhook)) => Self::Webhook(webhook),
            (None, None) => Self::Caller,
        }
    }
}

/// Refusals by their kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Counts(Vec<AuditRefusal>);

impl Counts {
    fn add(&mut self, code: ErrorCode, about: About<'_>, count: u64) {
        let same = |known: &&mut AuditRefusal| known.code == code && About::of(known) == about;
        if let Some(known) = self.0.iter_mut().find(same) {
            known.count = known.count.saturating_add(count);
        } else if self.0.len() < KINDS_MAX {
            let (limit, webhook) = match about {
                About::Caller => (None, None),
                About::Limit(name) => (Some(name.to_owned()), None),
                About::Webhook(what) => (None, Some(what.to_owned())),
            };
            self.0.push(AuditRefusal {
                code,
                limit,
                webhook,
                count,
            });
        } else if about != About::Caller {
            self.add_to_last(count);
        }
    }

    /// Names of limits that are no longer active can fill the list: what comes then counts with the last of them.
    fn add_to_last(&mut self, count: u64) {
        if let Some(last) = self.0.last_mut() {
            last.count = last.count.saturating_add(count);
        }
    }

    fn take(&mut self) -> Vec<AuditRefusal> {
        mem::take(&mut self.0)
    }
}

/// What a hub or an isolate has refused and not told the gate.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    counts: Counts,
    told_at: Option<UnixMs>,
}

impl Tally {
    /// Counts a refusal. Gives what the gate is to be told now: at the first one, and once a minute from then on while there are
    /// more. Errors that are no refusal of a known caller are not counted.
    pub fn note(&mut self, now: UnixMs, code: ErrorCode) -> Option<Vec<AuditRefusal>> {
        if !matches!(
            code,
            ErrorCode::Unauthorized | ErrorCode::Forbidden | ErrorCode::TenantSuspended
        ) {
            return None;
        }
        self.tell(now, code, About::Caller)
    }

    /// The same for a webhook of `source` that was refused with `UNAUTHORIZED`.
    pub fn note_webhook(&mut self, now: UnixMs, source: &WebhookSource, why: Unsigned) -> Option<Vec<AuditRefusal>> {
        let what = alloc::format!("{source}: {}", why.as_str());
        self.tell(now, ErrorCode::Unauthorized, About::Webhook(&what))
    }

    fn tell(&mut self, now: UnixMs, code: ErrorCode, about: About<'_>) -> Option<Vec<AuditRefusal>> {
        self.counts.add(code, about, 1);
        if self.told_at.is_some_and(|at| now.since(at) < TELL_MS) {
            return None;
        }
        self.told_at = Some(now);
        Some(self.counts.take())
    }
}

/// What was refused in a tenant and is not in the trail yet.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    counts: Counts,
    /// When the first of them was refused.
    since: Option<UnixMs>,
    /// When the hour began that is counted.
    window: Option<UnixMs>,
    /// All of this hour.
    total: u64,
    /// At how many of them the next entry is written.
    next: u64,
    written_at: Option<UnixMs>,
}

impl Journal {
    /// Counts what was refused, and writes an entry where one is due.
    ///
    /// Errors: the database's; what was counted stays counted.
    pub fn note<'a>(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        refused: impl Iterator<Item = (ErrorCode, About<'a>, u64)>,
    ) -> Result<(), DatabaseError> {
        let mut refused = refused.peekable();
        if refused.peek().is_none() {
            return Ok(());
        }
        if self.window.is_none_or(|begun| now.since(begun) >= WINDOW_MS) {
            (self.window, self.total, self.next) = (Some(now), 0, 1);
        }
        for (code, about, count) in refused {
            self.counts.add(code, about, count);
            self.total = self.total.saturating_add(count);
        }
        self.since.get_or_insert(now);
        if self.total < self.next {
            return Ok(());
        }
        self.write(db, now)?;
        while self.next <= self.total {
            self.next = self.next.saturating_mul(GROWTH);
        }
        Ok(())
    }

    /// Writes what is in memory before somebody reads the trail: at most once a minute.
    ///
    /// Errors: the database's.
    pub fn settle(&mut self, db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
        if self.since.is_none() || self.written_at.is_some_and(|at| now.since(at) < READ_MS) {
            return Ok(());
        }
        self.write(db, now)
    }

    fn write(&mut self, db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
        let Some(user) = UserId::parse("tidegate") else {
            return Ok(());
        };
        let target = AuditTarget {
            since: self.since,
            refused: self.counts.0.clone(),
            ..AuditTarget::default()
        };
        let who = AuditWho { user, via: None };
        note_by(db, now, who, AuditWhat::RequestsRefused, target)?;
        self.counts.take();
        self.since = None;
        self.written_at = Some(now);
        Ok(())
    }
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use proptest::prelude::*;
    use serde_json::Value as Json;
    use tidegate_protocol::calls::tenant::AuditQuery;

    use super::*;
    use crate::audit::{CHAIN, TRAIL, list};
    use crate::database::migrate;
    use crate::database::native::Native;

    const START: UnixMs = UnixMs(1_800_000_000_000);

    fn trail() -> Native {
        let db = Native::in_memory().unwrap();
        migrate(&db, &[TRAIL, CHAIN]).unwrap();
        db
    }

    /// What each entry says, the oldest first.
    fn entries(db: &Native) -> Vec<Json> {
        let query = AuditQuery {
            limit: 200,
            after: Some(0),
            ..AuditQuery::default()
        };
        let page = list(db, START, &query).unwrap();
        page.entries
            .iter()
            .map(|entry| serde_json::from_str(entry.as_str()).unwrap())
            .collect()
    }

    fn counted(db: &Native) -> Vec<u64> {
        let of = |entry: &Json| {
            let refused = entry["target"]["refused"].as_array().unwrap();
            refused.iter().map(|kind| kind["count"].as_u64().unwrap()).sum()
        };
        entries(db).iter().map(of).collect()
    }

    fn refuse(journal: &mut Journal, db: &Native, now: UnixMs, limit: &str) {
        let refused = [(ErrorCode::RateLimited, About::Limit(limit), 1)];
        journal.note(db, now, refused.into_iter()).unwrap();
    }

    #[test]
    fn a_million_refusals_are_seven_entries_and_none_is_forgotten() {
        let (db, mut journal) = (trail(), Journal::default());
        for number in 0..1_000_000_u64 {
            // A thousand a second.
            refuse(&mut journal, &db, START.plus(number / 1000), "a");
        }
        assert_eq!(counted(&db), [1, 9, 90, 900, 9_000, 90_000, 900_000]);
        let last = entries(&db).pop().unwrap();
        assert_eq!(last["what"], "requests.refused");
        assert_eq!(last["who"], serde_json::json!({ "user": "tidegate" }));
        assert_eq!(last["target"]["refused"][0]["code"], "RATE_LIMITED");
        assert_eq!(last["target"]["refused"][0]["limit"], "a");
        assert_eq!(last["target"]["since"], START.plus(100).to_string());
    }

    #[test]
    fn each_hour_begins_afresh_and_takes_along_what_was_left() {
        let (db, mut journal) = (trail(), Journal::default());
        for _ in 0..5 {
            refuse(&mut journal, &db, START, "a");
        }
        refuse(&mut journal, &db, START.plus(WINDOW_MS - 1), "a");
        assert_eq!(counted(&db), [1]);
        refuse(&mut journal, &db, START.plus(WINDOW_MS), "b");
        assert_eq!(counted(&db), [1, 6]);
        let kinds = &entries(&db)[1]["target"]["refused"];
        assert_eq!(
            (
                &kinds[0]["limit"],
                &kinds[0]["count"],
                &kinds[1]["limit"],
                &kinds[1]["count"]
            ),
            (&"a".into(), &5.into(), &"b".into(), &1.into())
        );
    }

    #[test]
    fn a_reader_sees_all_and_makes_an_entry_a_minute_at_most() {
        let (db, mut journal) = (trail(), Journal::default());
        journal.settle(&db, START).unwrap();
        assert_eq!(counted(&db), [0_u64; 0]);
        for _ in 0..4 {
            refuse(&mut journal, &db, START, "a");
        }
        journal.settle(&db, START.plus(READ_MS - 1)).unwrap();
        assert_eq!(counted(&db), [1]);
        journal.settle(&db, START.plus(READ_MS)).unwrap();
        journal.settle(&db, START.plus(3 * READ_MS)).unwrap();
        assert_eq!(counted(&db), [1, 3]);
    }

    #[test]
    fn names_without_end_fill_no_memory() {
        let (db, mut journal) = (trail(), Journal::default());
        for number in 0..1_000_u64 {
            refuse(&mut journal, &db, START, &alloc::format!("limit-{number}"));
        }
        assert_eq!(counted(&db), [1, 9, 90, 900]);
        let kinds = entries(&db)[3]["target"]["refused"].as_array().unwrap().len();
        assert_eq!(kinds, KINDS_MAX);
    }

    #[test]
    fn the_gate_is_told_at_once_and_then_once_a_minute() {
        let mut tally = Tally::default();
        let told = |refused: Option<Vec<AuditRefusal>>| {
            refused.map(|kinds| {
                kinds
                    .into_iter()
                    .map(|kind| (kind.code, kind.count))
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(told(tally.note(START, ErrorCode::ValidationError)), None, "no refusal");
        assert_eq!(
            told(tally.note(START, ErrorCode::Forbidden)),
            Some(vec![(ErrorCode::Forbidden, 1)])
        );
        for ms in 1..TELL_MS {
            assert_eq!(told(tally.note(START.plus(ms), ErrorCode::Unauthorized)), None);
        }
        assert_eq!(
            told(tally.note(START.plus(TELL_MS), ErrorCode::Forbidden)),
            Some(vec![(ErrorCode::Unauthorized, TELL_MS - 1), (ErrorCode::Forbidden, 1)])
        );
    }

    #[test]
    fn why_a_webhook_was_refused_is_in_the_trail_and_nothing_else_counts_with_it() {
        let (db, mut journal, mut tally) = (trail(), Journal::default(), Tally::default());
        let source = WebhookSource::parse("shop").unwrap();
        tally.note(START, ErrorCode::Unauthorized).unwrap();
        for why in [Unsigned::TooOld, Unsigned::WrongSignature, Unsigned::TooOld] {
            assert_eq!(tally.note_webhook(START.plus(1), &source, why), None);
        }
        let told = tally.note(START.plus(TELL_MS), ErrorCode::Unauthorized).unwrap();
        let told = told.iter().map(|kind| (kind.code, About::of(kind), kind.count));
        journal.note(&db, START, told).unwrap();
        let shown = serde_json::json!([
            { "code": "UNAUTHORIZED", "webhook": "shop: too_old", "count": 2 },
            { "code": "UNAUTHORIZED", "webhook": "shop: wrong_signature", "count": 1 },
            { "code": "UNAUTHORIZED", "count": 1 },
        ]);
        assert_eq!(entries(&db)[0]["target"]["refused"], shown);
    }

    proptest! {
        /// Whatever comes when: nothing is counted twice, what is not in the trail is in memory, and an hour costs as many
        /// entries as its refusals have digits.
        #[test]
        fn what_the_trail_says_was_refused(steps in prop::collection::vec((0_u64..2_000_000, 1_u64..5_000), 1..60)) {
            let (db, mut journal) = (trail(), Journal::default());
            let (mut now, mut refused, mut hours) = (START, 0, Vec::<(UnixMs, u64)>::new());
            for (wait, count) in steps {
                now = now.plus(wait);
                journal.note(&db, now, [(ErrorCode::Forbidden, About::Caller, count)].into_iter()).unwrap();
                refused += count;
                match hours.last_mut() {
                    Some((begun, total)) if now.since(*begun) < WINDOW_MS => *total += count,
                    _ => hours.push((now, count)),
                }
            }
            let (in_trail, in_memory) = (counted(&db), journal.counts.0.iter().map(|kind| kind.count).sum::<u64>());
            prop_assert_eq!(in_trail.iter().sum::<u64>() + in_memory, refused);
            let digits = |total: u64| total.to_string().len();
            prop_assert!(in_trail.len() <= hours.iter().map(|(_, total)| digits(*total)).sum::<usize>());
        }
    }
}
