//! Frames from a socket and bodies over HTTP, with the ids and moments in them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_protocol::calls::jobs::Filter;
use tidegate_protocol::frames::{ClientFrame, Request};
use tidegate_protocol::http::{BatchFormat, BulkRequest, RetryRequest, split_batch};
use tidegate_protocol::ids::{JobId, ObjectName};
use tidegate_protocol::time::{UnixMs, parse_duration};

fuzz_target!(|text: &str| {
    match ClientFrame::parse(text) {
        Ok(ClientFrame::Request(request)) => {
            // A frame is a body as well.
            let body = Request::parse(text).expect("a body");
            assert_eq!((body.action, body.start), (request.action, request.start));
        }
        Ok(_) => {}
        Err(bad) => assert!(!bad.error.message.is_empty()),
    }
    let _ = Request::parse(text);
    let _ = RetryRequest::parse(text);
    for read in [BulkRequest::redrive, BulkRequest::discard, BulkRequest::cancel] {
        if let Ok(bulk) = read(text) {
            assert!((1..=100).contains(&bulk.filter.limit));
            assert!(bulk.ids.is_none_or(|ids| (1..=100).contains(&ids.len())));
        }
    }
    for format in [BatchFormat::Array, BatchFormat::Lines] {
        if let Ok(items) = split_batch(text, format) {
            assert!((1..=1000).contains(&items.len()));
        }
    }
    if let Some((name, value)) = text.split_once('=') {
        let _ = Filter::default().set(name, value);
    }
    if let Some(job) = JobId::parse(text) {
        assert_eq!(job.to_string(), text);
    }
    if let Some(name) = ObjectName::parse(text) {
        assert_eq!(name.to_string(), text);
    }
    if let Some(moment) = UnixMs::parse(text) {
        assert_eq!(UnixMs::parse(&moment.to_string()), Some(moment));
    }
    let _ = parse_duration(text);
});
