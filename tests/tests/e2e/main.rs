//! End to end: every promise of the protocol that this version makes, kept by the built bundle on real workerd.
//!
//! One binary, so that it links once and its tests share one server. Each test has a tenant of its own.

mod access;
mod address_limits;
mod audit;
mod auth;
mod away;
mod backups;
mod bad_input;
mod batch_handles;
mod batches;
mod changes;
mod channel_commands;
mod channels;
mod dead_letters;
mod deployment_limits;
mod doorbells;
mod endpoints;
mod faults;
mod flows;
mod forgery;
mod grow;
mod health;
mod history;
mod idempotent_routes;
mod isolation;
mod issuer_keys;
mod keys;
mod kill;
mod large_report;
mod limits_of_time;
mod linearizable;
mod matrix;
mod misbehaving;
mod noisy_neighbour;
mod objects;
mod once;
mod operations;
mod origins;
mod panics;
mod policies;
mod presence;
mod queue;
mod recovery;
mod report;
mod request_limits;
mod request_log;
mod schedules;
mod secrets;
mod shared_limits;
mod socket_workers;
mod spill;
mod tenant_directory;
mod tenants;
mod upstreams;
mod usage;
mod versions;
mod webhook_endpoints;
mod webhooks_in;
mod worker_examples;
mod workers;

/// Makes three tests of each flow: undisturbed, with the tenant's objects evicted between its steps, and with the whole
/// server killed and started again on the same state between its steps.
macro_rules! three_ways {
    ($($name:ident($flow:path);)*) => {$(
        mod $name {
            use tidegate_tests::stage::Between;

            #[test]
            fn undisturbed() {
                $flow(Between::Nothing);
            }

            #[test]
            fn with_the_objects_evicted_between_its_steps() {
                $flow(Between::Eviction);
            }

            #[test]
            fn with_the_server_killed_between_its_steps() {
                $flow(Between::Kill);
            }
        }
    )*};
}
pub(crate) use three_ways;
