//! Calls between the parts, and the attachments of sleeping sockets.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_cbor::{Decode, Encode, Reader};
use tidegate_engine::hub::Session;
use tidegate_protocol::calls::executor::Assignment;
use tidegate_protocol::calls::{Addressed, Answered, backup, channel, directory, hub, jobs, tenant};
use tidegate_protocol::envelope::{decode, encode};

/// What can be read can be written, and reads as the same again. Bytes are compared: a percentage may be no number.
fn read<T: Encode + Decode>(bytes: &[u8]) {
    if let Ok(value) = decode::<T>(bytes) {
        let written = encode(&value);
        let again = decode::<T>(&written).expect("what was written");
        assert_eq!(encode(&again), written);
    }
}

/// What is no field of ours is passed over, to its end and no further.
fn passed_over(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    reader.skip();
    let read = !reader.failed();
    assert!(read || reader.is_at_end(), "behind a fault nothing is read");
}

fuzz_target!(|bytes: &[u8]| {
    read::<Addressed<jobs::Call>>(bytes);
    read::<Addressed<jobs::Batch>>(bytes);
    read::<Addressed<hub::Call>>(bytes);
    read::<Addressed<tenant::Call>>(bytes);
    read::<Answered<jobs::Reply>>(bytes);
    read::<Answered<hub::Reply>>(bytes);
    read::<Answered<tenant::Reply>>(bytes);
    read::<Addressed<backup::Call>>(bytes);
    read::<directory::Call>(bytes);
    read::<Answered<backup::Reply>>(bytes);
    read::<Answered<directory::Reply>>(bytes);
    read::<Addressed<channel::Batch>>(bytes);
    read::<channel::Replies>(bytes);
    read::<Assignment>(bytes);
    passed_over(bytes);
    let _ = Session::from_attachment(bytes);
});
