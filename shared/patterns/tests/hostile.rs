//! The bodies of the fuzz targets with the stable compiler: each decoder reads some thousands of inputs that chance makes of
//! what such texts are made of. It is the same chance each time. `cargo xtask fuzz` looks further, with a nightly compiler.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

extern crate self as libfuzzer_sys;

/// What libFuzzer makes a program of is a function here.
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: $type:ty| $body:block) => {
        pub fn body($input: $type) $body
    };
}

macro_rules! targets {
    ($($name:ident: $path:literal),* $(,)?) => {
        $(
            #[path = $path]
            #[allow(unused_attributes, unused_imports, clippy::all, clippy::indexing_slicing, reason = "it is a program of its own elsewhere")]
            mod $name;
        )*
        /// The targets that are run here.
        const TARGETS: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    addresses: "../../../fuzz/fuzz_targets/addresses.rs",
    bodies: "../../../fuzz/fuzz_targets/bodies.rs",
    compositions: "../../../fuzz/fuzz_targets/compositions.rs",
    credentials: "../../../fuzz/fuzz_targets/credentials.rs",
    envelope: "../../../fuzz/fuzz_targets/envelope.rs",
    expressions: "../../../fuzz/fuzz_targets/expressions.rs",
    frames: "../../../fuzz/fuzz_targets/frames.rs",
    identity: "../../../fuzz/fuzz_targets/identity.rs",
    redaction: "../../../fuzz/fuzz_targets/redaction.rs",
    reports: "../../../fuzz/fuzz_targets/reports.rs",
    schedules: "../../../fuzz/fuzz_targets/schedules.rs",
    webhooks: "../../../fuzz/fuzz_targets/webhooks.rs",
}

/// Inputs of one target.
const INPUTS: u64 = 10_000;
/// Pieces of one input at most.
const PIECES_MAX: u64 = 16;

/// What texts from outside are made of.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "-1",
    "1e999",
    "0.1",
    " ",
    "\n",
    "\r\n",
    "\u{0}",
    "ä",
    "\u{10ffff}",
    "/",
    "?",
    "#",
    "@",
    "%00",
    "..",
    "*",
    "*/5",
    "-",
    "=",
    "&&",
    "||",
    "!",
    "(",
    ")",
    "in",
    "now",
    "data.x",
    "'",
    "eyJ",
    ".",
    "tgk_acme_",
    "sk_live_",
    "password=",
    "https://",
    "[::1]",
    "127.0.0.1",
    "example.com",
    "{\"type\":\"request\",\"id\":\"r\",",
    "\"action\":\"core.echo\"",
    "\"payload\":{}",
    "{\"type\":\"hello\"}",
    "{\"type\":\"ping\"}",
    "{\"tidegate\":1,\"patterns\":{},\"actions\":{",
    "\"use\":",
    "\"run\":",
    "\"mode\":\"auto\"",
    "v1,",
    "t=1,",
    "evt_",
    "job_07fjcpm000wm7avet",
    "00-",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "2026-11-24T00:00:00Z",
    "2w",
    "30s",
    "Europe/Berlin",
    "L",
    "MON",
    "1;2",
    "a,b\n1,2\n",
];

/// Chance, from a seed alone (SplitMix64).
struct Chance(u64);

impl Chance {
    fn of(name: &str) -> Self {
        Self(name.bytes().fold(7, |seed, byte| seed * 31 + u64::from(byte)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    fn text(&mut self) -> String {
        let count = self.next() % PIECES_MAX;
        let mut text: String = (0..count).map(|_| PIECES[self.below(PIECES.len())]).collect();
        // A letter goes, at times, so that what was whole is cut.
        if self.next().is_multiple_of(4)
            && let Some((at, _)) = text.char_indices().nth(self.below(text.chars().count()))
        {
            text.remove(at);
        }
        text
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = self.text().into_bytes();
        for _ in 0..self.next() % 4 {
            let byte = self.next().to_le_bytes()[0];
            let at = self.below(bytes.len() + 1);
            bytes.insert(at, byte);
        }
        bytes
    }
}

/// Runs a target on inputs.
fn run(name: &str, mut target: impl FnMut(&mut Chance)) {
    let mut chance = Chance::of(name);
    (0..INPUTS).for_each(|_| target(&mut chance));
}

macro_rules! texts {
    ($($test:ident: $target:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                run(stringify!($target), |chance| $target::body(&chance.text()));
            }
        )*
    };
}

texts! {
    no_address_breaks_its_reader: addresses,
    no_body_breaks_its_reader: bodies,
    no_composition_breaks_its_reader: compositions,
    no_credential_breaks_its_reader: credentials,
    no_frame_breaks_its_reader: frames,
    no_token_breaks_its_reader: identity,
}

#[test]
fn no_call_between_the_parts_breaks_its_reader() {
    run("envelope", |chance| envelope::body(&chance.bytes()));
}

#[test]
fn no_condition_breaks_its_evaluation() {
    run("expressions", |chance| {
        let (one, two, three) = (chance.text(), chance.text(), chance.text());
        let (whole, part) = (chance.next().cast_signed(), f64::from_bits(chance.next()));
        expressions::body((&one, &two, whole, part, vec![&three]));
    });
}

#[test]
fn no_text_breaks_redaction() {
    run("redaction", |chance| {
        redaction::body((&chance.text(), chance.next().is_multiple_of(2)))
    });
}

#[test]
fn no_report_breaks_its_reader() {
    run("reports", |chance| {
        let [one, two, ..] = chance.next().to_le_bytes();
        reports::body((one, two, &chance.bytes()));
    });
}

#[test]
fn no_schedule_breaks_its_reader() {
    run("schedules", |chance| {
        let [which, ..] = chance.next().to_le_bytes();
        schedules::body((which, chance.next(), &chance.text()));
    });
}

#[test]
fn no_webhook_breaks_its_reader() {
    run("webhooks", |chance| {
        let [one, two, three, four] = [chance.text(), chance.text(), chance.text(), chance.text()];
        webhooks::body((&one, &two, &three, &four, &chance.bytes()));
    });
}

#[test]
fn each_target_is_run_here() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    found.sort();
    assert_eq!(found, TARGETS);
}
