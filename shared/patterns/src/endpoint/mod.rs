//! Endpoints of a tenant's own: they are told of ends, and do jobs.
//!
//! Whatever is sent to one is signed after Standard Webhooks, and goes where the URL says or nowhere: redirects are not
//! followed. What an endpoint may be is decided by [`Target`].

mod answer;
mod handler;
mod hook;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use tidegate_engine::outbound::Target;
use tidegate_protocol::http::Signature;
use tidegate_protocol::{Error, ErrorCode};

pub use handler::{HTTP, WORKER, handle};
pub use hook::tell;

use crate::operation::{Context, Outgoing};

/// A message to an endpoint, before it is signed.
struct Message {
    url: String,
    id: String,
    how: Signature,
    body: String,
    answer_bytes_max: usize,
    timeout_ms: u64,
}

/// The URL, where the deployment lets it be reached.
///
/// Errors: `UPSTREAM_ERROR`, not retryable, for what is no endpoint, and for the machine itself where that is not allowed.
fn reachable(context: &impl Context, url: &str) -> Result<String, Error> {
    let refused = |why: &str| Error::new(ErrorCode::UpstreamError, format!("The endpoint is not called: {why}."));
    let target = Target::parse(url).map_err(|_| refused("it is not one that may be"))?;
    if target.is_loopback() && !context.may_reach_loopback() {
        return Err(refused("this deployment reaches no endpoint on its own machine"));
    }
    Ok(target.url().to_string())
}

/// The request that brings a message, signed.
///
/// Errors: those of signing.
async fn signed(context: &impl Context, message: Message) -> Result<Outgoing, Error> {
    // A fresh time with every attempt: receivers refuse what is old.
    let seconds = context.now().0 / 1000;
    let signature = context.sign(message.how, &message.id, seconds, &message.body).await?;
    let headers = vec![
        ("content-type".to_string(), "application/json".to_string()),
        ("webhook-id".to_string(), message.id),
        ("webhook-timestamp".to_string(), seconds.to_string()),
        ("webhook-signature".to_string(), signature),
    ];
    Ok(Outgoing {
        method: "POST".to_string(),
        url: message.url,
        headers,
        body: Some(message.body),
        answer_bytes_max: message.answer_bytes_max,
        timeout_ms: message.timeout_ms,
    })
}
