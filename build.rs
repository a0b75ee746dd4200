//! Takes the blanks out of the description of the API, which the Worker carries: a sixth of it in transit.

use std::path::Path;
use std::{env, fs, io};

const DESCRIPTION: &str = "docs/reference/openapi.json";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={DESCRIPTION}");
    println!("cargo::rerun-if-changed=build.rs");
    let text = fs::read_to_string(DESCRIPTION)?;
    let directory = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("there is no OUT_DIR"))?;
    fs::write(Path::new(&directory).join("openapi.json"), without_blanks(&text))
}

/// `json` without what stands between its tokens. Texts stay as they are.
fn without_blanks(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    json.chars()
        .filter(|c| {
            if in_text {
                let ends = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                in_text = !ends;
                return true;
            }
            in_text = *c == '"';
            !c.is_ascii_whitespace()
        })
        .collect()
}
