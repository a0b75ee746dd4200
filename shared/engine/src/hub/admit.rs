//! What becomes of a request: refused, run here, or handed to the jobs. The same for sockets and HTTP.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::calls::admission::Need;
use tidegate_protocol::calls::channel;
use tidegate_protocol::calls::executor::{Dispatch, Policy};
use tidegate_protocol::calls::hooks::Hook;
use tidegate_protocol::calls::hub::Prefer;
use tidegate_protocol::calls::jobs::{Enqueue, Keyed, NewJob};
use tidegate_protocol::calls::once::Once;
use tidegate_protocol::calls::places::{KEPT_TOGETHER_MAX, partition_of};
use tidegate_protocol::calls::queueing::{Queueing, Rule};
use tidegate_protocol::calls::spread::Spreads;
use tidegate_protocol::calls::tenant::Scale;
use tidegate_protocol::event::{JsonText, Payload};
use tidegate_protocol::frames::{Mode, Request, Start};
use tidegate_protocol::ids::{ChannelName, HubIndex, IdempotencyKey, Partition, RequestId, ShardIndex, UserId, fnv1a};
use tidegate_protocol::limits::WAIT_SECONDS_MAX;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};

use crate::composition::{Action, DeclaredMode, DeploymentLimits, Input, OnEndRules, Plan};
use crate::digest::short;
use crate::policies::{self, Facts, Subject, Transport};
use tidegate_protocol::SortedSet;

/// How much longer than the action itself a caller of a synchronous action waits, so that the action's own time-out is
/// what it is told. Milliseconds.
const ANSWER_GRACE_MS: u64 = 1000;

/// The fingerprint of every event of a webhook, which is shorter than any of a client's. Its key says which event it is: what a
/// source sends again may have changed around that (the time, or what Stripe says of other deliveries), and is the same event.
const EVENT_FINGERPRINT: &str = "event";

/// A synchronous run, inside the hub.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The action.
    pub action: Arc<Action>,
    /// Its input.
    pub payload: JsonText,
    /// How long it may take. Milliseconds.
    pub timeout_ms: u64,
    /// Who asked.
    pub user: UserId,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Admitted {
    /// It runs here, now.
    Here(alloc::boxed::Box<Run>),
    /// It is handed to a `Jobs` object.
    Job {
        /// Which.
        shard: ShardIndex,
        /// With this.
        enqueue: alloc::boxed::Box<Enqueue>,
        /// Whether the client wants `response` where the outcome comes in time.
        answers: Answers,
    },
    /// It is a message for a channel.
    Message {
        /// Which.
        channel: ChannelName,
        /// What the channel is asked.
        call: alloc::boxed::Box<channel::Call>,
    },
}

/// How the outcome of a job is told to the one who asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// As a `response`, where it is there in time.
    OnTheSpot,
    /// As an `acknowledgment`, and then its events.
    ByEvents,
}

/// What is known when a request comes in.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The tenant's active composition.
    pub plan: &'a Plan,
    /// How the tenant's jobs are spread over objects.
    pub spreads: &'a Spreads,
    /// What the deployment allows the tenant.
    pub deployment: &'a DeploymentLimits,
    /// Who asks.
    pub principal: &'a Principal,
    /// The clock.
    pub now: UnixMs,
    /// Which hub this is; `None` where nobody follows the job.
    pub follower: Option<HubIndex>,
}

/// Decides what becomes of `request`, and which limits it has to pass before that.
///
/// Errors: `INVALID_ACTION`, `FORBIDDEN` with the missing scopes or the policy that refuses, `VALIDATION_ERROR` for a mode that the action does
/// not have, where a limit finds no cost in the request, or where the action's `dedupe` cannot keep it. A refused request has consumed nothing.
pub fn admit(
    context: Context<'_>,
    request: &Request<'_>,
    request_id: &RequestId,
    prefer: Prefer,
    random: u64,
) -> Result<(Admitted, Vec<Need>), Error> {
    let action = context.plan.action(&request.action)?;
    check_scopes(action, &context.principal.scopes)?;
    check_policies(&context, action, request)?;
    let later = match request.start {
        Start::Now => None,
        Start::After(ms) => Some(context.now.plus(ms)),
        Start::At(at) => Some(at).filter(|at| *at > context.now),
    };
    let declared = match (&action.mode, request.mode) {
        (DeclaredMode::Async, Mode::Sync) => {
            let expected = "`async` or `auto`: this action is declared asynchronous";
            let fault = Fault::new("/mode", expected, "sync");
            return Err(Error::invalid("The action cannot be run that way.", vec![fault]));
        }
        (_, Mode::Sync) if later.is_some() => {
            let fault = Fault::new("/mode", "`async` or `auto` with delay_ms or run_at", "sync");
            return Err(Error::invalid(
                "A delayed request has no answer on the spot.",
                vec![fault],
            ));
        }
        (_, Mode::Sync) => DeclaredMode::Sync,
        (_, Mode::Async) => DeclaredMode::Async,
        (_, Mode::Auto) if later.is_some() || prefer.respond_async => DeclaredMode::Async,
        (declared, Mode::Auto) => *declared,
    };
    let timeout_ms = action.policy.timeout_ms.min(request.timeout_ms.unwrap_or(u64::MAX));
    let queue_limits = [action.policy.queue_timeout_ms, request.queue_timeout_ms];
    let own = Policy {
        queue_timeout_ms: queue_limits.into_iter().flatten().min(),
        ..action.policy.clone()
    };
    let payload = request.payload.map_or_else(JsonText::null, JsonText::from);
    let user = context.principal.user.clone();
    let needs = {
        let input = Input::new(&user, &action.name, &request.metadata, &payload).by(context.principal);
        let mut needs = action.admission.needs(&input)?;
        needs.extend(context.deployment.needs(&input)?);
        needs
    };
    let wait_ms = prefer.wait_ms.map(|ms| ms.min(WAIT_SECONDS_MAX * 1000));
    let (answer_within_ms, policy, answers) = match declared {
        DeclaredMode::Sync
            if request.idempotency_key.is_none()
                && action.once.dedupe.is_none()
                && action.runs_in_hub
                && action.on_end.is_none()
                && request.on_end.is_none() =>
        {
            let run = Run {
                action: action.clone(),
                payload,
                timeout_ms,
                user,
            };
            return Ok((Admitted::Here(alloc::boxed::Box::new(run)), needs));
        }
        // A synchronous request is tried once: its caller is there to try again.
        DeclaredMode::Sync => {
            let policy = Policy {
                attempts_max: 1,
                timeout_ms,
                dispatch: Dispatch::Direct,
                ..own
            };
            (
                Some(timeout_ms.saturating_add(ANSWER_GRACE_MS)),
                policy,
                Answers::OnTheSpot,
            )
        }
        DeclaredMode::Async => (wait_ms, Policy { timeout_ms, ..own }, Answers::ByEvents),
        DeclaredMode::Auto { deadline_ms } => {
            let policy = Policy {
                timeout_ms,
                dispatch: Dispatch::Direct,
                ..own
            };
            (Some(wait_ms.unwrap_or(deadline_ms)), policy, Answers::OnTheSpot)
        }
    };
    let answers = if wait_ms.is_some() { Answers::OnTheSpot } else { answers };
    let input = Input::new(&user, &action.name, &request.metadata, &payload).by(context.principal);
    let once = action
        .once
        .of(&input, request.idempotency_key.is_some(), request.start)?;
    // Jobs of one key meet in one object, whichever kind of key it is. Where a request has both, what it says of itself
    // decides: the same request, sent again under its key, says the same.
    let key = request.idempotency_key.as_ref().map(IdempotencyKey::as_str);
    let dedupe = once.as_ref().and_then(Once::dedupe).map(|dedupe| dedupe.key.as_str());
    let scale = Scale {
        shards: context.spreads.shards(),
        ..context.plan.scale
    };
    let mut queueing = action.queue.queueing(&input, request.priority, ShardIndex(0), scale)?;
    context.deployment.bound(&mut queueing);
    let (partition, shard) = match dedupe.or(key) {
        Some(key) => {
            let hash = fnv1a(&[action.name.as_str().as_bytes(), key.as_bytes()]);
            let partition = Partition::of_hash(hash);
            (partition, context.spreads.for_key(partition))
        }
        None => {
            let together = kept_together(&queueing).filter(|_| scale.shards > 1);
            let partition = together.unwrap_or_else(|| Partition::of_hash(random));
            (partition, context.spreads.for_new(partition))
        }
    };
    queueing.place.shard = shard;
    let hook = hook_of(action, request)?;
    let keyed = request.idempotency_key.clone().map(|key| Keyed {
        key,
        fingerprint: match context.principal.credential {
            Credential::Signature { .. } => EVENT_FINGERPRINT.into(),
            _ => fingerprint(&context.principal.user, request.payload),
        },
    });
    let enqueue = Enqueue {
        job: NewJob {
            request_id: request_id.clone(),
            user,
            action: action.name.clone(),
            revision: context.plan.revision.clone(),
            policy,
            queueing,
            payload: Payload::Inline(payload),
            metadata: request.metadata.clone(),
            run_at: later,
            traceparent: request.traceparent.clone(),
            redriven_from: None,
            batch: None,
            once,
            hook,
        },
        partition,
        keyed,
        answer_within_ms,
        follower: context.follower,
        away_max_ms: action.away.max_ms(request.on_disconnect),
    };
    let enqueue = alloc::boxed::Box::new(enqueue);
    Ok((
        Admitted::Job {
            shard,
            enqueue,
            answers,
        },
        needs,
    ))
}

/// The partition of a job whose first limit with a key allows few at once: that of the key, whose home is the object of
/// that partition, so that no other has to be asked.
fn kept_together(queueing: &Queueing) -> Option<Partition> {
    let mut limits = queueing.limits.iter();
    let first = limits.find(|counted| match counted.rule {
        Rule::Concurrency { max } => !counted.key.is_empty() && max <= KEPT_TOGETHER_MAX,
        Rule::Rate { .. } => false,
    })?;
    Some(partition_of(&first.limit, &first.key))
}

/// Who is told of the job's end.
#[inline(never)]
fn hook_of(action: &Action, request: &Request<'_>) -> Result<Option<Hook>, Error> {
    let own = request.on_end.as_deref();
    match &action.on_end {
        Some(rules) => rules.of(own),
        None if own.is_some() => Err(OnEndRules::refusal("no `on_end`: the action tells nobody of its ends")),
        None => Ok(None),
    }
}

/// The hub of a user: the one with the highest hash of user and hub together (rendezvous hashing), so that growing the
/// number of hubs moves only the users that move to the new one.
pub fn hub_of(user: &UserId, hubs: u16) -> HubIndex {
    let weight = |hub: &u16| fnv1a(&[user.as_str().as_bytes(), &hub.to_le_bytes()]);
    HubIndex((0..hubs.max(1)).max_by_key(weight).unwrap_or(0))
}

fn check_scopes(action: &Action, granted: &SortedSet<String>) -> Result<(), Error> {
    let missing: Vec<&str> = action
        .scopes
        .iter()
        .filter(|scope| !granted.contains(*scope))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "The action `{}` takes the scope `{}`.",
        action.name,
        missing.join("` and `")
    );
    Err(Error::new(ErrorCode::Forbidden, message))
}

/// Asks the policies about the action.
#[inline(never)]
fn check_policies(context: &Context<'_>, action: &Action, request: &Request<'_>) -> Result<(), Error> {
    if action.policies.is_empty() {
        return Ok(());
    }
    let payload_bytes = request.payload.map_or(0, |payload| payload.get().len());
    // Only the requests of sockets have a follower.
    let transport = match context.follower {
        Some(_) => Transport::Socket,
        None => Transport::Http,
    };
    let facts = Facts::new(
        context.principal,
        Subject::Action(&action.name),
        payload_bytes,
        context.now,
        transport,
    );
    policies::decide(&action.policies, &facts)
}

/// A hash of what was asked: the user and the payload, white space between its tokens left out.
///
/// 125 bits of SHA-256: no client can find another body with the same fingerprint. The user is part of it, so that no
/// user is given another's answer by guessing a key.
fn fingerprint(user: &UserId, payload: Option<&RawValue>) -> String {
    fingerprint_text(user.as_str(), payload.map_or("null", RawValue::get))
}

/// A hash of what was asked, as the text `json`, and of who asked.
pub(crate) fn fingerprint_text(user: &str, json: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(user.as_bytes());
    hash.update([0xff]);
    let (mut in_string, mut escaped) = (false, false);
    let kept: Vec<u8> = json
        .bytes()
        .filter(|byte| {
            if in_string {
                in_string = escaped || *byte != b'"';
                escaped = !escaped && *byte == b'\\';
                true
            } else {
                in_string = *byte == b'"';
                !byte.is_ascii_whitespace()
            }
        })
        .collect();
    hash.update(&kept);
    short(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn print(user: &str, payload: &str) -> String {
        let raw = serde_json::from_str(payload).unwrap();
        fingerprint(&UserId::parse(user).unwrap(), Some(raw))
    }

    #[test]
    fn a_fingerprint_sees_content_and_user_but_not_white_space() {
        let base = print("u", r#"{"a":[1,"x y\" z"]}"#);
        assert_eq!(base, print("u", "{ \"a\" : [1,\n\"x y\\\" z\"] }"));
        assert_ne!(base, print("v", r#"{"a":[1,"x y\" z"]}"#));
        assert_ne!(base, print("u", r#"{"a":[1,"xy\" z"]}"#));
        assert_ne!(base, print("u", r#"{"a":[1,"x y\"z"]}"#));
    }

    proptest! {
        #[test]
        fn one_more_hub_moves_users_only_to_itself(user in "[a-z]{1,12}", hubs in 1_u16..50) {
            let user = UserId::parse(&user).unwrap();
            let (before, after) = (hub_of(&user, hubs), hub_of(&user, hubs + 1));
            prop_assert!(before == after || after == HubIndex(hubs));
        }
    }

    #[test]
    fn users_spread_evenly_over_hubs() {
        let mut counts = [0_u32; 8];
        for n in 0..8000 {
            counts[usize::from(hub_of(&UserId::parse(&format!("user-{n}")).unwrap(), 8).0)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
