//! What policies decide, against a model that says it in other words, and how it is told.

extern crate std;

use std::format;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{PolicyDecision, PolicyResult};
use tidegate_protocol::ids::{ActionName, TenantId, UserId};
use tidegate_protocol::time::UnixMs;

use super::{Asked, Effect, Facts, Policy, Subject, Transport, VARIABLES, decide, explain};
use crate::composition::{Plan, compile};
use crate::expression::{Expression, Type};

/// A Friday, 13:00 in Berlin.
const NOON: &str = "2026-11-20T12:00:00Z";

pub(super) fn principal(claims: Json, scopes: &[&str]) -> Principal {
    Principal {
        tenant: TenantId::parse("acme").unwrap(),
        user: UserId::parse("ann").unwrap(),
        scopes: scopes.iter().map(|scope| scope.to_string()).collect(),
        expires_at: Principal::NEVER,
        credential: Credential::Token {
            id: None,
            issued_at: None,
            claims: JsonText::of(&claims),
            claims_cut: false,
        },
        network: Default::default(),
    }
}

fn plan(policies: Json) -> Plan {
    let document = json!({
        "tidegate": 1, "patterns": {"core": {"use": "core"}}, "policies": policies,
        "actions": {"echo": {"run": "core.echo"}, "secret.read": {"run": "core.echo", "scopes": ["secret"]}},
    });
    compile(&document.to_string(), crate::composition::TEST_MANIFESTS).unwrap_or_else(|error| panic!("{error:?}"))
}

/// What becomes of a request for `echo`: the name of the policy that refuses.
fn refused_by(plan: &Plan, principal: &Principal, payload_bytes: usize) -> Option<String> {
    let echo = ActionName::parse("echo").unwrap();
    let now = UnixMs::parse(NOON).unwrap();
    let facts = Facts::new(principal, Subject::Action(&echo), payload_bytes, now, Transport::Http);
    let error = decide(&plan.action(&echo).unwrap().policies, &facts).err()?;
    assert_eq!(error.code, ErrorCode::Forbidden);
    let pointer = error.details[0].pointer.strip_prefix("/policies/").unwrap();
    assert!(error.message.contains(pointer), "{error:?}");
    Some(pointer.to_string())
}

#[test]
fn the_first_that_decides_decides() {
    let plan = plan(json!({
        "staff": {"priority": 20, "when": "claims.role == 'staff'", "effect": "allow"},
        "large": {"priority": 10, "when": "payload_bytes > 1000", "effect": {"require_scope": "large"}},
        "weekend": {"priority": 5, "when": "now.getDayOfWeek('Europe/Berlin') in [0, 6]", "effect": "deny"},
        "guests": {"when": "claims.role == 'guest' && user != 'root'", "effect": "deny"},
        "other": {"actions": "secret.*", "when": "true", "effect": "deny"},
    }));
    for (claims, scopes, bytes, by) in [
        (json!({"role": "staff"}), &[] as &[&str], 9999, None),
        (json!({"role": "member"}), &[], 1000, None),
        (json!({"role": "member"}), &[], 1001, Some("large")),
        (json!({"role": "member"}), &["large"], 1001, None),
        // A scope that is there lets the others be asked.
        (json!({"role": "guest"}), &["large"], 1001, Some("guests")),
        (json!({"role": "guest"}), &[], 0, Some("guests")),
        // What is missing opens nothing.
        (json!({}), &[], 0, Some("guests")),
        (json!({"role": ["staff"]}), &[], 0, None),
    ] {
        let found = refused_by(&plan, &principal(claims.clone(), scopes), bytes);
        assert_eq!(found.as_deref(), by, "{claims} {scopes:?} {bytes}");
    }
}

#[test]
fn claims_that_were_too_large_to_keep_open_nothing() {
    let plan = plan(json!({
        "a": {"priority": 9, "when": "claims.big == 'x' || has(claims.big) || !('big' in claims)", "effect": "allow"},
        "b": {"when": "has(claims.big)", "effect": "deny"},
    }));
    let mut ann = principal(json!({"role": "x"}), &[]);
    assert_eq!(refused_by(&plan, &ann, 0), None);
    if let Credential::Token { claims_cut, .. } = &mut ann.credential {
        *claims_cut = true;
    }
    assert_eq!(refused_by(&plan, &ann, 0).as_deref(), Some("b"));
    // Those that were kept can be asked for all the same.
    let kept = self::plan(json!({"a": {"when": "claims.role != 'x'", "effect": "deny"}}));
    assert_eq!(refused_by(&kept, &ann, 0), None);
    ann.credential = Credential::Key {
        id: tidegate_protocol::ids::ApiKeyId::parse("key_000001").unwrap(),
        created_at: UnixMs(0),
    };
    assert_eq!(refused_by(&kept, &ann, 0).as_deref(), Some("a"));
}

#[test]
fn faults_of_policies_are_all_told() {
    let document = json!({
        "tidegate": 1, "patterns": {"core": {"use": "core"}}, "actions": {"echo": {"run": "core.echo"}},
        "policies": {
            "a": {"when": "clams.x == 1 && payload_bytes > 'x'", "effect": "denny", "priority": 1001, "more": 1},
            "B": {"when": 1, "effect": {"require_scope": "a b"}},
            "c": {"actions": ["x y"], "effect": {"scope": "x"}},
        }
    });
    let error = compile(&document.to_string(), crate::composition::TEST_MANIFESTS).unwrap_err();
    let found: Vec<String> = error.details.iter().map(ToString::to_string).collect();
    let expected = [
        "/policies/B/effect/require_scope: expected a scope",
        "/policies/B/when: expected a condition, an expression in CEL, as a text, got 1",
        "/policies/B: expected a name of 1 to 48",
        "/policies/a/effect: expected `allow`, `deny` or",
        "/policies/a/more: expected no such field",
        "/policies/a/priority: expected a whole number from 0 to 1000",
        "/policies/a/when: expected one of the names claims, user, tenant, scopes, action, payload_bytes, now, transport, \
         at character 1, got clams (did you mean `claims`?)",
        "/policies/a/when: expected values that `>` can be used with, at character 17, got int > string",
        "/policies/c/actions/0: expected the name of an action",
        "/policies/c/effect/require_scope: expected a scope",
        "/policies/c/effect/scope: expected no such field",
        "/policies/c/when: expected a condition",
    ];
    let mut sorted = found.clone();
    sorted.sort();
    assert_eq!(sorted.len(), expected.len(), "{found:#?}");
    for (found, expected) in sorted.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} is not {expected}");
    }
    let nobody = json!({
        "tidegate": 1, "patterns": {"core": {"use": "core"}}, "actions": {"echo": {"run": "core.echo"}},
        "policies": {"a": {"actions": "ecko", "when": "true", "effect": "deny"}},
    });
    let error = compile(&nobody.to_string(), crate::composition::TEST_MANIFESTS).unwrap_err();
    assert_eq!(error.details[0].suggestion.as_deref(), Some("echo"));
}

fn asked(body: Json) -> Asked {
    let asker = principal(json!({}), &["admin"]);
    Asked::parse(&body.to_string(), &asker, UnixMs::parse(NOON).unwrap()).unwrap_or_else(|error| panic!("{error:?}"))
}

#[test]
fn each_policy_says_why() {
    let plan = plan(json!({
        "first": {"priority": 30, "when": "claims.level / 0 == 1", "effect": "allow"},
        "second": {"priority": 20, "when": "action == 'echo' && claims.role == 'x'", "effect": "deny"},
        "third": {"priority": 10, "when": "transport == 'socket' || now > timestamp('2026-01-01T00:00:00Z')",
            "effect": {"require_scope": "late"}},
        "fourth": {"when": "true", "effect": "deny"},
    }));
    let body = json!({"action": "echo", "claims": {"level": 1, "sub": "bob", "scope": "a late"}, "payload_bytes": 5});
    let told = explain(&plan, &asked(body)).unwrap();
    assert_eq!(
        (told.decision, told.by.as_deref()),
        (PolicyDecision::Forbidden, Some("second"))
    );
    let lines: Vec<_> = told
        .policies
        .iter()
        .map(|told| (told.name.as_str(), told.result, told.why.as_str(), told.decides))
        .collect();
    assert_eq!(
        lines,
        [
            (
                "first",
                PolicyResult::Error,
                "division by zero, at `claims.level / 0`",
                false
            ),
            (
                "second",
                PolicyResult::Error,
                "there is no `role`, at `claims.role`",
                true
            ),
            (
                "third",
                PolicyResult::Matched,
                "`now > timestamp('2026-01-01T00:00:00Z')` is true",
                false
            ),
            ("fourth", PolicyResult::Matched, "`true` is true", true),
        ]
    );
}

#[test]
fn an_explanation_names_missing_scopes_and_unknown_actions() {
    let plan = plan(json!({"a": {"when": "user == 'ann'", "effect": "allow"}}));
    let told = explain(&plan, &asked(json!({"action": "secret.read"}))).unwrap();
    assert_eq!(told.decision, PolicyDecision::Forbidden);
    assert_eq!(
        (told.missing_scopes, told.by),
        (Vec::from([String::from("secret")]), None)
    );
    let told = explain(&plan, &asked(json!({"action": "secret.read", "scopes": ["secret"]}))).unwrap();
    assert_eq!(
        (told.decision, told.by.as_deref()),
        (PolicyDecision::Allowed, Some("a"))
    );
    let error = explain(&plan, &asked(json!({"action": "ecko"}))).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidAction);
    let asker = principal(json!({}), &[]);
    for (body, faults) in [
        ("{}", 1),
        (
            r#"{"claims":[],"action":"a b","payload_bytes":-1,"now":"x","scopes":"x","user":"","transport":"udp","z":1}"#,
            8,
        ),
    ] {
        let error = Asked::parse(body, &asker, UnixMs(0)).unwrap_err();
        assert_eq!(error.details.len(), faults, "{error:?}");
    }
}

/// Conditions with what they come to, for the facts of the property below.
const CONDITIONS: [(&str, Option<bool>); 5] = [
    ("true", Some(true)),
    ("payload_bytes > 10", Some(false)),
    ("claims.role == 'x'", Some(true)),
    ("claims.gone == 'x'", None),
    ("1 / 0 == 1 || claims.role == 'x'", Some(true)),
];

proptest! {
    /// The policies ask, from the highest priority down; where several have one priority, the strictest first.
    #[test]
    fn what_is_decided_is_what_the_rules_say_and_what_is_told(
        chosen in prop::collection::vec((0_u64..4, 0..CONDITIONS.len(), 0..4_usize), 0..8),
    ) {
        let effects = [Effect::Deny, Effect::Allow, Effect::RequireScope("has".into()), Effect::RequireScope("lacks".into())];
        let mut policies: Vec<(Policy, Option<bool>)> = chosen
            .iter()
            .enumerate()
            .map(|(n, (priority, condition, effect))| {
                let (when, holds) = CONDITIONS[*condition];
                let policy = Policy {
                    name: format!("p{n}"),
                    priority: *priority,
                    actions: Vec::new(),
                    when: Expression::compile(when, VARIABLES, Type::Bool).unwrap(),
                    effect: effects[*effect].clone(),
                };
                (policy, holds)
            })
            .collect();
        policies.sort_by(|(one, _), (other, _)| one.order(other));
        // The model: what is certain of each, then the first that ends it.
        let ends = policies.iter().find_map(|(policy, holds)| match (&policy.effect, holds) {
            (Effect::Allow, Some(true)) => Some(None),
            (Effect::Deny, None | Some(true)) => Some(Some(policy.name.clone())),
            (Effect::RequireScope(scope), None | Some(true)) if scope == "lacks" => Some(Some(policy.name.clone())),
            _ => None,
        });
        for pair in policies.windows(2) {
            prop_assert!(pair[0].0.priority >= pair[1].0.priority);
        }
        let ann = principal(json!({"role": "x"}), &["has"]);
        let echo = ActionName::parse("echo").unwrap();
        let facts = Facts::new(&ann, Subject::Action(&echo), 5, UnixMs(0), Transport::Http);
        let policies: Vec<Arc<Policy>> = policies.into_iter().map(|(policy, _)| Arc::new(policy)).collect();
        let refused = decide(&policies, &facts).err().map(|error| error.details[0].pointer.replace("/policies/", ""));
        prop_assert_eq!(refused, ends.flatten());
    }
}

/// Not a measure to rely on: it tells when a decision has become a hundred times as dear.
#[test]
fn a_decision_takes_microseconds() {
    let plan = plan(json!({
        "staff": {"priority": 20, "when": "claims.role == 'staff' && 'a' in claims.groups", "effect": "allow"},
        "large": {"priority": 10, "when": "payload_bytes > 1000 && !('large' in scopes)", "effect": "deny"},
        "hours": {"when": "now.getHours('Europe/Berlin') < 8", "effect": "deny"},
    }));
    let claims = json!({"iss": "https://id.example.com/", "sub": "ann", "aud": "tidegate", "exp": 1_900_000_000, "role": "member",
        "groups": ["b", "c"], "tid": "acme"});
    let ann = principal(claims, &["a", "b"]);
    let rounds = 2000;
    let started = std::time::Instant::now();
    for _ in 0..rounds {
        assert_eq!(refused_by(&plan, &ann, 10), None);
    }
    let each = started.elapsed() / rounds;
    std::println!("{each:?} for three policies");
    assert!(each.as_micros() < 500, "{each:?}");
}
