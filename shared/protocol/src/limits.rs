//! The limits of the protocol, each with its reason. A deployment can lower them, never raise them.

/// One frame on the socket. The platform takes 1 MiB; a quarter leaves room for what stands around a payload.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// The body of one HTTP request to `/v1/requests`.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Requests of one batch. The longest turn that they make is that of a thousand small frames.
pub const BATCH_REQUESTS_MAX: usize = 1000;
/// The body of one batch: far below the 32 MiB of a call between parts.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A payload kept in the job's row; a larger one lies in object storage. Rewriting a row rewrites its payload.
pub const PAYLOAD_ROW_BYTES_MAX: usize = 32 * 1024;
/// A result kept in the job's row; a larger one lies in object storage.
pub const RESULT_ROW_BYTES_MAX: usize = 64 * 1024;
/// A result at all.
pub const RESULT_BYTES_MAX: usize = 100 * 1024 * 1024;
/// A composition document.
pub const COMPOSITION_BYTES_MAX: usize = 256 * 1024;
/// A bearer token.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How deep JSON may nest. Readers of it recurse, and the stack in wasm is 1 MiB.
pub const JSON_DEPTH_MAX: usize = 64;
/// An id, an idempotency key, an action's name.
pub const ID_CHARS_MAX: usize = 128;
/// Metadata of one request: entries.
pub const METADATA_ENTRIES_MAX: usize = 32;
/// Metadata of one request: bytes of one value.
pub const METADATA_VALUE_BYTES_MAX: usize = 1024;
/// The key of an object in storage. R2 takes 1,024 bytes, the tenant's prefix comes out of them.
pub const OBJECT_KEY_BYTES_MAX: usize = 900;
/// Jobs one socket follows at once. Each takes about 100 bytes of the 16 KiB that a sleeping socket keeps.
pub const FOLLOWS_MAX: usize = 64;
/// Channels one socket follows at once, as far as its attachment has room.
pub const SUBSCRIPTIONS_MAX: usize = 128;
/// The data of one message of a channel. Each of its followers is sent it, and its log keeps it.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// What a member of a channel says of themselves. Everybody there is sent it.
pub const PRESENCE_DATA_BYTES_MAX: usize = 512;
/// Members of a channel who are named one by one, with their comings and goings. Of more, the first by name, and how many.
pub const PRESENCE_NAMED_MAX: usize = 250;
/// Members of a channel at all: the memory of its object.
pub const PRESENCE_MEMBERS_MAX: usize = 10_000;
/// Messages that one answer brings back at most: a cursor that is further behind is not made up for.
pub const RECOVERED_MESSAGES_MAX: usize = 1000;
/// Bytes of their data.
pub const RECOVERED_BYTES_MAX: usize = 512 * 1024;
/// Jobs named that hold places under a limit which another waits for.
pub const HOLDERS_SHOWN_MAX: usize = 10;
/// The longest a request may ask to be waited for. Seconds.
pub const WAIT_SECONDS_MAX: u64 = 60;
/// How far away `delay_ms` and `run_at` may lie: ten years. Milliseconds.
pub const DELAY_MS_MAX: u64 = 10 * 366 * 24 * 3_600_000;
/// The longest an attempt may be told to take. Milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 24 * 3_600_000;
/// The longest that a job may be told to wait for its first attempt: thirty days. Milliseconds.
pub const QUEUE_TIMEOUT_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// Text of one `output` event. Longer text becomes several, each far below a frame.
pub const OUTPUT_CHUNK_BYTES_MAX: usize = 16 * 1024;
/// Text of one report. Far below a frame, and what an attempt may have to send again.
pub const OUTPUT_REPORT_BYTES_MAX: usize = 128 * 1024;
/// Streams of one job. The row remembers the length of each.
pub const OUTPUT_STREAMS_MAX: usize = 16;
/// Text of a job's streams that is kept where its action does not say how much.
pub const OUTPUT_KEEP_BYTES: u64 = 1024 * 1024;
/// The least that an action can ask to be kept: a chunk always fits.
pub const OUTPUT_KEEP_BYTES_MIN: u64 = 32 * 1024;
/// The most that an action can ask to be kept. Its rows are deleted in one turn.
pub const OUTPUT_KEEP_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Changes of metadata in one report.
pub const METADATA_PATCHES_MAX: usize = 64;
/// The message of a progress report, and its metadata, each: a job's row is rewritten with every event.
pub const PROGRESS_BYTES_MAX: usize = 4 * 1024;
/// The message with which an attempt may fail. It stands in the job's row, and in every answer about it.
pub const FAILURE_BYTES_MAX: usize = 4 * 1024;
/// The body with which an attempt may end. It is held as a whole, several times over, in an instance of 128 MB that
/// others share.
pub const FINISH_BYTES_MAX: usize = 16 * 1024 * 1024;

const _: () = assert!(PAYLOAD_ROW_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(OUTPUT_REPORT_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(
    RESULT_ROW_BYTES_MAX + PAYLOAD_ROW_BYTES_MAX < 2_000_000,
    "a row holds 2 MB"
);
