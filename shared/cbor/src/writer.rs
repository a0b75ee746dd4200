//! Writes CBOR. Nothing of it can fail.

use alloc::vec::Vec;

use crate::Encode;
use crate::names;

pub(crate) const UNSIGNED: u8 = 0;
pub(crate) const NEGATIVE: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const TEXT: u8 = 3;
pub(crate) const ARRAY: u8 = 4;
pub(crate) const MAP: u8 = 5;
pub(crate) const TAG: u8 = 6;
pub(crate) const NULL: u8 = 0xf6;
pub(crate) const FALSE: u8 = 0xf4;
pub(crate) const TRUE: u8 = 0xf5;
pub(crate) const FLOAT_32: u8 = 0xfa;
pub(crate) const FLOAT_64: u8 = 0xfb;

/// Writes CBOR into memory.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A writer that goes on behind `bytes`.
    pub fn behind(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Bytes as they are: CBOR already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A head (RFC 8949, section 3): a major type, and a number in its shortest form.
    #[inline(never)]
    pub(crate) fn head(&mut self, major: u8, number: u64) {
        let major = major << 5;
        match number {
            0..=23 => self.0.push(major | number.to_le_bytes()[0]),
            24..=0xff => self.0.extend_from_slice(&[major | 24, number.to_le_bytes()[0]]),
            0x100..=0xffff => {
                let [.., a, b] = number.to_be_bytes();
                self.0.extend_from_slice(&[major | 25, a, b]);
            }
            0x1_0000..=0xffff_ffff => {
                let [.., a, b, c, d] = number.to_be_bytes();
                self.0.extend_from_slice(&[major | 26, a, b, c, d]);
            }
            _ => {
                self.0.push(major | 27);
                self.0.extend_from_slice(&number.to_be_bytes());
            }
        }
    }

    /// An unsigned number.
    pub fn unsigned(&mut self, number: u64) {
        self.head(UNSIGNED, number);
    }

    /// A signed number.
    pub fn signed(&mut self, number: i64) {
        match u64::try_from(number) {
            Ok(number) => self.head(UNSIGNED, number),
            // -1 - n, which is all bits of n turned over.
            Err(_) => self.head(NEGATIVE, (!number).unsigned_abs()),
        }
    }

    /// `null`.
    pub fn null(&mut self) {
        self.0.push(NULL);
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        self.0.push(if value { TRUE } else { FALSE });
    }

    /// A number of 64 bits with a point.
    pub fn float(&mut self, value: f64) {
        self.0.push(FLOAT_64);
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// A text.
    #[inline(never)]
    pub fn text(&mut self, text: &str) {
        self.head(TEXT, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A string of bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.head(BYTES, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// The head of a list of `length` items.
    pub fn array(&mut self, length: usize) {
        self.head(ARRAY, length as u64);
    }

    /// The head of a map of `length` entries.
    pub fn map(&mut self, length: usize) {
        self.head(MAP, length as u64);
    }

    /// A list of items of different types.
    #[inline(never)]
    pub fn items(&mut self, items: &[&dyn Encode]) {
        self.array(items.len());
        for item in items {
            item.encode(self);
        }
    }

    /// A map of `values` by the names of `table`, without the fields whose bit is in `left_out`, and without those whose bit
    /// is in `optional` and that are absent.
    #[inline(never)]
    pub fn fields(&mut self, table: &[u8], optional: u64, left_out: u64, values: &[&dyn Encode]) {
        let mut left_out = left_out;
        if optional != 0 {
            let mut bit = 1;
            for value in values {
                if optional & bit != 0 && value.is_absent() {
                    left_out |= bit;
                }
                bit <<= 1;
            }
        }
        self.head(
            MAP,
            (values.len() as u64).saturating_sub(u64::from(left_out.count_ones())),
        );
        let mut rest = table;
        let mut bit = 1;
        for value in values {
            let Some((name, behind)) = names::first(rest) else {
                return;
            };
            if left_out & bit == 0 {
                self.raw(name.whole);
                value.encode(self);
            }
            rest = behind;
            bit <<= 1;
        }
    }
}
