//! The checks that run natively and in wasm alike.

use std::fmt::Debug;

use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::calls::executor::Outcome;
use tidegate_protocol::calls::jobs::Batch;
use tidegate_protocol::calls::{Addressed, Answered};
use tidegate_protocol::envelope::{VERSION, decode, encode};
use tidegate_protocol::frames::{ClientFrame, Start};
use tidegate_protocol::ids::{
    ActionName, ChannelName, HubIndex, JobId, JobNumber, ObjectName, Partition, RequestId, Seq, ShardIndex, TenantId,
};
use tidegate_protocol::limits::FRAME_BYTES_MAX;
use tidegate_protocol::time::{UnixMs, format_duration, parse_duration};
use tidegate_protocol::{Error, ErrorCode};

use super::samples::*;

fn survives<T: Encode + Decode + PartialEq + Debug>(value: &T) {
    let bytes = encode(value);
    let read: T = decode(&bytes).unwrap();
    // A value of a megabyte is not printed.
    if read != *value {
        let text: String = format!("{value:?}").chars().take(500).collect();
        panic!("changed on its way: {text}");
    }
    // Cut short anywhere near its end it is refused, not read as less.
    for short in 1..bytes.len().min(9) {
        let cut = bytes.get(..bytes.len() - short).unwrap();
        assert!(decode::<T>(cut).is_err(), "read without its last {short} bytes");
    }
}

fn addressed<C: Encode + Decode + PartialEq + Debug>(calls: Vec<C>) {
    for call in calls {
        survives(&Addressed { tenant: tenant(), call });
    }
}

fn answered<R: Encode + Decode + PartialEq + Debug>(replies: Vec<R>) {
    for reply in replies {
        survives(&Answered::Reply(reply));
    }
    survives(&Answered::<R>::Refused(error()));
}

fn reaches_its_own_tenant<C: PartialEq + Debug + Clone>(calls: Vec<C>) {
    let index = |tenant: &TenantId| {
        [
            ObjectName::Tenant(tenant.clone()),
            ObjectName::Hub(tenant.clone(), HubIndex(0)),
            ObjectName::Jobs(tenant.clone(), ShardIndex(7)),
            ObjectName::Channel(tenant.clone(), ChannelName::parse("a:b").unwrap()),
        ]
    };
    for call in calls {
        let open = |name: Option<&ObjectName>| {
            let (tenant, call) = (tenant(), call.clone());
            Addressed { tenant, call }.open(name)
        };
        for name in index(&tenant()) {
            assert!(open(Some(&name)).is_ok_and(|opened| opened == call), "{name}");
        }
        // Another tenant, one whose name begins or ends as this one's, one in no jurisdiction, and an object of no name.
        for other in ["eu.other", "eu.acme-2", "eu.acm", "acme", "fedramp.acme"] {
            for name in index(&TenantId::parse(other).unwrap()) {
                assert_eq!(
                    open(Some(&name)).map_err(|error| error.code),
                    Err(ErrorCode::InternalError),
                    "{name}"
                );
            }
        }
        assert_eq!(open(None).map_err(|error| error.code), Err(ErrorCode::InternalError));
    }
}

/// Every call there is: the lists of samples hold one of each, or do not compile.
pub fn every_call_is_taken_by_an_object_of_its_own_tenant_alone() {
    reaches_its_own_tenant(jobs_calls());
    reaches_its_own_tenant(hub_calls());
    reaches_its_own_tenant(channel_calls());
    reaches_its_own_tenant(tenant_calls());
    let other = TenantId::parse("other").unwrap();
    let mut spoke = 0;
    for call in hub_calls() {
        assert_eq!(call.check(&tenant()), Ok(()));
        // A call that names a principal says so in its bytes: no variant that does is passed over by the check.
        let names_somebody = encode(&call).windows(9).any(|bytes| bytes == b"principal");
        let refused = call.check(&other).map_err(|error| error.code);
        assert_eq!(refused.is_err(), names_somebody, "{refused:?}");
        spoke += usize::from(names_somebody);
    }
    assert!(spoke > 0, "requests and batches speak for somebody");
}

pub fn every_call_and_reply_survives_its_envelope() {
    addressed(jobs_calls());
    addressed(vec![Batch { calls: vec![] }, Batch { calls: jobs_calls() }]);
    addressed(hub_calls());
    addressed(channel_calls());
    addressed(tenant_calls());
    addressed(vec![()]);
    directory_calls().iter().for_each(survives);
    addressed(backup_calls());
    answered(jobs_replies());
    answered(hub_replies());
    answered(channel_replies());
    answered(tenant_replies());
    answered(directory_replies());
    answered(backup_replies());
    answered(erased());
    answered::<Outcome>(outcomes());
    assignments().iter().for_each(survives);
    for code in ErrorCode::ALL {
        survives(&Error::new(*code, "m"));
    }
}

pub fn a_number_is_written_as_the_standard_says() {
    for (number, body) in [
        (0_u64, &[0x00][..]),
        (23, &[0x17]),
        (24, &[0x18, 24]),
        (65_536, &[0x1a, 0, 1, 0, 0]),
        (u64::from(u32::MAX), &[0x1a, 0xff, 0xff, 0xff, 0xff]),
        (1 << 32, &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0]),
        (LARGEST, &[0x1b, 0, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (u64::MAX, &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ] {
        let bytes = [&[VERSION], body].concat();
        assert_eq!(encode(&Seq(number)), bytes, "{number}");
        assert_eq!(decode::<Seq>(&bytes).unwrap(), Seq(number));
    }
    // The head alone says the length: no room for four gigabytes, nor for more than 32 bits can say, is made for it.
    for claimed in [&[0x7a, 0xff, 0xff, 0xff, 0xff][..], &[0x7b, 0, 0, 0, 1, 0, 0, 0, 1]] {
        let bytes = [&[VERSION], claimed, b"abc"].concat();
        assert!(decode::<String>(&bytes).is_err());
    }
    for claimed in [&[0x9a, 0xff, 0xff, 0xff, 0xff][..], &[0x9b, 0, 0, 0, 1, 0, 0, 0, 1]] {
        let bytes = [&[VERSION], claimed, &[0x01, 0x02]].concat();
        assert!(decode::<Vec<u64>>(&bytes).is_err());
    }
}

pub fn an_envelope_that_is_not_ours_is_refused() {
    let code = |bytes: &[u8]| decode::<String>(bytes).unwrap_err().code;
    assert_eq!(code(&[]), ErrorCode::Unavailable);
    assert_eq!(code(&[VERSION + 1, 0x61, b'a']), ErrorCode::Unavailable);
    assert_eq!(code(&[VERSION]), ErrorCode::InternalError);
    assert_eq!(decode::<String>(&[VERSION, 0x61, b'a']).unwrap(), "a");
    // Text that is no UTF-8: a lone continuation, an overlong form, a surrogate, a cut character.
    for text in [&[0x80][..], &[0xc0, 0xaf], &[0xed, 0xa0, 0x80], &[0xf0, 0x9f, 0x98]] {
        let length = u8::try_from(text.len()).unwrap();
        let bytes = [&[VERSION, 0x60 + length], text].concat();
        assert_eq!(code(&bytes), ErrorCode::InternalError, "{text:?}");
    }
    // A number that its type does not hold, and ids that are none.
    let index = |bytes: &[u8]| decode::<HubIndex>(&[&[VERSION], bytes].concat());
    assert_eq!(index(&[0x19, 0xff, 0xff]).unwrap(), HubIndex(u16::MAX));
    assert!(index(&[0x1a, 0, 1, 0, 0]).is_err());
    for bad in ["Acme", "a:b", "", "eu."] {
        assert!(decode::<TenantId>(&encode(&bad)).is_err(), "{bad}");
    }
    assert!(decode::<JobId>(&encode(&"job_nonsense")).is_err());
}

pub fn ids_take_their_own_form_and_survive_their_text() {
    for number in [0, 1, u64::from(u32::MAX), 1 << 32, LARGEST] {
        for tail in [0, 1, u32::MAX] {
            let id = JobId::new(JobNumber(number), tail);
            assert_eq!(JobId::parse(&id.to_string()), Some(id));
            assert_eq!(id.number(), JobNumber(number));
        }
    }
    let moment = UnixMs(1_795_244_400_000);
    let mut last = JobNumber(0);
    for _ in 0..5 {
        let number = JobNumber::next(moment, Partition::of_hash(u64::MAX), last);
        assert!(number > last && number.partition() == Partition::of_hash(u64::MAX));
        assert!(number.0 <= LARGEST);
        last = number;
    }
    assert!(RequestId::generate(moment, 7).as_str() < RequestId::generate(moment.plus(1), 0).as_str());
    for name in ["t:acme:hub:65535", "t:eu.acme:jobs:0", "t:a-1:gate"] {
        assert_eq!(ObjectName::parse(name).unwrap().to_string(), name);
    }
    for name in [
        "t:acme:hub:65536",
        "t:acme:hub:01",
        "t:acme:hub:4294967296",
        "t::gate",
        "t:acme:gate:1",
    ] {
        assert_eq!(ObjectName::parse(name), None, "{name}");
    }
    assert_eq!(
        ObjectName::Jobs(tenant(), ShardIndex(9)).to_string(),
        "t:eu.acme:jobs:9"
    );
    assert!(ActionName::parse(&"a".repeat(129)).is_none() && ActionName::parse("é").is_none());
}

pub fn moments_and_durations_survive_their_text() {
    for (ms, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        // Beyond what 32 bits of seconds can say, signed and not.
        (2_147_483_648_000, "2038-01-19T03:14:08.000Z"),
        (4_294_967_296_001, "2106-02-07T06:28:16.001Z"),
        (LAST_MOMENT.0, "9999-12-31T23:59:59.999Z"),
    ] {
        assert_eq!(UnixMs(ms).to_string(), text);
        assert_eq!(UnixMs::parse(text), Some(UnixMs(ms)));
    }
    assert_eq!(
        UnixMs::parse("2026-11-21T08:30:00.5+01:30"),
        UnixMs::parse("2026-11-21T07:00:00.500Z")
    );
    for bad in [
        "2026-02-29T00:00:00Z",
        "99999-01-01T00:00:00Z",
        "2026-11-21T07:00:00",
        "4294967296-01-01T00:00:00Z",
    ] {
        assert_eq!(UnixMs::parse(bad), None, "{bad}");
    }
    // 50 days are more milliseconds than 32 bits hold.
    for ms in [0, 1, 1000, 4_320_000_000, 4_294_967_296, LARGEST] {
        assert_eq!(parse_duration(&format_duration(ms)), Some(ms));
    }
    assert_eq!(parse_duration("50d"), Some(4_320_000_000));
    assert_eq!(parse_duration("99999999999999999999ms"), None);
    assert_eq!(parse_duration("18446744073709551615d"), None);
}

pub fn a_frame_at_its_limit_is_read_and_one_beyond_is_not() {
    let frame = |bytes: usize| {
        let (head, tail) = (r#"{"action":"a","delay_ms":4294967296,"payload":""#, "\"}");
        format!("{head}{}{tail}", "x".repeat(bytes - head.len() - tail.len()))
    };
    let whole = frame(FRAME_BYTES_MAX);
    let Ok(ClientFrame::Request(request)) = ClientFrame::parse(&whole) else {
        panic!("a frame at its limit was refused")
    };
    assert_eq!(request.start, Start::After(1 << 32));
    let beyond = ClientFrame::parse(&frame(FRAME_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(beyond.error.code, ErrorCode::PayloadTooLarge);
}
