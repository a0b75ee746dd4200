//! Bodies about taking a tenant back to a time.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;

use crate::Error;
use crate::fields::Fields;
use crate::ids::TenantId;
use crate::time::UnixMs;

/// Reads the body of `POST /v1/admin/tenants/{tenant}/recovery`: the time.
///
/// Errors: `VALIDATION_ERROR` with every fault. Whether the time can be gone back to is for the directory to say.
pub fn parse_recovery(text: &str) -> Result<UnixMs, Error> {
    let mut fields = Fields::split(text)?;
    fields.refuse_others(&["at"]);
    let at = fields.required_text("at", "the time to go back to, as RFC 3339 text", UnixMs::parse);
    fields.finish("The recovery cannot be understood.")?;
    Ok(at.unwrap_or_default())
}

/// A tenant that is back at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RecoveryView {
    /// The tenant.
    pub tenant: TenantId,
    /// The time.
    pub at: UnixMs,
    /// Its objects, the gate first.
    pub objects: Vec<RecoveredObject>,
}

/// An object that is back at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RecoveredObject {
    /// Its name.
    pub object: String,
    /// The platform's bookmark of the time.
    pub bookmark: String,
    /// The platform's bookmark of what the object was before: what undoes it.
    pub undo: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn the_time_is_required_and_nothing_else_is_known() {
        let at = parse_recovery(r#"{"at":"2026-11-21T07:00:00+01:00"}"#).unwrap();
        assert_eq!(at.to_string(), "2026-11-21T06:00:00.000Z");
        for (body, pointers) in [
            ("{}", &["/at"][..]),
            (r#"{"at":"yesterday","when":1}"#, &["/when", "/at"]),
            (r#"{"at":1732172400}"#, &["/at"]),
        ] {
            let error = parse_recovery(body).unwrap_err();
            let found: Vec<&str> = error.details.iter().map(|fault| fault.pointer.as_str()).collect();
            assert_eq!(found, pointers, "{body}");
        }
    }
}
