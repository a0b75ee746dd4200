//! Reads CBOR that may be anything. The first fault is kept, and ends the input: whoever reads on finds nothing, so that
//! nobody has to ask after each item.

use core::fmt;

use crate::Decode;
use crate::names::Cursor;
use crate::writer::{ARRAY, BYTES, FALSE, FLOAT_32, FLOAT_64, MAP, NEGATIVE, NULL, TAG, TEXT, TRUE, UNSIGNED};

/// How deep lists, maps and boxes lie within each other at most. No type of ours needs more.
pub const NESTING_MAX: u8 = 64;

/// Why bytes were not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// Where: bytes from the beginning.
    pub at: usize,
    /// What would have been right there.
    pub expected: &'static str,
    /// The name of the innermost field that was being read. Empty: none.
    pub field: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: expected {}", self.at, self.expected)?;
        match self.field {
            "" => Ok(()),
            field => write!(f, " in the field `{field}`"),
        }
    }
}

impl core::error::Error for Error {}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number without a point.
    Integer,
    /// A number with a point.
    Float,
    /// A text.
    Text,
    /// A string of bytes.
    Bytes,
    /// `null`.
    Null,
    /// Something else.
    Other,
}

/// Bytes that are read as CBOR.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
    depth: u8,
    fault: Option<Error>,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            length: bytes.len(),
            depth: 0,
            fault: None,
        }
    }

    /// The first fault, or that bytes are left over.
    ///
    /// Errors: these.
    pub fn finish(mut self) -> Result<(), Error> {
        if !self.rest.is_empty() {
            self.fault("the end");
        }
        self.fault.map_or(Ok(()), Err)
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// What stands here; `None`: nothing.
    pub fn kind(&self) -> Option<Kind> {
        let head = *self.rest.first()?;
        Some(match head >> 5 {
            UNSIGNED | NEGATIVE => Kind::Integer,
            BYTES => Kind::Bytes,
            TEXT => Kind::Text,
            _ if head == NULL => Kind::Null,
            _ if matches!(head, FLOAT_32 | FLOAT_64) => Kind::Float,
            _ => Kind::Other,
        })
    }

    /// Why something could not be read.
    pub fn error(&self) -> Option<Error> {
        self.fault
    }

    /// Whether something could not be read.
    #[inline]
    pub fn failed(&self) -> bool {
        self.fault.is_some()
    }

    /// Says that `expected` would have been right here. The first time counts.
    #[cold]
    #[inline(never)]
    pub fn fault(&mut self, expected: &'static str) {
        if self.fault.is_none() {
            self.fault = Some(Error {
                at: self.length.saturating_sub(self.rest.len()),
                expected,
                field: "",
            });
        }
        self.rest = &[];
    }

    fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((byte, rest)) => {
                self.rest = rest;
                *byte
            }
            None => {
                self.fault("more bytes");
                0
            }
        }
    }

    #[inline(never)]
    fn cut(&mut self, length: u64) -> &'a [u8] {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match self.rest.split_at_checked(length) {
            Some((bytes, rest)) => {
                self.rest = rest;
                bytes
            }
            None => {
                self.fault("more bytes");
                &[]
            }
        }
    }

    /// A head: the major type and the number. A number in a longer form than it needs is taken.
    #[inline(never)]
    fn head(&mut self) -> (u8, u64) {
        let byte = self.byte();
        let number = match byte & 0x1f {
            small @ 0..=23 => u64::from(small),
            long @ 24..=27 => {
                let bytes = self.cut(1 << (long - 24));
                bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
            }
            _ => {
                self.fault("a definite length");
                0
            }
        };
        (byte >> 5, number)
    }

    #[inline(never)]
    fn head_of(&mut self, major: u8, expected: &'static str) -> u64 {
        if self.rest.first().is_some_and(|byte| byte >> 5 != major) {
            self.fault(expected);
            return 0;
        }
        self.head().1
    }

    /// An unsigned number.
    pub fn unsigned(&mut self) -> u64 {
        self.head_of(UNSIGNED, "an unsigned number")
    }

    /// A signed number.
    pub fn signed(&mut self) -> i64 {
        let negative = match self.rest.first().map_or(UNSIGNED, |byte| byte >> 5) {
            UNSIGNED => false,
            NEGATIVE => true,
            _ => {
                self.fault("a number");
                return 0;
            }
        };
        match i64::try_from(self.head().1) {
            Ok(number) if negative => !number,
            Ok(number) => number,
            Err(_) => {
                self.fault("a number of 64 bits");
                0
            }
        }
    }

    /// Whether `null` stands here; then it is read.
    pub fn null(&mut self) -> bool {
        let null = self.rest.first() == Some(&NULL);
        if null {
            self.byte();
        }
        null
    }

    /// A truth value.
    pub fn bool(&mut self) -> bool {
        match self.rest.first() {
            Some(&(FALSE | TRUE)) => self.byte() == TRUE,
            _ => {
                self.fault("true or false");
                false
            }
        }
    }

    /// A number with a point, of 32 or 64 bits.
    pub fn float(&mut self) -> f64 {
        match self.rest.first() {
            Some(&FLOAT_64) => f64::from_bits(self.head().1),
            Some(&FLOAT_32) => match u32::try_from(self.head().1) {
                Ok(bits) => f64::from(f32::from_bits(bits)),
                Err(_) => 0.0,
            },
            _ => {
                self.fault("a number with a point");
                0.0
            }
        }
    }

    /// A string of bytes.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = self.head_of(BYTES, "a string of bytes");
        self.cut(length)
    }

    #[inline(never)]
    fn text_bytes(&mut self) -> &'a [u8] {
        let length = self.head_of(TEXT, "a text");
        self.cut(length)
    }

    /// A text.
    #[inline(never)]
    pub fn text(&mut self) -> &'a str {
        match core::str::from_utf8(self.text_bytes()) {
            Ok(text) => text,
            Err(_) => {
                self.fault("a text in UTF-8 before this");
                ""
            }
        }
    }

    /// How many items the list here has. As many as are claimed: nothing may be reserved for them.
    pub fn array(&mut self) -> u64 {
        self.head_of(ARRAY, "a list")
    }

    /// How many entries the map here has. As many as are claimed: nothing may be reserved for them.
    pub fn map(&mut self) -> u64 {
        self.head_of(MAP, "a map")
    }

    /// Goes a level deeper. `false`: no deeper. Then [`Reader::leave`] has not to be called.
    pub fn enter(&mut self) -> bool {
        if self.depth >= NESTING_MAX {
            self.fault("less nesting");
            return false;
        }
        self.depth = self.depth.saturating_add(1);
        true
    }

    /// Comes back from a level.
    pub fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Calls `read` for each of the items of the list here.
    #[inline(never)]
    pub fn each_item(&mut self, read: &mut dyn FnMut(&mut Self)) {
        let items = self.array();
        self.each(items, read);
    }

    /// Calls `read` for each of the entries of the map here.
    #[inline(never)]
    pub fn each_entry(&mut self, read: &mut dyn FnMut(&mut Self)) {
        let entries = self.map();
        self.each(entries, read);
    }

    /// Whatever is read takes at least one byte, so that a claim ends with the input.
    fn each(&mut self, times: u64, read: &mut dyn FnMut(&mut Self)) {
        if self.enter() {
            for _ in 0..times {
                if self.failed() {
                    return;
                }
                read(self);
            }
            self.leave();
        }
    }

    /// Reads a value and passes it over.
    #[inline(never)]
    pub fn skip(&mut self) {
        if !self.enter() {
            return;
        }
        let (major, number) = self.head();
        let items = match major {
            BYTES | TEXT => {
                self.cut(number);
                0
            }
            ARRAY => number,
            MAP => number.saturating_mul(2),
            TAG => 1,
            _ => 0,
        };
        for _ in 0..items {
            if self.failed() {
                return;
            }
            self.skip();
        }
        self.leave();
    }

    /// A list of items of different types.
    #[inline(never)]
    pub fn items(&mut self, items: &mut [&mut dyn Decode]) {
        if self.array() != items.len() as u64 {
            self.fault("a list of another length");
        }
        for item in items {
            item.decode(self);
        }
    }

    /// Reads a map over `values`, by the names of `table`. Gives the bits of those that were there. Those whose bit is in
    /// `required` have to be, and none may be there twice.
    #[inline(never)]
    pub fn fields(&mut self, table: &'static [u8], required: u64, values: &mut [&mut dyn Decode]) -> u64 {
        let mut cursor = Cursor::new(table);
        let mut seen = 0;
        for _ in 0..self.map() {
            if self.failed() {
                return seen;
            }
            let text = self.text_bytes();
            let Some((index, name)) = cursor.find(text) else {
                self.skip();
                continue;
            };
            // The derive refuses types of more fields than there are bits.
            let bit = 1_u64 << (index & 63);
            if seen & bit != 0 {
                self.fault("each field once");
            }
            seen |= bit;
            if let Some(value) = values.get_mut(index) {
                value.decode(self);
            }
            if self.failed() {
                self.failed_in(name.text);
            }
        }
        if required & !seen != 0 && !self.failed() {
            self.fault("a field that is missing before this");
            let missing = (required & !seen).trailing_zeros();
            let mut rest = table;
            for _ in 0..missing {
                rest = crate::names::first(rest).map_or(rest, |(_, rest)| rest);
            }
            if let Some((name, _)) = crate::names::first(rest) {
                self.failed_in(name.text);
            }
        }
        seen
    }

    #[cold]
    #[inline(never)]
    fn failed_in(&mut self, field: &'static [u8]) {
        if let Some(fault) = &mut self.fault
            && fault.field.is_empty()
        {
            fault.field = core::str::from_utf8(field).unwrap_or_default();
        }
    }

    /// Reads the name of a variant. Gives its index in `table`; where there is none, a number beyond.
    #[inline(never)]
    pub fn variant(&mut self, table: &'static [u8]) -> usize {
        let holds = self.rest.first().is_some_and(|byte| byte >> 5 == MAP);
        if holds && self.map() != 1 {
            self.fault("a map of one entry");
        }
        let text = self.text_bytes();
        match Cursor::new(table).find(text) {
            Some((index, name)) if name.holds() == holds => index,
            _ => {
                self.fault("a known variant before this");
                usize::MAX
            }
        }
    }
}
