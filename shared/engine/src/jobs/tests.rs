//! What a `Jobs` object guarantees, one test for each guarantee, on native SQLite.

mod accepting;
mod attempts;
mod bench;
mod ends;
mod letters;
mod many;
mod recovery;
mod retrying;
mod showing;
