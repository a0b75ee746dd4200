//! What holds where a composition says nothing, and the bounds of what it may say. Each has its reason.

use core::ops::RangeInclusive;

use tidegate_protocol::calls::executor::{Dispatch, Factor};
use tidegate_protocol::ids::PARTITIONS;
use tidegate_protocol::limits::{METADATA_ENTRIES_MAX, QUEUE_TIMEOUT_MS_MAX, TIMEOUT_MS_MAX, WAIT_SECONDS_MAX};

const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// The format of the document, its member `tidegate`.
pub const FORMAT: u64 = 1;

/// How long a `sync` action may take: someone waits for it, and most callers give up soon after. Milliseconds.
pub const SYNC_TIMEOUT_MS: u64 = 10 * SECOND_MS;
/// How long one attempt of an `async` or `auto` action may take: long enough for real work, short enough that an attempt
/// that hangs is given up on the same day. Milliseconds.
pub const ATTEMPT_TIMEOUT_MS: u64 = 30 * MINUTE_MS;
/// When an `auto` action turns into a job: a person waits about two seconds before wondering. Milliseconds.
pub const AUTO_DEADLINE_MS: u64 = 2 * SECOND_MS;
/// How long a lease lasts without a sign of life: the longest that a dead attempt goes unseen. Handlers beat several
/// times within it. Milliseconds.
pub const LEASE_MS: u64 = 20 * SECOND_MS;
/// Attempts at most: the first, one for a passing fault, one for a fault that outlasts the first wait.
pub const ATTEMPTS: u32 = 3;
/// The first wait of a backoff, and the only one of a constant one. Milliseconds.
pub const BACKOFF_INITIAL_MS: u64 = SECOND_MS;
/// The longest wait of a backoff that grows: an upstream that is back should not wait long for us. Milliseconds.
pub const BACKOFF_CAP_MS: u64 = MINUTE_MS;
/// The power of a polynomial backoff: the least that grows faster than a linear one.
pub const BACKOFF_POWER: u32 = 2;
/// How long an ended job and its key are kept: a week covers a client that was off over a holiday. Milliseconds.
pub const RETENTION_MS: u64 = 7 * DAY_MS;
/// What starts a job: at once, for the shortest way to the handler.
pub const DISPATCH: Dispatch = Dispatch::Direct;

/// What `timeout` of a `sync` action may be: no longer than a request may be waited for. Milliseconds.
pub const SYNC_TIMEOUT_MS_RANGE: RangeInclusive<u64> = 1..=WAIT_SECONDS_MAX * SECOND_MS;
/// What `timeout` of any other action may be. Milliseconds.
pub const ATTEMPT_TIMEOUT_MS_RANGE: RangeInclusive<u64> = 1..=TIMEOUT_MS_MAX;
/// What `deadline` may be: no longer than a request may be waited for. Milliseconds.
pub const AUTO_DEADLINE_MS_RANGE: RangeInclusive<u64> = 1..=WAIT_SECONDS_MAX * SECOND_MS;
/// What `lease` may be: below a second the heartbeats alone would be load; above an hour a dead attempt is forgotten
/// work. Milliseconds.
pub const LEASE_MS_RANGE: RangeInclusive<u64> = SECOND_MS..=60 * MINUTE_MS;
/// What `retry.attempts` may be.
pub const ATTEMPTS_RANGE: RangeInclusive<u64> = 1..=100;
/// What the durations of `retry` may be: whatever failed for a month will not be mended by waiting. Milliseconds.
pub const BACKOFF_MS_RANGE: RangeInclusive<u64> = 1..=30 * DAY_MS;
/// What `retry.factor` may be, in millionths: 1 to 100. Below 1 a wait would shrink.
pub const FACTOR_RANGE: RangeInclusive<u64> = Factor::ONE.0..=100 * Factor::ONE.0;
/// What `retry.power` may be: with 8, the hundredth wait is over every cap.
pub const POWER_RANGE: RangeInclusive<u64> = 1..=8;
/// What `retry.percent` may be: of more than the whole wait nothing would be left.
pub const JITTER_PERCENT_RANGE: RangeInclusive<u64> = 1..=100;
/// Entries of `retry.waits` at most: one for each attempt.
pub const WAITS_MAX: usize = 100;
/// What `queue_timeout` may be. Milliseconds.
pub const QUEUE_TIMEOUT_MS_RANGE: RangeInclusive<u64> = 1..=QUEUE_TIMEOUT_MS_MAX;
/// What `total_timeout` may be: as long as an ended job may be kept. Milliseconds.
pub const TOTAL_TIMEOUT_MS_RANGE: RangeInclusive<u64> = 1..=366 * DAY_MS;
/// What `heartbeat_timeout` may be: progress is thinned to one a second and a report takes its way, so that less than
/// some seconds would end attempts that are alive. Milliseconds.
pub const HEARTBEAT_TIMEOUT_MS_RANGE: RangeInclusive<u64> = 5 * SECOND_MS..=TIMEOUT_MS_MAX;
/// What `cancel_grace` may be: below a second no attempt would hear of it in time; whoever cancels waits for the end.
/// Milliseconds.
pub const CANCEL_GRACE_MS_RANGE: RangeInclusive<u64> = SECOND_MS..=10 * MINUTE_MS;
/// How long a job may be without followers that is cancelled for want of them: a client that lost its network or its server
/// is back within half a minute. Milliseconds.
pub const DISCONNECT_GRACE_MS: u64 = 30 * SECOND_MS;
/// What `disconnect_grace` may be: below a second every change of a network would cancel. Milliseconds.
pub const DISCONNECT_GRACE_MS_RANGE: RangeInclusive<u64> = SECOND_MS..=60 * MINUTE_MS;
/// What `retention` may be: a client must be able to read the outcome; rows cannot be kept for ever. Milliseconds.
pub const RETENTION_MS_RANGE: RangeInclusive<u64> = SECOND_MS..=366 * DAY_MS;

/// What `idempotency.ttl` may be: a client that asks again does so within hours; a key is a row's entry in an index.
/// Milliseconds.
pub const IDEMPOTENCY_TTL_MS_RANGE: RangeInclusive<u64> = 60 * MINUTE_MS..=30 * DAY_MS;
/// How long a request counts as the same: as long as people and machines repeat what seems not to have worked.
/// Milliseconds.
pub const DEDUPE_WINDOW_MS: u64 = 10 * MINUTE_MS;
/// What `dedupe.window` may be: as long as a key's life at most. Milliseconds.
pub const DEDUPE_WINDOW_MS_RANGE: RangeInclusive<u64> = SECOND_MS..=30 * DAY_MS;
/// How long a debounced job waits for a later request: longer than the pauses of someone who is typing or saving.
/// Milliseconds.
pub const DEDUPE_WAIT_MS: u64 = 5 * SECOND_MS;
/// How long a debounced job waits in all: one whose requests never pause still runs each minute. Milliseconds.
pub const DEDUPE_MAX_WAIT_MS: u64 = MINUTE_MS;
/// What `dedupe.wait` and `dedupe.max_wait` may be: below a tenth of a second each would only cost an alarm.
/// Milliseconds.
pub const DEDUPE_WAIT_MS_RANGE: RangeInclusive<u64> = 100..=DAY_MS;

/// The waits before an endpoint is told again: those that Standard Webhooks suggests. Milliseconds.
pub const ON_END_WAITS_MS: &[u64] = &[
    5 * SECOND_MS,
    5 * MINUTE_MS,
    30 * MINUTE_MS,
    120 * MINUTE_MS,
    300 * MINUTE_MS,
    600 * MINUTE_MS,
    840 * MINUTE_MS,
    1200 * MINUTE_MS,
    1440 * MINUTE_MS,
];
/// How long a message is tried at most: all those waits, each as long as its spread makes it. Milliseconds.
pub const ON_END_TRIED_MS: u64 = {
    let (mut sum_ms, mut waits) = (0, ON_END_WAITS_MS);
    while let [first, rest @ ..] = waits {
        sum_ms += *first;
        waits = rest;
    }
    sum_ms + sum_ms / 100 * ON_END_JITTER_PERCENT as u64
};
/// How those waits are spread, so that endpoints that come back are not told everything at once. Percent.
pub const ON_END_JITTER_PERCENT: u8 = 10;
/// How long an endpoint may take to say that it has been told: it is to note the event, and work later. Milliseconds.
pub const ON_END_TIMEOUT_MS: u64 = 10 * SECOND_MS;
/// What `on_end.timeout` may be: an endpoint that takes longer works instead of noting. Milliseconds.
pub const ON_END_TIMEOUT_MS_RANGE: RangeInclusive<u64> = SECOND_MS..=60 * SECOND_MS;
/// Entries of `on_end.from_request` at most.
pub const ON_END_ALLOWED_MAX: usize = 32;
/// Endpoints of one host that one object tells at once: a host that hangs takes no more places than these.
pub const ON_END_HOST_MAX: u32 = 8;

/// Where the clock of a schedule stands.
pub const TIME_ZONE: &str = "UTC";
/// How far back a schedule makes up for what it missed: long enough for a deployment, short enough that what fires still
/// means the time that it is for. Milliseconds.
pub const CATCH_UP_MS: u64 = MINUTE_MS;
/// What `catch_up` may be. Milliseconds.
pub const CATCH_UP_MS_RANGE: RangeInclusive<u64> = 0..=7 * DAY_MS;
/// What `jitter` may be. Milliseconds.
pub const JITTER_MS_RANGE: RangeInclusive<u64> = 0..=60 * MINUTE_MS;

/// Schedules at most. They all lie in one object, which looks through them at each alarm.
pub const SCHEDULES_MAX: usize = 100;
/// Entries in a schedule's metadata at most: two less than a request's, which each job gets from its schedule.
pub const SCHEDULE_METADATA_MAX: usize = METADATA_ENTRIES_MAX - 2;
/// Hubs of a tenant at most: at some thousand sockets each, about a million.
pub const HUBS_MAX: u16 = 256;
/// Shards of a tenant's jobs at most: each holds at least one partition.
pub const SHARDS_MAX: u16 = PARTITIONS;
/// Instances of patterns at most. Bounds the search for a name that may have been meant.
pub const PATTERNS_MAX: usize = 64;
/// Actions at most. A compiled plan stays under a megabyte, and an isolate holds many.
pub const ACTIONS_MAX: usize = 1000;
/// Scopes of one action at most.
pub const SCOPES_MAX: usize = 32;
/// Characters of one scope at most.
pub const SCOPE_CHARS_MAX: usize = 128;
/// Characters of a description at most.
pub const DESCRIPTION_CHARS_MAX: usize = 1000;
/// Limits of a tenant's queue at most, and as many limits on its requests. Each is looked at for every job, or request,
/// that it means.
pub const LIMITS_MAX: usize = 32;
/// What `concurrency` of a limit, and the units and burst of a throttle or of a rate, may be.
pub const LIMIT_RANGE: RangeInclusive<u64> = 1..=1_000_000;
/// What `per` of a throttle, or of a rate, may be. Milliseconds.
pub const THROTTLE_MS_RANGE: RangeInclusive<u64> = 1..=31 * DAY_MS;
/// What the fixed cost of a job may be.
pub const COST_RANGE: RangeInclusive<u64> = 1..=4_294_967_295;
/// What the units of a quota may be: more than a rate's, because its time is longer.
pub const QUOTA_RANGE: RangeInclusive<u64> = 1..=1_000_000_000;
/// What `per` of a quota may be: below a minute a rate says it better; the longest month is the longest that is billed
/// at once. Milliseconds.
pub const QUOTA_MS_RANGE: RangeInclusive<u64> = MINUTE_MS..=31 * DAY_MS;
/// What the fixed cost of a request may be: as much as a rate can ever have room for.
pub const REQUEST_COST_RANGE: RangeInclusive<u64> = LIMIT_RANGE;
/// How many connections a user may be allowed: as many as a hub takes.
pub const CONNECTIONS_RANGE: RangeInclusive<u64> = 1..=10_000;
/// How many connections a tenant may be allowed: as many as its hubs take, of which there are 1,024 at most.
pub const TENANT_CONNECTIONS_RANGE: RangeInclusive<u64> = 1..=10_000_000;
/// Policies at most. Those about an action are all asked for each of its requests, some microseconds each at worst.
pub const POLICIES_MAX: usize = 32;
/// What the priority of a policy may be.
pub const PRIORITY_RANGE: RangeInclusive<u64> = 0..=1000;
/// Sources of webhooks at most. Each has a secret, of which a tenant has a hundred.
pub const WEBHOOKS_MAX: usize = 32;
/// Patterns of events that one source can name at most. Each is looked at for every event.
pub const WEBHOOK_EVENTS_MAX: usize = 32;
/// Headers of a source that its jobs can be given at most.
pub const WEBHOOK_HEADERS_MAX: usize = 16;
/// What `tolerance` of a source may be: clocks differ by seconds, and a day is enough for one that keeps what it could not
/// deliver without signing it anew. Milliseconds.
pub const TOLERANCE_MS_RANGE: RangeInclusive<u64> = 1_000..=DAY_MS;
/// Overrides of one limit at most; every other key has the limit's own rule.
pub const OVERRIDES_MAX: usize = 1000;
/// What `waiting` of an action may be: no more than one object takes of all jobs.
pub const WAITING_RANGE: RangeInclusive<u64> = 1..=crate::jobs::WAITING_MAX;
/// What `waiting_bytes` may be: a row takes so much at least, and ten objects hold no more. Bytes.
pub const WAITING_BYTES_RANGE: RangeInclusive<u64> = 1024..=100_000_000_000;
/// What the weight of a share may be: one start of the lightest is a thousand of the heaviest.
pub const SHARE_WEIGHT_RANGE: RangeInclusive<u64> = 1..=1000;
/// Weights at most; every other key has the weight 1.
pub const SHARE_WEIGHTS_MAX: usize = 1000;
/// Origins of pages at most: each socket of a browser is held against them.
pub const ORIGINS_MAX: usize = 100;
/// Namespaces of channels at most.
pub const CHANNELS_MAX: usize = 100;
/// Messages of a channel that are kept: what a person scrolls back through, and more than a client misses on its way through
/// a tunnel.
pub const HISTORY_MESSAGES: u64 = 1000;
/// What `history.messages` may be: the log of a channel is a part of one object.
pub const HISTORY_MESSAGES_RANGE: RangeInclusive<u64> = 1..=100_000;
/// How long a message is kept: a client that was off over night is told what it missed. Milliseconds.
pub const HISTORY_AGE_MS: u64 = DAY_MS;
/// What `history.age` may be. Milliseconds.
pub const HISTORY_AGE_MS_RANGE: RangeInclusive<u64> = SECOND_MS..=366 * DAY_MS;
/// How long a member whose sockets are gone is still there: a reconnect is not seen. Milliseconds.
pub const PRESENCE_GRACE_MS: u64 = 5 * SECOND_MS;
/// What `presence_grace` may be. Milliseconds.
pub const PRESENCE_GRACE_MS_RANGE: RangeInclusive<u64> = 0..=10 * 60 * SECOND_MS;
/// Bytes of data that are kept of a channel.
pub const HISTORY_BYTES: u64 = 4 * 1024 * 1024;
/// What `history.bytes` may be: the largest message always fits.
pub const HISTORY_BYTES_RANGE: RangeInclusive<u64> = 64 * 1024..=256 * 1024 * 1024;
/// What an ephemeral channel keeps in the memory of its object, for clients that were away for a moment.
pub const EPHEMERAL_MESSAGES: u64 = 100;
/// As [`EPHEMERAL_MESSAGES`], in bytes.
pub const EPHEMERAL_BYTES: u64 = 256 * 1024;
/// As [`EPHEMERAL_MESSAGES`], in milliseconds.
pub const EPHEMERAL_AGE_MS: u64 = MINUTE_MS;
/// Faults reported at most. A person mends the first ones first, and an answer must not outgrow its document.
pub const FAULTS_MAX: usize = 100;

const _: () = assert!(SYNC_TIMEOUT_MS <= *SYNC_TIMEOUT_MS_RANGE.end());
const _: () = assert!(ATTEMPT_TIMEOUT_MS <= *ATTEMPT_TIMEOUT_MS_RANGE.end());
const _: () = assert!(AUTO_DEADLINE_MS <= *AUTO_DEADLINE_MS_RANGE.end());
const _: () = assert!(AUTO_DEADLINE_MS < ATTEMPT_TIMEOUT_MS);
const _: () = assert!(LEASE_MS >= *LEASE_MS_RANGE.start());
const _: () = assert!(BACKOFF_INITIAL_MS <= BACKOFF_CAP_MS);
