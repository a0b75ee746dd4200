//! Limits of the deployment: every fault of a document, and that a request has to pass them beside a tenant's own.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_protocol::SortedMap;
use tidegate_protocol::calls::admission::{Need, Rule};
use tidegate_protocol::calls::queueing::{Bounds as Waiting, Queueing, Rule as JobRule};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ActionName, UserId};

use super::tests::MANIFESTS;
use super::{DeploymentLimits, Input, compile};
use crate::admission::Leases;
use crate::admission::tests::{Tenant, holds};
use crate::connections::Bounds;

fn parse(document: &Value) -> DeploymentLimits {
    DeploymentLimits::parse(&document.to_string()).unwrap().0
}

/// What a request of `user` for `action` needs of the limits of a composition, and of the deployment's.
fn needs(own: &Value, deployment: &Value, user: &str, action: &str) -> Vec<Need> {
    let document = json!({
        "tidegate": 1,
        "patterns": { "core": { "use": "core" } },
        "admission": { "limits": own },
        "actions": { "mail": { "run": "core.echo" }, "report": { "run": "core.echo" } }
    });
    let plan = compile(&document.to_string(), MANIFESTS).unwrap();
    let limits = parse(&json!({ "admission": { "limits": deployment } }));
    let (user, name) = (UserId::parse(user).unwrap(), ActionName::parse(action).unwrap());
    let (metadata, payload) = (SortedMap::new(), JsonText::null());
    let input = Input::new(&user, &name, &metadata, &payload);
    let mut needs = plan.action(&name).unwrap().admission.needs(&input).unwrap();
    needs.extend(limits.needs(&input).unwrap());
    needs
}

#[test]
fn a_request_has_to_pass_both_and_names_never_meet() {
    let own = json!({ "all": { "quota": { "units": 5, "per": "1d" } } });
    let deployment = json!({
        "all": { "rate": { "units": 600, "per": "1m" }, "key": "user" },
        "mails": { "quota": { "units": 9, "per": "1h" }, "actions": "mail" },
    });
    let names = |action| -> Vec<(String, String)> {
        let needs = needs(&own, &deployment, "ann", action).into_iter();
        needs.map(|need| (need.bucket.limit, need.bucket.key)).collect()
    };
    let pair = |name: &str, key: &str| (name.to_string(), key.to_string());
    assert_eq!(
        names("mail"),
        [
            pair("all", ""),
            pair("deployment:all", "ann"),
            pair("deployment:mails", "")
        ]
    );
    assert_eq!(names("report"), [pair("all", ""), pair("deployment:all", "ann")]);
    // No composition can name one so.
    let forged = json!({
        "tidegate": 1, "patterns": { "core": { "use": "core" } }, "actions": { "mail": { "run": "core.echo" } },
        "admission": { "limits": { "deployment:all": { "quota": { "units": 5, "per": "1d" } } } },
    });
    let refused = compile(&forged.to_string(), MANIFESTS).unwrap_err();
    assert_eq!(refused.details[0].pointer, "/admission/limits/deployment:all");
}

#[test]
fn every_fault_of_a_document_is_told() {
    let bad = json!({
        "admission": {
            "limits": { "A": { "rate": { "units": 0, "per": "1m" } }, "none": {} },
            "budgets": {},
            "connections": {},
            "conections": {},
        },
        "queue": { "waiting": 0, "share": { "key": "user" } },
        "tidegate": 1,
    });
    let refused = DeploymentLimits::parse(&bad.to_string()).unwrap_err();
    let pointers: Vec<&str> = refused.details.iter().map(|fault| fault.pointer.as_ref()).collect();
    for pointer in [
        "/admission/limits/A",
        "/admission/limits/A/rate/units",
        "/admission/limits/none",
        "/admission/budgets",
        "/admission/connections/per_user",
        "/admission/conections",
        "/queue/waiting",
        "/queue/share",
        "/tidegate",
    ] {
        assert!(pointers.contains(&pointer), "{pointer} of {pointers:?}");
    }
    for text in ["", "[]", "null", "{\"admission\":[]}"] {
        DeploymentLimits::parse(text).unwrap_err();
    }
    // Too much for a description, whatever it says.
    let limit = json!({ "rate": { "units": 1, "per": "1m" }, "actions": vec!["a".repeat(100); 5] });
    let many: serde_json::Map<String, Value> = (0..20).map(|n| (alloc::format!("limit-{n}"), limit.clone())).collect();
    let refused = DeploymentLimits::parse(&json!({ "admission": { "limits": many } }).to_string()).unwrap_err();
    assert_eq!((refused.details.len(), refused.details[0].pointer.as_ref()), (1, ""));
}

#[test]
fn a_document_that_limits_nothing_is_not_kept_and_another_reads_as_it_was() {
    for nothing in ["{}", r#"{"admission":{}}"#, r#"{"admission":{"limits":{}},"queue":{}}"#] {
        assert_eq!(
            DeploymentLimits::parse(nothing).unwrap(),
            (DeploymentLimits::default(), None),
            "{nothing}"
        );
    }
    let document = json!({ "queue": { "waiting": 7 }, "admission": { "connections": { "per_tenant": 3 } } });
    let (limits, kept) = DeploymentLimits::parse(&document.to_string()).unwrap();
    assert_eq!(DeploymentLimits::kept(kept.as_ref()), limits);
    assert_eq!(serde_json::from_str::<Value>(kept.unwrap().as_str()).unwrap(), document);
}

#[test]
fn the_lower_of_two_bounds_holds_whoever_set_it() {
    let limits = parse(&json!({
        "admission": { "connections": { "per_tenant": 10, "per_user": 2 } },
        "queue": { "waiting": 100, "waiting_bytes": 1_000_000, "concurrency": 7 },
    }));
    let bounds = |per_user, per_tenant| Bounds {
        per_user: NonZeroU32::new(per_user),
        per_tenant: NonZeroU32::new(per_tenant),
    };
    assert_eq!(limits.connections(Bounds::default()), bounds(2, 10));
    assert_eq!(limits.connections(bounds(1, 50)), bounds(1, 10));
    assert_eq!(DeploymentLimits::default().connections(bounds(1, 50)), bounds(1, 50));
    let own = Queueing {
        bounds: Waiting {
            bytes: Some(5),
            tenant: Some(40),
            tenant_bytes: None,
        },
        ..Queueing::default()
    };
    let mut bound = own.clone();
    DeploymentLimits::default().bound(&mut bound);
    assert_eq!(bound, own);
    limits.bound(&mut bound);
    let expected = Waiting {
        tenant_bytes: Some(1_000_000),
        ..own.bounds
    };
    assert_eq!(bound.bounds, expected);
    let counted: Vec<(&str, JobRule)> = bound.limits.iter().map(|of| (of.limit.as_str(), of.rule)).collect();
    assert_eq!(counted, [("deployment:concurrency", JobRule::Concurrency { max: 7 })]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Several hubs, some of which crash, against the plainest model: what was admitted is at most the lower of the two limits, in
    /// every window; and without crashes it is that limit exactly.
    #[test]
    fn what_is_admitted_is_at_most_the_lower_of_both(
        own in 1_u64..60,
        deployment in 1_u64..60,
        hubs in 1_usize..5,
        crashes in any::<bool>(),
        steps in prop::collection::vec((0_usize..5, 0_u64..40, 0_u8..20), 150..300),
    ) {
        let limit = |units: u64| json!({ "all": { "quota": { "units": units, "per": "1d" } } });
        let needs = needs(&limit(own), &limit(deployment), "ann", "mail");
        prop_assert_eq!(needs.len(), 2);
        let mut tenant = Tenant::new(hubs);
        for (hub, passes_ms, what) in steps {
            tenant.now = tenant.now.plus(passes_ms);
            let hub = hub % hubs;
            match what {
                0 if crashes => tenant.hubs[hub] = Leases::default(),
                1 => tenant.look(),
                _ => drop(tenant.request(hub, &needs)),
            }
        }
        holds(&tenant.admitted);
        let requests = u64::try_from(tenant.admitted.len() / 2).unwrap();
        prop_assert!(requests <= own.min(deployment));
        if !crashes {
            prop_assert_eq!(requests, own.min(deployment));
        }
    }
}

#[test]
fn a_limit_that_is_changed_holds_for_the_very_next_request() {
    let own = json!({});
    let of = |units: u64| {
        needs(
            &own,
            &json!({ "all": { "quota": { "units": units, "per": "1d" } } }),
            "ann",
            "mail",
        )
    };
    let mut tenant = Tenant::new(2);
    for n in 0..30 {
        tenant.now = tenant.now.plus(10);
        assert!(tenant.request(n % 2, &of(100)), "{n}");
    }
    // Lowered below what was used: nobody passes, whatever hubs have in hand. Raised again: as many as are left.
    assert!(!tenant.request(0, &of(20)) && !tenant.request(1, &of(20)));
    tenant.look();
    tenant.now = tenant.now.plus(5_000);
    let admitted = (0..50).filter(|n| tenant.request(n % 2, &of(40))).count();
    assert_eq!(admitted, 10);
    assert!(matches!(of(40)[0].rule, Rule::Quota { units: 40, .. }));
}
