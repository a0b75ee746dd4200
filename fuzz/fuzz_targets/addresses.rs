//! Where requests may go: hosts, base addresses, endpoints, and which endpoints a request may name.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_engine::outbound::{Allowed, BaseUrl, Host, Target, check_path};

fuzz_target!(|text: &str| {
    let _ = (Host::parse(text), BaseUrl::parse(text), check_path(text));
    if Target::parse(text).is_ok() {
        // It names itself, and no more than that.
        assert!(Allowed::parse(text).is_some() || text.ends_with('*'));
    }
    let _ = Allowed::parse(text);
});
