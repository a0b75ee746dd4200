//! Secrets of a tenant on their way between the Worker, which alone can open them, and the gate, which keeps them.

use alloc::string::String;

use tidegate_cbor::{Decode, Encode};

use crate::ids::SecretName;

/// One version of a secret, encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Sealed {
    /// The secret.
    pub name: SecretName,
    /// Which of its values, from 1 up.
    pub version: u64,
    /// The value, encrypted for this tenant, name and version alone.
    pub text: String,
}
