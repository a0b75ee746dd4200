//! The pattern `pull`: actions that workers of the tenant's own run. They ask for their jobs over HTTP, and report and end
//! them there; nothing here runs.

use alloc::vec::Vec;

use serde_json::Value;
use tidegate_engine::composition::{Manifest, Mode, Modes, Object, Operation, Runs, takes_no_settings};
use tidegate_protocol::Fault;
use tidegate_protocol::calls::executor::Sharing;
use tidegate_protocol::ids::PoolName;

/// What the pattern offers.
pub const MANIFEST: Manifest = Manifest {
    pattern: "pull",
    description: "Actions that workers elsewhere run, which ask for their jobs.",
    operations: &[Operation {
        name: "handle",
        description: "Leaves the job to a worker of the pool.",
        modes: Modes::ASYNC,
        default_mode: Mode::Async,
        runs_in_hub: false,
        runs: Runs::Pull,
        sharing: Sharing::Alone,
        check_settings: takes_no_settings,
    }],
    check_config,
};
const _: () = assert!(MANIFEST.is_sound());

/// The pool, where it is another than the instance's name says.
fn check_config(config: &Value, pointer: &str, faults: &mut Vec<Fault>) {
    if let Some(mut object) = Object::read(config, pointer, faults) {
        object.text("pool", PoolName::EXPECTED, PoolName::parse);
        object.finish();
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    use serde_json::json;
    use tidegate_engine::composition::compile;
    use tidegate_protocol::Fault;
    use tidegate_protocol::calls::executor::Dispatch;
    use tidegate_protocol::ids::ActionName;

    const EXAMPLE: &str = include_str!("../../../../examples/compositions/workers.json");
    const HOW_TO: &str = include_str!("../../../../docs/how-to/run-work-in-your-own-processes.md");
    const SCHEMA: &str = include_str!("../../../../docs/reference/composition.schema.json");

    fn pool(config: &serde_json::Value, action: &serde_json::Value) -> Result<String, Vec<Fault>> {
        let text = json!({
            "tidegate": 1,
            "patterns": { "gpu": { "use": "pull", "config": config } },
            "actions": { "train": action },
        });
        let schema = jsonschema::draft202012::new(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
        let compiled = compile(&format!("{text}"), crate::MANIFESTS);
        assert!(
            schema.is_valid(&text) || compiled.is_err(),
            "compiles, but the schema refuses {text}"
        );
        let plan = compiled.map_err(|error| error.details)?;
        let action = plan.action(&ActionName::parse("train").unwrap()).unwrap();
        assert_eq!(action.policy.dispatch, Dispatch::Direct);
        Ok(format!("{}", action.policy.pool.as_ref().expect("a pool")))
    }

    #[test]
    fn the_pool_is_the_configured_one_or_the_instances_name() {
        let action = json!({ "run": "gpu.handle" });
        assert_eq!(pool(&json!({}), &action).as_deref(), Ok("gpu"));
        assert_eq!(
            pool(&json!({ "pool": "large-gpu" }), &action).as_deref(),
            Ok("large-gpu")
        );
    }

    #[test]
    fn what_a_pool_cannot_be_is_a_fault() {
        for (config, action, pointer) in [
            (
                json!({ "pool": "A" }),
                json!({ "run": "gpu.handle" }),
                "/patterns/gpu/config/pool",
            ),
            (
                json!({ "pools": "a" }),
                json!({ "run": "gpu.handle" }),
                "/patterns/gpu/config/pools",
            ),
            (
                json!({}),
                json!({ "run": "gpu.handle", "mode": "sync" }),
                "/actions/train/mode",
            ),
            (
                json!({}),
                json!({ "run": "gpu.handle", "mode": "auto" }),
                "/actions/train/mode",
            ),
            (
                json!({}),
                json!({ "run": "gpu.handle", "dispatch": "queue" }),
                "/actions/train/dispatch",
            ),
            (
                json!({}),
                json!({ "run": "gpu.handle", "with": { "a": 1 } }),
                "/actions/train/with/a",
            ),
        ] {
            let faults = pool(&config, &action).expect_err("a fault");
            let found: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
            assert_eq!(found, [pointer], "{config} {action}");
        }
    }

    #[test]
    fn the_examples_are_right() {
        compile(EXAMPLE, crate::MANIFESTS).unwrap();
        let shown = HOW_TO
            .split("```json\n")
            .nth(1)
            .and_then(|block| block.split("```").next());
        compile(shown.expect("a composition"), crate::MANIFESTS).unwrap();
    }
}
