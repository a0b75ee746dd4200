//! What a composition may say, fault by fault and default by default.

extern crate std;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_protocol::calls::executor::{Backoff, Dispatch, Factor, Jitter, Sharing};
use tidegate_protocol::calls::schedules::Overlap;
use tidegate_protocol::calls::tenant::Scale;
use tidegate_protocol::event::{JsonText, Payload};
use tidegate_protocol::ids::ActionName;
use tidegate_protocol::limits::COMPOSITION_BYTES_MAX;
use tidegate_protocol::{ErrorCode, Fault};

use super::defaults::{ACTIONS_MAX, FAULTS_MAX, PATTERNS_MAX, SCHEDULES_MAX};
use super::{
    Action, DEFAULT, DeclaredMode, Manifest, Mode, Modes, Object, Operation, Runs, compile, revision,
    takes_no_settings, takes_nothing,
};

const fn operation(name: &'static str, modes: Modes, default_mode: Mode) -> Operation {
    Operation {
        name,
        description: "For tests.",
        modes,
        default_mode,
        runs_in_hub: modes.sync,
        runs: Runs::Executor,
        sharing: Sharing::Alone,
        check_settings: takes_no_settings,
    }
}

/// Manifests with the names of the first-party patterns, so that the documents of the repository can be compiled here.
pub(crate) const MANIFESTS: &[Manifest] = &[
    Manifest {
        pattern: "core",
        description: "For tests.",
        operations: &[
            operation("echo", Modes::ALL, Mode::Sync),
            operation("delay", Modes::ALL, Mode::Async),
            operation("count", Modes::ASYNC, Mode::Async),
            operation("fail", Modes::ALL, Mode::Async),
            operation("guess", Modes::ALL, Mode::Auto),
        ],
        check_config: takes_nothing,
    },
    Manifest {
        pattern: "report",
        description: "For tests.",
        operations: &[Operation {
            check_settings,
            ..operation("summarize", Modes::ASYNC, Mode::Async)
        }],
        check_config,
    },
];
const _: () = assert!(MANIFESTS[0].is_sound() && MANIFESTS[1].is_sound());

fn check_config(config: &Value, pointer: &str, faults: &mut Vec<Fault>) {
    if let Some(mut config) = Object::read(config, pointer, faults) {
        config.number("columns", 1..=10);
        config.finish();
    }
}

/// The setting `columns` may not be more than the configuration's.
fn check_settings(settings: &Value, config: &Value, pointer: &str, faults: &mut Vec<Fault>) {
    if let Some(mut settings) = Object::read(settings, pointer, faults) {
        settings.number(
            "columns",
            1..=config.get("columns").and_then(Value::as_u64).unwrap_or(10),
        );
        settings.finish();
    }
}

fn document(action: &Value) -> String {
    let patterns = json!({"core": {"use": "core"}, "reports": {"use": "report", "config": {"columns": 5}}});
    json!({"tidegate": 1, "patterns": patterns, "actions": {"a": action}}).to_string()
}

fn action(action: &Value) -> Action {
    let plan = compile(&document(action), MANIFESTS).unwrap_or_else(|error| panic!("{action}: {error}"));
    Action::clone(plan.action(&ActionName::parse("a").unwrap()).unwrap())
}

fn faults(text: &str) -> Vec<Fault> {
    compile(text, MANIFESTS)
        .err()
        .unwrap_or_else(|| panic!("{text}"))
        .details
}

/// Exactly these faults, as `pointer | words of what is expected | suggestion`.
fn check(text: &str, expected: &[&str]) {
    let found = faults(text);
    assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
    for wanted in expected {
        let mut parts = wanted.split(" | ");
        let (pointer, words) = (parts.next().unwrap(), parts.next().unwrap());
        let suggestion = parts.next();
        let met = |fault: &&Fault| {
            fault.pointer == pointer && fault.expected.contains(words) && fault.suggestion.as_deref() == suggestion
        };
        assert_eq!(found.iter().filter(met).count(), 1, "{wanted}\n{text}\n{found:#?}");
    }
}

#[test]
fn each_default_is_what_the_reference_says() {
    let echo = action(&json!({"run": "core.echo"}));
    assert_eq!(echo.mode, DeclaredMode::Sync, "the operation's own");
    assert_eq!(echo.policy.timeout_ms, 10_000);
    assert_eq!((echo.instance.as_str(), echo.pattern.as_str()), ("core", "core"));
    assert!(echo.runs_in_hub && echo.scopes.is_empty() && echo.description.is_none());
    assert_eq!(echo.settings.as_str(), "{}");

    let job = action(&json!({"run": "reports.summarize"}));
    assert_eq!((job.instance.as_str(), job.pattern.as_str()), ("reports", "report"));
    assert_eq!((job.mode, job.runs_in_hub), (DeclaredMode::Async, false));
    let policy = job.policy;
    assert_eq!((policy.attempts_max, policy.timeout_ms), (3, 1_800_000));
    assert_eq!((policy.lease_ms, policy.retention_ms), (20_000, 604_800_000));
    assert_eq!(policy.dispatch, Dispatch::Direct);
    let (initial_ms, factor, cap_ms) = (1000, Factor(2_000_000), 60_000);
    assert_eq!(
        (policy.backoff, policy.jitter),
        (
            Backoff::Exponential {
                initial_ms,
                factor,
                cap_ms
            },
            Some(Jitter::Equal)
        )
    );
    let limits = (
        policy.queue_timeout_ms,
        policy.total_timeout_ms,
        policy.heartbeat_timeout_ms,
    );
    assert_eq!(limits, (None, None, None));

    let auto = action(&json!({"run": "core.guess"}));
    assert_eq!(auto.mode, DeclaredMode::Auto { deadline_ms: 2000 });
    assert_eq!(auto.policy.timeout_ms, 1_800_000);
    let auto = action(&json!({"run": "core.guess", "timeout": "1s"}));
    assert_eq!(auto.mode, DeclaredMode::Auto { deadline_ms: 1000 });

    let scale = |text: &str| compile(text, MANIFESTS).unwrap().scale;
    assert_eq!(
        scale(r#"{"tidegate":1,"patterns":{},"actions":{}}"#),
        Scale { hubs: 1, shards: 1 }
    );
}

#[test]
fn what_is_given_is_what_the_plan_says() {
    let all = action(&json!({
        "run": "reports.summarize", "description": "d", "mode": "async", "timeout": "5m", "lease": "1s",
        "retry": {"attempts": 7, "initial": "2m"}, "scopes": ["a:b", "c"], "retention": "1d", "dispatch": "queue",
        "queue_timeout": "1m", "total_timeout": "2h", "heartbeat_timeout": "5s", "cancel_grace": "9s", "with": {"columns": 5},
    }));
    assert_eq!(all.description.as_deref(), Some("d"));
    assert_eq!(all.settings.as_str(), r#"{"columns":5}"#);
    assert_eq!(all.scopes, ["a:b", "c"]);
    let policy = all.policy;
    let (initial_ms, factor, cap_ms) = (120_000, Factor::default(), 120_000);
    assert_eq!(
        policy.backoff,
        Backoff::Exponential {
            initial_ms,
            factor,
            cap_ms
        },
        "the cap rises"
    );
    assert_eq!(
        (policy.queue_timeout_ms, policy.total_timeout_ms),
        (Some(60_000), Some(7_200_000))
    );
    assert_eq!(
        (policy.heartbeat_timeout_ms, policy.cancel_grace_ms),
        (Some(5000), 9000)
    );
    assert_eq!(
        (policy.attempts_max, policy.timeout_ms, policy.lease_ms),
        (7, 300_000, 1000)
    );
    assert_eq!((policy.retention_ms, policy.dispatch), (86_400_000, Dispatch::Queue));
    let constant = action(&json!({"run": "core.echo", "retry": {"backoff": "constant", "initial": "5s"}}));
    assert_eq!(constant.policy.backoff, Backoff::Constant { ms: 5000 });
    let auto = action(&json!({"run": "core.echo", "mode": "auto", "deadline": "1500ms"}));
    assert_eq!(auto.mode, DeclaredMode::Auto { deadline_ms: 1500 });
}

#[test]
fn each_kind_of_backoff_and_jitter_is_what_it_says() {
    let retry = |retry: Value| action(&json!({"run": "core.delay", "retry": retry})).policy;
    let cap_ms = 60_000;
    for (given, backoff) in [
        (json!({"backoff": "constant"}), Backoff::Constant { ms: 1000 }),
        (
            json!({"backoff": "linear", "initial": "2s", "increment": "500ms", "cap": "9s"}),
            Backoff::Linear {
                initial_ms: 2000,
                increment_ms: 500,
                cap_ms: 9000,
            },
        ),
        (
            json!({"backoff": "linear", "initial": "2s"}),
            Backoff::Linear {
                initial_ms: 2000,
                increment_ms: 2000,
                cap_ms,
            },
        ),
        (
            json!({"factor": 12.1825}),
            Backoff::Exponential {
                initial_ms: 1000,
                factor: Factor(12_182_500),
                cap_ms,
            },
        ),
        (
            json!({"factor": 100, "cap": "30d"}),
            Backoff::Exponential {
                initial_ms: 1000,
                factor: Factor(100_000_000),
                cap_ms: 2_592_000_000,
            },
        ),
        (
            json!({"backoff": "polynomial"}),
            Backoff::Polynomial {
                unit_ms: 1000,
                power: 2,
                cap_ms,
            },
        ),
        (
            json!({"backoff": "polynomial", "unit": "2m", "power": 4}),
            Backoff::Polynomial {
                unit_ms: 120_000,
                power: 4,
                cap_ms: 120_000,
            },
        ),
        (
            json!({"backoff": "table", "waits": ["1s", "5ms"]}),
            Backoff::Table {
                waits_ms: Vec::from([1000, 5]),
            },
        ),
    ] {
        let own = backoff.own_jitter();
        let policy = retry(given);
        assert_eq!((policy.backoff, policy.jitter), (backoff, Some(own)));
    }
    for (given, jitter) in [
        (json!({"jitter": "none"}), Jitter::None),
        (json!({"jitter": "full"}), Jitter::Full),
        (json!({"backoff": "constant", "jitter": "equal"}), Jitter::Equal),
        (
            json!({"jitter": "plus_minus", "percent": 10}),
            Jitter::PlusMinus { percent: 10 },
        ),
    ] {
        assert_eq!(retry(given).jitter, Some(jitter));
    }
}

#[test]
fn every_fault_of_an_action_is_found_with_its_place() {
    for (action, expected) in [
        (json!(7), &["/actions/a | an object"][..]),
        (json!({}), &["/actions/a/run | `<pattern instance>.<operation>`"]),
        (json!({"run": 1}), &["/actions/a/run | `<pattern"]),
        (json!({"run": "echo"}), &["/actions/a/run | `<pattern"]),
        (json!({"run": null}), &["/actions/a/run | `<pattern"]),
        (
            json!({"run": "report.summarize"}),
            &["/actions/a/run | an instance named | reports.summarize"],
        ),
        (json!({"run": "zzzzzzzz.echo"}), &["/actions/a/run | an instance named"]),
        (
            json!({"run": "core.eco"}),
            &["/actions/a/run | an operation of the pattern `core` | core.echo"],
        ),
        (
            json!({"run": "core.echo", "mod": "sync"}),
            &["/actions/a/mod | no such field | mode"],
        ),
        (
            json!({"run": "core.echo", "zz/~": 1}),
            &["/actions/a/zz~1~0 | no such field"],
        ),
        (
            json!({"run": "core.echo", "mode": "asinc"}),
            &["/actions/a/mode | `sync`, `async`, `auto` | async"],
        ),
        (
            json!({"run": "reports.summarize", "mode": "sync"}),
            &["/actions/a/mode | supports: async"],
        ),
        (
            json!({"run": "core.echo", "timeout": "61s"}),
            &["/actions/a/timeout | from 1ms to 1m"],
        ),
        (
            json!({"run": "core.delay", "timeout": "2d"}),
            &["/actions/a/timeout | from 1ms to 1d"],
        ),
        (
            json!({"run": "core.delay", "timeout": "0s"}),
            &["/actions/a/timeout | from 1ms"],
        ),
        (
            json!({"run": "core.delay", "timeout": 30}),
            &["/actions/a/timeout | a duration with its unit"],
        ),
        (
            json!({"run": "core.delay", "timeout": "30"}),
            &["/actions/a/timeout | a duration with its unit"],
        ),
        (
            json!({"run": "core.delay", "lease": "999ms"}),
            &["/actions/a/lease | from 1s to 1h"],
        ),
        (
            json!({"run": "core.delay", "retention": "367d"}),
            &["/actions/a/retention | from 1s to 366d"],
        ),
        (
            json!({"run": "core.delay", "deadline": "1s"}),
            &["/actions/a/deadline | only where the mode is `auto`"],
        ),
        (
            json!({"run": "core.guess", "deadline": "2m"}),
            &["/actions/a/deadline | from 1ms to 1m"],
        ),
        (
            json!({"run": "core.guess", "deadline": "9s", "timeout": "9s"}),
            &["/actions/a/deadline | below the timeout of 9s"],
        ),
        (
            json!({"run": "core.echo", "dispatch": "queue"}),
            &["/actions/a/dispatch | only where the mode is `async`"],
        ),
        (
            json!({"run": "core.guess", "dispatch": "queue"}),
            &["/actions/a/dispatch | only where"],
        ),
        (
            json!({"run": "core.echo", "dispatch": "auto"}),
            &["/actions/a/dispatch | `auto` only where the mode is `async`"],
        ),
        (
            json!({"run": "core.delay", "dispatch": "que"}),
            &["/actions/a/dispatch | `direct`, `queue`, `auto`"],
        ),
        (
            json!({"run": "core.delay", "retry": 3}),
            &["/actions/a/retry | an object"],
        ),
        (
            json!({"run": "core.delay", "retry": {"attempts": 0, "backoff": "linera", "initial": "0ms", "tries": 1}}),
            &[
                "/actions/a/retry/attempts | from 1 to 100",
                "/actions/a/retry/backoff | `exponential`, `constant`, `linear`, `polynomial`, `table` | linear",
                "/actions/a/retry/initial | from 1ms to 30d",
                "/actions/a/retry/tries | no such field",
            ],
        ),
        (
            json!({"run": "core.delay", "retry": {"backoff": "constant", "cap": "1m"}}),
            &["/actions/a/retry/cap | only where the backoff is `exponential`"],
        ),
        (
            json!({"run": "core.delay", "retry": {"initial": "10s", "cap": "5s"}}),
            &["/actions/a/retry/cap | not below `initial`, 10s"],
        ),
        (
            json!({"run": "core.delay", "retry": {"backoff": "polynomial", "unit": "10s", "power": 9, "cap": "5s"}}),
            &[
                "/actions/a/retry/power | from 1 to 8",
                "/actions/a/retry/cap | not below `unit`, 10s",
            ],
        ),
        (
            json!({"run": "core.delay", "retry": {"increment": "1s", "unit": "1s", "power": 2, "waits": [], "percent": 5}}),
            &[
                "/actions/a/retry/increment | only where the backoff is `linear`",
                "/actions/a/retry/unit | only where the backoff is `polynomial`",
                "/actions/a/retry/power | only where the backoff is `polynomial`",
                "/actions/a/retry/waits | only where the backoff is `table`",
                "/actions/a/retry/percent | only where the jitter is `plus_minus`",
            ],
        ),
        (
            json!({"run": "core.delay", "retry": {"backoff": "table", "initial": "1s", "cap": "1s", "jitter": "plus_minus"}}),
            &[
                "/actions/a/retry/waits | a list of 1 to 100 durations",
                "/actions/a/retry/initial | only where the backoff is `exponential` or `constant` or `linear`",
                "/actions/a/retry/cap | only where the backoff is `exponential` or `linear` or `polynomial`",
                "/actions/a/retry/percent | from 1 to 100",
            ],
        ),
        (
            json!({"run": "core.delay", "retry": {"backoff": "table", "waits": ["1s", "0s", 7, "31d"], "jitter": "half"}}),
            &[
                "/actions/a/retry/waits/1 | from 1ms to 30d",
                "/actions/a/retry/waits/2 | a duration with its unit",
                "/actions/a/retry/waits/3 | from 1ms to 30d",
                "/actions/a/retry/jitter | `none`, `full`, `equal`, `plus_minus`",
            ],
        ),
        (
            json!({"run": "core.delay", "retry": {"backoff": "table", "waits": []}}),
            &["/actions/a/retry/waits | a list of 1 to 100 durations"],
        ),
        (
            json!({"run": "core.delay", "retry": {"factor": 0.5}}),
            &["/actions/a/retry/factor | a number from 1 to 100"],
        ),
        (
            json!({"run": "core.delay", "retry": {"factor": 1.000_000_1}}),
            &["/actions/a/retry/factor | at most six decimals"],
        ),
        (
            json!({"run": "core.delay", "retry": {"factor": "2", "jitter": "plus_minus", "percent": 101}}),
            &[
                "/actions/a/retry/factor | a number from 1 to 100",
                "/actions/a/retry/percent | from 1 to 100",
            ],
        ),
        (
            json!({"run": "core.delay", "queue_timeout": "31d", "total_timeout": 5, "heartbeat_timeout": "4999ms", "cancel_grace": "0s"}),
            &[
                "/actions/a/queue_timeout | from 1ms to 30d",
                "/actions/a/total_timeout | a duration with its unit",
                "/actions/a/heartbeat_timeout | from 5s to 1d",
                "/actions/a/cancel_grace | from 1s to 10m",
            ],
        ),
        (
            json!({"run": "core.echo", "queue_timeout": "1s", "total_timeout": "1s", "heartbeat_timeout": "9s"}),
            &[
                "/actions/a/queue_timeout | only where the mode is `async` or `auto`",
                "/actions/a/total_timeout | only where the mode is",
                "/actions/a/heartbeat_timeout | only where the mode is",
            ],
        ),
        (
            json!({"run": "core.delay", "scopes": "a"}),
            &["/actions/a/scopes | a list"],
        ),
        (
            json!({"run": "core.delay", "scopes": ["a", "a b", "a", 3, ""]}),
            &[
                "/actions/a/scopes/1 | a scope",
                "/actions/a/scopes/2 | each scope once",
                "/actions/a/scopes/3 | a scope",
                "/actions/a/scopes/4 | a scope",
            ],
        ),
        (
            json!({"run": "core.delay", "description": "d".repeat(1001)}),
            &["/actions/a/description | 1000 characters"],
        ),
        (
            json!({"run": "core.delay", "with": {"x": 1}}),
            &["/actions/a/with/x | no such field"],
        ),
        (
            json!({"run": "core.delay", "with": null}),
            &["/actions/a/with | an object"],
        ),
        (
            json!({"run": "core.dely", "with": []}),
            &[
                "/actions/a/run | an operation of | core.delay",
                "/actions/a/with | an object",
            ],
        ),
        (
            json!({"run": "reports.summarize", "with": {"columns": 6}}),
            &["/actions/a/with/columns | from 1 to 5"],
        ),
    ] {
        check(&document(&action), expected);
    }
}

#[test]
fn every_fault_of_the_document_is_found_with_its_place() {
    let long = "n".repeat(200);
    for (text, expected) in [
        ("", &[" | JSON"][..]),
        ("{", &[" | JSON"]),
        ("[]", &[" | an object"]),
        ("null", &[" | an object"]),
        (
            "{}",
            &[
                "/tidegate | the format",
                "/patterns | the patterns",
                "/actions | the actions",
            ],
        ),
        (
            r#"{"tidegate":2,"patterns":{},"actions":{}}"#,
            &["/tidegate | from 1 to 1"],
        ),
        (
            r#"{"tidegate":1,"patterns":[],"actions":3}"#,
            &["/patterns | an object", "/actions | an object"],
        ),
        (
            r#"{"tidegate":1,"patterns":{},"actions":{},"action":{}}"#,
            &["/action | no such field | actions"],
        ),
        (
            r#"{"tidegate":1,"$schema":1,"patterns":{},"actions":{}}"#,
            &["/$schema | the address"],
        ),
        (
            r#"{"tidegate":1,"tidegate":1,"patterns":{"c":{"use":"core","use":"core"}},"actions":{}}"#,
            &["/tidegate | each field once", "/patterns/c/use | each field once"],
        ),
        (
            r#"{"tidegate":1,"patterns":{},"actions":{},"scale":{"hubs":0,"shards":1025,"hub":1}}"#,
            &[
                "/scale/hubs | from 1 to 256",
                "/scale/shards | from 1 to 1024",
                "/scale/hub | no such field | hubs",
            ],
        ),
        (
            r#"{"tidegate":1,"patterns":{"A.b":{"use":"cor"},"c":{},"d":2,"e":{"use":"core","config":{"x":1},"y":2}},"actions":{}}"#,
            &[
                "/patterns/A.b | a name of 1 to 48",
                "/patterns/A.b/use | a pattern of this deployment | core",
                "/patterns/c/use | a pattern of this deployment",
                "/patterns/d | an object",
                "/patterns/e/config/x | no such field",
                "/patterns/e/y | no such field",
            ],
        ),
        // An action of a faulty instance gets no fault of its own for that.
        (
            r#"{"tidegate":1,"patterns":{"c":{"use":"cor"}},"actions":{"a":{"run":"c.echo"},"b c":{"run":"c.echo"}}}"#,
            &[
                "/patterns/c/use | a pattern | core",
                "/actions/b c | 1 to 128 characters",
            ],
        ),
        (
            &format!(r#"{{"tidegate":1,"patterns":{{}},"actions":{{}},"{long}":1}}"#),
            &[&format!("/{}… | no such field", "n".repeat(128))],
        ),
    ] {
        check(text, expected);
    }
}

#[test]
fn a_document_over_its_limits_is_refused_before_it_is_built() {
    let text = format!("{}{}", DEFAULT, " ".repeat(COMPOSITION_BYTES_MAX));
    assert_eq!(compile(&text, MANIFESTS).unwrap_err().code, ErrorCode::PayloadTooLarge);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    check(&deep, &[" | nested at most 64 deep"]);
    let fits = format!("{DEFAULT}{}", " ".repeat(COMPOSITION_BYTES_MAX - DEFAULT.len()));
    assert!(compile(&fits, MANIFESTS).is_ok());
}

#[test]
fn the_faults_of_a_document_are_bounded_whatever_it_is() {
    let unknown: Vec<String> = (0..15_000).map(|n| format!("\"x{n}\":{n}")).collect();
    let doubled = format!("\"{}\":[{}0]", "k".repeat(500), "{\"a\":1,\"a\":1},".repeat(5000));
    for body in [unknown.join(","), doubled] {
        let found = faults(&format!("{{{body}}}"));
        assert_eq!(found.len(), FAULTS_MAX + 1);
        assert_eq!(found.last().unwrap().got, "more of them");
        assert!(serde_json::to_string(&found).unwrap().len() < 100_000);
    }
    for (patterns, actions) in [(PATTERNS_MAX, ACTIONS_MAX), (PATTERNS_MAX + 1, ACTIONS_MAX + 1)] {
        let fields = |count: usize, value: &Value| -> Value {
            Value::Object((0..count).map(|n| (format!("n{n}"), value.clone())).collect())
        };
        let (patterns, many) = (
            fields(patterns, &json!({"use": "core"})),
            fields(actions, &json!({"run": "n0.echo"})),
        );
        let text = json!({"tidegate": 1, "patterns": patterns, "actions": many}).to_string();
        match actions {
            ACTIONS_MAX => assert!(compile(&text, MANIFESTS).is_ok()),
            _ => assert_eq!(faults(&text).len(), 2),
        }
    }
}

#[test]
fn an_unknown_action_is_named_with_the_nearest_one() {
    let plan = compile(DEFAULT, MANIFESTS).unwrap();
    let error = plan.action(&ActionName::parse("report.sumarize").unwrap()).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidAction);
    assert_eq!(error.details[0].suggestion.as_deref(), Some("report.summarize"));
    let error = plan.action(&ActionName::parse("echo").unwrap()).unwrap_err();
    assert_eq!(error.details[0].suggestion.as_deref(), Some("core.echo"));
    let error = plan.action(&ActionName::parse("wholly-other").unwrap()).unwrap_err();
    assert_eq!(error.details[0].suggestion, None);
}

#[test]
fn the_default_composition_has_its_three_actions() {
    let plan = compile(DEFAULT, MANIFESTS).unwrap();
    let actions: Vec<_> = plan
        .actions
        .values()
        .map(|action| (action.name.as_str(), action.mode, action.scopes.len()))
        .collect();
    let expected = [
        ("core.delay", DeclaredMode::Async, 0),
        ("core.echo", DeclaredMode::Sync, 0),
        ("report.summarize", DeclaredMode::Async, 0),
    ];
    assert_eq!(actions, expected);
}

#[test]
fn a_revision_depends_on_content_alone() {
    let one = r#"{"tidegate":1,"patterns":{"b":{"use":"core"},"a":{"use":"core"}},"actions":{}}"#;
    let same =
        "{ \"actions\" : {},\n\"patterns\":{\"a\":{\"use\":\"core\"},\"\\u0062\":{\"use\":\"core\"}},\"tidegate\":1}";
    let other = r#"{"tidegate":1,"patterns":{"b":{"use":"core"}},"actions":{}}"#;
    let revision_of = |text| revision(text).unwrap();
    assert_eq!(revision_of(one), revision_of(same));
    assert_ne!(revision_of(one), revision_of(other));
    assert_eq!(compile(one, MANIFESTS).unwrap(), compile(same, MANIFESTS).unwrap());
    let text = revision_of(one).to_string();
    assert!(text.len() == 36 && text.starts_with("rev_"), "{text}");
    // Kept for ever: revisions are stored.
    assert_eq!(
        revision_of("{\"tidegate\":1}").as_str(),
        "rev_39994dc8ffa2d46d9431440e4715ae8b"
    );
    assert!(revision(r#"{"a":1,"a":2}"#).is_err() && revision("{").is_err());
}

#[test]
fn a_document_full_of_unknown_names_has_bounded_faults() {
    // The dearest faults there are: every name is long, and compared with every other.
    let actions: Vec<String> = (0..900)
        .map(|n| format!("\"a{n}\":{{\"run\":\"{}{n}.x\"}}", "y".repeat(40)))
        .collect();
    let patterns: Vec<String> = (0..64)
        .map(|n| format!("\"{}{n}\":{{\"use\":\"core\"}}", "z".repeat(40)))
        .collect();
    let text = format!(
        "{{\"tidegate\":1,\"patterns\":{{{}}},\"actions\":{{{}}}}}",
        patterns.join(","),
        actions.join(",")
    );
    assert_eq!(faults(&text).len(), FAULTS_MAX + 1);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = compile(&text, MANIFESTS);
        let _ = revision(&text);
    }

    #[test]
    fn no_damage_to_a_document_makes_it_panic(at in 0..DEFAULT.len(), length in 0_usize..20, put in "[\\[\\]{}\":,a0e.\\\\-]{0,5}") {
        if let (Some(before), Some(after)) = (DEFAULT.get(..at), DEFAULT.get((at + length).min(DEFAULT.len())..)) {
            let _ = compile(&format!("{before}{put}{after}"), MANIFESTS);
        }
    }

    #[test]
    fn the_canonical_form_has_the_same_revision_and_plan(indent: bool) {
        let value: Value = serde_json::from_str(DEFAULT).unwrap();
        let text = if indent { serde_json::to_string_pretty(&value).unwrap() } else { super::canonical(&value) };
        prop_assert_eq!(revision(&text).unwrap(), revision(DEFAULT).unwrap());
        prop_assert_eq!(compile(&text, MANIFESTS).unwrap(), compile(DEFAULT, MANIFESTS).unwrap());
    }
}

#[test]
fn a_schedule_has_every_default_filled_in_and_carries_its_policy() {
    let text = with_schedules(&json!({"nightly": {"cron": "0 3 * * *", "action": "a"}}));
    let plan = compile(&text, MANIFESTS).unwrap();
    let [schedule] = &plan.schedules[..] else {
        panic!("{:?}", plan.schedules)
    };
    assert_eq!(
        (schedule.name.as_str(), schedule.time_zone.as_str()),
        ("nightly", "UTC")
    );
    assert_eq!(
        (schedule.overlap, schedule.catch_up_ms, schedule.jitter_ms),
        (Overlap::Skip, 60_000, 0)
    );
    assert_eq!(schedule.job.user.as_str(), "schedule:nightly");
    assert_eq!(schedule.job.revision, plan.revision);
    assert_eq!(schedule.job.policy, plan.actions.values().next().unwrap().policy);
    assert_eq!(schedule.job.payload, Payload::Inline(JsonText::null()));
    let full = json!({"nightly": {"cron": "0 3 * * *", "time_zone": "europe/berlin", "action": "a", "payload": {"b": 1, "a": 2},
        "metadata": {"team": "blue"}, "user": "ann", "overlap": "cancel_old", "catch_up": "1h", "jitter": "30s",
        "paused": true}});
    let schedule = compile(&with_schedules(&full), MANIFESTS).unwrap().schedules.remove(0);
    assert_eq!(schedule.time_zone, "Europe/Berlin", "the zone's own name");
    assert_eq!(
        (schedule.overlap, schedule.catch_up_ms, schedule.jitter_ms),
        (Overlap::CancelOld, 3_600_000, 30_000)
    );
    assert_eq!((schedule.job.user.as_str(), schedule.paused), ("ann", true));
    assert_eq!(
        schedule.job.payload,
        Payload::Inline(JsonText::parse("{\"a\":2,\"b\":1}").unwrap())
    );
}

#[test]
fn every_fault_of_a_schedule_is_named_where_it_is() {
    let schedules = json!({
        "Nightly": {"cron": "0 3 * * *", "action": "a"},
        "a1": {"cron": "0 25 * * *", "time_zone": "Europe/Berlim", "action": "b", "overlap": "skipp", "catch_up": "8d",
            "jitter": "2h", "paused": "no", "user": "", "metadata": {"schedule": "x", "n": 1}, "cronn": "x"},
        "a2": {"cron": "0 0 30 2 *", "action": "a", "payload": "x".repeat(33_000)},
        "a3": {},
    });
    let error = compile(&with_schedules(&schedules), MANIFESTS).unwrap_err();
    let mut found: Vec<(&str, Option<&str>)> = error
        .details
        .iter()
        .map(|fault| (fault.pointer.as_ref(), fault.suggestion.as_deref()))
        .collect();
    found.sort_unstable();
    let expected = [
        ("/schedules/Nightly", None),
        ("/schedules/a1/action", None),
        ("/schedules/a1/catch_up", None),
        ("/schedules/a1/cron", None),
        ("/schedules/a1/cronn", Some("cron")),
        ("/schedules/a1/jitter", None),
        ("/schedules/a1/metadata/n", None),
        ("/schedules/a1/metadata/schedule", None),
        ("/schedules/a1/overlap", Some("skip")),
        ("/schedules/a1/paused", None),
        ("/schedules/a1/time_zone", Some("Europe/Berlin")),
        ("/schedules/a1/user", None),
        ("/schedules/a2/cron", None),
        ("/schedules/a2/payload", None),
        ("/schedules/a3/action", None),
        ("/schedules/a3/cron", None),
    ];
    assert_eq!(found, expected);
}

#[test]
fn schedules_are_bounded_and_what_never_comes_is_not_searched_for_ever() {
    let of = |cron: &str, count: usize| {
        let entries = (0..count).map(|n| (format!("s{n}"), json!({"cron": cron, "action": "a"})));
        compile(
            &with_schedules(&entries.collect::<serde_json::Map<_, _>>().into()),
            MANIFESTS,
        )
    };
    assert_eq!(of("@daily", SCHEDULES_MAX).unwrap().schedules.len(), SCHEDULES_MAX);
    assert_eq!(of("@daily", SCHEDULES_MAX + 1).unwrap_err().details.len(), 1);
    assert_eq!(of("0 0 31 2 *", SCHEDULES_MAX).unwrap_err().details.len(), 3);
    // A faulty action has its own fault, and brings none to the schedules that name it.
    let patterns = json!({"core": {"use": "core"}});
    let text = json!({"tidegate": 1, "patterns": patterns, "actions": {"a": {"run": "core.none"}},
        "schedules": {"s": {"cron": "@daily", "action": "a"}}});
    assert_eq!(compile(&text.to_string(), MANIFESTS).unwrap_err().details.len(), 1);
}

fn with_schedules(schedules: &Value) -> String {
    let mut text: Value = serde_json::from_str(&document(&json!({"run": "core.echo"}))).unwrap();
    text["schedules"] = schedules.clone();
    text.to_string()
}

#[test]
fn what_makes_requests_one_job_has_the_defaults_of_the_reference() {
    use tidegate_protocol::calls::once::{DedupeRule, KeyLife, Once};
    use tidegate_protocol::event::JsonText;
    use tidegate_protocol::frames::Start;
    use tidegate_protocol::ids::UserId;

    let (user, name) = (UserId::parse("ann").unwrap(), ActionName::parse("a").unwrap());
    let once = |fields: Value, keyed| {
        let mut document = json!({"run": "core.delay", "mode": "async"});
        document
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let (metadata, payload) = (Default::default(), JsonText::parse("{\"x\":7}").unwrap());
        let input = crate::composition::Input::new(&user, &name, &metadata, &payload);
        action(&document).once.of(&input, keyed, Start::Now)
    };
    assert_eq!(once(json!({}), true).unwrap(), None);
    let life = |ttl_ms, failed_frees| Some(Once::Key(KeyLife { ttl_ms, failed_frees }));
    assert_eq!(once(json!({"idempotency": {}}), true).unwrap(), life(None, false));
    assert_eq!(once(json!({"idempotency": {}}), false).unwrap(), None, "only for a key");
    let fields = json!({"idempotency": {"ttl": "1d", "failed": "free"}});
    assert_eq!(once(fields, true).unwrap(), life(Some(86_400_000), true));
    let last = |wait_ms, max_wait_ms| DedupeRule::KeepLast { wait_ms, max_wait_ms };
    for (fields, rule) in [
        (json!({"mode": "window"}), DedupeRule::Window { ms: 600_000 }),
        (
            json!({"mode": "window", "window": "1s"}),
            DedupeRule::Window { ms: 1000 },
        ),
        (json!({"mode": "until_ended"}), DedupeRule::UntilEnded),
        (json!({"mode": "replace_waiting"}), DedupeRule::ReplaceWaiting),
        (json!({"mode": "keep_last"}), last(5000, 60_000)),
        (json!({"mode": "keep_last", "wait": "2m"}), last(120_000, 120_000)),
        (
            json!({"mode": "keep_last", "wait": "1s", "max_wait": "3s"}),
            last(1000, 3000),
        ),
    ] {
        let mut dedupe = fields.clone();
        dedupe["key"] = json!("payload.x");
        let found = once(json!({ "dedupe": dedupe }), false).unwrap().unwrap();
        let found = found.dedupe().unwrap();
        assert_eq!((found.rule, found.key.as_str()), (rule, r#"["ann","7"]"#), "{fields}");
        assert_eq!(found.key_life, None);
        let both = json!({ "dedupe": dedupe, "idempotency": {"ttl": "2h", "failed": "free"} });
        for (keyed, life) in [(true, Some((Some(7_200_000), true))), (false, None)] {
            let found = once(both.clone(), keyed).unwrap().unwrap();
            let life = life.map(|(ttl_ms, failed_frees)| KeyLife { ttl_ms, failed_frees });
            assert_eq!((found.key_life(), found.dedupe().unwrap().rule), (life, rule));
        }
    }
}

#[test]
fn a_dedupe_that_says_nothing_or_too_much_is_a_fault() {
    let check = |fields: Value, expected: &[&str]| {
        let mut document = json!({"run": "core.delay", "mode": "async"});
        document
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        super::tests::check(&self::document(&document), expected);
    };
    let at = "/actions/a/dedupe";
    check(
        json!({"dedupe": {}}),
        &[&format!("{at}/key | the path"), &format!("{at}/mode | what becomes")],
    );
    check(
        json!({"dedupe": {"key": "user", "mode": "window", "wait": "1s"}}),
        &[&format!("{at}/wait | only where the mode is `keep_last`")],
    );
    check(
        json!({"dedupe": {"key": "user", "mode": "keep_last", "wait": "3s", "max_wait": "2s", "window": "1m"}}),
        &[
            &format!("{at}/max_wait | not below `wait`, 3s"),
            &format!("{at}/window | only where the mode is `window`"),
        ],
    );
    check(
        json!({"mode": "auto", "dedupe": {"key": "user", "mode": "keep_last"}}),
        &[&format!("{at}/mode | only where the mode is `async`")],
    );
    check(
        json!({"idempotency": {"ttl": "59m", "failed": "drop"}}),
        &[
            "/actions/a/idempotency/ttl | from 1h to 30d",
            "/actions/a/idempotency/failed | `keep`, `free`",
        ],
    );
}

#[test]
fn requests_of_one_dedupe_key_meet_in_one_object_and_a_sync_one_is_stored_too() {
    use tidegate_protocol::calls::Principal;
    use tidegate_protocol::calls::hub::Prefer;
    use tidegate_protocol::calls::spread::Spreads;
    use tidegate_protocol::frames::Request;
    use tidegate_protocol::ids::{RequestId, TenantId, UserId};
    use tidegate_protocol::time::UnixMs;

    use crate::hub::{Admitted, Context, admit};

    let dedupe = json!({"key": "payload.x", "mode": "window"});
    let text = json!({
        "tidegate": 1, "scale": {"shards": 64}, "patterns": {"core": {"use": "core"}},
        "actions": {"a": {"run": "core.echo", "mode": "sync", "dedupe": dedupe}}
    });
    let plan = compile(&text.to_string(), MANIFESTS).unwrap();
    let place = |user: &str, x: u64, random: u64| {
        let principal = Principal {
            tenant: TenantId::parse("t").unwrap(),
            user: UserId::parse(user).unwrap(),
            scopes: Default::default(),
            expires_at: UnixMs(0),
            credential: Default::default(),
            network: Default::default(),
        };
        let spreads = Spreads::only(plan.scale.shards);
        let context = Context {
            spreads: &spreads,
            plan: &plan,
            deployment: &super::DeploymentLimits::default(),
            principal: &principal,
            now: UnixMs(1_800_000_000_000),
            follower: None,
        };
        // A client's key beside it changes nothing about the place.
        let mut body = json!({"action": "a", "payload": {"x": x, "n": random}});
        if random > 1 {
            body["idempotency_key"] = json!(format!("k{random}"));
        }
        let body = body.to_string();
        let request = Request::parse(&body).unwrap();
        let id = RequestId::parse("r").unwrap();
        match admit(context, &request, &id, Prefer::default(), random).unwrap().0 {
            Admitted::Job { shard, enqueue, .. } => (shard, enqueue.partition),
            Admitted::Here(_) | Admitted::Message { .. } => panic!("nothing would be stored"),
        }
    };
    let places: tidegate_protocol::SortedSet<_> = (0..40).map(|x| place("ann", x, 0).0.0).collect();
    assert!(places.len() > 20, "keys are spread: {places:?}");
    for x in 0..40 {
        assert_eq!(place("ann", x, 1), place("ann", x, 7));
        assert_eq!(place("ann", x, 1), place("ann", x, u64::MAX));
    }
    assert!(
        (0..40).any(|x| place("ann", x, 0) != place("bob", x, 0)),
        "a key is its user's own"
    );
}
