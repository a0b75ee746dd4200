//! The classes of wrangler.toml and those that the bundle exports have to be the same.
//!
//! Nothing else notices: an object's crate that the Worker's crate does not name is left out by the linker, the build
//! succeeds, and each call to the class fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Classes that the crate `worker` itself exports; none of them is an object.
const WORKER_CLASSES: &[&str] = &["ContainerStartupOptions", "MinifyConfig", "PolishConfig", "R2Range"];

/// Compares `wrangler.toml` of `root` with the bundle in `directory`. Errors: what is in one and not in the other.
pub fn check(root: &Path, directory: &Path) -> Result<()> {
    let config = fs::read_to_string(root.join("wrangler.toml")).context("cannot read wrangler.toml")?;
    let script = directory.join("index.js");
    let script = fs::read_to_string(&script).with_context(|| format!("cannot read {}", script.display()))?;
    compare(&configured(&config)?, &exported(&script)?)
}

fn compare(configured: &BTreeSet<String>, exported: &BTreeSet<String>) -> Result<()> {
    let list = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let missing: Vec<_> = configured.difference(exported).collect();
    if !missing.is_empty() {
        bail!(
            "the bundle does not export {}, which wrangler.toml binds; does src/lib.rs re-export the crate of the objects \
             (`pub use tidegate_durable_objects::*;`), and does the struct carry #[durable_object]?",
            list(missing)
        );
    }
    let unbound: Vec<_> = exported.difference(configured).collect();
    if !unbound.is_empty() {
        bail!(
            "the bundle exports {}, which wrangler.toml does not bind; add a binding and a migration (new_sqlite_classes)",
            list(unbound)
        );
    }
    Ok(())
}

/// The classes of the bindings, all of which a migration has to create.
fn configured(config: &str) -> Result<BTreeSet<String>> {
    let config: toml::Table = config.parse().context("wrangler.toml is no valid TOML")?;
    let strings = |value: Option<&toml::Value>| -> Vec<String> {
        let items = value.and_then(toml::Value::as_array).into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let bindings = config
        .get("durable_objects")
        .and_then(|objects| objects.get("bindings"));
    let bindings = bindings.and_then(toml::Value::as_array).into_iter().flatten();
    let bound: BTreeSet<_> = bindings
        .filter_map(|binding| binding.get("class_name")?.as_str().map(str::to_owned))
        .collect();
    let migrations = config
        .get("migrations")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten();
    let created: BTreeSet<_> = migrations
        .flat_map(|migration| strings(migration.get("new_sqlite_classes")))
        .collect();
    if let Some(class) = bound.difference(&created).next() {
        bail!("wrangler.toml binds {class} and has no migration with it in new_sqlite_classes");
    }
    Ok(bound)
}

/// The names of the bundle's `export { … }`, without the Worker itself and the classes of `worker`.
fn exported(script: &str) -> Result<BTreeSet<String>> {
    let start = script
        .rfind("export{")
        .or_else(|| script.rfind("export {"))
        .context("the bundle exports nothing")?;
    let list = script
        .get(start..)
        .and_then(|rest| rest.split_once('{')?.1.split_once('}'))
        .map(|(list, _)| list);
    let names = list
        .context("the bundle's list of exports does not end")?
        .split(',')
        .filter_map(|item| {
            let name = item.trim().rsplit(' ').next()?;
            (!name.is_empty() && name != "default" && !WORKER_CLASSES.contains(&name)).then(|| name.to_owned())
        });
    Ok(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        [[durable_objects.bindings]]
        name = "HUB"
        class_name = "Hub"
        [[migrations]]
        tag = "v1"
        new_sqlite_classes = ["Hub"]
    "#;

    fn check_with(script: &str) -> Result<()> {
        compare(&configured(CONFIG).unwrap(), &exported(script).unwrap())
    }

    #[test]
    fn the_same_classes_pass_in_minified_and_in_plain_bundles() {
        check_with("export{a as MinifyConfig,b as Hub,c as default}").unwrap();
        check_with("export {\n  R2Range,\n  Hub,\n  worker as default\n};\n").unwrap();
    }

    #[test]
    fn a_class_that_the_bundle_lacks_is_named() {
        assert!(
            check_with("export{c as default}")
                .unwrap_err()
                .to_string()
                .contains("does not export Hub")
        );
    }

    #[test]
    fn a_class_that_nothing_binds_is_named() {
        let error = check_with("export{b as Hub,d as Channel,c as default}").unwrap_err();
        assert!(error.to_string().contains("exports Channel"));
    }

    #[test]
    fn a_bound_class_without_a_migration_is_named() {
        let error = configured(&CONFIG.replace("[\"Hub\"]", "[]")).unwrap_err();
        assert!(error.to_string().contains("no migration"));
    }
}
