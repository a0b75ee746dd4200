//! What objects count of use, on its way to the gates: lost, doubled and late, told by objects that sleep and die.
//!
//! Hubs count frames, and objects of the job queue count jobs. Everything that happened has to be found in a report, in the
//! attachment of a socket, or among what a crash took; and the gate holds what was told, once.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_engine::database::DatabaseError;
use tidegate_engine::database::native::Native;
use tidegate_engine::hub::Session;
use tidegate_engine::tenancy;
use tidegate_engine::usage::{Budget, Next, REPORT_MS, SetBy, Standing, Tally, Window, set_budgets, spent, windows};
use tidegate_protocol::calls::usage::{Counts, Meter, Report, Source};
use tidegate_protocol::http::AuditWhat;
use tidegate_protocol::ids::{HubIndex, ShardIndex};
use tidegate_protocol::time::UnixMs;

use crate::world::{Check, Event, World};

/// Jobs that a tenant may have in a day, from the first of which it is warned, and past which it is refused. Nobody is refused
/// here: hubs hear of it from their shells.
const BUDGET: (u64, u64) = (3, 6);

/// Gives a tenant its budget.
///
/// Errors: the database's.
pub fn set_budget(db: &Native) -> Check {
    let budget = Budget {
        name: "few".into(),
        meter: Meter::Jobs,
        per: Window::Day,
        units: BUDGET.1,
        warn_units: BUDGET.0,
    };
    let set = set_budgets(db, UnixMs(0), SetBy::Operator, &[budget]);
    set.map(drop).map_err(|error| error.message)
}

/// Who counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A hub, which counts the frames of its sockets.
    Hub(usize),
    /// An object of the job queue, which counts the jobs that it stores.
    Shard(usize),
}

impl Who {
    fn meter(self) -> Meter {
        match self {
            Self::Hub(_) => Meter::MessagesIn,
            Self::Shard(_) => Meter::Jobs,
        }
    }
}

/// What an object counts in one of its lives.
struct Counting {
    run: u64,
    tally: Tally,
    /// Whether somebody waits to tell.
    awake: bool,
    /// Whether a report has failed in this life.
    failed: bool,
}

/// What is known of an object over all of its lives.
#[derive(Debug, Default)]
struct Known {
    happened: u64,
    /// What was told, or tried to be, by run and number.
    told: BTreeMap<(u64, u64), u64>,
    lost: u64,
}

/// All that is counted, and what becomes of it.
#[derive(Default)]
pub struct Uses {
    counting: BTreeMap<Who, Counting>,
    known: BTreeMap<Who, Known>,
    /// Which reports the gates have taken.
    heard: BTreeMap<(Who, u64, u64), u64>,
    runs: u64,
    /// Whose budget has been spent, as hubs were told.
    spent: BTreeSet<usize>,
}

impl World {
    fn source(&self, who: Who) -> (usize, Source) {
        match who {
            Who::Hub(hub) => {
                let tenant = self.hubs[hub].tenant;
                let index = (hub - self.tenants[tenant].first_hub) as u16;
                (tenant, Source::hub(HubIndex(index)))
            }
            Who::Shard(shard) => {
                let tenant = self.shards[shard].tenant;
                let index = (shard - self.tenants[tenant].first_shard) as u16;
                (tenant, Source::jobs(ShardIndex(index)))
            }
        }
    }

    /// Something happens in an object that is in memory.
    pub fn count(&mut self, who: Who, units: u64) -> Check {
        let (_, source) = self.source(who);
        let now = self.clock();
        let uses = &mut self.uses;
        uses.known.entry(who).or_default().happened += units;
        let runs = &mut uses.runs;
        let counting = uses.counting.entry(who).or_insert_with(|| {
            *runs += 1;
            Counting {
                run: *runs,
                tally: Tally::new(source, *runs),
                awake: false,
                failed: false,
            }
        });
        counting.tally.add(who.meter(), units);
        if counting.tally.event(now) {
            counting.awake = true;
            self.tell_use(who)?;
        }
        Ok(())
    }

    /// What the platform keeps for an object while it sleeps.
    fn kept(&self, who: Who) -> u64 {
        let Who::Hub(hub) = who else { return 0 };
        let sessions = self.hubs[hub].attached().filter_map(Session::from_attachment);
        sessions.map(|session| Counts(session.untold).of(who.meter())).sum()
    }

    fn use_standing(&self, who: Who) -> Standing {
        match who {
            Who::Hub(hub) if self.hubs[hub].waits() => Standing::Busy,
            Who::Hub(hub) if self.hubs[hub].attached().next().is_some() => Standing::Keeping,
            Who::Shard(shard) if self.shards[shard].waits() => Standing::Busy,
            Who::Hub(_) | Who::Shard(_) => Standing::Forgetful,
        }
    }

    /// As the shells do it.
    fn tell_use(&mut self, who: Who) -> Check {
        loop {
            let (now, standing) = (self.clock(), self.use_standing(who));
            let Some(counting) = self.uses.counting.get_mut(&who) else {
                return Ok(());
            };
            let run = counting.run;
            let next = counting.tally.next(now, REPORT_MS, standing);
            match next {
                Next::Wait(ms) => {
                    self.after(ms, Event::Quiet { who, run });
                    return Ok(());
                }
                Next::Tell => {
                    self.collect_use(who, next)?;
                    return self.send_use(who, run);
                }
                Next::Keep => {
                    self.counters.uses_kept += 1;
                    self.collect_use(who, next)?;
                }
                Next::Rest => {
                    if let Some(counting) = self.uses.counting.get_mut(&who) {
                        counting.awake = false;
                    }
                    return Ok(());
                }
            }
        }
    }

    fn collect_use(&mut self, who: Who, next: Next) -> Check {
        let Who::Hub(hub) = who else { return Ok(()) };
        let Some(counting) = self.uses.counting.get_mut(&who) else {
            return Ok(());
        };
        let tally = &mut counting.tally;
        let memory = self.hubs[hub].hub()?;
        memory.take_used(tally);
        let effects = match next {
            Next::Keep => memory.keep_used(tally),
            _ => memory.take_kept(tally),
        };
        for effect in effects {
            self.perform_one(hub, effect)?;
        }
        Ok(())
    }

    fn send_use(&mut self, who: Who, run: u64) -> Check {
        let Some(counting) = self.uses.counting.get_mut(&who) else {
            return Ok(());
        };
        let Some(report) = counting.tally.report() else {
            counting.awake = false;
            return Ok(());
        };
        let units = report.counts.of(who.meter());
        let told = &mut self.uses.known.entry(who).or_default().told;
        let before = told.insert((run, report.seq), units);
        if before.is_some_and(|before| before != units) {
            return Err(format!("{who:?} told {units} under the number of {before:?}"));
        }
        if self.fault(100) {
            self.counters.reports_of_use_lost += 1;
            let ms = self.random.within(50..=3000);
            self.after(ms, Event::UseTold { who, run, seq: None });
            return Ok(());
        }
        if self.fault(100) {
            self.counters.reports_of_use_doubled += 1;
            let ms = self.random.within(1..=1000);
            let (report, run) = (report.clone(), u64::MAX);
            self.after(ms, Event::Used { who, run, report });
        }
        let ms = self.random.within(1..=300);
        self.after(ms, Event::Used { who, run, report });
        Ok(())
    }

    /// A wait is over.
    pub fn use_waited(&mut self, who: Who, run: u64) -> Check {
        match self.uses.counting.get(&who) {
            Some(counting) if counting.run == run => self.tell_use(who),
            _ => Ok(()),
        }
    }

    /// The gate hears a report.
    pub fn use_heard(&mut self, who: Who, run: u64, report: Report) -> Check {
        let (gate, _) = self.source(who);
        let (before, after) = (self.fault(60), self.fault(60));
        let now = self.clock();
        let turn = self.gates[gate].db.transaction(|db| {
            let effects = tenancy::used(db, now, [report.clone()].into_iter())?;
            if before {
                Err(DatabaseError::new("crash"))
            } else {
                Ok(effects)
            }
        });
        match turn {
            Err(_) if before => {}
            Err(error) => return Err(format!("the tenant's database: {error}")),
            Ok(effects) => {
                self.counters.uses_heard += 1;
                let spent = !effects.is_empty();
                self.tell(gate, effects, after)?;
                let units = report.counts.of(who.meter());
                self.uses.heard.insert((who, report.run, report.seq), units);
                self.check_ledger(gate)?;
                self.check_budget(gate, spent)?;
            }
        }
        self.counters.gates_crashed += u64::from(before || after);
        let seq = (!before && !after).then_some(report.seq);
        let ms = self.random.within(1..=300);
        self.after(ms, Event::UseTold { who, run, seq });
        Ok(())
    }

    /// The gate has confirmed, or was not reached.
    pub fn use_told(&mut self, who: Who, run: u64, seq: Option<u64>) -> Check {
        let now = self.clock();
        match self.uses.counting.get_mut(&who) {
            Some(counting) if counting.run == run => {
                match seq {
                    Some(seq) => counting.tally.confirmed(now, seq),
                    None => counting.failed = true,
                }
                self.tell_use(who)
            }
            _ => Ok(()),
        }
    }

    /// An object loses its memory. One that was put to sleep while nobody waited loses nothing by that.
    pub fn use_forgotten(&mut self, who: Who, sleeps: bool) -> Check {
        let kept = self.kept(who);
        // One that was asleep has lost its sockets all the same, and what they kept.
        let counting = self.uses.counting.remove(&who);
        let known = self.uses.known.entry(who).or_default();
        let told: u64 = known.told.values().sum();
        let missing = known.happened.checked_sub(told + kept);
        let Some(lost) = missing else {
            return Err(format!("{who:?} told {told} and kept {kept} of {}", known.happened));
        };
        if lost < known.lost {
            return Err(format!("{who:?} told {} that were lost", known.lost - lost));
        }
        let may_lose = counting.is_none_or(|counting| counting.awake || counting.failed);
        if sleeps && !may_lose && lost > known.lost {
            return Err(format!("{who:?} lost {} in its sleep", lost - known.lost));
        }
        self.counters.uses_lost += lost - known.lost;
        known.lost = lost;
        Ok(())
    }

    /// A gate holds what it was told, once.
    fn check_ledger(&self, gate: usize) -> Check {
        let end = UnixMs(self.latest_clock.max(self.clock().0) + 40 * 86_400_000);
        let held = windows(&self.gates[gate].db, Window::Day, UnixMs(0), end).map_err(|error| error.message)?;
        for meter in [Meter::MessagesIn, Meter::Jobs] {
            let held: u64 = held.iter().map(|(_, counts)| counts.of(meter)).sum();
            let of_gate = |who: Who| self.source(who).0 == gate && who.meter() == meter;
            let heard = self.uses.heard.iter().filter(|((who, _, _), _)| of_gate(*who));
            let heard: u64 = heard.map(|(_, units)| units).sum();
            if held != heard {
                let name = meter.as_str();
                return Err(format!("a gate holds {held} of {name}, and was told {heard}"));
            }
        }
        Ok(())
    }

    /// A budget is spent as soon as that much is heard of, hubs are told of it once, and each word about it is said once.
    fn check_budget(&mut self, gate: usize, told: bool) -> Check {
        let of_gate = |who: Who| self.source(who).0 == gate && who.meter() == Meter::Jobs;
        let heard = self.uses.heard.iter().filter(|((who, _, _), _)| of_gate(*who));
        let heard: u64 = heard.map(|(_, units)| units).sum();
        let db = &self.gates[gate].db;
        let (warn, units) = BUDGET;
        let is_spent = spent(db).map_err(|error| error.message)?.is_some();
        if is_spent != (heard >= units) {
            return Err(format!(
                "of a budget of {units}, {heard} are used, and it is spent: {is_spent}"
            ));
        }
        if told {
            self.counters.budgets_spent += 1;
            if !self.uses.spent.insert(gate) {
                return Err("a budget was spent twice in its window".into());
            }
        }
        for (what, from) in [(AuditWhat::BudgetWarned, warn), (AuditWhat::BudgetSpent, units)] {
            let said = self.entries(gate, what)?;
            if said != u64::from(heard >= from) {
                let what = what.as_str();
                return Err(format!("`{what}` was said {said} times of {heard} used"));
            }
        }
        Ok(())
    }

    /// Something happens in every object that is in memory, so that what could not be told is told.
    pub fn stir_uses(&mut self) -> Check {
        let all: Vec<Who> = self.uses.counting.keys().copied().collect();
        all.into_iter().try_for_each(|who| self.count(who, 0))
    }

    /// In the end everything is told, kept, or was lost in a crash.
    pub fn uses_at_rest(&self) -> Check {
        for (who, known) in &self.uses.known {
            let (told, kept) = (known.told.values().sum::<u64>(), self.kept(*who));
            if known.happened != told + kept + known.lost {
                return Err(format!(
                    "{who:?} told {told}, kept {kept} and lost {} of {}",
                    known.lost, known.happened
                ));
            }
            let run = self.uses.counting.get(who).map(|counting| counting.run);
            for (of, seq) in known.told.keys() {
                if Some(*of) == run && !self.uses.heard.contains_key(&(*who, *of, *seq)) {
                    return Err(format!("report {seq} of {who:?} was never heard"));
                }
            }
        }
        (0..self.gates.len()).try_for_each(|gate| self.check_ledger(gate))
    }
}
