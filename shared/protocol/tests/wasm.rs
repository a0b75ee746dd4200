//! In wasm, where `usize` has 32 bits: what crosses a boundary arrives as it was sent, as it does natively (`boundary.rs`).

#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod checks;
mod samples;

use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen_test]
fn every_call_and_reply_survives_its_envelope() {
    checks::every_call_and_reply_survives_its_envelope();
}

#[wasm_bindgen_test]
fn every_call_is_taken_by_an_object_of_its_own_tenant_alone() {
    checks::every_call_is_taken_by_an_object_of_its_own_tenant_alone();
}

#[wasm_bindgen_test]
fn a_number_is_written_as_the_standard_says() {
    checks::a_number_is_written_as_the_standard_says();
}

#[wasm_bindgen_test]
fn an_envelope_that_is_not_ours_is_refused() {
    checks::an_envelope_that_is_not_ours_is_refused();
}

#[wasm_bindgen_test]
fn ids_take_their_own_form_and_survive_their_text() {
    checks::ids_take_their_own_form_and_survive_their_text();
}

#[wasm_bindgen_test]
fn moments_and_durations_survive_their_text() {
    checks::moments_and_durations_survive_their_text();
}

#[wasm_bindgen_test]
fn a_frame_at_its_limit_is_read_and_one_beyond_is_not() {
    checks::a_frame_at_its_limit_is_read_and_one_beyond_is_not();
}
