//! What a job does whose action follows the active composition, and not the one that it was accepted under.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use sha2::{Digest, Sha256};
use tidegate_protocol::calls::versions::RevisionRule;
use tidegate_protocol::ids::ActionName;
use tidegate_protocol::{Error, ErrorCode};

use super::manifest::Mode;
use super::object::Object;
use super::plan::{Action, Plan};
use crate::digest::short;

/// Which composition says what the action's attempts do. What is wrong has been noted, and stands at its default.
pub(super) fn read_revision(fields: &mut Object<'_, '_>, mode: Option<Mode>) -> RevisionRule {
    if mode == Some(Mode::Sync) && fields.take("revision").is_some() {
        let expected = "this choice only where the mode is `async` or `auto`";
        fields.fault("revision", expected, "sync");
        return RevisionRule::Accepted;
    }
    match fields.one_of("revision", &["accepted", "latest"]) {
        Some("latest") => RevisionRule::Latest,
        _ => RevisionRule::Accepted,
    }
}

impl Plan {
    /// The action `name` for an attempt of a job that was accepted under another plan.
    ///
    /// Errors: `INVALID_ACTION`, which no retry mends, where there is none any more, or where workers run it by now.
    pub fn action_of_attempt(&self, name: &ActionName) -> Result<&Arc<Action>, Error> {
        let gone = |how| {
            let message = format!("The active composition, {}, {how} `{name}`.", self.revision);
            Error::new(ErrorCode::InvalidAction, message)
        };
        let action = self.actions.get(name);
        let action = action.ok_or_else(|| gone("has no action"))?;
        match action.policy.pool {
            None => Ok(action),
            Some(_) => Err(gone("leaves it to workers of a pool to run")),
        }
    }

    /// Names what `action` does: its operation, with its settings and the configuration of its pattern. What one run has
    /// left behind, another goes on with only under the same name.
    pub fn work(&self, action: &Action) -> String {
        let config = self.patterns.get(&action.instance);
        let config = config.map(|instance| instance.config.as_str()).unwrap_or_default();
        let mut hash = Sha256::new();
        for part in [&action.pattern, &action.operation, config, action.settings.as_str()] {
            hash.update(part.as_bytes());
            // No text of these holds it.
            hash.update([0xff]);
        }
        short(hash)
    }
}

/// The checkpoint that [`work`](Plan::work) may go on from: one that it has left itself, as the end of its key says. What
/// other work has left would be taken for what it is not.
pub fn checkpoint_of(work: &str, checkpoint: Option<String>) -> Option<String> {
    checkpoint.filter(|key| key.ends_with(work))
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tidegate_protocol::calls::executor::Sharing;

    use super::super::tests::MANIFESTS;
    use super::super::{Manifest, Operation, compile, revision, takes_nothing};
    use super::*;

    fn plan(actions: &Value) -> Plan {
        plan_with(3, actions)
    }

    fn plan_with(columns: u32, actions: &Value) -> Plan {
        let patterns =
            json!({ "core": { "use": "core" }, "reports": { "use": "report", "config": { "columns": columns } } });
        let document = json!({ "tidegate": 1, "patterns": patterns, "actions": actions });
        compile(&document.to_string(), MANIFESTS).unwrap()
    }

    fn name(text: &str) -> ActionName {
        ActionName::parse(text).unwrap()
    }

    #[test]
    fn an_action_keeps_to_the_revision_of_its_acceptance_unless_it_says_otherwise() {
        let rule = |action: Value| {
            let plan = plan(&json!({ "a": action }));
            plan.action(&name("a")).unwrap().policy.revision
        };
        let of = |rule: &str| json!({ "run": "core.delay", "mode": "async", "revision": rule });
        assert_eq!(rule(json!({ "run": "core.delay" })), RevisionRule::Accepted);
        assert_eq!(rule(of("accepted")), RevisionRule::Accepted);
        assert_eq!(rule(of("latest")), RevisionRule::Latest);
    }

    /// A pattern whose operation may share an invocation.
    const LIGHT: &[Manifest] = &[Manifest {
        pattern: "light",
        description: "For tests.",
        operations: &[Operation {
            sharing: Sharing::Shared,
            ..MANIFESTS[0].operations[0]
        }],
        check_config: takes_nothing,
    }];

    #[test]
    fn what_may_become_anything_has_an_invocation_of_its_own() {
        for (rule, sharing) in [("accepted", Sharing::Shared), ("latest", Sharing::Alone)] {
            let action = json!({ "run": "light.echo", "mode": "async", "revision": rule });
            let document =
                json!({ "tidegate": 1, "patterns": { "light": { "use": "light" } }, "actions": { "a": action } });
            let plan = compile(&document.to_string(), LIGHT).unwrap();
            assert_eq!(plan.action(&name("a")).unwrap().policy.sharing, sharing, "{rule}");
        }
    }

    #[test]
    fn an_answer_on_the_spot_has_no_choice_and_a_wrong_word_is_a_fault() {
        for action in [
            json!({ "run": "core.echo", "mode": "sync", "revision": "latest" }),
            json!({ "run": "core.echo", "mode": "async", "revision": "newest" }),
            json!({ "run": "core.echo", "mode": "async", "revision": 1 }),
        ] {
            let patterns = json!({ "core": { "use": "core" } });
            let document = json!({ "tidegate": 1, "patterns": patterns, "actions": { "a": action } });
            let error = compile(&document.to_string(), MANIFESTS).unwrap_err();
            let pointers: Vec<&str> = error.details.iter().map(|fault| fault.pointer.as_str()).collect();
            assert_eq!(pointers, ["/actions/a/revision"], "{document}");
        }
    }

    #[test]
    fn an_action_that_is_gone_fails_for_good_and_says_so() {
        let plan = plan(&json!({ "mail.send": { "run": "core.echo" } }));
        assert!(plan.action_of_attempt(&name("mail.send")).is_ok());
        let error = plan.action_of_attempt(&name("mail.sent")).unwrap_err();
        assert_eq!((error.code, error.retryable), (ErrorCode::InvalidAction, false));
        assert!(error.message.contains("no action `mail.sent`"), "{error}");
        assert!(error.message.contains(plan.revision.as_str()), "{error}");
    }

    #[test]
    fn an_action_that_workers_run_by_now_cannot_be_run_here() {
        let mut plan = plan(&json!({ "a": { "run": "core.echo", "mode": "async" } }));
        let mut action = (**plan.action(&name("a")).unwrap()).clone();
        action.policy.pool = tidegate_protocol::ids::PoolName::parse("p");
        plan.actions.insert(name("a"), Arc::new(action));
        let error = plan.action_of_attempt(&name("a")).unwrap_err();
        assert_eq!((error.code, error.retryable), (ErrorCode::InvalidAction, false));
        assert!(error.message.contains("pool"), "{error}");
    }

    #[test]
    fn work_is_named_by_what_is_done_and_by_nothing_else() {
        let report = json!({ "run": "reports.summarize", "with": { "columns": 3 } });
        let work = |plan: &Plan| plan.work(plan.action(&name("a")).unwrap());
        let base = work(&plan(&json!({ "a": report })));
        // Another document, another name, limits of time: the same work.
        let mut other = report.clone();
        other["timeout"] = json!("7m");
        assert_eq!(base, work(&plan(&json!({ "a": other, "b": report }))));
        assert_ne!(base, work(&plan_with(4, &json!({ "a": report }))));
        other["with"] = json!({ "columns": 2 });
        assert_ne!(base, work(&plan(&json!({ "a": other }))));
        assert_ne!(base, work(&plan(&json!({ "a": { "run": "core.delay" } }))));
    }

    #[test]
    fn an_earlier_document_has_its_earlier_revision_again() {
        let document = |ms: &str| json!({ "tidegate": 1, "patterns": {}, "actions": {}, "retention": ms }).to_string();
        let (first, second) = (document("1d"), document("2d"));
        assert_ne!(revision(&first).unwrap(), revision(&second).unwrap());
        assert_eq!(revision(&first).unwrap(), revision(&document("1d")).unwrap());
    }

    #[test]
    fn work_goes_on_from_its_own_checkpoint_alone() {
        let plan = plan(&json!({ "a": { "run": "core.echo" }, "b": { "run": "core.delay" } }));
        let [one, other] = ["a", "b"].map(|action| plan.work(plan.action(&name(action)).unwrap()));
        let key = |work: &str| Some(format!("checkpoints/t/j/1-0-{work}"));
        assert_eq!(checkpoint_of(&one, key(&one)), key(&one));
        assert_eq!(checkpoint_of(&one, key(&other)), None);
        assert_eq!(checkpoint_of(&one, Some("checkpoints/t/j/1-0".into())), None);
        assert_eq!(checkpoint_of(&one, None), None);
    }

    proptest! {
        #[test]
        fn a_checkpoint_is_never_taken_for_that_of_other_work(columns in 1_u32..=10, other in 1_u32..=10) {
            let action = json!({ "a": { "run": "reports.summarize" } });
            let (one, two) = (plan_with(columns, &action), plan_with(other, &action));
            let work = |plan: &Plan| plan.work(plan.action(&name("a")).unwrap());
            prop_assert_eq!(work(&one) == work(&two), columns == other);
        }
    }
}
