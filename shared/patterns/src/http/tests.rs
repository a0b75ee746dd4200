//! Hostile upstreams, payloads and answers, by tables; and the published schema of the pattern's configuration.

extern crate std;

mod agreement;
mod answers;
mod calls;
mod reliability;
mod requests;
mod secrets;
mod upstreams;

use alloc::string::ToString;
use alloc::vec::Vec;

use serde_json::{Value, json};
use tidegate_protocol::Fault;

use super::{Config, Settings};

/// A configuration with one upstream, `main`.
fn config(upstream: &Value) -> (Config, Vec<Fault>) {
    let mut faults = Vec::new();
    let config = Config::read(&json!({"upstreams": {"main": upstream}}), "", &mut faults);
    (config, faults)
}

fn good_config() -> Config {
    let (config, faults) = config(&json!({
        "base_url": "https://api.example.com/v1",
        "headers": {"Authorization": "Bearer secret", "x-a": "b"},
    }));
    assert_eq!(faults, []);
    config
}

fn settings(settings: &Value) -> (Option<Settings>, Vec<Fault>) {
    let mut faults = Vec::new();
    let settings = Settings::read(settings, &good_config(), "", &mut faults);
    (settings, faults)
}

/// Exactly these faults, as `pointer | words of what is expected | suggestion`.
fn check(found: &[Fault], expected: &[&str], input: &Value) {
    assert_eq!(found.len(), expected.len(), "{input}\n{found:#?}");
    for wanted in expected {
        let mut parts = wanted.split(" | ");
        let (pointer, words, suggestion) = (parts.next().unwrap(), parts.next().unwrap(), parts.next());
        let met = |fault: &&Fault| {
            fault.pointer == pointer && fault.expected.contains(words) && fault.suggestion.as_deref() == suggestion
        };
        assert_eq!(found.iter().filter(met).count(), 1, "{wanted}\n{input}\n{found:#?}");
        assert!(
            found.iter().all(|fault| !fault.to_string().contains("secret")),
            "{found:#?}"
        );
    }
}
