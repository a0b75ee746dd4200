//! Every table of an object, read into parts and written from them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::part::{Field, Item, Writer, items};
use super::{OWN, PART_BYTES};
use crate::database::{Cell, Database, DatabaseError, Value, made, migrate};

/// Rows that are read at once.
const PAGE_ROWS: usize = 200;

/// A table as it is dumped.
struct Table {
    name: String,
    columns: Vec<String>,
    /// Which of the columns hold whole numbers.
    integers: Vec<bool>,
    /// The places of the columns that rows are read in the order of.
    keys: Vec<usize>,
}

/// Puts by all that the object holds, in place of what was put by before. Gives the steps of the schema that it was made at,
/// and the rows; nothing where the object holds nothing.
///
/// Errors: the database's, as for a row that is too large.
pub fn snapshot(db: &impl Database) -> Result<Option<(u64, u64)>, DatabaseError> {
    drop_staged(db)?;
    let tables = tables(db)?;
    if tables.is_empty() {
        return Ok(None);
    }
    db.run(
        "-- backup::snapshot
        CREATE TABLE backup_part (number INTEGER PRIMARY KEY, rows INTEGER NOT NULL, bytes BLOB NOT NULL) STRICT",
        &[],
    )?;
    db.run(
        "-- backup::snapshot
        CREATE TABLE backup_kept (key TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
        &[],
    )?;
    let mut stage = Stage {
        writer: Writer::new(),
        rows: 0,
        all: 0,
    };
    for table in &tables {
        stage.begin(table);
        dump(db, table, &mut stage)?;
    }
    stage.put_by(db)?;
    Ok(Some((steps(db)?, stage.all)))
}

/// The steps of the schema that have been taken.
///
/// Errors: the database's.
pub fn steps(db: &impl Database) -> Result<u64, DatabaseError> {
    let rows = db.run(
        "-- backup::steps\nSELECT CAST(coalesce(max(version), 0) AS INTEGER) FROM migration",
        &[],
    )?;
    rows.into_iter().next().map_or(Ok(0), |mut row| row.number())
}

/// Forgets what is put by.
pub(super) fn drop_staged(db: &impl Database) -> Result<(), DatabaseError> {
    db.run("-- backup::drop_staged\nDROP TABLE IF EXISTS backup_part", &[])?;
    db.run("-- backup::drop_staged\nDROP TABLE IF EXISTS backup_kept", &[])?;
    Ok(())
}

/// The part that is written.
struct Stage {
    writer: Writer,
    rows: u64,
    all: u64,
}

impl Stage {
    fn begin(&mut self, table: &Table) {
        let columns: Vec<&str> = table.columns.iter().map(String::as_str).collect();
        self.writer.table(&table.name, &columns);
    }

    fn put_by(&mut self, db: &impl Database) -> Result<(), DatabaseError> {
        let bytes = core::mem::replace(&mut self.writer, Writer::new()).finish();
        if !bytes.is_empty() {
            db.run(
                "-- backup::put_by
                INSERT INTO backup_part (number, rows, bytes)
                VALUES ((SELECT coalesce(max(number), 0) + 1 FROM backup_part), ?, ?)",
                &[Value::Number(self.rows), Value::Blob(&bytes)],
            )?;
        }
        self.all += self.rows;
        self.rows = 0;
        Ok(())
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn tables(db: &impl Database) -> Result<Vec<Table>, DatabaseError> {
    let rows = db.run(
        "-- backup::tables
        SELECT name, sql FROM sqlite_master
        WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\'
            AND name <> 'migration' ORDER BY name",
        &[],
    )?;
    let mut tables = Vec::with_capacity(rows.len());
    for mut row in rows {
        let (name, sql) = (row.text()?, row.text()?);
        if !name.starts_with(OWN) {
            tables.push(table(db, name, &sql)?);
        }
    }
    Ok(tables)
}

fn table(db: &impl Database, name: String, sql: &str) -> Result<Table, DatabaseError> {
    let mut table = Table {
        columns: Vec::new(),
        integers: Vec::new(),
        keys: Vec::new(),
        name,
    };
    let mut keys = Vec::new();
    let named = quoted(&table.name);
    for mut row in db.run_made(&format!("PRAGMA table_info({named})"), &[])? {
        let (place, column, kind) = (row.number()?, row.text()?, row.text()?);
        let (_not_null, _default, key) = (row.skip()?, row.skip()?, row.number()?);
        let is_integer = match kind.as_str() {
            "INTEGER" | "INT" => true,
            "REAL" | "TEXT" | "BLOB" => false,
            other => {
                let message =
                    format!("column {column} of {named} is of the kind {other}, which a backup does not take");
                return Err(DatabaseError::new(message));
            }
        };
        if key > 0 {
            keys.push((key, usize::try_from(place).unwrap_or(usize::MAX), is_integer));
        }
        table.columns.push(column);
        table.integers.push(is_integer);
    }
    keys.sort_unstable();
    let is_rowid = matches!(keys.as_slice(), [(_, _, true)]);
    if is_rowid || sql.trim_end().ends_with("WITHOUT ROWID") {
        table.keys = keys.into_iter().map(|(_, place, _)| place).collect();
    } else {
        // Rows without a key of their own keep the one that SQLite gave them, so that none is there twice.
        table.keys.push(table.columns.len());
        table.columns.push("rowid".to_string());
        table.integers.push(true);
    }
    Ok(table)
}

/// The columns as they are read: a whole number as text, because the platform's are doubles.
fn exactly(table: &Table) -> String {
    let columns = table.columns.iter().zip(&table.integers).map(|(column, is_integer)| {
        let name = quoted(column);
        if *is_integer {
            format!("CAST({name} AS TEXT)")
        } else {
            name
        }
    });
    columns.collect::<Vec<_>>().join(", ")
}

fn dump(db: &impl Database, table: &Table, stage: &mut Stage) -> Result<(), DatabaseError> {
    let name = quoted(&table.name);
    let columns = exactly(table);
    let key_columns: Vec<(&String, bool)> = table
        .keys
        .iter()
        .filter_map(|place| Some((table.columns.get(*place)?, *table.integers.get(*place)?)))
        .collect();
    let keys: Vec<String> = key_columns.iter().map(|(column, _)| quoted(column)).collect();
    let bound: Vec<&str> = key_columns
        .iter()
        .map(|(_, is_integer)| if *is_integer { "CAST(? AS INTEGER)" } else { "?" })
        .collect();
    let (keys, bound) = (keys.join(", "), bound.join(", "));
    let first = format!("SELECT {columns} FROM {name} ORDER BY {keys} LIMIT {PAGE_ROWS}");
    let next = format!("SELECT {columns} FROM {name} WHERE ({keys}) > ({bound}) ORDER BY {keys} LIMIT {PAGE_ROWS}");
    let mut page: Vec<Vec<Cell>> = db.run_made(&first, &[])?.into_iter().map(Into::into).collect();
    loop {
        for cells in &page {
            if stage.writer.len() >= PART_BYTES {
                stage.put_by(db)?;
                stage.begin(table);
            }
            stage.writer.row(&table.integers, cells)?;
            stage.rows += 1;
        }
        let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS) else {
            return Ok(());
        };
        let after: Vec<Value<'_>> = table
            .keys
            .iter()
            .filter_map(|place| last.get(*place))
            .map(|cell| match cell {
                Cell::Null => Value::Null,
                Cell::Number(number) => Value::Real(*number),
                Cell::Text(text) => Value::Text(text),
                Cell::Blob(bytes) => Value::Blob(bytes),
            })
            .collect();
        page = db.run_made(&next, &after)?.into_iter().map(Into::into).collect();
    }
}

/// Writes the rows of a part. With the `first` part of an object its tables are made anew as they were after `steps` steps of
/// the schema. A part can be written twice.
///
/// Errors: the database's; where the part cannot be read, or there are fewer steps.
pub fn restore(
    db: &impl Database,
    schema: &[&[&'static str]],
    steps: u64,
    first: First,
    part: &[u8],
) -> Result<(), DatabaseError> {
    if first == First::Yes {
        begin(db, schema, steps)?;
    }
    let mut insert = String::new();
    for item in items(part) {
        match item? {
            Item::Table(name, columns) => insert = insertion(db, name, &columns)?,
            Item::Row(fields) => write(db, &insert, &fields)?,
            Item::Stored { .. } => return Err(DatabaseError::new("a part of rows holds something else")),
        }
    }
    Ok(())
}

/// The statement that writes a row of these columns.
fn insertion(db: &impl Database, name: String, columns: &[String]) -> Result<String, DatabaseError> {
    let found = db.run(
        "-- backup::insertion\nSELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?",
        &[Value::Text(&name)],
    )?;
    let Some(mut row) = found.into_iter().next().filter(|_| !name.starts_with(OWN)) else {
        return Err(DatabaseError::new(format!(
            "the backup has a table {name} that is not known here"
        )));
    };
    let known = table(db, name, &row.text()?)?;
    let mut bound = Vec::with_capacity(columns.len());
    for column in columns {
        let place = known.columns.iter().position(|known| known == column);
        bound.push(match place.and_then(|place| known.integers.get(place)) {
            Some(true) => "CAST(? AS INTEGER)",
            Some(false) => "?",
            None => {
                let message = format!("the backup has a column {}.{column} that is not known here", known.name);
                return Err(DatabaseError::new(message));
            }
        });
    }
    let names: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    Ok(format!(
        "INSERT OR REPLACE INTO {} ({}) VALUES ({})",
        quoted(&known.name),
        names.join(", "),
        bound.join(", ")
    ))
}

fn write(db: &impl Database, insert: &str, fields: &[Field]) -> Result<(), DatabaseError> {
    // A whole number is bound as text, because the platform's are doubles; the statement casts it back.
    let integers: Vec<String> = fields
        .iter()
        .map(|field| match field {
            Field::Integer(number) => number.to_string(),
            _ => String::new(),
        })
        .collect();
    let values: Vec<Value<'_>> = fields
        .iter()
        .zip(&integers)
        .map(|(field, integer)| match field {
            Field::Null => Value::Null,
            Field::Integer(_) => Value::Text(integer),
            Field::Real(number) => Value::Real(*number),
            Field::Text(text) => Value::Text(text),
            Field::Blob(bytes) => Value::Blob(bytes),
        })
        .collect();
    db.run_made(insert, &values).map(drop)
}

/// Whether a part is the first one of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// It is.
    Yes,
    /// Others were written before it.
    No,
}

fn begin(db: &impl Database, schema: &[&[&'static str]], steps: u64) -> Result<(), DatabaseError> {
    let steps = usize::try_from(steps).unwrap_or(usize::MAX);
    let schema = schema
        .get(..steps)
        .ok_or_else(|| DatabaseError::new("the backup is of a later schema"))?;
    for table in made(db)? {
        db.run_made(&format!("DROP TABLE {}", quoted(&table)), &[])?;
    }
    db.run(
        "-- backup::begin\nCREATE TABLE backup_restoring (id INTEGER PRIMARY KEY) STRICT",
        &[],
    )?;
    migrate(db, schema)?;
    for table in tables(db)? {
        // What a step of the schema wrote is in the dump, as it was then.
        db.run_made(&format!("DELETE FROM {}", quoted(&table.name)), &[])?;
    }
    Ok(())
}

/// All of the object is back. Gives whether this is the first time that it is said.
///
/// Errors: the database's.
pub fn restored(db: &impl Database, schema: &[&[&'static str]]) -> Result<bool, DatabaseError> {
    if !super::is_restoring(db)? {
        return Ok(false);
    }
    db.run("-- backup::restored\nDROP TABLE backup_restoring", &[])?;
    migrate(db, schema)?;
    Ok(true)
}
