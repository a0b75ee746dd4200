//! What a tenant uses: counted in its objects, told to its gate, added up there, and held against budgets.
//!
//! An object counts in memory ([`Tally`]) and tells the gate when it has become quiet, and every [`REPORT_MS`] under load. The gate counts
//! each report once and keeps hours, days and budgets ([`windows`], [`set_budgets`]). So nothing is written where work is done,
//! and the price is exactness: what was not told when an object ends is lost, and what a budget allows may be passed by what was
//! under way.

mod budgets;
mod calendar;
mod ledger;
mod meter;
mod prices;
mod quiet;
#[cfg(test)]
#[cfg(feature = "native")]
mod tests;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::calls::tenant::UsageForm;
use tidegate_protocol::calls::usage::{Counts, Meter, Report};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{BudgetView, BudgetsView, UsageSum, UsageView, UsageWindow};
use tidegate_protocol::time::UnixMs;

pub use budgets::{
    BUDGETS_MAX, Budget, SetBy, UNITS_MAX, check, note_set, of_composition, parse as parse_budgets,
    read as read_budgets, set as set_budgets, spent,
};
pub use calendar::{DAY_MS, HOUR_MS, Window};
pub use ledger::{DAYS_KEPT_MS, HOURS_KEPT_MS, LEDGER, RUNS_KEPT, windows};
pub use meter::Tally;
pub use prices::Prices;
pub use quiet::{Next, QUIET_MS, REPORT_MS, Standing};

use crate::database::{Database, DatabaseError};

/// Counts what `reports` tell, each once, and looks at the budgets. Gives whether a budget has been spent just now, which hubs
/// have to hear of.
///
/// Errors: the database's.
pub fn hear(db: &impl Database, now: UnixMs, reports: impl Iterator<Item = Report>) -> Result<bool, DatabaseError> {
    match ledger::take(db, now, reports)? {
        Some(open) => budgets::judge(db, now, &open),
        None => Ok(false),
    }
}

/// What was used, in one of its forms; as the API shows it, it is a [`UsageView`].
///
/// Errors: the database's.
pub fn show(
    db: &impl Database,
    now: UnixMs,
    window: Window,
    (from, to): (UnixMs, UnixMs),
    prices: &Prices,
    form: UsageForm,
) -> Result<Option<JsonText>, DatabaseError> {
    let used = windows(db, window, from, to)?;
    let mut total = Counts::default();
    for (_, counts) in &used {
        total.add_all(counts);
    }
    let view = |(at, counts): &(UnixMs, Counts)| UsageWindow {
        at: *at,
        until: window.end(*at),
        meters: counts.into(),
        estimated_cost: prices.cost(counts),
    };
    match form {
        UsageForm::View => {}
        UsageForm::Lines => {
            let lines = used.iter().map(view).filter_map(|window| JsonText::of(&window));
            let text: String = lines
                .flat_map(|line| [String::from(line.as_str()), String::from("\n")])
                .collect();
            return Ok(JsonText::of(&text));
        }
        UsageForm::Csv => return Ok(JsonText::of(&csv(window, &used, prices))),
    }
    let usage = used.iter().map(view).collect();
    Ok(JsonText::of(&UsageView {
        window: String::from(window.as_str()),
        from,
        to,
        usage,
        total: UsageSum {
            meters: (&total).into(),
            estimated_cost: prices.cost(&total),
        },
        prices: prices.view(),
        budgets: budget_views(db, now)?,
    }))
}

/// The windows as CSV (RFC 4180): a header, and a record for each, all ended by CRLF. No field needs quotes: all are times and
/// numbers.
fn csv(window: Window, used: &[(UnixMs, Counts)], prices: &Prices) -> String {
    let mut text = format!("at,until,{},estimated_cost,currency\r\n", Meter::NAMES.join(","));
    for (at, counts) in used {
        text += &format!("{at},{}", window.end(*at));
        for meter in Meter::ALL {
            text += &format!(",{}", counts.of(meter));
        }
        text += &format!(",{},{}\r\n", prices.cost(counts), prices.currency);
    }
    text
}

/// Every budget and how it stands, as the API shows it: a [`BudgetsView`].
///
/// Errors: the database's.
pub fn show_budgets(db: &impl Database, now: UnixMs) -> Result<Option<JsonText>, DatabaseError> {
    Ok(JsonText::of(&BudgetsView {
        budgets: budget_views(db, now)?,
    }))
}

fn budget_views(db: &impl Database, now: UnixMs) -> Result<Vec<BudgetView>, DatabaseError> {
    let standings = budgets::standings(db)?;
    if standings.is_empty() {
        return Ok(Vec::new());
    }
    let open = ledger::at(db, now)?;
    let view = |standing: budgets::Standing| {
        let budget = standing.budget;
        let until = budget.per.end(now);
        let state = match () {
            () if standing.spent_until == until => "spent",
            () if standing.warned == until => "warned",
            () => "open",
        };
        BudgetView {
            used: open.used(budget.per).of(budget.meter),
            name: budget.name,
            set_by: standing.set_by,
            meter: String::from(budget.meter.as_str()),
            per: String::from(budget.per.as_str()),
            units: budget.units,
            warn_units: budget.warn_units,
            until,
            state: String::from(state),
        }
    };
    Ok(standings.into_iter().map(view).collect())
}
