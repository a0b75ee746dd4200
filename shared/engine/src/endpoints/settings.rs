//! Reads what an endpoint is to be, and reports every fault of it.

use alloc::string::ToString;
use alloc::vec::Vec;

use tidegate_protocol::Error;
use tidegate_protocol::fields::Fields;
use tidegate_protocol::http::{Endpoint, EndpointEvent, Signature};
use tidegate_protocol::ids::EndpointId;
use tidegate_protocol::time::UnixMs;

use super::VARIABLES;
use crate::expression::{Expression, Type};
use crate::outbound::Target;

/// Characters of a description.
const DESCRIPTION_CHARS_MAX: usize = 256;
/// What can be said of an endpoint.
const FIELDS: &[&str] = &[
    "url",
    "description",
    "events",
    "filter",
    "signature",
    "ordered",
    "enabled",
];
/// Why an endpoint is disabled that somebody has disabled.
const BY_HAND: &str = "It was disabled by hand.";

/// The endpoint `id` that `body` describes.
///
/// Errors: `VALIDATION_ERROR` with every fault.
pub(super) fn create(id: EndpointId, body: &str, now: UnixMs) -> Result<Endpoint, Error> {
    let endpoint = Endpoint {
        endpoint_id: id,
        url: alloc::string::String::new(),
        description: alloc::string::String::new(),
        events: EndpointEvent::ALL.to_vec(),
        filter: None,
        signature: Signature::default(),
        ordered: false,
        enabled: true,
        disabled_at: None,
        disabled_reason: None,
        created_at: now,
        updated_at: now,
    };
    change(&endpoint, body, now)
}

/// `endpoint` with what `body` says. What it does not say stays as it is.
///
/// Errors: `VALIDATION_ERROR` with every fault.
pub(super) fn change(endpoint: &Endpoint, body: &str, now: UnixMs) -> Result<Endpoint, Error> {
    let mut fields = Fields::split(body)?;
    fields.refuse_others(FIELDS);
    let mut changed = endpoint.clone();
    changed.updated_at = now;
    let url = fields.optional_text("url", "a URL", |text| Some(text.to_string()));
    match url.as_deref().map(Target::parse) {
        Some(Ok(target)) => changed.url = target.url().to_string(),
        // It may hold a secret, and is not repeated.
        Some(Err(expected)) => fields.fault("url", expected, "another URL"),
        None if changed.url.is_empty() && fields.raw("url").is_none() => {
            fields.fault("url", "the URL of the endpoint", "nothing");
        }
        None => {}
    }
    let expected = "a text of at most 256 characters";
    let description = fields.optional_text("description", expected, |text| {
        (text.chars().count() <= DESCRIPTION_CHARS_MAX).then(|| text.to_string())
    });
    changed.description = description.unwrap_or(changed.description);
    if let Some(events) = fields.optional::<Vec<EndpointEvent>>("events", EndpointEvent::EXPECTED) {
        let again = |at: usize, event| events.iter().take(at).any(|earlier| earlier == event);
        if events.is_empty() || events.iter().enumerate().any(|(at, event)| again(at, event)) {
            let got = fields.raw("events").map_or("", |raw| raw.get());
            fields.fault("events", EndpointEvent::EXPECTED, got);
        }
        changed.events = events;
    }
    // An empty one takes the filter away.
    if let Some(text) = fields.optional_text("filter", "a condition in CEL", |text| Some(text.to_string())) {
        if let Err(flaws) = Expression::compile(&text, VARIABLES, Type::Bool)
            && !text.is_empty()
        {
            let pointer = fields.pointer("filter");
            fields.faults.extend(flaws.into_iter().map(|flaw| flaw.fault(&pointer)));
        }
        changed.filter = Some(text).filter(|text| !text.is_empty());
    }
    let signature = fields.optional::<Signature>("signature", "`v1` or `v1a`");
    changed.signature = signature.unwrap_or(changed.signature);
    changed.ordered = fields.optional("ordered", "true or false").unwrap_or(changed.ordered);
    match fields.optional::<bool>("enabled", "true or false") {
        Some(true) => {
            changed.enabled = true;
            (changed.disabled_at, changed.disabled_reason) = (None, None);
        }
        Some(false) if changed.enabled => {
            changed.enabled = false;
            (changed.disabled_at, changed.disabled_reason) = (Some(now), Some(BY_HAND.to_string()));
        }
        Some(false) | None => {}
    }
    fields.finish("The endpoint cannot be kept.")?;
    Ok(changed)
}
