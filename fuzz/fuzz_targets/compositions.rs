//! Composition documents, with the configuration and the settings of every pattern.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_engine::composition::compile;
use tidegate_patterns::MANIFESTS;

fuzz_target!(|text: &str| {
    match compile(text, MANIFESTS) {
        // A document is known by its content: the same text is the same plan.
        Ok(plan) => assert_eq!(compile(text, MANIFESTS).map(|again| again.revision), Ok(plan.revision)),
        Err(error) => assert!(!error.message.is_empty()),
    }
});
