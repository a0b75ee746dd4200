//! `tidegate policy`: what policies make of a request that is not made.

use serde_json::{Value, json};
use tidegate_sdk::Client;
use tidegate_sdk::http::{PolicyDecision, PolicyExplanation, PolicyResult, PolicyTold};

use super::call::payload;
use crate::arguments::{Policy, PolicyExplain};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Runs one of the commands on policies.
pub async fn policy(client: &Client, command: Policy, output: Output) -> Result<Exit, Failure> {
    let Policy::Explain(asked) = command;
    let told = client.http().explain_policies(&body(&asked)?).await?;
    if output.is_json() {
        output.event("policies", &told);
        return Ok(Exit::Succeeded);
    }
    output.print(&tame(&decision(&told)));
    for policy in &told.policies {
        output.print(&tame(&line(policy)));
    }
    Ok(Exit::Succeeded)
}

/// What the server is asked. What is not given is left to it.
fn body(asked: &PolicyExplain) -> Result<Value, Failure> {
    let claims = match &asked.claims {
        Some(claims) => serde_json::from_str(payload(Some(claims))?.as_str()).unwrap_or(Value::Null),
        None => Value::Null,
    };
    let scopes = (!asked.scopes.is_empty()).then_some(&asked.scopes);
    Ok(json!({
        "action": asked.action,
        "payload_bytes": asked.payload_bytes,
        "transport": asked.transport,
        "claims": claims,
        "user": asked.user,
        "scopes": scopes,
        "now": asked.now,
    }))
}

fn decision(told: &PolicyExplanation) -> String {
    let decision = match told.decision {
        PolicyDecision::Allowed => "allowed",
        PolicyDecision::Forbidden => "forbidden",
    };
    format!("{decision}: {}  ({})", told.reason, told.revision)
}

fn line(told: &PolicyTold) -> String {
    let result = match told.result {
        PolicyResult::Matched => "matched",
        PolicyResult::NotMatched => "not matched",
        PolicyResult::Error => "error",
    };
    let scope = told.scope.as_ref().map(|scope| format!(" {scope}")).unwrap_or_default();
    format!(
        "  {}  {}  {}{scope}  {result}: {}",
        told.priority, told.name, told.effect, told.why
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_a_policy_makes_of_it() {
        let told = json!({
            "revision": "rev_1", "decision": "forbidden", "reason": "The policy `a` does not allow this.", "by": "a",
            "policies": [{"name": "a", "priority": 7, "effect": "require_scope", "scope": "s", "result": "error",
                "why": "there is no `x`", "decides": true}],
        });
        let told: PolicyExplanation = serde_json::from_value(told).unwrap();
        assert_eq!(
            decision(&told),
            "forbidden: The policy `a` does not allow this.  (rev_1)"
        );
        assert_eq!(
            line(&told.policies[0]),
            "  7  a  require_scope s  error: there is no `x`"
        );
    }

    #[test]
    fn what_is_not_given_is_left_to_the_server() {
        let mut asked = PolicyExplain {
            action: "a".into(),
            claims: None,
            user: None,
            scopes: Vec::new(),
            payload_bytes: 0,
            now: None,
            transport: "http".into(),
        };
        let bare = body(&asked).unwrap();
        let given = bare.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
        let given: Vec<_> = given.map(|(name, _)| name.as_str()).collect();
        assert_eq!(given, ["action", "payload_bytes", "transport"]);
        asked.claims = Some(r#"{"role":"x"}"#.into());
        asked.scopes = vec!["s".into()];
        let told = body(&asked).unwrap();
        assert_eq!(
            (&told["claims"]["role"], &told["scopes"][0]),
            (&json!("x"), &json!("s"))
        );
        asked.claims = Some("{".into());
        assert!(body(&asked).is_err());
    }
}
