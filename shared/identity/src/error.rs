//! Why a caller was not recognized: one stable reason each, with a sentence that repeats nothing of the input.

use core::fmt;

/// A refused token, ticket or key. It holds the reason alone, so that it cannot carry a secret into a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdentityError {
    /// Why.
    pub reason: Reason,
}

impl IdentityError {
    /// The code that the client is answered with: `UNAUTHORIZED`, but for what is the deployment's own fault.
    pub const fn code(self) -> &'static str {
        self.reason.code()
    }

    /// A sentence for people.
    pub const fn message(self) -> &'static str {
        self.reason.message()
    }
}

impl From<Reason> for IdentityError {
    fn from(reason: Reason) -> Self {
        Self { reason }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for IdentityError {}

/// Builds the enum and its two tables from one list, so that no reason can lack a name or a sentence.
macro_rules! reasons {
    ($($variant:ident = $name:literal, $code:literal, $message:literal;)+) => {
        /// Why a token, ticket or key was refused. The names are stable: logs and metrics may count them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason { $(#[doc = $message] $variant,)+ }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name, in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The code of the error that the client sees.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// A sentence for people; it repeats nothing of the input.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)+ }
            }
        }
    };
}

reasons! {
    TokenTooLarge = "token_too_large", "UNAUTHORIZED", "The token is larger than 8 KiB.";
    TokenMalformed = "token_malformed", "UNAUTHORIZED", "The token is not three base64url parts joined by dots.";
    TokenEncrypted = "token_encrypted", "UNAUTHORIZED", "Encrypted tokens are not accepted.";
    HeaderMalformed = "header_malformed", "UNAUTHORIZED", "The token's header is not a plain JSON object of the right types.";
    HeaderCritical = "header_critical", "UNAUTHORIZED", "The token demands header extensions that are not understood.";
    TypeUnexpected = "type_unexpected", "UNAUTHORIZED", "The token is of another type than an access token.";
    AlgorithmNone = "algorithm_none", "UNAUTHORIZED", "Unsigned tokens are not accepted.";
    AlgorithmUnsupported = "algorithm_unsupported", "UNAUTHORIZED", "The token's algorithm is not one of HS256, RS256, ES256 and EdDSA.";
    AlgorithmNotAllowed = "algorithm_not_allowed", "UNAUTHORIZED", "The token's algorithm is not allowed for this issuer or this key.";
    KeyNotFound = "key_not_found", "UNAUTHORIZED", "The token was signed with a key that this issuer does not have.";
    KeyAmbiguous = "key_ambiguous", "UNAUTHORIZED", "The token does not say which of the issuer's keys signed it.";
    KeysUnavailable = "keys_unavailable", "UNAVAILABLE", "The issuer's keys could not be read at this moment.";
    SignatureInvalid = "signature_invalid", "UNAUTHORIZED", "The token's signature is not valid.";
    ClaimsMalformed = "claims_malformed", "UNAUTHORIZED", "The token's claims are not a plain JSON object of the right types.";
    IssuerMissing = "issuer_missing", "UNAUTHORIZED", "The token does not name its issuer.";
    IssuerUnknown = "issuer_unknown", "UNAUTHORIZED", "The token's issuer is not trusted here.";
    AudienceMissing = "audience_missing", "UNAUTHORIZED", "The token does not name its audience.";
    AudienceWrong = "audience_wrong", "UNAUTHORIZED", "The token is meant for another audience.";
    ExpiryMissing = "expiry_missing", "UNAUTHORIZED", "The token has no time of expiry.";
    Expired = "expired", "UNAUTHORIZED", "The token has expired.";
    NotYetValid = "not_yet_valid", "UNAUTHORIZED", "The token is not valid yet.";
    IssuedInFuture = "issued_in_future", "UNAUTHORIZED", "The token was issued in the future.";
    SubjectMissing = "subject_missing", "UNAUTHORIZED", "The token does not name its user.";
    SubjectInvalid = "subject_invalid", "UNAUTHORIZED", "The token's user is not 1 to 128 characters without control characters.";
    ScopeInvalid = "scope_invalid", "UNAUTHORIZED", "The token's scopes are not a list of at most 128 scope names.";
    TenantMissing = "tenant_missing", "UNAUTHORIZED", "The token does not name its tenant.";
    TenantInvalid = "tenant_invalid", "UNAUTHORIZED", "The token's tenant is not a tenant id.";
    DeploymentKeyMalformed = "deployment_key_malformed", "INTERNAL_ERROR", "The deployment key is neither base64 nor hexadecimal text.";
    DeploymentKeyShort = "deployment_key_short", "INTERNAL_ERROR", "The deployment key is shorter than 32 bytes.";
    TicketMalformed = "ticket_malformed", "UNAUTHORIZED", "The ticket is not one of this deployment's.";
    TicketForged = "ticket_forged", "UNAUTHORIZED", "The ticket was not made by this deployment.";
    ApiKeyMalformed = "api_key_malformed", "UNAUTHORIZED", "The API key is not one that this deployment has issued: look for a mistake in it.";
    TicketExpired = "ticket_expired", "UNAUTHORIZED", "The ticket has expired.";
    TicketTooLong = "ticket_too_long", "UNAUTHORIZED", "The ticket would be good for more than 30 seconds, or longer than its token.";
    TicketTooLarge = "ticket_too_large", "UNAUTHORIZED", "The ticket would hold more than a ticket can.";
    InternalForged = "internal_forged", "UNAUTHORIZED", "The call does not come from this deployment.";
    AttemptTokenMalformed = "attempt_token_malformed", "UNAUTHORIZED", "The attempt token is not one of this deployment's.";
    AttemptTokenForged = "attempt_token_forged", "UNAUTHORIZED", "The attempt token was not made by this deployment.";
    AttemptTokenExpired = "attempt_token_expired", "UNAUTHORIZED", "The attempt token has expired.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn every_reason_has_its_own_name_and_sentence() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        let sentences: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.message()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert_eq!(sentences.len(), Reason::ALL.len());
    }
}
