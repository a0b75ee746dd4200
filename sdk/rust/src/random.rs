//! Randomness from the operating system.

use tidegate_protocol::ids::base32;

use crate::error::Error;

/// 64 uniform bits.
///
/// Errors: [`Error::Io`] where the system gives none.
pub fn roll() -> Result<u64, Error> {
    getrandom::u64().map_err(|error| Error::from(std::io::Error::from(error)))
}

/// A name that no one else gives: `prefix` and 120 bits.
///
/// Errors: as [`roll`].
pub fn name(prefix: &str) -> Result<String, Error> {
    Ok(format!("{prefix}{}{}", base32(roll()?, 12), base32(roll()?, 12)))
}
