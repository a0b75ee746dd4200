//! Who is told of the ends of an action's jobs: its field `on_end`.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::calls::executor::{Backoff, Dispatch, Jitter, Policy, Sharing};
use tidegate_protocol::calls::feeds::Feeds;
use tidegate_protocol::calls::hooks::{Hook, OnEnd};
use tidegate_protocol::calls::reporting::Reporting;
use tidegate_protocol::calls::versions::RevisionRule;
use tidegate_protocol::event::JobState;
use tidegate_protocol::{Error, Fault};

use super::defaults::{
    LEASE_MS, ON_END_ALLOWED_MAX, ON_END_JITTER_PERCENT, ON_END_TIMEOUT_MS, ON_END_TIMEOUT_MS_RANGE, ON_END_WAITS_MS,
};
use super::object::{Object, child, describe, note, suggest};
use super::retry::{Retry, read_retry};
use crate::outbound::{Allowed, Target};

/// The ends that an endpoint can be told of, by name.
const EVENTS: &[&str] = &["succeeded", "failed", "cancelled", "expired"];

/// Who is told of the ends of an action's jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct OnEndRules {
    /// Where nothing else is asked for; without a URL, only whom a request names is told.
    template: OnEnd,
    from_request: Vec<Allowed>,
}

impl OnEndRules {
    /// What a job does that names nobody itself.
    pub fn standing(&self) -> Option<Hook> {
        let template = Some(&self.template).filter(|template| !template.url.is_empty());
        template.map(|template| Hook::OnEnd(Box::new(template.clone())))
    }

    /// What a job does whose request names the endpoint `requested`, or none.
    ///
    /// Errors: `VALIDATION_ERROR` for an endpoint that requests may not name, and for what is none.
    pub fn of(&self, requested: Option<&str>) -> Result<Option<Hook>, Error> {
        let Some(requested) = requested else {
            return Ok(self.standing());
        };
        let target = Target::parse(requested).map_err(Self::refusal)?;
        if !self.from_request.iter().any(|allowed| allowed.takes(&target)) {
            return Err(Self::refusal(
                "an endpoint that the action's `on_end.from_request` names",
            ));
        }
        Ok(Some(Hook::OnEnd(Box::new(OnEnd {
            url: target.url().to_string(),
            ..self.template.clone()
        }))))
    }

    /// The refusal of a request whose `on_end` cannot be kept. The URL is not repeated: it may hold a secret.
    pub fn refusal(expected: &'static str) -> Error {
        let fault = Fault::new("/on_end/url", expected, "another");
        Error::invalid("The request's `on_end` cannot be kept.", vec![fault])
    }
}

/// Reads the field. What is wrong has been noted. The jobs that tell are kept as long as those that they tell of.
pub(super) fn read_on_end(fields: &mut Object<'_, '_>, retention_ms: u64) -> Option<OnEndRules> {
    let value = fields.take("on_end")?;
    let pointer = fields.at("on_end");
    let mut fields = Object::read(value, &pointer, fields.faults)?;
    let url = match fields.take("url") {
        Some(value) => match value.as_str().ok_or("a URL").and_then(Target::parse) {
            Ok(target) => Some(target.url().to_string()),
            Err(expected) => {
                fields.fault("url", expected, "another URL");
                None
            }
        },
        None => None,
    };
    let expected = format!("a list of 1 to {ON_END_ALLOWED_MAX} URLs");
    let from_request = list(&mut fields, "from_request", &expected, ON_END_ALLOWED_MAX, |text, _| {
        Allowed::parse(text).ok_or(Allowed::EXPECTED)
    });
    let events = list(
        &mut fields,
        "events",
        "a list of ends, each once",
        EVENTS.len(),
        |text, taken| {
            let known = JobState::ALL.iter().copied().find(|state| state.as_str() == text);
            let known = known
                .filter(|state| state.is_ended())
                .ok_or("`succeeded`, `failed`, `cancelled` or `expired`")?;
            if taken.contains(&known) {
                Err("each end once")
            } else {
                Ok(known)
            }
        },
    );
    if !fields.has("url") && !fields.has("from_request") {
        fields.fault("url", "an endpoint, here or in `from_request`", "nothing");
    }
    let timeout_ms = fields
        .duration("timeout", ON_END_TIMEOUT_MS_RANGE)
        .unwrap_or(ON_END_TIMEOUT_MS);
    let retry = match fields.take("retry") {
        Some(value) => read_retry(value, &fields.at("retry"), fields.faults),
        None => standard_retry(),
    };
    let include_result = fields.flag("include_result").unwrap_or(true);
    fields.finish();
    Some(OnEndRules {
        template: OnEnd {
            url: url.unwrap_or_default(),
            events: events.unwrap_or_else(|| JobState::ALL.iter().copied().filter(|state| state.is_ended()).collect()),
            include_result,
            policy: policy(retry, timeout_ms, retention_ms),
        },
        from_request: from_request.unwrap_or_default(),
    })
}

/// How an endpoint is told where nothing else is asked for.
pub(crate) fn standard_policy(retention_ms: u64) -> Policy {
    policy(standard_retry(), ON_END_TIMEOUT_MS, retention_ms)
}

fn standard_retry() -> Retry {
    Retry {
        attempts_max: u32::try_from(ON_END_WAITS_MS.len()).map_or(1, |waits| waits + 1),
        backoff: Backoff::Table {
            waits_ms: ON_END_WAITS_MS.to_vec(),
        },
        jitter: Jitter::PlusMinus {
            percent: ON_END_JITTER_PERCENT,
        },
    }
}

fn policy(retry: Retry, timeout_ms: u64, retention_ms: u64) -> Policy {
    Policy {
        attempts_max: retry.attempts_max,
        backoff: retry.backoff,
        jitter: Some(retry.jitter),
        timeout_ms,
        queue_timeout_ms: None,
        total_timeout_ms: None,
        heartbeat_timeout_ms: None,
        lease_ms: LEASE_MS,
        retention_ms,
        result_retention_ms: None,
        dispatch: Dispatch::Direct,
        sharing: Sharing::Alone,
        cancel_grace_ms: 0,
        reporting: Reporting::default(),
        pool: None,
        revision: RevisionRule::Accepted,
        feeds: Feeds::default(),
    }
}

/// A list of texts that is not empty. `None` where it is missing or none.
fn list<T>(
    fields: &mut Object<'_, '_>,
    name: &'static str,
    expected: &str,
    count_max: usize,
    parse: impl Fn(&str, &[T]) -> Result<T, &'static str>,
) -> Option<Vec<T>> {
    let value = fields.take(name)?;
    let Some(items) = value.as_array().filter(|items| (1..=count_max).contains(&items.len())) else {
        fields.fault(name, String::from(expected), &describe(value));
        return None;
    };
    let pointer = fields.at(name);
    let mut read = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match parse(item.as_str().unwrap_or_default(), &read) {
            Ok(value) => read.push(value),
            Err(expected) => note(fields.faults, || {
                let fault = Fault::new(child(&pointer, &index.to_string()), expected, &describe(item));
                suggest(
                    fault,
                    item.as_str().unwrap_or_default(),
                    EVENTS.iter().copied().filter(|_| name == "events"),
                )
            }),
        }
    }
    Some(read)
}
