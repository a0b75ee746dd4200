//! What a `Jobs` object guarantees, one test for each guarantee, on native SQLite.

mod accepting;
mod attempts;
mod away;
mod batches;
mod bench;
mod bounds;
mod changing;
mod compatibility;
mod dispatch;
mod doorbells;
mod endpoints;
mod ends;
mod feeds;
mod handed_over;
mod history;
mod hooks;
mod letters;
mod limits;
mod limits_of_time;
mod many;
mod once;
mod order;
mod packs;
mod places;
mod pull;
mod recovery;
mod retention;
mod retrying;
mod said;
mod schedules;
mod showing;
mod spread;
mod started;
mod trail;
mod versions;

pub(crate) use schedules::every_minute as a_schedule;
