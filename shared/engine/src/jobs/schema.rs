//! The tables of a `Jobs` object.

/// The migrations, oldest first. A step is only ever appended.
///
/// `due_at` says when a row needs attention that its object might forget in a crash: a waiting job's time, a running
/// job that outlived an alarm, an ended job whose end was not delivered. NULL is no row of the index.
pub const STEPS: &[&[&str]] = &[
    &[
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
    ],
    SCHEDULES,
];

/// Schedules, a row each. The definition comes last, so that a search by time does not read it.
const SCHEDULES: &[&str] = &[
    "-- jobs::schema
    CREATE TABLE schedule (
        name TEXT PRIMARY KEY,
        paused INTEGER NOT NULL,
        nominal INTEGER,
        due_at INTEGER,
        done_until INTEGER NOT NULL,
        held INTEGER,
        last_number INTEGER,
        last_tail INTEGER,
        last_fired INTEGER,
        fired INTEGER NOT NULL,
        skipped INTEGER NOT NULL,
        missed INTEGER NOT NULL,
        definition BLOB NOT NULL
    ) STRICT, WITHOUT ROWID",
    "-- jobs::schema
    CREATE TABLE schedule_set (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL) STRICT",
];
