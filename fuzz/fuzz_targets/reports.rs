//! CSV and NDJSON of any bytes, cut anywhere, stopped and gone on with from a checkpoint of any bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_patterns::report::{Format, Options, Profile};

fn whole(options: &Options, parts: [&[u8]; 2]) -> Option<String> {
    let mut profile = Profile::new(options.clone());
    for part in parts {
        profile.feed(part).ok()?;
    }
    profile.finish().ok().map(|summary| format!("{summary:?}"))
}

fn resumed(options: &Options, parts: [&[u8]; 2]) -> Option<String> {
    let mut profile = Profile::new(options.clone());
    profile.feed(parts[0]).ok()?;
    let mut profile = Profile::resume(&profile.checkpoint()).expect("its own checkpoint");
    profile.feed(parts[1]).ok()?;
    profile.finish().ok().map(|summary| format!("{summary:?}"))
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (kind, at, bytes) = input;
    let options = Options {
        name: "object".into(),
        format: [None, Some(Format::Csv), Some(Format::Ndjson)][usize::from(kind % 3)],
        delimiter: None,
    };
    let parts = bytes.split_at(usize::from(at).min(bytes.len()));
    let told = whole(&options, [bytes, &[]]);
    assert_eq!(told, whole(&options, [parts.0, parts.1]));
    assert_eq!(told, resumed(&options, [parts.0, parts.1]));
    let _ = Profile::resume(bytes);
});
