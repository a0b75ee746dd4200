//! What version 0.1 wrote with `serde` and `minicbor-serde` is read, and written in the same bytes: parts of both versions
//! talk to each other while a deployment goes on.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::Error;
use tidegate_protocol::calls::directory::{self, Erased};
use tidegate_protocol::calls::executor::{Assignment, Outcome};
use tidegate_protocol::calls::{Addressed, Answered, backup, hub, jobs, tenant};

const VECTORS: &str = include_str!("vectors/calls.txt");

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let pairs = digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16));
    pairs.collect::<Result<_, _>>().unwrap()
}

fn check<T: Encode + Decode>(line: usize, old: &[u8], same: bool) {
    let read = tidegate_cbor::from_slice::<T>(old).unwrap_or_else(|fault| panic!("line {line} is not read: {fault}"));
    let written = tidegate_cbor::to_vec(&read);
    assert!(
        !same || written == old,
        "line {line} is written otherwise: something of it was passed over, or a field is new and always written. Leave it \
         out where it says nothing, or begin the line with ~"
    );
    let again = tidegate_cbor::from_slice::<T>(&written).unwrap();
    assert_eq!(tidegate_cbor::to_vec(&again), written, "line {line}");
    // Cut short, and with something behind it, it is refused.
    for cut in 0..old.len() {
        assert!(
            tidegate_cbor::from_slice::<T>(old.get(..cut).unwrap()).is_err(),
            "line {line}"
        );
    }
    assert!(
        tidegate_cbor::from_slice::<T>(&[old, &[0]].concat()).is_err(),
        "line {line}"
    );
}

#[test]
fn what_the_version_before_wrote_is_read_and_written_alike() {
    let mut checked = 0;
    for (index, line) in VECTORS.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let (line_number, same) = (index + 1, !line.starts_with('~'));
        let (kind, hex) = line.trim_start_matches('~').split_once(' ').unwrap();
        let old = bytes(hex);
        let check = match kind {
            "Addressed<()>" => check::<Addressed<()>>,
            "Addressed<backup::Call>" => check::<Addressed<backup::Call>>,
            "Addressed<hub::Call>" => check::<Addressed<hub::Call>>,
            "Addressed<jobs::Call>" => check::<Addressed<jobs::Call>>,
            "Addressed<tenant::Call>" => check::<Addressed<tenant::Call>>,
            "Answered<Outcome>" => check::<Answered<Outcome>>,
            "Answered<backup::Reply>" => check::<Answered<backup::Reply>>,
            "Answered<directory::Erased>" => check::<Answered<Erased>>,
            "Answered<directory::Reply>" => check::<Answered<directory::Reply>>,
            "Answered<hub::Reply>" => check::<Answered<hub::Reply>>,
            "Answered<jobs::Reply>" => check::<Answered<jobs::Reply>>,
            "Answered<tenant::Reply>" => check::<Answered<tenant::Reply>>,
            "Error" => check::<Error>,
            "directory::Call" => check::<directory::Call>,
            "executor::Assignment" => check::<Assignment>,
            other => panic!("line {line_number} is of an unknown type {other}"),
        };
        check(line_number, &old, same);
        checked += 1;
    }
    assert!(checked > 200, "{checked} lines");
}
