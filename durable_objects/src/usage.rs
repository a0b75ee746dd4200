//! What an object counts of its tenant's use, and how the gate hears of it. What counts is in [`tidegate_engine::usage`].

use std::cell::{Cell, RefCell, RefMut};
use std::ops::RangeInclusive;
use std::rc::Rc;

use tidegate_engine::usage::{Next, REPORT_MS, Standing, Tally};
use tidegate_protocol::calls::tenant::Call;
use tidegate_protocol::calls::usage::{Meter, Report, Source};
use tidegate_protocol::ids::TenantId;
use worker::{Env, State};

use crate::platform::{beside, log_error, now, random};
use crate::remote;
use crate::sql::ObjectDatabase;
use crate::timer::sleep;

/// How long objects gather what they count at most, in milliseconds, where it is not [`REPORT_MS`]; `0`: nothing is told.
const EVERY: &str = "TIDEGATE_USAGE_REPORT_MS";
/// More often would cost more than what is counted.
const EVERY_MS: RangeInclusive<u64> = 100..=60_000;

/// The counts of one instance of an object.
pub struct Usage {
    /// Whom it tells, and for whom. `None`: nobody.
    place: Option<(Env, TenantId)>,
    tally: RefCell<Tally>,
    /// Rows read and written that have been counted.
    rows: Cell<(f64, f64)>,
}

impl Usage {
    /// Nothing yet.
    pub fn new(source: Source, place: Option<(Env, TenantId)>) -> Self {
        Self {
            place,
            tally: RefCell::new(Tally::new(source, random())),
            rows: Cell::new((0.0, 0.0)),
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

    /// Something happens in an object that others tell for.
    pub fn begins(&self) {
        self.tally.borrow_mut().event(now());
    }

    /// It has ended.
    pub fn ends(&self) {
        self.tally.borrow_mut().slept(now());
    }

    /// What is to be told now, with the rows of `db`.
    pub fn report(&self, db: &ObjectDatabase) -> Option<Report> {
        self.with_rows(db).report()
    }

    /// Everything that is counted here.
    fn with_rows(&self, db: &ObjectDatabase) -> RefMut<'_, Tally> {
        let mut tally = self.tally.borrow_mut();
        let (read, written) = (db.rows_read(), db.rows_written());
        let (read_before, written_before) = self.rows.replace((read, written));
        tally.add(Meter::RowsRead, whole(read - read_before));
        tally.add(Meter::RowsWritten, whole(written - written_before));
        tally
    }

    /// The gate has taken a report.
    pub fn confirmed(&self, seq: u64) {
        self.tally.borrow_mut().confirmed(now(), seq);
    }

    /// The tenant is erased: nothing is told of it any more.
    pub fn forget(&self, db: &ObjectDatabase) {
        self.tally.borrow_mut().begin_anew(random());
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
    /// Its rows.
    fn db(&self) -> &ObjectDatabase;
    /// What has it awake, and what keeps its counts.
    fn standing(&self) -> Standing;
    /// Counts what was counted elsewhere, before the gate is told or what is counted is kept.
    fn collect(&self, _next: Next, _tally: &mut Tally) {}
}

/// Something happens in an object, which counts it and has its gate told.
pub fn event(state: &State, object: &Rc<impl Counts + 'static>) {
    if object.usage().tally.borrow_mut().event(now()) {
        tell(state, object.clone());
    }
}

fn every_ms(env: &Env) -> Option<u64> {
    let said = env.var(EVERY).ok().and_then(|text| text.to_string().parse().ok());
    match said {
        Some(0) => None,
        said => Some(said.filter(|ms| EVERY_MS.contains(ms)).unwrap_or(REPORT_MS)),
    }
}

/// Has the gate told what `object` counts, when it has become quiet.
fn tell(state: &State, object: Rc<dyn Counts>) {
    let every_ms = object.usage().place.as_ref().and_then(|(env, _)| every_ms(env));
    let Some(every_ms) = every_ms else { return };
    beside(state, async move {
        let usage = object.usage();
        let Some((env, tenant)) = &usage.place else { return };
        loop {
            let next = usage.tally.borrow_mut().next(now(), every_ms, object.standing());
            match next {
                Next::Wait(ms) => sleep(ms).await,
                Next::Tell => {
                    let report = {
                        let mut tally = usage.with_rows(object.db());
                        object.collect(next, &mut tally);
                        tally.report()
                    };
                    let Some(report) = report else { return };
                    match remote::tenant(env, tenant, &Call::Used(report.to_numbers())).await {
                        Ok(_) => usage.confirmed(report.seq),
                        Err(error) => log_error("the gate was not told of use", error),
                    }
                }
                Next::Keep => return object.collect(next, &mut usage.with_rows(object.db())),
                Next::Rest => return,
            }
        }
    });
}
