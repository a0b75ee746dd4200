//! The tables of a `Jobs` object.

/// The migrations, oldest first. A step is only ever appended.
///
/// `due_at` says when a row needs attention that its object might forget in a crash: a waiting job's time, a running
/// job that outlived an alarm, an ended job whose end was not delivered. NULL is no row of the index.
/// `give_up_at` says when a limit of time ends a row that has not ended by itself; NULL, and no row of its index, where
/// there is no limit.
///
/// `job_dead` holds the dead letters: failed jobs (state 5) that are neither redriven nor discarded. A job that succeeds
/// is never in it, and pays nothing for it.
///
/// `dedupe` is the key by which requests without one of the client's are the same, at most one job's for each: NULL, and
/// no row of its index, for all others. Like `key` it is part of the row, so that it never outlives it.
///
/// `result_until` says when the result of a job goes before the job does: NULL, and no row of its index, where both go at
/// once, and where it has gone.
pub const STEPS: &[&[&str]] = &[
    FIRST,
    TIME_LIMITS,
    LANES,
    SCHEDULES,
    DEAD_LETTERS,
    DEDUPE,
    CONTROL,
    HISTORY,
    SPREAD,
    RESULTS,
    BATCHES,
    super::alias::ALIASES,
    super::backlog::BYTES,
    super::trail::OUTBOX,
    AWAY,
    PLACES,
    super::started::STARTED,
    super::doorbells::LOST_DOORBELLS,
    super::packs::PACKS,
    super::endpoints::ENDPOINTS,
    super::feeds::FEEDS,
];

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

const TIME_LIMITS: &[&str] = &[
    "-- jobs::schema
    ALTER TABLE job ADD COLUMN give_up_at INTEGER",
    "-- jobs::schema
    ALTER TABLE job ADD COLUMN snoozes INTEGER NOT NULL DEFAULT 0",
    "-- jobs::schema
    CREATE INDEX job_give_up ON job(give_up_at) WHERE give_up_at IS NOT NULL",
];

/// Lanes, limits and pauses. The index by lane takes the place of the one by time alone: an entry each, as before.
const LANES: &[&str] = &[
    "-- jobs::schema
    ALTER TABLE job ADD COLUMN lane TEXT NOT NULL DEFAULT ''",
    "-- jobs::schema
    UPDATE job SET lane = '[\"' || action || '\",\"normal\",null,[]]' WHERE state < 4",
    "-- jobs::schema
    DROP INDEX job_due",
    "-- jobs::schema
    CREATE INDEX job_lane ON job(lane, due_at) WHERE due_at IS NOT NULL",
    "-- jobs::schema
    CREATE TABLE limit_rule (name TEXT PRIMARY KEY, rule BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "-- jobs::schema
    CREATE TABLE limit_arrival (
        name TEXT NOT NULL, key TEXT NOT NULL, arrival_us INTEGER NOT NULL, PRIMARY KEY (name, key)
    ) STRICT, WITHOUT ROWID",
    "-- jobs::schema
    CREATE TABLE pause (scope BLOB PRIMARY KEY, pause BLOB NOT NULL) STRICT, WITHOUT ROWID",
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

const DEAD_LETTERS: &[&str] = &[
    "-- jobs::schema
    ALTER TABLE job ADD COLUMN redriven_to TEXT",
    "-- jobs::schema
    ALTER TABLE job ADD COLUMN discarded_at INTEGER",
    "-- jobs::schema
    CREATE INDEX job_dead ON job(number) WHERE state = 5 AND redriven_to IS NULL AND discarded_at IS NULL",
];

const DEDUPE: &[&str] = &[
    "-- jobs::schema
    ALTER TABLE job ADD COLUMN dedupe TEXT",
    "-- jobs::schema
    CREATE UNIQUE INDEX job_dedupe ON job(action, dedupe) WHERE dedupe IS NOT NULL",
];

/// What someone wants of a job that has not ended: NULL for nearly all.
const CONTROL: &[&str] = &["-- jobs::schema
    ALTER TABLE job ADD COLUMN control BLOB"];

/// What a job wrote, and, where that is asked for, each of its events: rows of their own, which only jobs have that use
/// it. `reported` sums them up; NULL where there are none.
const HISTORY: &[&str] = &[
    "-- jobs::schema
    ALTER TABLE job ADD COLUMN reported BLOB",
    "-- jobs::schema
    CREATE TABLE output (
        number INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        at INTEGER NOT NULL,
        stream TEXT NOT NULL,
        start INTEGER NOT NULL,
        chunk BLOB NOT NULL,
        PRIMARY KEY (number, seq)
    ) STRICT, WITHOUT ROWID",
    "-- jobs::schema
    CREATE TABLE event (
        number INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (number, seq)
    ) STRICT, WITHOUT ROWID",
];

/// What the object knows of the others of its tenant.
const SPREAD: &[&str] = &["-- jobs::schema
    CREATE TABLE spread (id INTEGER PRIMARY KEY CHECK (id = 1), known BLOB NOT NULL) STRICT"];

const RESULTS: &[&str] = &[
    "-- jobs::schema
    ALTER TABLE job ADD COLUMN result_until INTEGER",
    "-- jobs::schema
    CREATE INDEX job_result ON job(result_until) WHERE result_until IS NOT NULL",
];

/// Batches, a row each for what of one lies here, and the batch of each job. `due_at` says when the alarm has something to
/// do for one: NULL, and no row of the index, for all but those that were cancelled.
const BATCHES: &[&str] = &[
    "-- jobs::schema
    ALTER TABLE job ADD COLUMN batch TEXT",
    "-- jobs::schema
    CREATE TABLE batch (id TEXT PRIMARY KEY, due_at INTEGER, body BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "-- jobs::schema
    CREATE INDEX batch_due ON batch(due_at) WHERE due_at IS NOT NULL",
];

/// Jobs that are cancelled once nobody follows them, and since when nobody does. No other job has a row.
const AWAY: &[&str] = &["-- jobs::schema
    CREATE TABLE away (number INTEGER PRIMARY KEY, max_ms INTEGER NOT NULL, since INTEGER) STRICT"];

/// The places under limits that the object has given to others of its tenant, a row for each key under which any has some;
/// and since when it knows each rule.
const PLACES: &[&str] = &[
    "-- jobs::schema
    ALTER TABLE limit_rule ADD COLUMN since INTEGER NOT NULL DEFAULT 0",
    "-- jobs::schema
    CREATE TABLE limit_place (
        name TEXT NOT NULL, key TEXT NOT NULL, given BLOB NOT NULL, PRIMARY KEY (name, key)
    ) STRICT, WITHOUT ROWID",
];
