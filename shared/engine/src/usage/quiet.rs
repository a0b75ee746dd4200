//! When an object tells what it has counted: soon after it has become quiet, and at the latest after a while under load.
//!
//! A timer that is set keeps its object awake, which is billed, so that none is set for long behind the last event; and a report is a
//! call and a row, so that what comes close together is told together. It looks at no clock of its own, and counts its waits
//! instead: a clock that steps keeps no report back.

use core::mem;

use tidegate_protocol::time::UnixMs;

/// How long an object gathers what it counts at most before it tells the gate, while it is busy. Milliseconds. Six reports a
/// minute, each one row of the gate.
pub const REPORT_MS: u64 = 10_000;

/// How long nothing happens in an object that is quiet. Milliseconds. A report costs as much as 700 ms awake; what follows one
/// another within a quarter of a second belongs to one burst, and one event more is told for a third of that.
pub const QUIET_MS: u64 = 250;

/// How often a report is told before it waits for the next event. A tenant's gate that cannot be reached keeps nobody awake.
const TRIES_MAX: u32 = 3;

/// What has an object awake, and what keeps its counts where it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It waits for something, which keeps it awake anyway.
    Busy,
    /// It may sleep, and forgets then what it has not told.
    Forgetful,
    /// It may sleep, and the platform keeps what it has put into the attachment of a socket.
    Keeping,
}

/// What the shell does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Waits for so many milliseconds, and asks again.
    Wait(u64),
    /// Tells the gate and asks again.
    Tell,
    /// Has the platform keep what was counted. It is told with what is told next.
    Keep,
    /// Nothing, until something happens.
    Rest,
}

/// Where an object stands with its reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Nobody waits for anything.
    #[default]
    Resting,
    /// So many waits have begun.
    Waiting(u64),
    /// A report is under way, after so many that failed.
    Telling(u32),
    /// It has failed so often, and is told again after a wait.
    Failed(u32),
}

/// Decides when an object tells what it has counted.
#[derive(Debug, Clone, Default)]
pub struct Quiet {
    phase: Phase,
    /// Whether something happened in the wait that is under way.
    stirred: bool,
    told_at: Option<UnixMs>,
    /// Whether a report was told that the gate has not confirmed. It is in memory alone: it cannot be kept, because the gate may have
    /// heard it, and would then hear the same under another number.
    owes: bool,
}

impl Quiet {
    /// Something happens. Gives whether somebody has to begin to ask for what is next.
    pub fn stir(&mut self) -> bool {
        self.stirred = true;
        let rested = self.phase == Phase::Resting;
        if rested {
            self.phase = Phase::Waiting(0);
        }
        rested
    }

    /// What is next, where nothing is gathered for more than `longest_ms`. It is asked when a wait is over, and after
    /// [`Next::Tell`] once the answer is there, or none will come.
    pub fn next(&mut self, now: UnixMs, longest_ms: u64, standing: Standing) -> Next {
        let quiet_ms = QUIET_MS.min(longest_ms).max(1);
        let (next, phase) = match self.phase {
            Phase::Resting => (Next::Rest, Phase::Resting),
            Phase::Waiting(waits) => {
                let stirs = mem::take(&mut self.stirred) || standing == Standing::Busy;
                if waits == 0 || (stirs && waits < longest_ms / quiet_ms) {
                    (Next::Wait(quiet_ms), Phase::Waiting(waits + 1))
                } else if standing == Standing::Keeping && !self.owes && self.told_within(now, longest_ms) {
                    (Next::Keep, Phase::Resting)
                } else {
                    (Next::Tell, Phase::Telling(0))
                }
            }
            Phase::Telling(failed) if failed + 1 < TRIES_MAX => {
                (Next::Wait(quiet_ms << (failed + 1)), Phase::Failed(failed + 1))
            }
            // Something happened meanwhile: that begins anew, as it would a moment later.
            Phase::Telling(_) if mem::take(&mut self.stirred) => (Next::Wait(quiet_ms), Phase::Waiting(1)),
            Phase::Telling(_) if standing == Standing::Keeping => (Next::Keep, Phase::Resting),
            Phase::Telling(_) => (Next::Rest, Phase::Resting),
            Phase::Failed(failed) => (Next::Tell, Phase::Telling(failed)),
        };
        self.phase = phase;
        self.owes |= next == Next::Tell;
        next
    }

    /// The gate has taken a report. Gives what is next: where there is `more`, it becomes a report of its own.
    pub fn told(&mut self, now: UnixMs, more: bool) {
        self.told_at = Some(now);
        self.owes = false;
        if let Phase::Telling(_) = self.phase {
            self.phase = if more || self.stirred {
                Phase::Waiting(0)
            } else {
                Phase::Resting
            };
        }
    }

    /// There is nothing to tell.
    pub fn rest(&mut self) {
        self.phase = Phase::Resting;
        self.owes = false;
    }

    fn told_within(&self, now: UnixMs, ms: u64) -> bool {
        self.told_at.is_some_and(|at| at <= now && now.since(at) < ms)
    }
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests {
    extern crate std;

    use alloc::vec::Vec;

    use proptest::prelude::*;
    use tidegate_protocol::calls::usage::{Counts, Meter, Report, Source};

    use super::super::{Tally, Window, hear, windows};
    use super::*;
    use crate::database::migrate;
    use crate::database::native::Native;

    const START: UnixMs = UnixMs(1_800_000_000_000);
    /// How long a call to the gate takes here at most, or until it is known to be lost. Milliseconds.
    const CALL_MS: u64 = 40;

    #[test]
    fn one_event_is_told_after_a_quarter_of_a_second() {
        let mut quiet = Quiet::default();
        let next = |quiet: &mut Quiet| quiet.next(START, REPORT_MS, Standing::Forgetful);
        assert!(quiet.stir());
        assert_eq!(next(&mut quiet), Next::Wait(QUIET_MS));
        assert_eq!(next(&mut quiet), Next::Tell);
        quiet.told(START, false);
        assert_eq!(next(&mut quiet), Next::Rest);
        assert!(quiet.stir(), "what happens after that needs somebody else");
    }

    #[test]
    fn under_load_there_is_one_report_in_ten_seconds() {
        let mut quiet = Quiet::default();
        quiet.stir();
        let mut waited = 0;
        while let Next::Wait(ms) = quiet.next(START.plus(waited), REPORT_MS, Standing::Forgetful) {
            waited += ms;
            assert!(!quiet.stir());
        }
        assert_eq!(waited, REPORT_MS);
        // Whoever waits for something is awake anyway: that is gathered as well.
        quiet.told(START.plus(waited), false);
        quiet.stir();
        let mut waited = 0;
        while let Next::Wait(ms) = quiet.next(START, REPORT_MS, Standing::Busy) {
            waited += ms;
        }
        assert_eq!(waited, REPORT_MS);
    }

    #[test]
    fn a_gate_that_cannot_be_reached_keeps_nobody_awake() {
        let mut quiet = Quiet::default();
        quiet.stir();
        let (mut waited, mut told) = (0, 0);
        loop {
            match quiet.next(START, REPORT_MS, Standing::Forgetful) {
                Next::Wait(ms) => waited += ms,
                Next::Tell => told += 1,
                Next::Keep | Next::Rest => break,
            }
        }
        assert_eq!((told, waited), (TRIES_MAX, QUIET_MS * 7));
    }

    #[test]
    fn a_report_that_was_not_confirmed_is_told_before_anything_is_kept() {
        let mut quiet = Quiet::default();
        let all = |quiet: &mut Quiet, at: u64| {
            quiet.stir();
            let next = || Some(quiet.next(START.plus(at), REPORT_MS, Standing::Keeping));
            let until_rest: Vec<Next> = core::iter::from_fn(next)
                .take_while(|next| *next != Next::Rest)
                .collect();
            until_rest
                .into_iter()
                .filter(|next| !matches!(next, Next::Wait(_)))
                .collect::<Vec<_>>()
        };
        quiet.stir();
        quiet.next(START, REPORT_MS, Standing::Keeping);
        assert_eq!(quiet.next(START, REPORT_MS, Standing::Keeping), Next::Tell);
        quiet.told(START, false);
        assert_eq!(all(&mut quiet, 1_000), [Next::Keep], "what follows so soon is kept");
        // Later the gate cannot be reached. It might be at the next event, which comes soon as well.
        let unheard = all(&mut quiet, REPORT_MS);
        assert_eq!(unheard, [Next::Tell, Next::Tell, Next::Tell, Next::Keep]);
        quiet.told_at = Some(START.plus(REPORT_MS));
        assert_eq!(all(&mut quiet, REPORT_MS + 1_000).first(), Some(&Next::Tell));
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Something happens in the object, and time passes.
        Event(u64, u64),
        /// Time passes.
        Pass(u64),
        /// From now on calls arrive, or not, and their answers come back, or not.
        Reach(bool, bool),
        /// What has the object awake from now on, and what keeps its counts.
        Stand(Standing),
        /// A report that was heard arrives once more.
        Again(usize),
        /// The platform has the object sleep, if nothing keeps it awake.
        Sleep,
        /// The object dies.
        Crash,
        /// Its clock steps.
        Clock(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let standing = prop_oneof![Just(Standing::Busy), Just(Standing::Forgetful), Just(Standing::Keeping)];
        prop_oneof![
            8 => (1_u64..100, prop_oneof![0_u64..100, 200_u64..600, 900_u64..12_000]).prop_map(|(units, ms)| Step::Event(units, ms)),
            2 => (0_u64..15_000).prop_map(Step::Pass),
            2 => (prop::bool::weighted(0.7), prop::bool::weighted(0.7)).prop_map(|(arrives, answers)| Step::Reach(arrives, answers)),
            2 => standing.prop_map(Step::Stand),
            1 => any::<usize>().prop_map(Step::Again),
            2 => Just(Step::Sleep),
            1 => Just(Step::Crash),
            1 => (-100_000_i64..100_000).prop_map(Step::Clock),
        ]
    }

    /// An object, its shell, and the gate.
    struct World {
        gate: Native,
        now: u64,
        offset: i64,
        runs: u64,
        tally: Tally,
        standing: Standing,
        /// What the platform keeps for the object.
        kept: Counts,
        timer: Option<u64>,
        /// The report under way, when its call ends, and whether its answer comes.
        call: Option<(Report, u64, bool)>,
        reach: (bool, bool),
        sent: Vec<Report>,
        /// What happened, and when, in its order.
        happened: Vec<(u64, u64)>,
        lost: u64,
        /// Since when every call was answered.
        well_since: u64,
        last_event: u64,
        standing_since: u64,
    }

    impl World {
        fn new() -> Self {
            let gate = Native::in_memory().unwrap();
            migrate(&gate, crate::tenancy::STEPS).unwrap();
            Self {
                gate,
                now: 0,
                offset: 0,
                runs: 1,
                tally: Tally::new(Source(7), 1),
                standing: Standing::Forgetful,
                kept: Counts::default(),
                timer: None,
                call: None,
                reach: (true, true),
                sent: Vec::new(),
                happened: Vec::new(),
                lost: 0,
                well_since: 0,
                last_event: 0,
                standing_since: 0,
            }
        }

        fn clock(&self) -> UnixMs {
            UnixMs(START.0.saturating_add_signed(self.offset) + self.now)
        }

        fn total(&self) -> u64 {
            self.happened.iter().map(|(_, units)| units).sum()
        }

        fn heard(&self) -> u64 {
            let all = windows(&self.gate, Window::Month, UnixMs(0), START.plus(1 << 40)).unwrap();
            all.iter().map(|(_, counts)| counts.of(Meter::Requests)).sum()
        }

        /// What was kept counts as if it happened now: it has waited for longer, and may.
        fn take_kept(&mut self) {
            let kept = mem::take(&mut self.kept);
            if !kept.is_empty() {
                self.tally.add_all(&kept);
                let now = self.now;
                self.happened.iter_mut().for_each(|(at, _)| *at = now);
            }
        }

        /// As the shells do it.
        fn go(&mut self) {
            loop {
                match self.tally.next(self.clock(), REPORT_MS, self.standing) {
                    Next::Wait(ms) => return self.timer = Some(self.now + ms),
                    Next::Tell => {
                        self.take_kept();
                        let Some(report) = self.tally.report() else { return };
                        let (arrives, answers) = self.reach;
                        if arrives {
                            hear(&self.gate, START.plus(self.now), [report.clone()].into_iter()).unwrap();
                            self.sent.push(report.clone());
                        }
                        return self.call = Some((report, self.now + CALL_MS, arrives && answers));
                    }
                    Next::Keep => self.kept.add_all(&self.tally.keep()),
                    Next::Rest => return,
                }
            }
        }

        fn pass(&mut self, ms: u64) {
            let end = self.now + ms;
            loop {
                let timer = self.timer.filter(|at| *at <= end);
                let call = self.call.as_ref().map(|(_, at, _)| *at).filter(|at| *at <= end);
                let Some(at) = timer.into_iter().chain(call).min() else {
                    break;
                };
                self.now = self.now.max(at);
                if timer == Some(at) {
                    self.timer = None;
                    self.go();
                } else if let Some((report, _, answered)) = self.call.take() {
                    if answered {
                        self.tally.confirmed(self.clock(), report.seq);
                    } else {
                        self.well_since = u64::MAX;
                    }
                    self.go();
                }
                self.look();
            }
            self.now = end;
            self.look();
        }

        /// Nothing waits for long, and nothing keeps the object awake for long.
        fn look(&mut self) {
            let mut told = self.heard() + self.lost;
            let untold = self.happened.iter().find(|(_, units)| {
                let is_told = *units <= told;
                told = told.saturating_sub(*units);
                !is_told
            });
            // The gate may have heard what it did not confirm: that is told once more before anything else.
            if untold.is_none() && !self.tally.has_news() && self.well_since == u64::MAX {
                self.well_since = self.now;
            }
            let Some((at, _)) = untold else { return };
            if self.well_since == u64::MAX || *at < self.well_since {
                return;
            }
            let kept = self.kept.of(Meter::Requests);
            let waits = self.now - at;
            assert!(
                kept > 0 || waits <= REPORT_MS + QUIET_MS + 2 * CALL_MS,
                "something waits for {waits} ms"
            );
            let awake = self.now - self.last_event.max(self.standing_since);
            let is_awake = self.timer.is_some() || self.call.is_some();
            if self.standing != Standing::Busy && is_awake {
                assert!(awake <= 3 * QUIET_MS + 2 * CALL_MS, "awake for {awake} ms");
            }
        }

        /// It loses its memory.
        fn forget(&mut self) {
            let told = self.heard() + self.lost + self.kept.of(Meter::Requests);
            self.lost += self.total() - told;
            self.runs += 1;
            self.tally = Tally::new(Source(7), self.runs);
            self.timer = None;
            self.call = None;
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Event(units, ms) => {
                    self.tally.add(Meter::Requests, units);
                    self.happened.push((self.now, units));
                    self.last_event = self.now;
                    if self.tally.event(self.clock()) {
                        self.go();
                    }
                    self.pass(ms);
                }
                Step::Pass(ms) => self.pass(ms),
                Step::Reach(arrives, answers) => self.reach = (arrives, answers),
                Step::Stand(standing) => {
                    // A socket that closes hands over what it keeps.
                    if standing == Standing::Forgetful {
                        self.take_kept();
                    }
                    self.standing = standing;
                    self.standing_since = self.now;
                    self.step(Step::Event(1, 0));
                }
                Step::Again(which) if !self.sent.is_empty() => {
                    let report = self.sent[which % self.sent.len()].clone();
                    // Instances before those that the gate remembers ended long ago.
                    if report.run + 3 >= self.runs {
                        hear(&self.gate, START.plus(self.now), [report].into_iter()).unwrap();
                    }
                }
                Step::Again(_) => {}
                Step::Sleep if self.timer.is_none() && self.call.is_none() => {
                    let lost = self.lost;
                    self.forget();
                    let was_well = self.well_since != u64::MAX;
                    assert!(self.lost == lost || !was_well, "sleep loses {}", self.lost - lost);
                }
                Step::Sleep => {}
                Step::Crash => {
                    self.kept = Counts::default();
                    self.forget();
                }
                Step::Clock(ms) => self.offset += ms,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Whatever is lost or doubled, whoever sleeps or dies, and however the clock steps: what happened is heard of once, but
        /// for what was in memory when the object died; nothing waits for longer than a report takes; nothing keeps a quiet
        /// object awake; and sleep loses nothing.
        #[test]
        fn everything_is_told_once_and_soon(steps in prop::collection::vec(step(), 1..120)) {
            let mut world = World::new();
            for step in steps {
                world.step(step);
                prop_assert!(world.heard() + world.lost <= world.total());
            }
            world.reach = (true, true);
            for standing in [Standing::Forgetful, Standing::Forgetful, Standing::Forgetful] {
                world.step(Step::Stand(standing));
                world.pass(2 * REPORT_MS);
            }
            prop_assert_eq!(world.heard() + world.lost, world.total());
            prop_assert!(world.timer.is_none() && world.call.is_none());
        }
    }
}
