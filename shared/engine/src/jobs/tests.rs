//! What a `Jobs` object guarantees, one test for each guarantee, on native SQLite.

mod accepting;
mod attempts;
mod bench;
mod ends;
mod handed_over;
mod hooks;
mod letters;
mod limits;
mod limits_of_time;
mod many;
mod once;
mod order;
mod recovery;
mod retention;
mod retrying;
mod said;
mod schedules;
mod showing;

pub(crate) use schedules::every_minute as a_schedule;
