//! An object's SQLite behind the engine's [`Database`].
//!
//! The bindings are our own because those of the `worker` crate let exceptions of a cursor through as panics, cannot
//! run a synchronous transaction, and take the alarm only by a promise. A row is read as a JavaScript array.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;

use js_sys::{Array, JsString, Uint8Array};
use tidegate_engine::database::{Cell, Database, DatabaseError, Row, Value, gives_rows, made, migrate, suite};
use tidegate_protocol::time::UnixMs;
use wasm_bindgen::prelude::*;

use crate::bytes;
use crate::platform::log_error;
use tidegate_protocol::SortedMap;

#[wasm_bindgen]
extern "C" {
    type RawStorage;
    #[wasm_bindgen(method, getter)]
    fn sql(this: &RawStorage) -> RawSql;
    #[wasm_bindgen(method, catch, js_name = transactionSync)]
    fn transaction_sync(
        this: &RawStorage,
        turn: &mut dyn FnMut() -> Result<JsValue, JsValue>,
    ) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch, js_name = setAlarm)]
    fn set_alarm(this: &RawStorage, at: f64) -> Result<JsValue, JsValue>;

    type RawSql;
    #[wasm_bindgen(method, catch, variadic)]
    fn exec(this: &RawSql, sql: &JsString, values: &Array) -> Result<RawCursor, JsValue>;

    type RawCursor;
    #[wasm_bindgen(method, catch)]
    fn raw(this: &RawCursor) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch, js_name = toArray)]
    fn to_array(this: &RawCursor) -> Result<Array, JsValue>;
    #[wasm_bindgen(method, getter, js_name = rowsWritten)]
    fn rows_written(this: &RawCursor) -> f64;
    #[wasm_bindgen(method, getter, js_name = rowsRead)]
    fn rows_read(this: &RawCursor) -> f64;

    #[wasm_bindgen(catch, js_namespace = Array, js_name = from)]
    fn array_from(iterator: &JsValue) -> Result<Array, JsValue>;
}

fn refused(cause: &JsValue) -> DatabaseError {
    let message = js_sys::Reflect::get(cause, &JsValue::from_str("message"))
        .ok()
        .and_then(|text| text.as_string());
    DatabaseError::new(message.unwrap_or_else(|| "the database threw something that is no error".into()))
}

/// A statement as the platform takes it.
#[derive(Clone)]
struct Statement {
    text: JsString,
    gives_rows: bool,
}

thread_local! {
    /// The statements of all objects of this isolate that have been run, by the address and length of their text: each is
    /// made into a JavaScript string once. The platform finds what it has compiled by the identity of that string.
    static STATEMENTS: RefCell<SortedMap<(usize, usize), Statement>> = const { RefCell::new(SortedMap::new()) };
}

fn statement(sql: &'static str) -> Statement {
    let place = (sql.as_ptr() as usize, sql.len());
    STATEMENTS.with_borrow_mut(|statements| {
        let known = statements.entry(place).or_insert_with(|| Statement {
            text: JsString::from(sql),
            gives_rows: gives_rows(sql),
        });
        known.clone()
    })
}

/// The SQLite and the alarm of one object.
pub struct ObjectDatabase {
    storage: RawStorage,
    sql: RawSql,
    rows_written: core::cell::Cell<f64>,
    rows_read: core::cell::Cell<f64>,
}

impl ObjectDatabase {
    /// The database of the object with this state.
    pub fn new(state: &worker::State) -> Self {
        let storage: RawStorage = AsRef::<JsValue>::as_ref(state.storage().as_raw())
            .clone()
            .unchecked_into();
        let sql = storage.sql();
        Self {
            storage,
            sql,
            rows_written: core::cell::Cell::new(0.0),
            rows_read: core::cell::Cell::new(0.0),
        }
    }

    /// Runs `turn` in one transaction: everything it writes stays, or where it fails, nothing.
    ///
    /// Errors: those of `turn`, and the platform's.
    pub fn transaction<T>(&self, turn: impl FnOnce(&Self) -> Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        // A panic inside rolls back, and nothing of this outlives it: the turn may be unwound.
        let slot = AssertUnwindSafe(RefCell::new((Some(turn), None)));
        let db = AssertUnwindSafe(self);
        let ended = self.storage.transaction_sync(&mut || {
            let (slot, db) = (&slot, &db);
            let Some(turn) = slot.borrow_mut().0.take() else {
                return Err(JsValue::from_str("a turn runs once"));
            };
            let outcome = turn(db.0);
            let failed = outcome.is_err();
            slot.borrow_mut().1 = Some(outcome);
            // Throwing is how a synchronous transaction is told to roll back.
            if failed {
                Err(JsValue::from_str("rolled back"))
            } else {
                Ok(JsValue::UNDEFINED)
            }
        });
        match (slot.0.into_inner().1, ended) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(value)), Ok(_)) => Ok(value),
            (_, Err(cause)) => Err(refused(&cause)),
            (None, Ok(_)) => Err(DatabaseError::new("the transaction did not run")),
        }
    }

    /// Sets the object's one alarm. It commits with the rows that were written before it in the same turn.
    ///
    /// Errors: the platform's.
    pub fn set_alarm(&self, at: UnixMs) -> Result<(), DatabaseError> {
        // A setAlarm counts as one row on the bill.
        self.rows_written.set(self.rows_written.get() + 1.0);
        #[expect(clippy::cast_precision_loss, reason = "a date, far below 2^53")]
        self.storage
            .set_alarm(at.0 as f64)
            .map(|_| ())
            .map_err(|cause| refused(&cause))
    }

    /// Runs the engine's suite of statements here, and takes everything back. For tests; no call from outside reaches
    /// it. Gives `ok`, or every case that did not hold.
    pub fn check(&self) -> String {
        let mut found = String::from("the suite did not run");
        let rolled_back = self.transaction(|db| {
            found = match suite::run(db).and_then(|broken| Ok((broken, db.keeps_what_is_lent()?))) {
                Ok((broken, true)) if broken.is_empty() => "ok".into(),
                Ok((_, false)) => "what is lent is lost where the memory grows".into(),
                Ok((broken, true)) => broken.join("\n"),
                Err(error) => error.to_string(),
            };
            Err::<(), _>(DatabaseError::new("taken back"))
        });
        if rolled_back.is_ok() {
            "the transaction was not rolled back".into()
        } else {
            found
        }
    }

    /// Whether a statement gets its bytes although the memory grows after they were lent.
    fn keeps_what_is_lent(&self) -> Result<bool, DatabaseError> {
        const LENT: &[u8] = b"lent";
        let statement = statement("SELECT ? AS lent");
        let grown = core::cell::Cell::new(false);
        let bound = bytes::lending(|lender| {
            let bound = bind(lender, &[Value::Blob(LENT)]);
            if !grown.replace(true) {
                #[cfg(target_arch = "wasm32")]
                core::arch::wasm32::memory_grow::<0>(1);
            }
            bound
        });
        let mut rows = self.run_with(&statement, &bound)?.into_iter();
        Ok(rows.next().map(|mut row| row.blob()).transpose()?.as_deref() == Some(LENT))
    }

    fn run_with(&self, statement: &Statement, bound: &Array) -> Result<Vec<Row>, DatabaseError> {
        let cursor = self.sql.exec(&statement.text, bound).map_err(|cause| refused(&cause))?;
        // A cursor that is not read to its end keeps its compiled statement until it is collected as garbage. An empty one
        // is at its end soonest without an iterator.
        let rows = if statement.gives_rows {
            cursor.raw().and_then(|rows| array_from(&rows))
        } else {
            cursor.to_array()
        };
        let rows = rows.map_err(|cause| refused(&cause))?;
        let read = rows
            .iter()
            .map(|row| Row::new(row.unchecked_into::<Array>().iter().map(cell).collect()))
            .collect();
        self.rows_written.set(self.rows_written.get() + cursor.rows_written());
        self.rows_read.set(self.rows_read.get() + cursor.rows_read());
        Ok(read)
    }

    /// Runs `turn` as [`ObjectDatabase::transaction`] does, behind the steps of the schema where this instance has not taken
    /// them yet. A turn that fails is logged.
    ///
    /// Errors: those of `turn`, and the platform's.
    pub fn migrated<T>(
        &self,
        migrated: &std::cell::Cell<bool>,
        steps: &'static [&'static [&'static str]],
        turn: impl FnOnce(&Self) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let done = self.transaction(|db| {
            if !migrated.get() {
                migrate(db, steps)?;
            }
            turn(db)
        });
        match &done {
            Ok(_) => migrated.set(true),
            Err(error) => log_error("a turn was rolled back", error),
        }
        done
    }

    /// Whether nothing was ever made here, or everything was erased.
    ///
    /// Errors: the platform's.
    pub fn is_blank(&self) -> Result<bool, DatabaseError> {
        Ok(made(self)?.is_empty())
    }

    /// How many rows all tables hold, beside those that only say which migrations have run.
    ///
    /// Errors: the platform's.
    pub fn rows_held(&self) -> Result<u64, DatabaseError> {
        let mut held = 0;
        for table in made(self)?.iter().filter(|table| *table != "migration") {
            for mut row in self.run_made(&format!("SELECT count(*) FROM \"{table}\""), &[])? {
                held += row.number()?;
            }
        }
        Ok(held)
    }

    /// Rows read since the object was constructed.
    pub fn rows_read(&self) -> f64 {
        self.rows_read.get()
    }

    /// Rows written since the object was constructed, each set alarm counted as one.
    pub fn rows_written(&self) -> f64 {
        self.rows_written.get()
    }
}

impl Database for ObjectDatabase {
    fn run(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, DatabaseError> {
        let statement = statement(sql);
        self.run_with(&statement, &bytes::lending(|lender| bind(lender, values)))
    }

    fn run_made(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, DatabaseError> {
        let statement = Statement {
            text: JsString::from(sql),
            gives_rows: gives_rows(sql),
        };
        self.run_with(&statement, &bytes::lending(|lender| bind(lender, values)))
    }
}

/// The parameters of a statement that is run right after this, and has read them when it has run.
fn bind(lender: &bytes::Lender, values: &[Value<'_>]) -> Array {
    let bound = Array::new_with_length(u32::try_from(values.len()).unwrap_or(0));
    for (at, value) in (0..).zip(values) {
        let value = match value {
            Value::Null => JsValue::NULL,
            #[expect(clippy::cast_precision_loss, reason = "below 2^53 by the trait's contract")]
            Value::Number(number) => JsValue::from_f64(*number as f64),
            Value::Real(number) => JsValue::from_f64(*number),
            Value::Text(text) => JsValue::from_str(text),
            Value::Blob(bytes) => lender.lend(bytes).into(),
        };
        bound.set(at, value);
    }
    bound
}

fn cell(value: JsValue) -> Cell {
    if let Some(number) = value.as_f64() {
        Cell::Number(number)
    } else if let Some(text) = value.as_string() {
        Cell::Text(text)
    } else if value.is_null() || value.is_undefined() {
        Cell::Null
    } else {
        Cell::Blob(bytes::take(&Uint8Array::new(&value)))
    }
}
