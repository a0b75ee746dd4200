//! Tables of names: one behind the other, each as it stands in CBOR. A variant's name that holds something stands behind
//! the head of its map. So a table is one text without pointers, and what is written is copied out of it.

/// The head of a map of one entry.
pub(crate) const MAP_OF_ONE: u8 = 0xa1;
/// The head of a text whose length is in the next byte.
const TEXT_OF_LENGTH: u8 = 0x78;

/// A name of a table.
pub(crate) struct Name<'a> {
    /// All of it, as it is written.
    pub whole: &'a [u8],
    /// The text alone.
    pub text: &'a [u8],
}

impl Name<'_> {
    /// Whether it is the name of a variant that holds something.
    pub fn holds(&self) -> bool {
        self.whole.first() == Some(&MAP_OF_ONE)
    }
}

/// The first name of a table, and the rest of the table.
#[inline]
pub(crate) fn first(table: &[u8]) -> Option<(Name<'_>, &[u8])> {
    let map = usize::from(*table.first()? == MAP_OF_ONE);
    let head = *table.get(map)?;
    let (start, length) = if head == TEXT_OF_LENGTH {
        (map + 2, *table.get(map + 1)?)
    } else {
        (map + 1, head & 0x1f)
    };
    let (whole, rest) = table.split_at_checked(start + usize::from(length))?;
    let text = whole.get(start..)?;
    Some((Name { whole, text }, rest))
}

/// A place in a table. What is looked for is mostly what stands there.
pub(crate) struct Cursor {
    table: &'static [u8],
    rest: &'static [u8],
    index: usize,
}

impl Cursor {
    pub fn new(table: &'static [u8]) -> Self {
        Self {
            table,
            rest: table,
            index: 0,
        }
    }

    /// The index of the name that is `text`, looked for from here to the end and then from the beginning.
    #[inline]
    pub fn find(&mut self, text: &[u8]) -> Option<(usize, Name<'static>)> {
        for _ in 0..2 {
            while let Some((name, rest)) = first(self.rest) {
                let index = self.index;
                (self.rest, self.index) = (rest, index + 1);
                if name.text == text {
                    return Some((index, name));
                }
            }
            (self.rest, self.index) = (self.table, 0);
        }
        None
    }
}
