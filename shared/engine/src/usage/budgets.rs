//! Budgets: how much of a meter a tenant may use in a day or month. Past a share of it an entry of the audit trail warns; past
//! all of it new requests are refused until the window ends.
//!
//! A composition has budgets of the tenant's own; an operator can set others, which the tenant cannot change. Both are looked at
//! with every report, so that what passes a budget is what was under way and not told: that of one report of each object.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value as Json;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::access::Access;
use tidegate_protocol::calls::usage::Meter;
use tidegate_protocol::http::{AuditTarget, AuditWhat, AuditWho};
use tidegate_protocol::ids::UserId;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::calendar::Window;
use super::ledger::Open;
use crate::audit;
use crate::composition::{Object, note};
use crate::database::{Database, DatabaseError, Row, Value};

/// The table of the gate. `warned` and `spent_until` are the ends of windows.
pub const TABLE: &str = "-- usage::schema
    CREATE TABLE budget (
        set_by TEXT NOT NULL,
        name TEXT NOT NULL,
        meter TEXT NOT NULL,
        per TEXT NOT NULL,
        units INTEGER NOT NULL,
        warn_units INTEGER NOT NULL,
        warned INTEGER NOT NULL,
        spent_until INTEGER NOT NULL,
        PRIMARY KEY (set_by, name)
    ) STRICT, WITHOUT ROWID";

/// Budgets of a tenant's own at most, and as many of its operator's. Each is looked at with every report.
pub const BUDGETS_MAX: usize = 16;
/// The largest budget: numbers from there on are not exact everywhere.
pub const UNITS_MAX: u64 = 1 << 52;
/// Where a budget warns that does not say it. Percent.
const WARN_PERCENT: u64 = 80;
const NAME: &str = "a name of 1 to 48 characters of a-z, 0-9, '_' and '-', a letter first";

/// Whose budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetBy {
    /// The tenant's own, of its composition.
    Composition,
    /// The deployment's operator's.
    Operator,
}

impl SetBy {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Composition => "composition",
            Self::Operator => "operator",
        }
    }
}

/// A budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its name.
    pub name: String,
    /// What is counted.
    pub meter: Meter,
    /// In which time: a day or a month.
    pub per: Window,
    /// How much may be used.
    pub units: u64,
    /// From how much on it warns.
    pub warn_units: u64,
}

/// A budget, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub set_by: String,
    pub budget: Budget,
    pub warned: UnixMs,
    pub spent_until: UnixMs,
}

/// Reads budgets by their names. What is wrong is noted.
pub fn read(value: &Json, pointer: &str, faults: &mut Vec<Fault>) -> Vec<Budget> {
    let mut budgets = Vec::new();
    let Some(fields) = Object::read(value, pointer, faults) else {
        return budgets;
    };
    for (index, (name, value, pointer)) in fields.entries().enumerate() {
        if index == BUDGETS_MAX {
            note(faults, || {
                Fault::new(pointer, format!("at most {BUDGETS_MAX} budgets"), "more of them")
            });
            break;
        }
        if !crate::composition::is_instance(name) {
            note(faults, || Fault::new(pointer.as_str(), NAME, name));
        }
        let budget = Object::read(value, &pointer, faults).and_then(|fields| read_one(name, fields));
        budgets.extend(budget);
    }
    budgets
}

fn read_one(name: &str, mut fields: Object<'_, '_>) -> Option<Budget> {
    const PERS: [&str; 2] = ["day", "month"];
    fields.require("meter", "what is counted");
    let meter = fields.one_of("meter", &Meter::NAMES).and_then(Meter::parse);
    fields.require("per", "in which time, `day` or `month`");
    let per = fields.one_of("per", &PERS).and_then(Window::parse);
    fields.require("units", "how many units, a whole number");
    let units = fields.number("units", 1..=UNITS_MAX);
    let percent = match fields.has("warn_percent") {
        true => fields.number("warn_percent", 1..=100),
        false => {
            // Asked for all the same: so it is among the fields that may have been meant.
            fields.take("warn_percent");
            Some(WARN_PERCENT)
        }
    };
    fields.finish();
    let (units, percent) = (units?, percent?);
    Some(Budget {
        name: name.into(),
        meter: meter?,
        per: per?,
        units,
        warn_units: units.saturating_mul(percent).div_ceil(100).max(1),
    })
}

/// The budgets of a composition that was checked.
pub fn of_composition(document: &str) -> Vec<Budget> {
    let document: Json = serde_json::from_str(document).unwrap_or_default();
    match document.pointer("/admission/budgets") {
        Some(budgets) => read(budgets, "", &mut Vec::new()),
        None => Vec::new(),
    }
}

/// The budgets in the body of `PUT /v1/admin/tenants/{tenant}/budgets`: `{"budgets": {…}}`.
///
/// Errors: `VALIDATION_ERROR` with every fault.
pub fn parse(text: &str) -> Result<Vec<Budget>, Error> {
    const MESSAGE: &str = "The budgets cannot be set.";
    let body: Json = serde_json::from_str(text).map_err(|_| {
        let fault = Fault::new("", "a JSON object with `budgets`", "something else");
        Error::invalid(MESSAGE, alloc::vec![fault])
    })?;
    let mut faults = Vec::new();
    let mut budgets = Vec::new();
    if let Some(mut fields) = Object::read(&body, "", &mut faults) {
        fields.require("budgets", "the budgets, by name");
        if let Some(value) = fields.take("budgets") {
            budgets = read(value, "/budgets", fields.faults);
        }
        fields.finish();
    }
    if faults.is_empty() {
        return Ok(budgets);
    }
    Err(Error::invalid(MESSAGE, faults))
}

/// Has these budgets take the place of those that were set by `set_by`. One that is as it was keeps how it stands. Gives whether
/// who is refused may have changed.
///
/// Errors: the database's.
pub fn set(db: &impl Database, now: UnixMs, set_by: SetBy, budgets: &[Budget]) -> Result<bool, DatabaseError> {
    let before: Vec<Standing> = standings(db)?
        .into_iter()
        .filter(|standing| standing.set_by == set_by.as_str())
        .collect();
    if before.iter().map(|standing| &standing.budget).eq(budgets) {
        return Ok(false);
    }
    let refused = spent(db)?;
    db.run(
        "-- usage::unset
        DELETE FROM budget WHERE set_by = CAST(? AS TEXT)",
        &[Value::Text(set_by.as_str())],
    )?;
    for budget in budgets {
        let same = before.iter().find(|standing| standing.budget == *budget);
        db.run(
            "-- usage::set
            INSERT INTO budget (set_by, name, meter, per, units, warn_units, warned, spent_until)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            &[
                Value::Text(set_by.as_str()),
                Value::Text(&budget.name),
                Value::Text(budget.meter.as_str()),
                Value::Text(budget.per.as_str()),
                Value::Number(budget.units),
                Value::Number(budget.warn_units),
                Value::Number(same.map_or(0, |same| same.warned.0)),
                Value::Number(same.map_or(0, |same| same.spent_until.0)),
            ],
        )?;
    }
    let open = super::ledger::at(db, now)?;
    judge(db, now, &open)?;
    Ok(spent(db)? != refused)
}

/// Takes down that an operator has set a tenant's budgets.
///
/// Errors: the database's.
pub fn note_set(db: &impl Database, now: UnixMs, caller: &Caller) -> Result<(), DatabaseError> {
    audit::note(db, now, caller, AuditWhat::BudgetsSet, AuditTarget::default())
}

/// Every budget and how it stands, in the order of whose they are and their names.
pub(super) fn standings(db: &impl Database) -> Result<Vec<Standing>, DatabaseError> {
    let rows = db.run(
        "-- usage::standings
        SELECT set_by, name, meter, per, units, warn_units, warned, spent_until FROM budget ORDER BY set_by, name",
        &[],
    )?;
    rows.into_iter().map(standing).collect()
}

fn standing(mut row: Row) -> Result<Standing, DatabaseError> {
    let (set_by, name, meter, per) = (row.text()?, row.text()?, row.text()?, row.text()?);
    let unreadable = || DatabaseError::new("a budget cannot be read");
    Ok(Standing {
        set_by,
        budget: Budget {
            name,
            meter: Meter::parse(&meter).ok_or_else(unreadable)?,
            per: Window::parse(&per).ok_or_else(unreadable)?,
            units: row.number()?,
            warn_units: row.number()?,
        },
        warned: UnixMs(row.number()?),
        spent_until: UnixMs(row.number()?),
    })
}

/// Looks at every budget after a change of what was used. Gives whether one has been spent just now.
pub(super) fn judge(db: &impl Database, now: UnixMs, open: &Open) -> Result<bool, DatabaseError> {
    let mut any = false;
    for Standing {
        set_by,
        budget,
        warned,
        spent_until,
    } in standings(db)?
    {
        let used = open.used(budget.per).of(budget.meter);
        let end = budget.per.end(now);
        let (warns, spends) = (
            used >= budget.warn_units && warned != end,
            used >= budget.units && spent_until != end,
        );
        if !warns && !spends {
            continue;
        }
        if warns {
            take_down(db, now, AuditWhat::BudgetWarned, &budget)?;
        }
        if spends {
            take_down(db, now, AuditWhat::BudgetSpent, &budget)?;
            any = true;
        }
        db.run(
            "-- usage::judge
            UPDATE budget SET warned = ?, spent_until = ? WHERE set_by = CAST(? AS TEXT) AND name = CAST(? AS TEXT)",
            &[
                Value::Number(if warns { end.0 } else { warned.0 }),
                Value::Number(if spends { end.0 } else { spent_until.0 }),
                Value::Text(&set_by),
                Value::Text(&budget.name),
            ],
        )?;
    }
    Ok(any)
}

/// What nobody did by hand is the system's own act.
fn take_down(db: &impl Database, now: UnixMs, what: AuditWhat, budget: &Budget) -> Result<(), DatabaseError> {
    let Some(user) = UserId::parse("tidegate") else {
        return Ok(());
    };
    let target = AuditTarget {
        budget: Some(budget.name.clone()),
        ..AuditTarget::default()
    };
    let who = AuditWho { user, via: None };
    audit::note_by(db, now, who, what, target)
}

/// The budget that is spent for longest, and until when.
///
/// Errors: the database's.
pub fn spent(db: &impl Database) -> Result<Option<(String, UnixMs)>, DatabaseError> {
    let rows = db.run(
        "-- usage::spent
        SELECT name, spent_until FROM budget WHERE spent_until > 0 ORDER BY spent_until DESC, name LIMIT 1",
        &[],
    )?;
    rows.into_iter()
        .next()
        .map(|mut row| Ok((row.text()?, UnixMs(row.number()?))))
        .transpose()
}

/// Whether requests may use more, as far as the gate told.
///
/// Errors: `QUOTA_EXCEEDED`, with the budget and when its window ends.
pub fn check(access: &Access, now: UnixMs) -> Result<(), Error> {
    match &access.spent {
        Some((name, until)) if now < *until => {
            let message = format!("The budget `{name}` of the tenant is spent. Its window ends at {until}.");
            Err(Error::new(ErrorCode::QuotaExceeded, message).retry_after(until.since(now)))
        }
        _ => Ok(()),
    }
}
