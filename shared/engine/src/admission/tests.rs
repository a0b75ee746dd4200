//! Several hubs and one gate against the plainest model there is: a list of what was admitted, and when.

extern crate std;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::calls::admission::{
    Ask, Bucket, Consults, Decided, Force, Need, Recalled, Returned, Rule, Verdict, Wanted,
};
use tidegate_protocol::ids::HubIndex;
use tidegate_protocol::time::UnixMs;

use super::{BUCKETS, Gate, LEASE_MS, LOOK_MS, Leases, Outcome, Recalls, Taken};
use crate::audit;
use crate::database::migrate;
use crate::database::native::Native;
use tidegate_protocol::SortedMap;

const START: UnixMs = UnixMs(1_700_000_000_000);

fn bucket(limit: &str) -> Bucket {
    Bucket {
        limit: limit.into(),
        key: String::new(),
    }
}

fn need(limit: &str, rule: Rule, cost: u64) -> Need {
    Need {
        bucket: bucket(limit),
        rule,
        cost,
        consults: Consults::Leased,
        force: Force::Refuses,
    }
}

fn rate(units: u64, per_ms: u64, burst: u64) -> Rule {
    Rule::Rate { units, per_ms, burst }
}

fn quota(units: u64, per_ms: u64) -> Rule {
    Rule::Quota { units, per_ms }
}

fn database() -> Native {
    let db = Native::in_memory().unwrap();
    migrate(&db, &[BUCKETS, audit::TRAIL, audit::CHAIN]).unwrap();
    db
}

/// A tenant: one gate, some hubs, and whatever may happen between them.
pub(crate) struct Tenant {
    db: Native,
    gate: Gate,
    pub(crate) hubs: Vec<Leases>,
    pub(crate) now: UnixMs,
    /// What was admitted, and when.
    pub(crate) admitted: Vec<(UnixMs, Need)>,
    asked: usize,
    /// Requests that had to wait for a question.
    waited: usize,
}

impl Tenant {
    pub(crate) fn new(hubs: usize) -> Self {
        Self {
            db: database(),
            gate: Gate::default(),
            hubs: vec![Leases::default(); hubs],
            now: START,
            admitted: Vec::new(),
            asked: 0,
            waited: 0,
        }
    }

    /// Puts a question to the gate, which takes back what others have. `heard`: which hubs can be reached for that.
    fn decide(&mut self, ask: &Ask, heard: impl Fn(HubIndex) -> bool) -> Decided {
        self.asked += 1;
        match self.gate.decide(&self.db, self.now, ask, Recalls::Possible).unwrap() {
            Outcome::Decided(decided) => decided,
            Outcome::Recall(recalls) => {
                for (hub, recalled) in recalls {
                    assert_ne!(hub, ask.hub);
                    if heard(hub) {
                        let returned = self.hubs[usize::from(hub.0)].recalled(self.now, &recalled);
                        self.gate.give_back(&self.db, self.now, hub, &returned).unwrap();
                    }
                }
                match self.gate.decide(&self.db, self.now, ask, Recalls::Done).unwrap() {
                    Outcome::Decided(decided) => decided,
                    Outcome::Recall(_) => panic!("recalled twice"),
                }
            }
        }
    }

    /// One request at a hub; `true`: admitted.
    pub(crate) fn request(&mut self, hub: usize, needs: &[Need]) -> bool {
        let taken = self.hubs[hub].take(self.now, needs);
        let admitted = match taken {
            Taken::Admitted { .. } => true,
            Taken::Refused(_) => false,
            Taken::Short => {
                self.waited += 1;
                let ask = self.hubs[hub].ask(self.now, index(hub), vec![needs.to_vec()]);
                let decided = self.decide(&ask, |_| true);
                let now = self.now;
                self.hubs[hub].decided(now, now, &ask, &decided);
                decided.verdicts == [Verdict::Admitted]
            }
        };
        if self.hubs[hub].runs_out() {
            let ask = self.hubs[hub].ask(self.now, index(hub), Vec::new());
            let decided = self.decide(&ask, |_| true);
            let now = self.now;
            self.hubs[hub].decided(now, now, &ask, &decided);
        }
        if admitted {
            self.admitted.extend(needs.iter().map(|need| (self.now, need.clone())));
        }
        admitted
    }

    /// The timer of each hub.
    pub(crate) fn look(&mut self) {
        for hub in 0..self.hubs.len() {
            let returned = self.hubs[hub].idle(self.now);
            self.gate.give_back(&self.db, self.now, index(hub), &returned).unwrap();
        }
    }

    fn units(&self) -> u64 {
        self.admitted.iter().map(|(_, need)| need.cost).sum()
    }
}

fn index(hub: usize) -> HubIndex {
    HubIndex(u16::try_from(hub).unwrap())
}

/// The model: what was admitted of a limit never exceeds its rule, in any window.
pub(crate) fn holds(admitted: &[(UnixMs, Need)]) {
    let mut by_limit: SortedMap<&str, Vec<(u64, u64, Rule)>> = SortedMap::new();
    for (at, need) in admitted {
        let of = by_limit.entry(&need.bucket.limit).or_default();
        of.push((at.0, need.cost, need.rule));
    }
    for (limit, taken) in by_limit {
        for from in 0..taken.len() {
            let (mut sum, start) = (0, taken[from].0);
            for (at, cost, rule) in &taken[from..] {
                sum += cost;
                match *rule {
                    Rule::Rate { units, per_ms, burst } => {
                        let most = burst * per_ms + (at - start) * units;
                        assert!(sum * per_ms <= most, "{limit}: {sum} units in {} ms", at - start);
                    }
                    Rule::Quota { units, per_ms } => {
                        if at - start < per_ms {
                            assert!(sum <= units, "{limit}: {sum} units in {} ms", at - start);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn hubs_with_skewed_demand_admit_exactly_the_limit() {
    for rule in [rate(1000, 3_600_000, 1000), quota(1000, 86_400_000)] {
        let mut tenant = Tenant::new(5);
        let needs = [need("all", rule, 1)];
        // One hub has nearly all of the demand, the others some; all of it comes in well under a step of the window.
        let mut refused = 0;
        for n in 0..3000_usize {
            tenant.now = tenant.now.plus(u64::from(n % 3 == 0));
            let hub = if n % 10 < 8 { 0 } else { n % 5 };
            refused += usize::from(!tenant.request(hub, &needs));
        }
        assert_eq!(tenant.units(), 1000, "{rule:?}");
        assert_eq!(refused, 2000);
        // Without a question for most of them: some hundreds of questions are those of the scarce end.
        assert!(tenant.asked < 500, "{} questions", tenant.asked);
        holds(&tenant.admitted);
    }
}

#[test]
fn the_steady_state_has_next_to_no_questions() {
    let mut tenant = Tenant::new(2);
    let needs = [
        need("all", rate(100_000, 1_000, 100_000), 1),
        need("day", quota(100_000_000, 86_400_000), 1),
    ];
    let mut asked = Vec::new();
    for second in 0..20 {
        let (before, waited) = (tenant.asked, tenant.waited);
        for n in 0..1000_usize {
            tenant.now = tenant.now.plus(1);
            assert!(tenant.request(n % 2, &needs));
        }
        tenant.look();
        if second >= 5 {
            assert_eq!(tenant.waited, waited, "a lease is renewed before anybody misses it");
            asked.push(tenant.asked - before);
        }
    }
    let most = asked.iter().max().unwrap();
    assert!(*most <= 8, "{asked:?}");
}

#[test]
fn a_refused_request_has_consumed_nothing() {
    let mut tenant = Tenant::new(1);
    let (wide, narrow) = (need("wide", quota(10, 60_000), 1), need("narrow", quota(3, 60_000), 1));
    let admitted = (0..50)
        .filter(|_| tenant.request(0, &[wide.clone(), narrow.clone()]))
        .count();
    assert_eq!(admitted, 3);
    tenant.look();
    let admitted = (0..50)
        .filter(|_| tenant.request(0, core::slice::from_ref(&wide)))
        .count();
    assert_eq!(
        admitted, 7,
        "the narrow one refused, and the wide one counted nothing of that"
    );
}

#[test]
fn what_another_check_refuses_is_put_back() {
    for rule in [rate(10, 86_400_000, 10), quota(10, 86_400_000)] {
        let mut tenant = Tenant::new(1);
        let needs = [need("all", rule, 1)];
        for _ in 0..100 {
            // By a verdict, or out of a lease: it was admitted, and then the queue was full.
            let counted_at = match tenant.hubs[0].take(tenant.now, &needs) {
                Taken::Admitted { counted_at } => counted_at,
                Taken::Short => {
                    let ask = tenant.hubs[0].ask(tenant.now, HubIndex(0), vec![needs.to_vec()]);
                    let decided = tenant.decide(&ask, |_| true);
                    let now = tenant.now;
                    tenant.hubs[0].decided(now, now, &ask, &decided);
                    assert_eq!(decided.verdicts, [Verdict::Admitted]);
                    decided.at
                }
                Taken::Refused(refusal) => panic!("{refusal:?}"),
            };
            tenant.hubs[0].refund(&needs, counted_at);
            tenant.now = tenant.now.plus(7);
        }
        assert_eq!((0..50).filter(|_| tenant.request(0, &needs)).count(), 10, "{rule:?}");
    }
}

#[test]
fn a_shortfall_after_a_crash_is_what_was_leased_and_over_with_it() {
    let rule = rate(100, 1_000, 100);
    let mut tenant = Tenant::new(2);
    let needs = [need("all", rule, 1)];
    for _ in 0..40 {
        tenant.now = tenant.now.plus(10);
        assert!(tenant.request(0, &needs));
    }
    // The hub with the leases dies, and its memory with it; the other one wants everything at once.
    tenant.hubs[0] = Leases::default();
    let at_once = (0..200).filter(|_| tenant.request(1, &needs)).count();
    assert!((50..=100).contains(&at_once), "{at_once}");
    tenant.now = tenant.now.plus(LEASE_MS + 1_000);
    assert_eq!((0..200).filter(|_| tenant.request(1, &needs)).count(), 100);
    holds(&tenant.admitted);
}

/// Whatever the rule: units of a lease count as used when it ends, which is as late as they can be.
#[test]
fn a_lease_that_is_used_at_its_very_end_lets_nobody_have_more() {
    // When the others come: just after the lease has ended, or just as its window would have gone by.
    for (rule, after_ms) in [(rate(100, 1_000, 100), LEASE_MS + 2), (quota(100, 60_000), 61_000)] {
        let mut tenant = Tenant::new(2);
        let needs = [need("all", rule, 1)];
        // Two requests, so that the hub wants more than it needs now.
        assert!(tenant.request(0, &needs));
        tenant.now = tenant.now.plus(1);
        assert!(tenant.request(0, &needs));
        tenant.now = tenant.now.plus(LEASE_MS - 10);
        while matches!(tenant.hubs[0].take(tenant.now, &needs), Taken::Admitted { .. }) {
            tenant.admitted.push((tenant.now, needs[0].clone()));
        }
        assert!(
            tenant.admitted.len() > 4,
            "there was a lease: {}",
            tenant.admitted.len()
        );
        // The gate has not looked since.
        tenant.now = START.plus(after_ms);
        let at_once = (0..200).filter(|_| tenant.request(1, &needs)).count();
        assert!(at_once >= 75, "{at_once}");
        holds(&tenant.admitted);
    }
}

#[test]
fn a_limit_in_shadow_refuses_nothing_and_counts_what_it_would_have() {
    let mut tenant = Tenant::new(1);
    let shadow = Need {
        force: Force::Counts,
        ..need("trial", quota(5, 60_000), 1)
    };
    assert_eq!(
        (0..20)
            .filter(|_| tenant.request(0, core::slice::from_ref(&shadow)))
            .count(),
        20
    );
    let shown = tenant.gate.show(&tenant.db, tenant.now, "trial", "", 10).unwrap();
    assert_eq!(
        (shown.counts["trial"].refused, shown.counts["trial"].would_have_refused),
        (0, 15)
    );
    assert_eq!(shown.buckets[0].remaining, 0);
}

#[test]
fn an_exact_limit_is_asked_for_each_request() {
    let mut tenant = Tenant::new(2);
    let exact = Need {
        consults: Consults::Always,
        ..need("exact", rate(1000, 1_000, 1000), 1)
    };
    (0..50).for_each(|n| assert!(tenant.request(n % 2, core::slice::from_ref(&exact))));
    assert_eq!(tenant.asked, 50);
}

#[test]
fn a_refusal_says_when_there_is_room_again_and_keeps_its_word() {
    for rule in [rate(10, 60_000, 10), quota(10, 60_000)] {
        let mut tenant = Tenant::new(1);
        let needs = [need("all", rule, 4)];
        assert!(tenant.request(0, &needs) && tenant.request(0, &needs));
        tenant.now = tenant.now.plus(1_234);
        let ask = tenant.hubs[0].ask(tenant.now, HubIndex(0), vec![needs.to_vec()]);
        let decided = tenant.decide(&ask, |_| true);
        let [Verdict::Refused(refusal)] = decided.verdicts.as_slice() else {
            panic!("{decided:?}")
        };
        let after_ms = refusal.after_ms;
        let mut early = tenant.now.plus(after_ms - 1);
        core::mem::swap(&mut early, &mut tenant.now);
        tenant.hubs[0] = Leases::default();
        assert!(!tenant.request(0, &needs), "a millisecond too early");
        tenant.now = tenant.now.plus(1);
        tenant.hubs[0] = Leases::default();
        assert!(tenant.request(0, &needs), "{rule:?}");
        holds(&tenant.admitted);
    }
}

#[test]
fn another_rule_takes_over_what_was_taken() {
    let mut tenant = Tenant::new(1);
    assert_eq!(
        (0..50)
            .filter(|_| tenant.request(0, &[need("all", quota(10, 3_600_000), 1)]))
            .count(),
        10
    );
    tenant.now = tenant.now.plus(1_001);
    let more = (0..50)
        .filter(|_| tenant.request(0, &[need("all", quota(15, 3_600_000), 1)]))
        .count();
    assert_eq!(more, 5);
    tenant.now = tenant.now.plus(1_001);
    assert!(!tenant.request(0, &[need("all", rate(12, 3_600_000, 12), 1)]));
}

#[test]
fn a_lease_that_is_returned_twice_is_put_back_once() {
    let mut tenant = Tenant::new(2);
    let rule = quota(100, 3_600_000);
    let ask = Ask {
        hub: HubIndex(0),
        requests: Vec::new(),
        returned: Vec::new(),
        refunds: Vec::new(),
        wanted: vec![Wanted {
            bucket: bucket("all"),
            rule,
            units: 20,
        }],
    };
    let lease = tenant.decide(&ask, |_| true).leases.remove(0);
    let back = Returned {
        bucket: bucket("all"),
        serial: lease.serial,
        left: 500,
    };
    for _ in 0..3 {
        tenant
            .gate
            .give_back(&tenant.db, tenant.now, HubIndex(0), core::slice::from_ref(&back))
            .unwrap();
    }
    let shown = tenant.gate.show(&tenant.db, tenant.now, "all", "", 10).unwrap();
    assert_eq!(shown.buckets[0].remaining, 100);
}

#[test]
fn a_lease_that_was_recalled_on_its_way_is_not_used() {
    let mut leases = Leases::default();
    let rule = rate(100, 1_000, 100);
    let needs = [need("all", rule, 1)];
    let ask = leases.ask(START, HubIndex(0), vec![needs.to_vec()]);
    let recalled = Recalled {
        bucket: bucket("all"),
        serial: 7,
    };
    let returned = leases.recalled(START, &[recalled]);
    assert_eq!(returned.iter().map(|back| back.serial).collect::<Vec<_>>(), [7]);
    let decided = Decided {
        at: START,
        verdicts: vec![Verdict::Admitted],
        leases: vec![tidegate_protocol::calls::admission::Lease {
            bucket: bucket("all"),
            serial: 7,
            units: 20,
            lasts_ms: LEASE_MS,
        }],
        standings: Vec::new(),
    };
    leases.decided(START, START, &ask, &decided);
    assert_eq!(leases.take(START, &needs), Taken::Short);
}

#[test]
fn where_the_clock_goes_back_a_bucket_stands_still() {
    for rule in [rate(10, 10_000, 10), quota(10, 60_000)] {
        let mut tenant = Tenant::new(1);
        let needs = [need("all", rule, 1)];
        tenant.now = START.plus(600_000);
        assert_eq!((0..50).filter(|_| tenant.request(0, &needs)).count(), 10);
        for back in 1..10 {
            tenant.now = START.plus(600_000 - back * 60_000);
            tenant.hubs[0] = Leases::default();
            assert!(!tenant.request(0, &needs), "{rule:?}, {back} minutes back");
        }
    }
}

#[test]
fn rows_that_say_nothing_any_more_go() {
    let mut tenant = Tenant::new(1);
    let rule = rate(10, 1_000, 10);
    let of = |user: usize| {
        let mut need = need("user", rule, 1);
        need.bucket.key = std::format!("user-{user}");
        need
    };
    for user in 0..200 {
        assert!(tenant.request(0, &[of(user)]));
    }
    tenant.now = tenant.now.plus(120_000);
    for user in 1000..1100 {
        assert!(tenant.request(0, &[of(user)]));
        tenant.now = tenant.now.plus(1);
    }
    let shown = tenant.gate.show(&tenant.db, tenant.now, "user", "", 1000).unwrap();
    assert!(shown.buckets.len() <= 110, "{}", shown.buckets.len());
}

/// What may happen in a tenant.
#[derive(Debug, Clone)]
enum Step {
    Request {
        hub: usize,
        which: usize,
        cost: u64,
    },
    Wait(u64),
    Look,
    Crash(usize),
    /// A question whose answer is lost.
    Lost {
        hub: usize,
        which: usize,
    },
    /// A question while no other hub can be reached.
    Alone {
        hub: usize,
        which: usize,
        cost: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3_usize, 0..3_usize, 1..4_u64).prop_map(|(hub, which, cost)| Step::Request { hub, which, cost }),
        4 => (0..2_000_u64).prop_map(Step::Wait),
        1 => (0..70_000_u64).prop_map(Step::Wait),
        2 => Just(Step::Look),
        1 => (0..3_usize).prop_map(Step::Crash),
        1 => (0..3_usize, 0..3_usize).prop_map(|(hub, which)| Step::Lost { hub, which }),
        1 => (0..3_usize, 0..3_usize, 1..4_u64).prop_map(|(hub, which, cost)| Step::Alone { hub, which, cost }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    /// Whatever crashes, is lost, or cannot be reached: admitted never exceeds a limit.
    #[test]
    fn admitted_never_exceeds_a_limit(steps in proptest::collection::vec(step(), 1..250)) {
        let mut tenant = Tenant::new(3);
        let rules = [rate(20, 1_000, 8), rate(7, 3_000, 30), quota(25, 60_000)];
        let needs = |which: usize, cost: u64| match which {
            0 => vec![need("quick", rules[0], cost)],
            1 => vec![need("slow", rules[1], cost), need("day", rules[2], 1)],
            _ => vec![need("quick", rules[0], 1), need("slow", rules[1], 1), need("day", rules[2], cost)],
        };
        for step in steps {
            match step {
                Step::Request { hub, which, cost } => drop(tenant.request(hub, &needs(which, cost))),
                Step::Wait(ms) => tenant.now = tenant.now.plus(ms),
                Step::Look => {
                    tenant.now = tenant.now.plus(LOOK_MS);
                    tenant.look();
                }
                Step::Crash(hub) => tenant.hubs[hub] = Leases::default(),
                Step::Lost { hub, which } => {
                    let ask = tenant.hubs[hub].ask(tenant.now, index(hub), vec![needs(which, 1)]);
                    tenant.decide(&ask, |_| true);
                }
                Step::Alone { hub, which, cost } => {
                    let needs = needs(which, cost);
                    let admitted = match tenant.hubs[hub].take(tenant.now, &needs) {
                        Taken::Admitted { .. } => true,
                        Taken::Refused(_) => false,
                        Taken::Short => {
                            let ask = tenant.hubs[hub].ask(tenant.now, index(hub), vec![needs.clone()]);
                            let decided = tenant.decide(&ask, |_| false);
                            let now = tenant.now;
                            tenant.hubs[hub].decided(now, now, &ask, &decided);
                            decided.verdicts == [Verdict::Admitted]
                        }
                    };
                    if admitted {
                        tenant.admitted.extend(needs.iter().map(|need| (tenant.now, need.clone())));
                    }
                }
            }
        }
        holds(&tenant.admitted);
    }

    /// Where nothing is lost, nobody is refused for whom there is room: what is refused would have been one too many for a
    /// single bucket that all hubs share.
    #[test]
    fn nobody_is_refused_while_units_are_left(
        steps in proptest::collection::vec((0..4_usize, 1..4_u64, 0..400_u64), 1..200),
        is_rate in any::<bool>(),
    ) {
        // So slow that what leases hold back from filling is nothing.
        let rule = if is_rate { rate(60, 86_400_000, 60) } else { quota(60, 86_400_000) };
        let mut tenant = Tenant::new(4);
        let mut looked_at = START;
        for (hub, cost, wait) in steps {
            tenant.now = tenant.now.plus(wait);
            // The timer of a hub with leases.
            if tenant.now.since(looked_at) >= LOOK_MS {
                looked_at = tenant.now;
                tenant.look();
            }
            let room = 60 - tenant.units();
            // A refusal holds for a second at the hub that heard it, for no less than it was refused.
            let admitted = tenant.request(hub, &[need("all", rule, cost)]);
            prop_assert_eq!(admitted, cost <= room);
        }
    }
}

#[test]
fn rows_of_the_version_before_are_still_read() {
    crate::database::vectors::are_still_read::<super::bucket::State>("admission::bucket::State");
}
