//! Calls between the parts, and the attachments of sleeping sockets.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use tidegate_engine::hub::Session;
use tidegate_protocol::calls::executor::Assignment;
use tidegate_protocol::calls::{Addressed, Answered, hub, jobs, tenant};
use tidegate_protocol::envelope::{decode, encode};

/// What can be read can be written, and reads as the same again. Bytes are compared: a percentage may be no number.
fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(value) = decode::<T>(bytes) {
        let written = encode(&value).expect("what was read");
        let again = decode::<T>(&written).expect("what was written");
        assert_eq!(encode(&again).expect("what was read again"), written);
    }
}

fuzz_target!(|bytes: &[u8]| {
    read::<Addressed<jobs::Call>>(bytes);
    read::<Addressed<jobs::Batch>>(bytes);
    read::<Addressed<hub::Call>>(bytes);
    read::<Addressed<tenant::Call>>(bytes);
    read::<Answered<jobs::Reply>>(bytes);
    read::<Answered<hub::Reply>>(bytes);
    read::<Answered<tenant::Reply>>(bytes);
    read::<Assignment>(bytes);
    let _ = Session::from_attachment(bytes);
});
