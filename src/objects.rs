//! `/v1/objects/{key}`: the tenant's own storage, with ranges and conditions as HTTP has them (RFC 9110).

use tidegate_durable_objects::platform::unavailable;
use tidegate_durable_objects::tenant::is_gone;
use tidegate_durable_objects::{access, storage};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::http::ObjectInfo;
use tidegate_protocol::limits::OBJECT_KEY_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode, Fault};
use worker::{Bucket, Conditional, Env, HttpMetadata, Method, Object, Range, Request, Response};

use crate::answer;

/// Reads, writes or deletes an object.
///
/// Errors: `NOT_FOUND`, `PRECONDITION_FAILED`, `RANGE_NOT_SATISFIABLE`, `VALIDATION_ERROR` for a key or length that
/// cannot be used, `UNAVAILABLE`.
pub async fn handle(
    request: &Request,
    env: &Env,
    principal: &Principal,
    key: &str,
    method: &Method,
) -> Result<Response, Error> {
    check_key(key)?;
    let bucket = env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))?;
    let full = storage::object(&principal.tenant, key);
    match method {
        Method::Put => {
            let response = put(request, &bucket, key, &full).await?;
            // An upload may last longer than its tenant: what it has stored would be found by nobody any more.
            if let Err(error) = access::check(env, principal).await
                && is_gone(env, &principal.tenant).await?
            {
                bucket.delete(full).await.map_err(unavailable("deleting an object"))?;
                return Err(error);
            }
            Ok(response)
        }
        Method::Delete => {
            check_conditions(
                request,
                bucket
                    .head(full.as_str())
                    .await
                    .map_err(unavailable("looking at an object"))?,
            )?;
            bucket.delete(full).await.map_err(unavailable("deleting an object"))?;
            Ok(Response::builder().with_status(204).empty())
        }
        _ => get(request, &bucket, &full).await,
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    if key.len() <= OBJECT_KEY_BYTES_MAX && !key.chars().any(char::is_control) {
        return Ok(());
    }
    let expected = format!("1 to {OBJECT_KEY_BYTES_MAX} bytes of text without control characters");
    Err(Error::invalid(
        "The key cannot be used.",
        vec![Fault::new("/key", expected, key)],
    ))
}

fn header(request: &Request, name: &str) -> Option<String> {
    request.headers().get(name).ok().flatten()
}

/// The entity tags of a condition, without quotes; `*` stands for any.
fn tags(value: &str) -> Vec<&str> {
    value
        .split(',')
        .map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"'))
        .collect()
}

fn matches(condition: &str, etag: &str) -> bool {
    tags(condition).iter().any(|tag| *tag == "*" || *tag == etag)
}

fn failed() -> Error {
    Error::new(
        ErrorCode::PreconditionFailed,
        "The object is not, or no longer, what the condition asks for.",
    )
}

/// Refuses a deletion whose conditions do not hold of the object that is there, or of none.
fn check_conditions(request: &Request, head: Option<Object>) -> Result<(), Error> {
    let etag = head.map(|object| object.etag());
    let holds = |condition: &str| etag.as_deref().is_some_and(|etag| matches(condition, etag));
    if header(request, "if-match").is_some_and(|condition| !holds(&condition))
        || header(request, "if-none-match").is_some_and(|condition| holds(&condition))
    {
        return Err(failed());
    }
    Ok(())
}

async fn put(request: &Request, bucket: &Bucket, key: &str, full: &str) -> Result<Response, Error> {
    if header(request, "content-length").is_none() {
        let fault = Fault::new("/headers/content-length", "the length of the object", "nothing");
        return Err(Error::invalid("An upload says its length first.", vec![fault]));
    }
    let metadata = HttpMetadata {
        content_type: header(request, "content-type"),
        ..HttpMetadata::default()
    };
    let if_match = header(request, "if-match");
    let if_none_match = header(request, "if-none-match");
    let put = match request.inner().body() {
        Some(stream) => bucket.put(full, stream),
        None => bucket.put(full, worker::Data::Empty),
    };
    let put = put.http_metadata(metadata);
    let put = match (&if_match, &if_none_match) {
        (None, None) => put,
        _ => put.only_if(Conditional {
            etag_matches: if_match
                .as_deref()
                .and_then(|value| tags(value).first().map(|tag| (*tag).to_owned())),
            etag_does_not_match: if_none_match
                .as_deref()
                .and_then(|value| tags(value).first().map(|tag| (*tag).to_owned())),
            uploaded_before: None,
            uploaded_after: None,
        }),
    };
    let object = storage::write(put)
        .await
        .map_err(unavailable("writing an object"))?
        .ok_or_else(failed)?;
    let info = ObjectInfo {
        key: key.to_owned(),
        size: object.size(),
        etag: object.http_etag(),
    };
    let response = answer::json(&info, 201)?;
    response
        .headers()
        .set("etag", &object.http_etag())
        .map_err(answer::broken)?;
    Ok(response)
}

/// What a `Range` header asks for of an object of `size` bytes: `None` for all of it.
///
/// Errors: `RANGE_NOT_SATISFIABLE`. A header that is not understood is passed over, as RFC 9110 asks.
fn range(header: Option<&str>, size: u64) -> Result<Option<(u64, u64)>, Error> {
    let Some(spec) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Ok(None);
    };
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else {
        return Ok(None);
    };
    let (first, last) = (first.trim(), last.trim());
    let wanted = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.min(size.saturating_sub(1))),
        (Ok(first), Err(_)) if last.is_empty() => (first, size.saturating_sub(1)),
        (Err(_), Ok(suffix)) if first.is_empty() && suffix > 0 => (size.saturating_sub(suffix), size.saturating_sub(1)),
        (Err(_), Ok(_)) if first.is_empty() => (size, 0),
        _ => return Ok(None),
    };
    if wanted.0 >= size {
        let message = format!("The object has {size} bytes; the range lies outside.");
        return Err(Error::new(ErrorCode::RangeNotSatisfiable, message));
    }
    Ok(Some(wanted))
}

async fn get(request: &Request, bucket: &Bucket, full: &str) -> Result<Response, Error> {
    let head = bucket
        .head(full)
        .await
        .map_err(unavailable("looking at an object"))?
        .ok_or_else(Error::not_found)?;
    let etag = head.etag();
    if header(request, "if-match").is_some_and(|condition| !matches(&condition, &etag)) {
        return Err(failed());
    }
    if header(request, "if-none-match").is_some_and(|condition| matches(&condition, &etag)) {
        return described(Response::builder().with_status(304).empty(), &head, None);
    }
    let size = head.size();
    let wanted = header(request, "if-range").is_none_or(|condition| matches(&condition, &etag));
    let range_header = header(request, "range").filter(|_| wanted);
    let range = match range(range_header.as_deref(), size) {
        Ok(range) => range,
        Err(error) => {
            let response = answer::problem(&error, None).map_err(answer::broken)?;
            response
                .headers()
                .set("content-range", &format!("bytes */{size}"))
                .map_err(answer::broken)?;
            return Ok(response);
        }
    };
    if request.method() == Method::Head {
        return described(Response::builder().empty(), &head, None);
    }
    // The content must be that of the head: a replacement in between is told, never mixed in.
    let same = Conditional {
        etag_matches: Some(etag),
        etag_does_not_match: None,
        uploaded_before: None,
        uploaded_after: None,
    };
    let mut get = bucket.get(full).only_if(same);
    if let Some((first, last)) = range {
        get = get.range(Range::OffsetWithLength {
            offset: first,
            length: last - first + 1,
        });
    }
    let object = storage::read(get)
        .await
        .map_err(unavailable("reading an object"))?
        .ok_or_else(Error::not_found)?;
    let body = object.body().ok_or_else(failed)?;
    let status = if range.is_some() { 206 } else { 200 };
    let body = body.response_body().map_err(unavailable("reading an object"))?;
    described(Response::builder().with_status(status).body(body), &head, range)
}

fn described(response: Response, object: &Object, range: Option<(u64, u64)>) -> Result<Response, Error> {
    let size = object.size();
    let set = |name: &str, value: &str| response.headers().set(name, value).map_err(answer::broken);
    set("etag", &object.http_etag())?;
    set("accept-ranges", "bytes")?;
    set("x-content-type-options", "nosniff")?;
    // What a tenant stores is shown by a browser without the rights of this origin.
    set(
        "content-security-policy",
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    )?;
    let length = range.map_or(size, |(first, last)| last - first + 1);
    if response.status_code() != 304 {
        set("content-length", &length.to_string())?;
    }
    let kind = object
        .http_metadata()
        .content_type
        .unwrap_or_else(|| "application/octet-stream".into());
    set("content-type", &kind)?;
    if let Some((first, last)) = range {
        set("content-range", &format!("bytes {first}-{last}/{size}"))?;
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        for (header, expected) in [
            (None, Some(None)),
            (Some("bytes=0-499"), Some(Some((0, 499)))),
            (Some("bytes=500-"), Some(Some((500, 999)))),
            (Some("bytes=-200"), Some(Some((800, 999)))),
            (Some("bytes=-5000"), Some(Some((0, 999)))),
            (Some("bytes=900-5000"), Some(Some((900, 999)))),
            (Some("bytes=1000-"), None),
            (Some("bytes=-0"), None),
            (Some("bytes=5-2"), Some(None)),
            (Some("bytes=0-1,5-6"), Some(None)),
            (Some("lines=1-2"), Some(None)),
            (Some("bytes=a-b"), Some(None)),
        ] {
            assert_eq!(range(header, 1000).ok(), expected, "{header:?}");
        }
        assert!(range(Some("bytes=0-"), 0).is_err());
    }

    #[test]
    fn an_entity_tag_is_compared_without_its_clothes() {
        assert!(matches("W/\"abc\", \"def\"", "abc") && matches("*", "x") && matches("def", "def"));
        assert!(!matches("\"abc\"", "ab"));
    }
}
