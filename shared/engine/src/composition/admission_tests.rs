//! The section `admission`: what a request needs under it, and every fault of it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Map, Value, json};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::calls::admission::{Bucket, Consults, Force, Need, Rule};
use tidegate_protocol::calls::network::Network;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ActionName, ApiKeyId, TenantId, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::defaults::{LIMITS_MAX, OVERRIDES_MAX};
use super::tests::MANIFESTS;
use super::{Input, compile};
use crate::connections::Bounds;
use tidegate_protocol::SortedMap;

const DAY_MS: u64 = 86_400_000;

/// A request under a document.
struct Ask<'a> {
    user: &'a str,
    action: &'a str,
    payload: &'a str,
}

const ASK: Ask<'static> = Ask {
    user: "ann",
    action: "report.daily",
    payload: "{}",
};

fn document(admission: &Value) -> String {
    json!({
        "tidegate": 1,
        "patterns": { "core": { "use": "core" } },
        "admission": admission,
        "actions": {
            "report.daily": { "run": "core.echo" },
            "report.monthly": { "run": "core.echo" },
            "mail": { "run": "core.echo" }
        }
    })
    .to_string()
}

fn needs(limits: &Value, ask: &Ask<'_>) -> Result<Vec<Need>, Error> {
    let plan = compile(&document(&json!({ "limits": limits })), MANIFESTS)?;
    let name = ActionName::parse(ask.action).unwrap();
    let (user, payload) = (UserId::parse(ask.user).unwrap(), JsonText::parse(ask.payload).unwrap());
    let metadata = SortedMap::from([(String::from("region"), String::from("eu"))]);
    let input = Input::new(&user, &name, &metadata, &payload);
    plan.action(&name)?.admission.needs(&input)
}

/// What one request needs of the only limit.
fn need(limit: &Value, ask: &Ask<'_>) -> Need {
    let needs = needs(&json!({ "a": limit }), ask).unwrap_or_else(|error| panic!("{limit}: {error}"));
    assert_eq!(needs.len(), 1, "{limit}");
    needs[0].clone()
}

fn faults(admission: &Value) -> Vec<Fault> {
    let compiled = compile(&document(admission), MANIFESTS);
    compiled.err().unwrap_or_else(|| panic!("{admission}")).details
}

fn rate(units: u64, per_ms: u64, burst: u64) -> Rule {
    Rule::Rate { units, per_ms, burst }
}

#[test]
fn a_request_needs_every_limit_that_means_its_action_in_the_order_of_their_names() {
    let limits = json!({
        "reports": { "actions": ["report.*"], "key": ["user", "metadata.region"], "rate": { "units": 9, "per": "1s" } },
        "mail": { "actions": "mail", "quota": { "units": 50, "per": "1d" }, "cost": 3 },
        "all": { "quota": { "units": 1000, "per": "1d" }, "exact": true, "shadow": true }
    });
    let all = Need {
        bucket: Bucket {
            limit: "all".into(),
            key: String::new(),
        },
        rule: Rule::Quota {
            units: 1000,
            per_ms: DAY_MS,
        },
        cost: 1,
        consults: Consults::Always,
        force: Force::Counts,
    };
    let reports = Need {
        bucket: Bucket {
            limit: "reports".into(),
            key: r#"["ann","eu"]"#.into(),
        },
        rule: rate(9, 1000, 9),
        cost: 1,
        consults: Consults::Leased,
        force: Force::Refuses,
    };
    let mail = Need {
        bucket: Bucket {
            limit: "mail".into(),
            key: String::new(),
        },
        rule: Rule::Quota {
            units: 50,
            per_ms: DAY_MS,
        },
        cost: 3,
        ..reports.clone()
    };
    assert_eq!(needs(&limits, &ASK).unwrap(), [all.clone(), reports]);
    let ask = Ask { action: "mail", ..ASK };
    assert_eq!(needs(&limits, &ask).unwrap(), [all, mail]);
}

#[test]
fn without_limits_every_request_passes() {
    for admission in [json!({}), json!({ "limits": {} })] {
        let plan = compile(&document(&admission), MANIFESTS).unwrap();
        assert!(plan.actions.values().all(|action| action.admission.is_empty()));
    }
    assert_eq!(needs(&json!({}), &ASK).unwrap(), []);
    let limits = json!({ "mail": { "actions": "mail", "rate": { "units": 1, "per": "1s" } } });
    let plan = compile(&document(&json!({ "limits": limits })), MANIFESTS).unwrap();
    let with: Vec<&str> = plan
        .actions
        .values()
        .filter(|action| !action.admission.is_empty())
        .map(|action| action.name.as_str())
        .collect();
    assert_eq!(with, ["mail"]);
    assert_eq!(needs(&limits, &ASK).unwrap(), []);
}

#[test]
fn an_override_takes_the_place_of_the_rule_for_its_key() {
    let limit = json!({ "key": "user", "rate": { "units": 100, "per": "1m", "burst": 20 },
        "overrides": { "ann": { "units": 1000, "burst": 200 }, "bob": { "units": 7 } } });
    let of = |user| need(&limit, &Ask { user, ..ASK });
    assert_eq!(of("ann").rule, rate(1000, 60_000, 200));
    assert_eq!(of("bob").rule, rate(7, 60_000, 7), "a burst of its own units");
    assert_eq!(of("cid").rule, rate(100, 60_000, 20));
    assert_eq!(of("cid").bucket.key, "cid");

    let limit = json!({ "key": ["user", "payload.n"], "quota": { "units": 100, "per": "31d" },
        "overrides": { r#"["ann","7"]"#: { "units": 1_000_000_000 } } });
    let units = |payload| need(&limit, &Ask { payload, ..ASK }).rule.units();
    assert_eq!(units(r#"{"n":7}"#), 1_000_000_000);
    assert_eq!(units(r#"{"n":8}"#), 100);
}

#[test]
fn a_cost_is_read_from_the_request_and_fits_what_holds_for_its_key() {
    let limits = json!({
        "daily": { "key": "user", "quota": { "units": 20, "per": "1d" }, "cost": "payload.doc[\"a/b\"].pages[0]",
            "overrides": { "ann": { "units": 30 } } },
        "fast": { "rate": { "units": 50, "per": "1s", "burst": 5 }, "cost": "payload.n" },
        "fixed": { "rate": { "units": 2, "per": "1s" }, "cost": 2 }
    });
    let with = |user, payload| needs(&limits, &Ask { user, payload, ..ASK });
    let costs: Vec<u64> = with("bob", r#"{"doc":{"a/b":{"pages":[20]}},"n":5}"#)
        .unwrap()
        .iter()
        .map(|need| need.cost)
        .collect();
    assert_eq!(costs, [20, 5, 2]);

    let daily = "/payload/doc/a~1b/pages/0";
    for (user, payload, expected) in [
        (
            "bob",
            r#"{"doc":{"a/b":{"pages":[21]}},"n":5}"#,
            &[(daily, "from 1 to 20: what the limit `daily`", "21")][..],
        ),
        (
            "ann",
            r#"{"doc":{"a/b":{"pages":[21]}},"n":6}"#,
            &[("/payload/n", "from 1 to 5: what the limit `fast`", "6")],
        ),
        (
            "ann",
            r#"{"doc":{"a/b":{"pages":[0]}},"n":5}"#,
            &[(daily, "from 1 to 30: what the limit `daily`", "0")],
        ),
        (
            "ann",
            r#"{"doc":{"a/b":{"pages":[1]}},"n":4294967297}"#,
            &[("/payload/n", "from 1 to 5", "4294967297")],
        ),
        (
            "ann",
            r#"{"doc":{"a/b":{"pages":[1]}},"n":"5"}"#,
            &[("/payload/n", "from 1 to 5", "5")],
        ),
        (
            "ann",
            r#"{"doc":{"a/b":{"pages":[1]}},"n":1.5}"#,
            &[("/payload/n", "from 1 to 5", "1.5")],
        ),
        (
            "ann",
            "{}",
            &[(daily, "from 1 to 30", "null"), ("/payload/n", "from 1 to 5", "null")],
        ),
    ] {
        let error = with(user, payload).unwrap_err();
        assert_eq!(error.code, ErrorCode::ValidationError, "{payload}");
        assert_eq!(error.details.len(), expected.len(), "{payload}: {error}");
        for (fault, (pointer, words, got)) in error.details.iter().zip(expected) {
            assert_eq!(
                (fault.pointer.as_str(), fault.got.as_str()),
                (*pointer, *got),
                "{payload}"
            );
            assert!(fault.expected.contains(words), "{payload}: {fault}");
        }
    }
}

#[test]
fn every_bound_is_taken_and_nothing_beyond_it() {
    let rates = |units: u64, per: &str, burst: u64| json!({ "rate": { "units": units, "per": per, "burst": burst } });
    let quotas = |units: u64, per: &str| json!({ "quota": { "units": units, "per": per } });
    for limit in [
        rates(1, "1ms", 1),
        rates(1_000_000, "31d", 1_000_000),
        quotas(1, "1m"),
        quotas(1_000_000_000, "31d"),
        json!({ "rate": { "units": 1_000_000, "per": "1s" }, "cost": 1_000_000 }),
    ] {
        need(&limit, &ASK);
    }
    for (limit, at) in [
        (rates(0, "1s", 1), "rate/units"),
        (rates(1_000_001, "1s", 1), "rate/units"),
        (rates(1, "0ms", 1), "rate/per"),
        (rates(1, "32d", 1), "rate/per"),
        (rates(1, "1s", 0), "rate/burst"),
        (rates(1, "1s", 1_000_001), "rate/burst"),
        (quotas(0, "1d"), "quota/units"),
        (quotas(1_000_000_001, "1d"), "quota/units"),
        (quotas(1, "59s"), "quota/per"),
        (quotas(1, "32d"), "quota/per"),
        (
            json!({ "quota": { "units": 2_000_000, "per": "1d" }, "cost": 1_000_001 }),
            "cost",
        ),
        (
            json!({ "quota": { "units": 2_000_000, "per": "1d" }, "cost": 0 }),
            "cost",
        ),
    ] {
        let found = faults(&json!({ "limits": { "a": limit } }));
        assert_eq!(found.len(), 1, "{limit}: {found:?}");
        assert_eq!(found[0].pointer, format!("/admission/limits/a/{at}"), "{limit}");
    }
}

#[test]
fn every_fault_of_a_limit_is_named() {
    let rate = json!({ "units": 5, "per": "1s" });
    let quota = json!({ "units": 5, "per": "1d" });
    for (limit, at) in [
        (json!(1), ""),
        (json!({}), ""),
        (json!({ "rate": rate, "quota": quota }), ""),
        (json!({ "rate": 5 }), "/rate"),
        (json!({ "rate": { "per": "1s" } }), "/rate/units"),
        (json!({ "rate": { "units": 1 } }), "/rate/per"),
        (json!({ "quota": { "per": "1d" } }), "/quota/units"),
        (json!({ "quota": { "units": 1 } }), "/quota/per"),
        (
            json!({ "quota": { "units": 1, "per": "1d", "burst": 1 } }),
            "/quota/burst",
        ),
        (json!({ "rate": rate, "actions": ["report.*", "a b"] }), "/actions/1"),
        (json!({ "rate": rate, "actions": [] }), "/actions"),
        (json!({ "rate": rate, "actions": "reprot.daily" }), "/actions/0"),
        (json!({ "rate": rate, "key": "pay.x" }), "/key"),
        (
            json!({ "rate": rate, "key": ["user", "user", "user", "user", "user"] }),
            "/key",
        ),
        (json!({ "rate": rate, "cost": "pay.x" }), "/cost"),
        (json!({ "rate": rate, "cost": 1.5 }), "/cost"),
        (json!({ "rate": rate, "cost": 6 }), "/cost"),
        (json!({ "quota": quota, "cost": 6 }), "/cost"),
        (json!({ "rate": rate, "exact": 1 }), "/exact"),
        (json!({ "rate": rate, "shadow": "yes" }), "/shadow"),
        (json!({ "rate": rate, "when_full": "wait" }), "/when_full"),
        (
            json!({ "rate": rate, "overrides": { "ann": { "units": 1 } } }),
            "/overrides",
        ),
        (json!({ "rate": rate, "key": "user", "overrides": [] }), "/overrides"),
        (
            json!({ "rate": rate, "key": "user", "overrides": { "a/b": 1 } }),
            "/overrides/a~1b",
        ),
        (
            json!({ "rate": rate, "key": "user", "overrides": { "ann": { "burst": 1 } } }),
            "/overrides/ann/units",
        ),
        (
            json!({ "rate": rate, "key": "user", "overrides": { "ann": { "units": 1_000_001 } } }),
            "/overrides/ann/units",
        ),
        (
            json!({ "rate": rate, "key": "user", "overrides": { "ann": { "units": 1, "per": "1s" } } }),
            "/overrides/ann/per",
        ),
        (
            json!({ "quota": quota, "key": "user", "overrides": { "ann": { "units": 1, "burst": 1 } } }),
            "/overrides/ann/burst",
        ),
        (
            json!({ "rate": rate, "key": "user", "cost": 5, "overrides": { "ann": { "units": 9, "burst": 4 } } }),
            "/overrides/ann",
        ),
        (
            json!({ "quota": quota, "key": "user", "cost": 5, "overrides": { "ann": { "units": 4 } } }),
            "/overrides/ann",
        ),
    ] {
        let found = faults(&json!({ "limits": { "a": limit } }));
        assert_eq!(found.len(), 1, "{limit}: {found:?}");
        assert_eq!(found[0].pointer, format!("/admission/limits/a{at}"), "{limit}");
    }
}

#[test]
fn every_fault_of_the_section_is_named() {
    let limit = json!({ "rate": { "units": 5, "per": "1s" } });
    let named = |count: usize| -> Value {
        (0..count)
            .map(|n| (format!("l{n:04}"), limit.clone()))
            .collect::<Map<_, _>>()
            .into()
    };
    for (admission, at) in [
        (json!([]), "".to_string()),
        (json!({ "limit": {} }), "/limit".into()),
        (json!({ "limits": [] }), "/limits".into()),
        (json!({ "limits": { "A": limit } }), "/limits/A".into()),
        (
            json!({ "limits": named(LIMITS_MAX + 1) }),
            format!("/limits/l{LIMITS_MAX:04}"),
        ),
    ] {
        let found = faults(&admission);
        assert_eq!(found.len(), 1, "{admission}: {found:?}");
        assert_eq!(found[0].pointer, format!("/admission{at}"), "{admission}");
    }
    compile(&document(&json!({ "limits": named(LIMITS_MAX) })), MANIFESTS).unwrap();

    let overriding = |count: usize| -> Value {
        let overrides: Map<String, Value> = (0..count)
            .map(|n| (format!("u{n:04}"), json!({ "units": 1 })))
            .collect();
        json!({ "limits": { "a": { "key": "user", "rate": { "units": 5, "per": "1s" }, "overrides": overrides } } })
    };
    compile(&document(&overriding(OVERRIDES_MAX)), MANIFESTS).unwrap();
    let found = faults(&overriding(OVERRIDES_MAX + 1));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        found[0].pointer,
        format!("/admission/limits/a/overrides/u{OVERRIDES_MAX:04}")
    );
}

#[test]
fn all_faults_are_reported_at_once() {
    let admission = json!({ "limits": {
        "a": { "rate": { "units": 0, "per": "1s", "brust": 4 }, "quota": { "units": 1, "per": "1s" }, "cost": -1 },
        "b": { "quota": { "units": 4, "per": "1d" }, "cost": 5, "exact": 0, "shadow": 0,
            "overrides": { "ann": { "units": 3 }, "bob": {} } },
        "c": { "key": 7, "rate": { "units": 4, "per": "x" }, "overrides": { "ann": { "units": "4" } } }
    }, "more": 1 });
    let mut found: Vec<String> = faults(&admission).into_iter().map(|fault| fault.pointer).collect();
    found.sort_unstable();
    let expected = [
        "/limits/a",
        "/limits/a/cost",
        "/limits/a/quota/per",
        "/limits/a/rate/brust",
        "/limits/a/rate/units",
        "/limits/b/cost",
        "/limits/b/exact",
        "/limits/b/overrides",
        "/limits/b/overrides/ann",
        "/limits/b/overrides/bob/units",
        "/limits/b/shadow",
        "/limits/c/key",
        "/limits/c/overrides/ann/units",
        "/limits/c/rate/per",
        "/more",
    ];
    assert_eq!(found, expected.map(|at| format!("/admission{at}")));
}

#[test]
fn what_may_have_been_meant_is_suggested() {
    let suggested = |limit: Value| faults(&json!({ "limits": { "a": limit } }))[0].suggestion.clone();
    let rate = json!({ "units": 5, "per": "1s" });
    assert_eq!(
        suggested(json!({ "rate": rate, "actions": ["mails"] })).as_deref(),
        Some("mail")
    );
    assert_eq!(
        suggested(json!({ "rate": { "units": 5, "per": "1s", "bursts": 1 } })).as_deref(),
        Some("burst")
    );
    assert_eq!(
        suggested(json!({ "rate": rate, "override": {} })).as_deref(),
        Some("overrides")
    );
}

#[test]
fn what_a_caller_came_with_can_be_a_key() {
    let limit = json!({ "a": { "key": ["api_key", "ip"], "rate": { "units": 1, "per": "1s" } } });
    let plan = compile(&document(&json!({ "limits": limit })), MANIFESTS).unwrap();
    let name = ActionName::parse("mail").unwrap();
    let (user, payload) = (UserId::parse("ann").unwrap(), JsonText::null());
    let key_of = |credential, network| {
        let principal = Principal {
            tenant: TenantId::parse("acme").unwrap(),
            user: user.clone(),
            scopes: Default::default(),
            expires_at: Principal::NEVER,
            credential,
            network,
        };
        let metadata = SortedMap::new();
        let input = Input::new(&user, &name, &metadata, &payload).by(&principal);
        plan.action(&name).unwrap().admission.needs(&input).unwrap()[0]
            .bucket
            .key
            .clone()
    };
    let by_key = Credential::Key {
        id: ApiKeyId::parse("key_000001").unwrap(),
        created_at: UnixMs(0),
    };
    let id = by_key.key().unwrap().to_string();
    assert_eq!(key_of(Credential::default(), Network::default()), r#"["null","null"]"#);
    assert_eq!(
        key_of(by_key, Network::of("::ffff:10.0.0.1")),
        format!(r#"["{id}","10.0.0.1"]"#)
    );
}

#[test]
fn connections_are_bounded_for_each_user_for_the_tenant_or_not_at_all() {
    let bound = |admission: &Value| compile(&document(admission), MANIFESTS).unwrap().connections;
    let most = |number| core::num::NonZeroU32::new(number);
    assert_eq!(bound(&json!({})), Bounds::default());
    let (per_user, per_tenant) = (most(3), most(10_000_000));
    let of_user = bound(&json!({ "connections": { "per_user": 3 } }));
    assert_eq!((of_user.per_user, of_user.per_tenant), (per_user, None));
    let of_tenant = bound(&json!({ "connections": { "per_tenant": 10_000_000 } }));
    assert_eq!((of_tenant.per_user, of_tenant.per_tenant), (None, per_tenant));
    let both = bound(&json!({ "connections": { "per_user": 3, "per_tenant": 10_000_000 } }));
    assert_eq!(both, Bounds { per_user, per_tenant });
    for (wrong, pointer) in [
        (json!(3), "/admission/connections"),
        (json!({}), "/admission/connections/per_user"),
        (json!({ "per_user": 0 }), "/admission/connections/per_user"),
        (json!({ "per_user": 10_001 }), "/admission/connections/per_user"),
        (
            json!({ "per_user": 1, "per_tenant": 0 }),
            "/admission/connections/per_tenant",
        ),
        (
            json!({ "per_user": 1, "per_host": 1 }),
            "/admission/connections/per_host",
        ),
    ] {
        let faults = faults(&json!({ "connections": wrong }));
        assert_eq!(
            faults.iter().map(|f| f.pointer.as_str()).collect::<Vec<_>>(),
            [pointer],
            "{wrong}"
        );
    }
}
