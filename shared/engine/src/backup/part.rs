//! The bytes of a part: a sequence of CBOR items (RFC 8742), each an array that begins with what it is. Whoever has a part and
//! a reader of CBOR can read it without Tidegate.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_cbor::{Kind, Reader};

use crate::database::{Cell, DatabaseError};

/// The items of a part, by the number at the beginning of each.
const TABLE: u8 = 1;
const ROW: u8 = 2;
const STORED: u8 = 3;

/// An item of a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// The rows behind this are of a table, with these columns.
    Table(String, Vec<String>),
    /// A row.
    Row(Vec<Field>),
    /// Something from object storage, or a piece of it.
    Stored {
        /// Its key.
        key: String,
        /// The type of its content.
        content_type: Option<String>,
        /// How many bytes there are of it in all.
        size: u64,
        /// Where in it these begin.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// A value of a row, exactly as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT.
    Text(String),
    /// BLOB.
    Blob(Vec<u8>),
}

fn broken(cause: impl ToString) -> DatabaseError {
    DatabaseError::new(cause.to_string())
}

/// The bytes of a part while it is written.
pub(super) struct Writer(tidegate_cbor::Writer);

impl Writer {
    pub(super) fn new() -> Self {
        Self(tidegate_cbor::Writer::default())
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_bytes().len()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0.into_bytes()
    }

    pub(super) fn table(&mut self, name: &str, columns: &[&str]) {
        self.0.items(&[&TABLE, &name, &columns]);
    }

    /// A row of so many cells. The whole numbers among them are read as text, because a double does not hold all of them.
    pub(super) fn row(&mut self, integers: &[bool], cells: &[Cell]) -> Result<(), DatabaseError> {
        self.0.array(cells.len().saturating_add(1));
        self.0.unsigned(ROW.into());
        for (is_integer, cell) in integers.iter().zip(cells) {
            match cell {
                Cell::Null => self.0.null(),
                Cell::Number(number) => self.0.float(*number),
                Cell::Text(text) if *is_integer => {
                    let number = text.parse().map_err(|_| broken("a whole number was not read"))?;
                    self.0.signed(number);
                }
                Cell::Text(text) => self.0.text(text),
                Cell::Blob(bytes) => self.0.bytes(bytes),
            }
        }
        Ok(())
    }
}

/// Writes something from object storage behind what is in `part`.
pub fn stored(
    part: Vec<u8>,
    key: &str,
    content_type: Option<&str>,
    (size, offset): (u64, u64),
    bytes: &[u8],
) -> Vec<u8> {
    let mut writer = tidegate_cbor::Writer::behind(part);
    writer.array(6);
    writer.unsigned(STORED.into());
    writer.text(key);
    match content_type {
        Some(kind) => writer.text(kind),
        None => writer.null(),
    }
    writer.unsigned(size);
    writer.unsigned(offset);
    writer.bytes(bytes);
    writer.into_bytes()
}

/// The items of a part, one after the other. Behind one that cannot be read there is none.
pub fn items(part: &[u8]) -> impl Iterator<Item = Result<Item, DatabaseError>> {
    let mut reader = Reader::new(part);
    core::iter::from_fn(move || {
        (!reader.is_at_end()).then(|| {
            let item = item(&mut reader);
            match reader.error() {
                Some(fault) => Err(broken(fault)),
                None => Ok(item),
            }
        })
    })
}

/// An item; where the reader failed, any.
fn item(reader: &mut Reader<'_>) -> Item {
    let length = reader.array();
    match u8::try_from(reader.unsigned()).unwrap_or_default() {
        TABLE => {
            let name = reader.text().into();
            let mut columns = Vec::new();
            reader.each_item(&mut |reader| columns.push(reader.text().into()));
            Item::Table(name, columns)
        }
        ROW => {
            let mut fields = Vec::new();
            for _ in 1..length {
                if reader.failed() {
                    break;
                }
                fields.push(field(reader));
            }
            Item::Row(fields)
        }
        STORED => Item::Stored {
            key: reader.text().into(),
            content_type: match reader.null() {
                true => None,
                false => Some(reader.text().into()),
            },
            size: reader.unsigned(),
            offset: reader.unsigned(),
            bytes: reader.bytes().into(),
        },
        _ => {
            reader.fault("an item of a known kind before this");
            Item::Row(Vec::new())
        }
    }
}

fn field(reader: &mut Reader<'_>) -> Field {
    match reader.kind() {
        Some(Kind::Null) => {
            reader.null();
            Field::Null
        }
        Some(Kind::Float) => Field::Real(reader.float()),
        Some(Kind::Text) => Field::Text(reader.text().into()),
        Some(Kind::Bytes) => Field::Blob(reader.bytes().into()),
        _ => Field::Integer(reader.signed()),
    }
}
