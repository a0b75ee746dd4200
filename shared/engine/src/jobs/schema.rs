//! The tables of a `Jobs` object.

/// The migrations, oldest first. A step is only ever appended.
///
/// `due_at` says when a row needs attention that its object might forget in a crash: a waiting job's time, a running
/// job that outlived an alarm, an ended job whose end was not delivered. NULL is no row of the index.
///
/// `job_dead` holds the dead letters: failed jobs (state 5) that are neither redriven nor discarded. A job that succeeds
/// is never in it, and pays nothing for it.
pub const STEPS: &[&[&str]] = &[FIRST, DEAD_LETTERS];

const FIRST: &[&str] = &[
    "-- jobs::schema
    CREATE TABLE job (
        number INTEGER PRIMARY KEY,
        tail INTEGER NOT NULL,
        state INTEGER NOT NULL,
        due_at INTEGER,
        user TEXT NOT NULL,
        action TEXT NOT NULL,
        key TEXT,
        fingerprint TEXT,
        created_at INTEGER NOT NULL,
        spec BLOB NOT NULL,
        payload BLOB NOT NULL,
        token INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        attempt_until INTEGER NOT NULL,
        losses INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        progress BLOB NOT NULL,
        log BLOB NOT NULL,
        followers BLOB NOT NULL,
        checkpoint TEXT,
        changed_at INTEGER NOT NULL,
        ended_at INTEGER,
        expires_at INTEGER,
        outcome BLOB
    ) STRICT",
    "-- jobs::schema
    CREATE INDEX job_due ON job(due_at) WHERE due_at IS NOT NULL",
    "-- jobs::schema
    CREATE UNIQUE INDEX job_key ON job(action, key) WHERE key IS NOT NULL",
    "-- jobs::schema
    CREATE TABLE watermark (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL) STRICT",
];

const DEAD_LETTERS: &[&str] = &[
    "-- jobs::schema
    ALTER TABLE job ADD COLUMN redriven_to TEXT",
    "-- jobs::schema
    ALTER TABLE job ADD COLUMN discarded_at INTEGER",
    "-- jobs::schema
    CREATE INDEX job_dead ON job(number) WHERE state = 5 AND redriven_to IS NULL AND discarded_at IS NULL",
];
