//! How a deployment recognizes the calls it makes to itself.
//!
//! A service binding to the own script comes in where calls from outside come in too. The tag is constant for a
//! deployment key; it is derived for this purpose alone, and says nothing about the key.

use alloc::string::String;
use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use subtle::ConstantTimeEq;

use crate::deployment_key::DeploymentKey;

const PURPOSE: &str = "executor v1";

/// What a call to the executor carries. Its `Debug` form does not show it.
#[derive(Clone)]
pub struct ExecutorTag(String);

/// The tag of the deployment with this key.
pub fn executor_tag(key: &DeploymentKey) -> ExecutorTag {
    ExecutorTag(URL_SAFE_NO_PAD.encode(key.derive(PURPOSE).finalize().into_bytes()))
}

impl ExecutorTag {
    /// The tag as a header's value. It is a secret: not for logs.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a call carries this tag. The time it takes says nothing about where a wrong tag differs.
    pub fn matches(&self, presented: &str) -> bool {
        self.0.as_bytes().ct_eq(presented.as_bytes()).into()
    }
}

impl fmt::Debug for ExecutorTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExecutorTag(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_tag_matches() {
        let tag = |digit: &str| executor_tag(&DeploymentKey::parse(&digit.repeat(64)).unwrap());
        let own = tag("1");
        assert!(own.matches(tag("1").as_str()));
        assert!(!own.matches(tag("2").as_str()));
        for wrong in [
            "",
            "x",
            own.as_str().split_at(1).1,
            &own.as_str().to_uppercase(),
            &alloc::format!("{} ", own.as_str()),
        ] {
            assert!(!own.matches(wrong), "{wrong}");
        }
        assert!(!alloc::format!("{own:?}").contains(own.as_str()));
    }
}
