//! What the request log takes secrets out of: any text, and JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_engine::redaction::{Emails, Redactor};
use tidegate_engine::request_log::Config;
use tidegate_protocol::event::JsonText;

fuzz_target!(|input: (&str, bool)| {
    let (text, emails) = input;
    let emails = if emails { Emails::Redacted } else { Emails::Shown };
    let redactor = Redactor::new(["iban"], emails);
    let once = redactor.text(text);
    assert_eq!(redactor.text(&once), once, "the same twice");
    let json = redactor.json(text);
    if JsonText::parse(text).is_some() {
        assert!(JsonText::parse(&json).is_some(), "JSON stays JSON");
    }
    // A secret is gone, whatever stands around it.
    let secret = "tgk_acme_0123456789abcdef0123456789";
    let around = redactor.text(&format!("{text} {secret} {text}")).into_owned();
    assert!(!around.contains(secret), "{around}");
    let _ = Config::parse(text);
});
