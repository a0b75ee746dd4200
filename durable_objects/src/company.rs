//! Who shares this isolate. Its objects and its one thread are those of every tenant that has come to it.

use std::cell::RefCell;

use tidegate_engine::company::{Company, Tenants};
use tidegate_protocol::ids::TenantId;
use tidegate_protocol::time::UnixMs;

thread_local! {
    static TENANTS: RefCell<Tenants> = const { RefCell::new(Tenants::new()) };
}

/// `tenant` is active here: has it company?
pub fn company(tenant: &TenantId, now: UnixMs) -> Company {
    TENANTS.with_borrow_mut(|tenants| tenants.active(tenant, now))
}
