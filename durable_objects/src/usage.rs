//! What an object counts of its tenant's use, and how the gate hears of it. What counts is in [`tidegate_engine::usage`].

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::rc::Rc;

use tidegate_engine::usage::{REPORT_MS, Tally};
use tidegate_protocol::calls::tenant::Call;
use tidegate_protocol::calls::usage::{Meter, Report, Source};
use tidegate_protocol::ids::TenantId;
use worker::{Env, State};

use crate::platform::{beside, log_error, now, random};
use crate::remote;
use crate::sql::ObjectDatabase;
use crate::timer::sleep;

/// How often objects tell what they count, in milliseconds, where it is not [`REPORT_MS`]; `0`: never. While a report is to come, an
/// object is not evicted: one that is busy with little things all the time never would be, where somebody asks for it, as tests do.
const EVERY: &str = "TIDEGATE_USAGE_REPORT_MS";
/// More often would cost more than what is counted.
const EVERY_MS: RangeInclusive<u64> = 100..=60_000;

/// How often a report is told before it waits for the next event. A tenant's gate that cannot be reached keeps nobody awake.
const TRIES_MAX: u32 = 3;

/// The counts of one instance of an object.
pub struct Usage {
    source: Source,
    tally: RefCell<Tally>,
    /// Rows read and written that have been counted.
    rows: Cell<(f64, f64)>,
    /// Whether somebody will tell the gate.
    tells: Cell<bool>,
}

impl Usage {
    /// Nothing yet.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            tally: RefCell::new(Tally::new(source, random())),
            rows: Cell::new((0.0, 0.0)),
            tells: Cell::new(false),
        }
    }

    /// Counts `units`.
    pub fn add(&self, meter: Meter, units: u64) {
        self.tally.borrow_mut().add(meter, units);
    }

    /// Counts so many bytes, or things that are as many.
    pub fn add_len(&self, meter: Meter, length: usize) {
        self.add(meter, u64::try_from(length).unwrap_or(u64::MAX));
    }

    /// Something happens in the object. Whoever is told `true` has the gate told, with [`tell`].
    #[must_use]
    pub fn event(&self) -> bool {
        self.tally.borrow_mut().event(now());
        !self.tells.replace(true)
    }

    /// The timer is over, which has kept the object awake until now. What happens from now on needs another.
    fn due(&self) {
        self.tally.borrow_mut().event(now());
        self.tells.set(false);
    }

    /// What is to be told now, with the rows of `db` and what `collect` counts.
    pub fn report(&self, db: &ObjectDatabase, collect: impl FnOnce(&mut Tally)) -> Option<Report> {
        let mut tally = self.tally.borrow_mut();
        let (read, written) = (db.rows_read(), db.rows_written());
        let (read_before, written_before) = self.rows.replace((read, written));
        tally.add(Meter::RowsRead, whole(read - read_before));
        tally.add(Meter::RowsWritten, whole(written - written_before));
        collect(&mut tally);
        tally.report()
    }

    /// The gate has taken a report.
    pub fn confirmed(&self, seq: u64) {
        self.tally.borrow_mut().confirmed(seq);
    }

    /// The tenant is erased: nothing is told of it any more.
    pub fn forget(&self, db: &ObjectDatabase) {
        *self.tally.borrow_mut() = Tally::new(self.source, random());
        self.rows.set((db.rows_read(), db.rows_written()));
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of rows, far below 2^53; what is below zero becomes zero"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

/// An object that counts, and tells the gate.
pub trait Counts {
    /// Its counts.
    fn usage(&self) -> &Usage;
    /// Where it runs, and for whom.
    fn place(&self) -> Option<(&Env, &State, &TenantId)>;
    /// What is to be told now.
    fn report(&self) -> Option<Report>;
}

fn every_ms(env: &Env) -> Option<u64> {
    let said = env.var(EVERY).ok().and_then(|text| text.to_string().parse().ok());
    match said {
        Some(0) => None,
        said => Some(said.filter(|ms| EVERY_MS.contains(ms)).unwrap_or(REPORT_MS)),
    }
}

/// Has the gate told what `object` counts some time from now. What happens while it is told has it told again.
pub fn tell(object: Rc<dyn Counts>) {
    let kept = object.clone();
    let Some((env, state, _)) = kept.place() else { return };
    let Some(every_ms) = every_ms(env) else { return };
    beside(state, async move {
        sleep(every_ms).await;
        object.usage().due();
        for _ in 0..TRIES_MAX {
            let (Some((env, _, tenant)), Some(report)) = (object.place(), object.report()) else {
                return;
            };
            match remote::tenant(env, tenant, &Call::Used(report.to_numbers())).await {
                Ok(_) => return object.usage().confirmed(report.seq),
                Err(error) => log_error("the gate was not told of use", error),
            }
            sleep(every_ms).await;
        }
    });
}
