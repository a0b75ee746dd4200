//! Telling an endpoint that a job has ended.

use alloc::format;

use tidegate_protocol::calls::hooks;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::{Error, ErrorCode};

use super::{Message, answer, reachable, signed};
use crate::operation::{Context, Done, Invocation};

/// Sends the payload of `call` as `message` says. Its result is the status that the endpoint answered with.
///
/// Errors: `UPSTREAM_ERROR`; not retryable for 410, by which an endpoint wants to hear no more, and for what is no
/// endpoint. `TIMEOUT` where it takes too long. `CONFLICT` for a message that is held, which is then sent to nobody.
pub async fn tell(context: &impl Context, call: &Invocation, message: &hooks::Message) -> Result<Done, Error> {
    if let Some(why) = &message.held {
        let message = format!("The endpoint is disabled: {why}");
        return Err(Error::new(ErrorCode::Conflict, message));
    }
    let mut request = signed(
        context,
        Message {
            url: reachable(context, &message.url)?,
            id: message.id.clone(),
            how: message.signature,
            body: call.payload.as_str().into(),
            // Nobody reads what it says.
            answer_bytes_max: 0,
            timeout_ms: call.timeout_ms,
        },
    )
    .await?;
    if let Some(trace) = &call.traceparent {
        request.headers.push(("traceparent".into(), format!("{trace}")));
    }
    let given = context.fetch(request).await?;
    answer::told(given.status, given.retry_after.as_deref(), context.now())?;
    let status = JsonText::parse(&format!(r#"{{"status":{}}}"#, given.status));
    let status = status.ok_or_else(|| Error::new(ErrorCode::InternalError, "A status cannot be written."))?;
    Ok(Done::Result(status))
}
