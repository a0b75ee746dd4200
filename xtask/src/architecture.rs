//! Who may name whom. Arrows point inward: the shells know the engine, the engine knows the protocol, nobody knows a
//! shell. The table is the rule, and a test compares it with what the crates declare.

/// Each crate of the workspace, and the crates of the workspace that it may name outside of its tests.
pub const MAY_NAME: &[(&str, &[&str])] = &[
    ("tidegate-cbor-derive", &[]),
    ("tidegate-cbor", &["tidegate-cbor-derive"]),
    ("tidegate-protocol", &["tidegate-cbor"]),
    ("tidegate-identity", &[]),
    ("tidegate-engine", &["tidegate-cbor", "tidegate-protocol"]),
    ("tidegate-patterns", &["tidegate-engine", "tidegate-protocol"]),
    (
        "tidegate-durable-objects",
        &[
            "tidegate-cbor",
            "tidegate-engine",
            "tidegate-identity",
            "tidegate-patterns",
            "tidegate-protocol",
        ],
    ),
    (
        "tidegate",
        &[
            "tidegate-durable-objects",
            "tidegate-engine",
            "tidegate-identity",
            "tidegate-patterns",
            "tidegate-protocol",
        ],
    ),
    ("tidegate-simulation", &["tidegate-engine", "tidegate-protocol"]),
    ("tidegate-sdk", &["tidegate-protocol"]),
    (
        "tidegate-cli",
        &["tidegate-identity", "tidegate-protocol", "tidegate-sdk"],
    ),
    (
        "tidegate-bench",
        &[
            "tidegate-engine",
            "tidegate-identity",
            "tidegate-patterns",
            "tidegate-protocol",
        ],
    ),
    // The end-to-end tests speak the public protocol alone: no crate of ours may help them.
    ("tidegate-tests", &[]),
    ("xtask", &["tidegate-protocol"]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;

    use super::MAY_NAME;

    fn declared() -> BTreeMap<String, Vec<String>> {
        let metadata = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).expect("cargo writes JSON");
        let packages = metadata["packages"].as_array().expect("packages");
        let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
        packages
            .iter()
            .map(|package| {
                let dependencies = package["dependencies"].as_array().expect("dependencies");
                let named = dependencies
                    .iter()
                    .filter(|dependency| dependency["kind"] != "dev")
                    .filter_map(|dependency| dependency["name"].as_str())
                    .filter(|name| names.contains(name));
                let name = package["name"].as_str().expect("a name").to_owned();
                (name, named.map(str::to_owned).collect())
            })
            .collect()
    }

    #[test]
    fn no_crate_names_one_that_it_may_not() {
        for (name, dependencies) in declared() {
            let (_, allowed) = MAY_NAME
                .iter()
                .find(|(of, _)| *of == name)
                .unwrap_or_else(|| panic!("{name} is not in the table"));
            for dependency in dependencies {
                assert!(
                    allowed.contains(&dependency.as_str()),
                    "{name} may not name {dependency}"
                );
            }
        }
    }

    #[test]
    fn the_table_names_no_crate_that_is_gone() {
        let declared = declared();
        for (name, _) in MAY_NAME {
            assert!(declared.contains_key(*name), "{name} is not in the workspace");
        }
    }
}
