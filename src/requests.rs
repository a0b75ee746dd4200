//! `POST /v1/requests`: hands the body to the user's hub, which admits it, and writes the answer.

use tidegate_durable_objects::platform::unavailable;
use tidegate_durable_objects::remote;
use tidegate_engine::hub::hub_of;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::hub::{Call, Prefer, Reply};
use tidegate_protocol::http::{Answer, Problem};
use tidegate_protocol::ids::ObjectName;
use tidegate_protocol::limits::{BODY_BYTES_MAX, WAIT_SECONDS_MAX};
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Request, Response};

use crate::request_log::Served;
use crate::tenants::scale;
use crate::{answer, idempotency};

/// Reads a JSON body as text.
///
/// Errors: `UNSUPPORTED_MEDIA_TYPE`, `PAYLOAD_TOO_LARGE`, and `VALIDATION_ERROR` for bytes that are no UTF-8.
pub async fn read_text(request: &mut Request, bytes_max: usize) -> Result<String, Error> {
    if let Some(media) = media(request)
        && media != "application/json"
        && !media.ends_with("+json")
    {
        let message = format!(
            "The body must be `application/json`, not `{}`.",
            tidegate_protocol::fault::shorten(&media)
        );
        return Err(Error::new(ErrorCode::UnsupportedMediaType, message));
    }
    read_any_text(request, bytes_max).await
}

/// The media type that a request says, in lower case and without its parameters.
pub fn media(request: &Request) -> Option<String> {
    let kind = request.headers().get("content-type").ok().flatten()?;
    Some(kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Bytes beyond its limit that are read of a body all the same, and dropped: a client that is still sending when its
/// connection closes may never see its answer (RFC 9112, section 9.6).
const DROPPED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Reads a body as text, whatever its media type.
///
/// Errors: `PAYLOAD_TOO_LARGE`, and `VALIDATION_ERROR` for bytes that are no UTF-8.
pub async fn read_any_text(request: &mut Request, bytes_max: usize) -> Result<String, Error> {
    let bytes = read_bytes(request, bytes_max).await?;
    String::from_utf8(bytes).map_err(|_| Error::new(ErrorCode::ValidationError, "The body is not UTF-8."))
}

/// Reads a body.
///
/// Errors: `PAYLOAD_TOO_LARGE`.
pub async fn read_bytes(request: &mut Request, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let too_large = || {
        Error::new(
            ErrorCode::PayloadTooLarge,
            format!("The body of this request holds at most {bytes_max} bytes."),
        )
    };
    let announced = request.headers().get("content-length").ok().flatten();
    let announced = announced.and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > bytes_max + DROPPED_BYTES_MAX) {
        return Err(too_large());
    }
    let (mut bytes, mut length) = (Vec::new(), 0);
    if let Ok(mut stream) = request.stream() {
        use futures_util::StreamExt;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(unavailable("reading a body"))?;
            length += chunk.len();
            if length <= bytes_max {
                bytes.extend_from_slice(&chunk);
            } else if length > bytes_max + DROPPED_BYTES_MAX {
                break;
            }
        }
    }
    if length > bytes_max {
        return Err(too_large());
    }
    Ok(bytes)
}

/// Reads the `Prefer` header (RFC 7240). What is not understood is passed over, as that asks.
pub fn prefer(header: Option<&str>) -> Prefer {
    let mut prefer = Prefer::default();
    for preference in header.unwrap_or_default().split([',', ';']) {
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "respond-async" => prefer.respond_async = true,
            "wait" => {
                prefer.wait_ms = value
                    .parse::<u64>()
                    .ok()
                    .map(|seconds| seconds.min(WAIT_SECONDS_MAX) * 1000);
            }
            _ => {}
        }
    }
    prefer
}

/// Whether a reply is that to an earlier request: nothing was done for this one.
pub fn is_replay(reply: &Reply) -> bool {
    match reply {
        Reply::Answer { deduplicated, .. } => *deduplicated,
        Reply::Accepted(accepted) => accepted.deduplicated,
        Reply::Batch { .. }
        | Reply::Delivered { .. }
        | Reply::Returned(_)
        | Reply::Places(_)
        | Reply::Heard(_)
        | Reply::HeardPresence(_)
        | Reply::Text(_)
        | Reply::Done => false,
    }
}

/// Takes a request.
///
/// Errors: whatever the hub refuses.
pub async fn create(
    request: &mut Request,
    env: &Env,
    principal: Principal,
    served: &Served,
) -> Result<Response, Error> {
    let header = |request: &Request, name: &str| request.headers().get(name).ok().flatten();
    let prefer = prefer(header(request, "prefer").as_deref());
    let (idempotency_key, traceparent) = (header(request, "idempotency-key"), header(request, "traceparent"));
    let has_key = idempotency_key.is_some();
    let body = read_text(request, BODY_BYTES_MAX).await?;
    served.asked(&body);
    let hub = hub_of(&principal.user, scale(env, &principal.tenant).await?.hubs);
    let name = ObjectName::Hub(principal.tenant.clone(), hub);
    let call = Call::Request {
        principal,
        body,
        idempotency_key,
        traceparent,
        prefer,
    };
    let reply = remote::hub(env, &name, &call).await?;
    let replayed = is_replay(&reply);
    match &reply {
        Reply::Answer { request_id, job, .. } => served.became(request_id, *job),
        Reply::Accepted(accepted) => served.became(&accepted.request_id, Some(accepted.job_id)),
        _ => {}
    }
    let response = match reply {
        Reply::Answer {
            request_id,
            result: Ok(data),
            job,
            deduplicated,
            result_url,
        } => answer::json(
            &Answer {
                request_id,
                data,
                deduplicated,
                job_id: job,
                result_url,
            },
            200,
        )?,
        Reply::Answer {
            request_id,
            result: Err(error),
            job,
            ..
        } => {
            let problem = Problem {
                job_id: job,
                ..Problem::new(&error, Some(request_id))
            };
            answer::write_problem(&error, &problem).map_err(answer::broken)?
        }
        Reply::Accepted(accepted) => {
            let response = answer::json(&accepted, 202)?;
            let location = format!("/v1/jobs/{}", accepted.job_id);
            response.headers().set("location", &location).map_err(answer::broken)?;
            response
        }
        Reply::Batch { .. }
        | Reply::Delivered { .. }
        | Reply::Returned(_)
        | Reply::Places(_)
        | Reply::Heard(_)
        | Reply::HeardPresence(_)
        | Reply::Text(_)
        | Reply::Done => {
            return Err(Error::new(
                ErrorCode::InternalError,
                "The hub answered another question.",
            ));
        }
    };
    if has_key && replayed {
        idempotency::mark(&response)?;
    }
    let mut applied = Vec::new();
    if prefer.respond_async && response.status_code() == 202 {
        applied.push(String::from("respond-async"));
    }
    if let Some(ms) = prefer.wait_ms {
        applied.push(format!("wait={}", ms / 1000));
    }
    if !applied.is_empty() {
        response
            .headers()
            .set("preference-applied", &applied.join(", "))
            .map_err(answer::broken)?;
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_as_rfc_7240_writes_them() {
        for (header, respond_async, wait_ms) in [
            (None, false, None),
            (Some("respond-async"), true, None),
            (Some("respond-async, wait=10"), true, Some(10_000)),
            (Some("Wait=\"5\"; foo"), false, Some(5000)),
            (Some("wait=9999"), false, Some(WAIT_SECONDS_MAX * 1000)),
            (Some("wait=soon, handling=lenient"), false, None),
        ] {
            assert_eq!(prefer(header), Prefer { respond_async, wait_ms }, "{header:?}");
        }
    }
}
