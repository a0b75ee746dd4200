//! Limits of the deployment: what an operator allows a tenant, beside and above what its own composition says. One JSON document
//! for each tenant, of the composition's own parts, with which it travels to the hubs.
//!
//! A request has to pass these and the tenant's own, in one decision. Names of limits begin with `deployment:`, which no name
//! in a composition can.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;
use tidegate_protocol::calls::admission::Need;
use tidegate_protocol::calls::queueing::{Bounds as Waiting, Counted, Queueing, Rule, WhenFull};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::ChannelName;
use tidegate_protocol::{Error, Fault};

use super::admission::Admission;
use super::defaults::{LIMIT_RANGE, WAITING_BYTES_RANGE, WAITING_RANGE};
use super::document::canonical;
use super::object::{Object, note};
use super::request::Input;
use crate::connections::Bounds;

/// What the names of the deployment's limits begin with.
pub const PREFIX: &str = "deployment:";
/// Bytes of a document at most: it travels with the tenant's description.
pub const BYTES_MAX: usize = 8 * 1024;

/// The limit on jobs that run at once.
const CONCURRENCY: &str = "concurrency";

/// What a deployment allows a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeploymentLimits {
    admission: Admission,
    concurrency: Option<u32>,
    waiting: Waiting,
}

impl DeploymentLimits {
    /// Reads a document, and gives it as it is kept: `None` where it limits nothing.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn parse(text: &str) -> Result<(Self, Option<JsonText>), Error> {
        let mut faults = Vec::new();
        let document = serde_json::from_str::<Value>(text).unwrap_or_default();
        let limits = Self::read(&document, &mut faults);
        let kept = canonical(&document);
        if kept.len() > BYTES_MAX {
            let expected = format!("at most {BYTES_MAX} bytes");
            note(&mut faults, || Fault::new("", expected, &format!("{}", kept.len())));
        }
        match faults.is_empty() {
            true if limits == Self::default() => Ok((limits, None)),
            true => Ok((limits, JsonText::parse(&kept))),
            false => Err(Error::invalid("The limits cannot be set.", faults)),
        }
    }

    /// What was parsed before it was kept. One that cannot be read any more limits nothing.
    pub fn kept(text: Option<&JsonText>) -> Self {
        let parsed = text.and_then(|text| Self::parse(text.as_str()).ok());
        parsed.map(|(limits, _)| limits).unwrap_or_default()
    }

    fn read(document: &Value, faults: &mut Vec<Fault>) -> Self {
        let mut read = Self::default();
        let Some(mut fields) = Object::read(document, "", faults) else {
            return read;
        };
        if let Some(value) = fields.take("admission") {
            read.admission = Admission::read_of_deployment(value, &fields.at("admission"), fields.faults);
        }
        let queue = fields.take("queue");
        let pointer = fields.at("queue");
        if let Some(mut queue) = queue.and_then(|value| Object::read(value, &pointer, fields.faults)) {
            let small = |number: u64| u32::try_from(number).ok();
            read.concurrency = queue.number(CONCURRENCY, LIMIT_RANGE).and_then(small);
            read.waiting.tenant = queue.number("waiting", WAITING_RANGE).and_then(small);
            read.waiting.tenant_bytes = queue.number("waiting_bytes", WAITING_BYTES_RANGE);
            queue.finish();
        }
        fields.finish();
        read
    }

    /// What a request needs of these limits.
    ///
    /// Errors: as those of a tenant's own.
    pub fn needs(&self, input: &Input<'_>) -> Result<Vec<Need>, Error> {
        self.admission.rules_of(input.action).needs(input)
    }

    /// What a message needs of these limits that is to be published in `channel`.
    ///
    /// Errors: as those of a tenant's own.
    pub fn needs_in(&self, channel: &ChannelName, input: &Input<'_>) -> Result<Vec<Need>, Error> {
        self.admission.of_channels().needs_in(channel, input)
    }

    /// How many connections there may be, where a composition allows so many.
    pub fn connections(&self, own: Bounds) -> Bounds {
        Bounds {
            per_user: least(own.per_user, self.admission.connections.per_user),
            per_tenant: least(own.per_tenant, self.admission.connections.per_tenant),
        }
    }

    /// Has a job wait under these limits as well: of all that waits the lower bound holds, and it takes a place among those that run.
    pub fn bound(&self, queueing: &mut Queueing) {
        let bounds = &mut queueing.bounds;
        bounds.tenant = least(bounds.tenant, self.waiting.tenant);
        bounds.tenant_bytes = least(bounds.tenant_bytes, self.waiting.tenant_bytes);
        queueing.limits.extend(self.concurrency.map(|max| Counted {
            limit: prefixed(CONCURRENCY),
            key: String::new(),
            rule: Rule::Concurrency { max },
            cost: 1,
            when_full: WhenFull::Wait,
        }));
    }
}

/// The lower of two bounds, each of which may be absent.
fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

/// The name of a limit of the deployment.
pub(super) fn prefixed(name: &str) -> String {
    format!("{PREFIX}{name}")
}
