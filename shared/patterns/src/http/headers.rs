//! Which headers may be sent, and what stands in them.

/// Bytes of a header's value at most.
pub const VALUE_BYTES_MAX: usize = 4096;
const NAME_BYTES_MAX: usize = 128;

/// Headers that nobody may set: they belong to the connection, to the form of the request, to those who carry it, or to
/// Tidegate itself (the last two).
const OWNED: &[&str] = &[
    "accept-encoding",
    "cdn-loop",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "via",
    "x-http-method-override",
    "x-real-ip",
    "idempotency-key",
    "traceparent",
];
const OWNED_BEGINNINGS: &[&str] = &["cf-", "sec-", "x-forwarded-", "x-tidegate-"];

/// Headers that a configuration may set and a payload may not: they say who asks, or how the body is to be read.
const AUTHORS_ONLY: &[&str] = &["authorization", "cookie", "content-type", "x-api-key"];

/// What a header's name must be in a configuration.
pub const NAME: &str = "the name of a header that is not the connection's, the request's own or Tidegate's";
/// What a header's name must be among those that a payload may give.
pub const PAYLOAD_NAME: &str = "the name of a header that a payload may give: not one that says who asks, that the \
     upstream's configuration sets, or that is not to be set at all";
/// What a header's value must be.
pub const VALUE: &str = "at most 4096 printable ASCII characters";

/// Whether `name` is a header's name (a token of RFC 9110).
fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// `name` in lower case, where a configuration may set it.
pub fn authors_name(name: &str) -> Option<alloc::string::String> {
    let name = is_name(name).then(|| name.to_ascii_lowercase())?;
    let owned = OWNED.contains(&name.as_str()) || OWNED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
    (!owned).then_some(name)
}

/// `name` in lower case, where a payload may set it.
pub fn payload_name(name: &str) -> Option<alloc::string::String> {
    authors_name(name).filter(|name| !AUTHORS_ONLY.contains(&name.as_str()))
}

/// Whether `value` can be a header's value: printable ASCII, so no line can be begun in it.
pub fn is_value(value: &str) -> bool {
    value.len() <= VALUE_BYTES_MAX && value.bytes().all(|b| matches!(b, 0x20..=0x7e))
}
