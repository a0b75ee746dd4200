//! What a `Jobs` object guarantees, one test for each guarantee, on native SQLite.

mod accepting;
mod attempts;
mod bench;
mod ends;
mod limits;
mod limits_of_time;
mod order;
mod recovery;
mod schedules;
mod showing;

pub(crate) use schedules::every_minute as a_schedule;
