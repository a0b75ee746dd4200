//! What is cleared up now and then: checkpoints that outlived their jobs.
//!
//! A checkpoint is deleted when a newer one or the end of its job replaces it. Where that call was lost, it stays; one
//! that has not changed for a month belongs to no attempt, since an attempt takes a day at most.

use tidegate_durable_objects::platform::{log_error, now};
use tidegate_durable_objects::storage::CHECKPOINTS;
use worker::Env;

/// How old a checkpoint must be. Milliseconds.
const CHECKPOINT_MS: u64 = 30 * 24 * 3_600_000;
/// Pages of 1,000 keys that one run looks at. The next run goes on.
const PAGES_MAX: usize = 20;

/// Clears up.
pub async fn run(env: &Env) {
    if let Err(cause) = clear_checkpoints(env).await {
        log_error("housekeeping", cause);
    }
}

async fn clear_checkpoints(env: &Env) -> worker::Result<()> {
    let bucket = env.bucket("OBJECTS")?;
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let list = bucket.list().prefix(CHECKPOINTS);
        let list = match &cursor {
            Some(cursor) => list.cursor(cursor.as_str()),
            None => list,
        };
        let page = list.execute().await?;
        let old = |object: &worker::Object| now().0.saturating_sub(object.uploaded().as_millis()) > CHECKPOINT_MS;
        let keys: Vec<String> = page
            .objects()
            .iter()
            .filter(|object| old(object))
            .map(worker::Object::key)
            .collect();
        if !keys.is_empty() {
            bucket.delete_multiple(keys).await?;
        }
        cursor = page.cursor();
        if cursor.is_none() {
            break;
        }
    }
    Ok(())
}
