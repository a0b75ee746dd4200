//! Bodies about the tenants of a deployment.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::fields::Fields;
use crate::ids::{RequestId, TenantId, UserId};
use crate::time::UnixMs;

/// Characters of the name of a template.
const TEMPLATE_CHARS_MAX: usize = 48;

/// The body of `POST /v1/admin/tenants`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTenant {
    /// The tenant, its jurisdiction included.
    pub tenant: TenantId,
    /// The template that its first composition comes from.
    pub template: Option<String>,
}

impl NewTenant {
    /// Reads the body.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut fields = Fields::split(text)?;
        fields.refuse_others(&["tenant", "jurisdiction", "template"]);
        let named = fields.required_text("tenant", TenantId::EXPECTED, TenantId::parse);
        let jurisdiction = fields.optional_text("jurisdiction", "`eu` or `fedramp`", |text| {
            matches!(text, "eu" | "fedramp").then(|| text.to_owned())
        });
        let template = fields.optional_text("template", "the name of a template: 1 to 48 characters", |text| {
            (1..=TEMPLATE_CHARS_MAX)
                .contains(&text.chars().count())
                .then(|| text.to_owned())
        });
        let mut tenant = named;
        if let (Some(id), Some(jurisdiction)) = (&tenant, &jurisdiction) {
            match id.jurisdiction() {
                None => tenant = TenantId::parse(&format!("{jurisdiction}.{id}")),
                Some(own) if own == jurisdiction => {}
                Some(own) => {
                    let expected = format!("`{own}`, as the id says, or nothing");
                    fields.fault("jurisdiction", expected, jurisdiction);
                }
            }
        }
        fields.finish("The tenant cannot be created.")?;
        let tenant = tenant.ok_or_else(Error::not_found)?;
        Ok(Self { tenant, template })
    }
}

/// Reads the body of `DELETE /v1/admin/tenants/{tenant}`, which has to repeat the tenant's id. Gives whether the tenant's
/// backups stay.
///
/// Errors: `VALIDATION_ERROR` with every fault.
pub fn parse_confirmation(text: &str, tenant: &TenantId) -> Result<bool, Error> {
    let mut fields = Fields::split(text)?;
    fields.refuse_others(&["confirm", "keep_backups"]);
    let keeps = fields.optional::<bool>("keep_backups", "true or false");
    fields.required_text("confirm", "the id of the tenant, once more", |text| {
        (text == tenant.as_str()).then_some(())
    });
    fields.finish("What cannot be undone has to be confirmed.")?;
    Ok(keeps.unwrap_or(false))
}

/// How a tenant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TenantState {
    /// Entered, and its first composition is on its way: to create it again goes on with that.
    Creating,
    /// Everyone with a good credential comes in.
    Active,
    /// Nobody comes in.
    Suspended,
    /// It is being erased, and nobody comes in.
    Erasing,
    /// Nothing is left of it but this entry, and its backups where they were kept, and nobody comes in.
    Erased,
    /// It is being restored from a backup, and nobody comes in.
    Restoring,
}

impl TenantState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Creating,
        Self::Active,
        Self::Suspended,
        Self::Erasing,
        Self::Erased,
        Self::Restoring,
    ];

    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Erasing => "erasing",
            Self::Erased => "erased",
            Self::Restoring => "restoring",
        }
    }

    /// Reads what the API writes.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A tenant, as an operator of the deployment sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TenantView {
    /// The tenant.
    pub tenant: TenantId,
    /// How it stands.
    pub state: TenantState,
    /// When it was created, or the directory first heard of it.
    pub created_at: UnixMs,
    /// When its state changed last.
    pub changed_at: UnixMs,
    /// Since when it is suspended; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<UnixMs>,
    /// The template that its first composition came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The jurisdiction that its id names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
    /// Whether the platform keeps its objects there: workerd on one's own machine knows no jurisdictions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction_enforced: Option<bool>,
    /// Its latest erasure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erasure: Option<ErasureView>,
    /// Who created and erased it, the newest first. Not in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acts: Vec<TenantAct>,
}

/// What was erased of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErasureView {
    /// When it was asked for.
    pub asked_at: UnixMs,
    /// Objects of the platform that held anything: the gate, hubs, and shards of the job queue.
    pub objects: u64,
    /// Rows in them.
    pub rows: u64,
    /// Entries of the key-value store.
    pub keys: u64,
    /// Things in object storage: the tenant's own, payloads, results, checkpoints, the archived audit trail.
    pub stored_objects: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// How often all of it was gone through.
    pub passes: u64,
    /// When a pass through all of it found nothing; absent: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<UnixMs>,
    /// Whether the tenant's backups were left where they are. Otherwise they are among the things in object storage.
    pub backups_kept: bool,
}

/// Something done to a tenant by an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TenantAct {
    /// When.
    pub at: UnixMs,
    /// `created`, `erased`, `backed_up`, `restored` or `recovered`.
    pub what: String,
    /// By whom.
    pub by: UserId,
    /// By which request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
}

/// A page of the tenants of a deployment, by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TenantPage {
    /// The tenants.
    pub tenants: Vec<TenantView>,
    /// Where the next page begins; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jurisdiction_becomes_part_of_the_id() {
        for (body, id) in [
            (r#"{"tenant":"acme"}"#, "acme"),
            (r#"{"tenant":"acme","jurisdiction":"eu"}"#, "eu.acme"),
            (r#"{"tenant":"eu.acme"}"#, "eu.acme"),
            (r#"{"tenant":"eu.acme","jurisdiction":"eu"}"#, "eu.acme"),
            (
                r#"{"tenant":"acme","jurisdiction":"fedramp","template":"pro"}"#,
                "fedramp.acme",
            ),
        ] {
            assert_eq!(NewTenant::parse(body).unwrap().tenant.as_str(), id, "{body}");
        }
    }

    #[test]
    fn a_tenant_that_cannot_be_created_is_told_of_all_its_faults() {
        for (body, faults) in [
            ("{}", 1),
            (r#"{"tenant":"Acme","jurisdiction":"us","template":"","more":1}"#, 4),
            (r#"{"tenant":"eu.acme","jurisdiction":"fedramp"}"#, 1),
            (r#"{"tenant":"a:b"}"#, 1),
        ] {
            assert_eq!(NewTenant::parse(body).unwrap_err().details.len(), faults, "{body}");
        }
    }

    #[test]
    fn an_erasure_is_confirmed_by_the_very_id() {
        let tenant = TenantId::parse("acme").unwrap();
        assert_eq!(parse_confirmation(r#"{"confirm":"acme"}"#, &tenant), Ok(false));
        let kept = r#"{"confirm":"acme","keep_backups":true}"#;
        assert_eq!(parse_confirmation(kept, &tenant), Ok(true));
        for body in [
            "{}",
            r#"{"confirm":"acm"}"#,
            r#"{"confirm":true}"#,
            r#"{"confirm":"acme","x":1}"#,
            r#"{"confirm":"acme","keep_backups":"yes"}"#,
        ] {
            assert!(parse_confirmation(body, &tenant).is_err(), "{body}");
        }
    }

    #[test]
    fn a_state_is_read_as_it_is_written() {
        for state in TenantState::ALL {
            assert_eq!(TenantState::parse(state.as_str()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), serde_json::json!(state.as_str()));
        }
        assert_eq!(TenantState::parse("gone"), None);
    }
}
