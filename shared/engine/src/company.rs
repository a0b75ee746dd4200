//! Whether a tenant has the process to itself.
//!
//! Objects of many tenants share a process, its memory and its one thread. Whoever keeps that thread for long holds up the
//! others, if there are any.

use tidegate_protocol::ids::TenantId;
use tidegate_protocol::time::UnixMs;

/// How long a tenant counts as there after it was last active. Milliseconds.
pub const THERE_MS: u64 = 1000;

/// Whether others can be held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// No other tenant has been active of late.
    Alone,
    /// Another one has.
    Others,
}

/// The tenants that have been active in a process of late: as many of them as tell any tenant whether there is another.
#[derive(Debug, Default)]
pub struct Tenants {
    /// The tenant that was active last.
    last: Option<(TenantId, UnixMs)>,
    /// The one that was before it, another one.
    before: Option<(TenantId, UnixMs)>,
}

impl Tenants {
    /// A process in which nobody has been active yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            last: None,
            before: None,
        }
    }

    /// `tenant` is active now: has it company?
    pub fn active(&mut self, tenant: &TenantId, now: UnixMs) -> Company {
        match &mut self.last {
            Some((last, at)) if last == tenant => *at = now,
            last => self.before = last.replace((tenant.clone(), now)),
        }
        match &self.before {
            Some((_, at)) if now.since(*at) <= THERE_MS => Company::Others,
            _ => Company::Alone,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use alloc::format;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn tenant(number: u8) -> TenantId {
        TenantId::parse(&format!("t-{number}")).expect("an id")
    }

    #[test]
    fn a_tenant_has_company_as_long_as_another_was_active_of_late() {
        let mut tenants = Tenants::new();
        let mut at = |number, ms| tenants.active(&tenant(number), UnixMs(ms));
        assert_eq!(at(1, 5_000), Company::Alone);
        assert_eq!(at(1, 5_001), Company::Alone);
        assert_eq!(at(2, 5_002), Company::Others);
        assert_eq!(at(1, 5_500), Company::Others);
        assert_eq!(at(1, 6_002), Company::Others);
        assert_eq!(at(1, 6_003), Company::Alone, "the other was last active a second ago");
        assert_eq!(at(2, 9_000), Company::Alone);
        assert_eq!(
            at(1, 4_000),
            Company::Others,
            "a clock that goes back makes nobody forgotten"
        );
    }

    proptest! {
        /// The two that are kept tell as much as the whole history does.
        #[test]
        fn two_tell_as_much_as_all(history in proptest::collection::vec((0..4u8, 0..900u64), 1..40)) {
            let (mut tenants, mut seen, mut now) = (Tenants::new(), Vec::new(), 10_000);
            for (number, later) in history {
                now += later;
                let others = seen.iter().any(|(other, at)| *other != number && now - at <= THERE_MS);
                seen.push((number, now));
                let company = tenants.active(&tenant(number), UnixMs(now));
                prop_assert_eq!(company == Company::Others, others);
            }
        }
    }
}
