//! The bytes of calls and replies are those that `serde` and `minicbor-serde` write, which wrote them before.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "boundary.rs uses the rest")]
mod samples;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::calls::{Addressed, Answered};
use tidegate_protocol::{Error, ErrorCode};

use samples::*;

fn same<T: Serialize + DeserializeOwned + Encode + Decode + PartialEq + Debug>(values: &[T]) {
    for value in values {
        let short: String = format!("{value:?}").chars().take(300).collect();
        let (old, new) = (minicbor_serde::to_vec(value).unwrap(), tidegate_cbor::to_vec(value));
        assert!(
            old == new,
            "other bytes for {short}\n{}\n{}",
            old.iter().take(300).map(|b| format!("{b:02x}")).collect::<String>(),
            new.iter().take(300).map(|b| format!("{b:02x}")).collect::<String>()
        );
        assert!(
            tidegate_cbor::from_slice::<T>(&old).unwrap() == *value,
            "read as another: {short}"
        );
        assert!(
            minicbor_serde::from_slice::<T>(&new).unwrap() == *value,
            "read by serde as another: {short}"
        );
    }
}

fn addressed<C: Serialize + DeserializeOwned + Encode + Decode + PartialEq + Debug>(calls: Vec<C>) {
    same(
        &calls
            .into_iter()
            .map(|call| Addressed { tenant: tenant(), call })
            .collect::<Vec<_>>(),
    );
}

fn answered<C: Serialize + DeserializeOwned + Encode + Decode + PartialEq + Debug>(calls: Vec<C>) {
    same(&[Answered::<C>::Refused(error())]);
    same(&calls.into_iter().map(Answered::Reply).collect::<Vec<_>>());
}

#[test]
fn every_call_and_reply_has_the_bytes_that_serde_writes() {
    addressed(jobs_calls());
    addressed(vec![tidegate_protocol::calls::jobs::Batch { calls: jobs_calls() }]);
    addressed(hub_calls());
    addressed(tenant_calls());
    addressed(backup_calls());
    addressed(vec![()]);
    same(&directory_calls());
    answered(jobs_replies());
    answered(hub_replies());
    answered(tenant_replies());
    answered(directory_replies());
    answered(backup_replies());
    answered(erased());
    answered(outcomes());
    same(&assignments());
    same(
        &ErrorCode::ALL
            .iter()
            .map(|code| Error::new(*code, "m"))
            .collect::<Vec<_>>(),
    );
}
