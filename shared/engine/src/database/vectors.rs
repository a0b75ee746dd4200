//! Blobs that version 0.1 wrote with `serde` and `minicbor-serde`. Rows outlive versions: they are read for ever.

use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};

use super::{from_blob, to_blob};

const ROWS: &str = include_str!("vectors/rows.txt");

/// Reads the blobs of this kind, and sees that they are written in the same bytes.
pub(crate) fn are_still_read<T: Encode + Decode>(kind: &str) {
    let mut checked = 0;
    for line in ROWS.lines() {
        let Some((_, hex)) = line
            .trim_start_matches('~')
            .split_once(' ')
            .filter(|(of, _)| *of == kind)
        else {
            continue;
        };
        let digits = hex.as_bytes().chunks(2);
        let pairs = digits.map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap());
        let old: Vec<u8> = pairs.collect();
        let read: T = from_blob(&old).unwrap_or_else(|fault| panic!("{kind} {hex}: {}", fault.message));
        assert!(
            line.starts_with('~') || to_blob(&read).unwrap() == old,
            "{kind} {hex} is written otherwise: something of it was passed over, or a field is new and always written. Leave \
             it out where it says nothing, or begin the line with ~"
        );
        for cut in 0..old.len() {
            assert!(
                from_blob::<T>(old.get(..cut).unwrap()).is_err(),
                "{kind} {hex} to {cut}"
            );
        }
        checked += 1;
    }
    assert!(checked > 0, "no blob of {kind}");
}

#[test]
fn rows_and_attachments_of_the_version_before_are_still_read() {
    use crate::hub::Session;
    use tidegate_protocol::calls::jobs::NewJob;
    use tidegate_protocol::calls::queueing::{Pause, PauseScope, Rule};
    use tidegate_protocol::calls::schedules::Schedule;
    use tidegate_protocol::event::{Event, Payload, Progress};
    use tidegate_protocol::ids::HubIndex;

    // The attachment of a socket outlives the version that wrote it as a row does.
    are_still_read::<Session>("hub::Session");
    are_still_read::<NewJob>("jobs::NewJob");
    are_still_read::<Pause>("queueing::Pause");
    are_still_read::<PauseScope>("queueing::PauseScope");
    are_still_read::<Rule>("queueing::Rule");
    are_still_read::<Schedule>("schedules::Schedule");
    are_still_read::<Vec<Schedule>>("Vec<schedules::Schedule>");
    are_still_read::<Event>("event::Event");
    are_still_read::<Vec<Event>>("Vec<event::Event>");
    are_still_read::<Payload>("event::Payload");
    are_still_read::<Progress>("event::Progress");
    are_still_read::<Vec<HubIndex>>("Vec<ids::HubIndex>");
    are_still_read::<Vec<u64>>("Vec<u64>");
    are_still_read::<Vec<[u64; 6]>>("Vec<[u64;6]>");
    are_still_read::<Vec<(alloc::string::String, alloc::string::String, Vec<u64>)>>("Vec<(String,String,Vec<u64>)>");
}
