//! Why a request would be let through or refused: each policy in turn, and the one that decides.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::fields::Fields;
use tidegate_protocol::http::{PolicyDecision, PolicyExplanation, PolicyResult, PolicyTold};
use tidegate_protocol::ids::{ActionName, UserId};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, Fault};

use super::facts::{Facts, Subject, Transport, keep_claims};
use super::{Effect, Policy, Verdict};
use crate::composition::Plan;
use crate::expression::Failure;
use tidegate_protocol::SortedSet;

/// A request that is asked about, and is not made.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    principal: Principal,
    action: ActionName,
    payload_bytes: usize,
    now: UnixMs,
    transport: Transport,
}

impl Asked {
    /// Reads what is asked. What it does not say is taken from the claims (`sub` and `scope`), or from `asker` and `now`.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn parse(text: &str, asker: &Principal, now: UnixMs) -> Result<Self, Error> {
        let mut fields = Fields::split(text)?;
        let known = [
            "claims",
            "action",
            "payload_bytes",
            "now",
            "scopes",
            "user",
            "transport",
        ];
        fields.refuse_others(&known);
        let claims: Map<String, Value> = fields.optional("claims", "an object").unwrap_or_default();
        let action = fields.required_text("action", ActionName::EXPECTED, ActionName::parse);
        let most = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX);
        let payload_bytes = fields.optional_number("payload_bytes", "a number of bytes, up to 1 MiB", 0, most);
        let now = fields
            .optional_text("now", "a time as RFC 3339 text", UnixMs::parse)
            .unwrap_or(now);
        let claimed = |name: &str| claims.get(name).and_then(Value::as_str);
        let user = match fields.optional_text("user", UserId::EXPECTED, UserId::parse) {
            Some(user) => user,
            None => claimed("sub")
                .and_then(UserId::parse)
                .unwrap_or_else(|| asker.user.clone()),
        };
        let scopes = match fields.optional::<SortedSet<String>>("scopes", "a list of scopes") {
            Some(scopes) => scopes,
            None => {
                let scopes = claimed("scope").unwrap_or_default().split(' ');
                scopes
                    .filter(|scope| !scope.is_empty())
                    .map(ToOwned::to_owned)
                    .collect()
            }
        };
        let transport = fields.optional_text("transport", "`socket` or `http`", Transport::parse);
        fields.finish("What is asked about cannot be a request.")?;
        let Some(action) = action else {
            return Err(Error::invalid(
                "What is asked about cannot be a request.",
                Vec::<Fault>::new(),
            ));
        };
        let (kept, claims_cut) = keep_claims(&claims, &scopes);
        Ok(Self {
            principal: Principal {
                tenant: asker.tenant.clone(),
                user,
                scopes,
                expires_at: Principal::NEVER,
                credential: Credential::Token {
                    id: None,
                    issued_at: None,
                    claims: kept,
                    claims_cut,
                },
                network: asker.network.clone(),
            },
            action,
            payload_bytes: payload_bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0),
            now,
            transport: transport.unwrap_or(Transport::Http),
        })
    }
}

/// What the policies of `plan` make of a request, each of them told.
///
/// Errors: `INVALID_ACTION`.
pub fn explain(plan: &Plan, asked: &Asked) -> Result<PolicyExplanation, Error> {
    let action = plan.action(&asked.action)?;
    let facts = Facts::new(
        &asked.principal,
        Subject::Action(&asked.action),
        asked.payload_bytes,
        asked.now,
        asked.transport,
    );
    let granted = &asked.principal.scopes;
    let missing: Vec<String> = action
        .scopes
        .iter()
        .filter(|scope| !granted.contains(*scope))
        .cloned()
        .collect();
    let mut told = Vec::with_capacity(action.policies.len());
    let mut decided = None;
    for policy in &action.policies {
        let holds = policy.holds(&facts);
        let verdict = policy.verdict(&holds, &facts);
        if verdict != Verdict::GoesOn && decided.is_none() {
            decided = Some((policy, verdict));
        }
        told.push(tell(policy, &facts, &holds, verdict));
    }
    let (decision, reason, by) = match decided {
        _ if !missing.is_empty() => {
            let reason = format!("the action takes the scope `{}`", missing.join("` and `"));
            (PolicyDecision::Forbidden, reason, None)
        }
        None => (PolicyDecision::Allowed, String::from("no policy decides"), None),
        Some((policy, Verdict::Refused)) => {
            let reason = policy.refusal(&facts).message.into_owned();
            (PolicyDecision::Forbidden, reason, Some(policy.name.clone()))
        }
        Some((policy, _)) => {
            let reason = format!("the policy `{}` allows it", policy.name);
            (PolicyDecision::Allowed, reason, Some(policy.name.clone()))
        }
    };
    Ok(PolicyExplanation {
        revision: plan.revision.clone(),
        decision,
        reason,
        by,
        missing_scopes: missing,
        policies: told,
    })
}

fn tell<'v>(policy: &'v Policy, facts: &'v Facts<'v>, holds: &Result<bool, Failure>, verdict: Verdict) -> PolicyTold {
    let (effect, scope) = match &policy.effect {
        Effect::Deny => ("deny", None),
        Effect::Allow => ("allow", None),
        Effect::RequireScope(scope) => ("require_scope", Some(scope.clone())),
    };
    let quoted = |text: &str| format!("`{}`", tidegate_protocol::fault::shorten(text));
    let (result, why) = match holds {
        Err(failure) => {
            let at = policy
                .when
                .place(failure)
                .map(|place| format!(", at {}", quoted(place)));
            (
                PolicyResult::Error,
                format!("{}{}", failure.message, at.unwrap_or_default()),
            )
        }
        Ok(holds) => {
            let because = policy.when.because(&facts).unwrap_or(policy.when.text());
            let (result, word) = match holds {
                true => (PolicyResult::Matched, "true"),
                false => (PolicyResult::NotMatched, "false"),
            };
            (result, format!("{} is {word}", quoted(because)))
        }
    };
    PolicyTold {
        name: policy.name.clone(),
        priority: policy.priority,
        effect: effect.into(),
        scope,
        result,
        why,
        decides: verdict != Verdict::GoesOn,
    }
}
