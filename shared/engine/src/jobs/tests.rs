//! What a `Jobs` object guarantees, one test for each guarantee, on native SQLite.

mod accepting;
mod attempts;
mod bench;
mod ends;
mod limits;
mod limits_of_time;
mod order;
mod recovery;
mod showing;
