//! The names of functions in a wasm module: a third of its size in transit, and of use only to someone who reads a stack.
//! A panic's message says its file and line without them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// What every module begins with: the magic number and version 1.
const HEADER: &[u8] = b"\0asm\x01\0\0\0";
/// The identifier of a custom section.
const CUSTOM: u8 = 0;

/// Takes the section of names out of a module. A module without one stays as it is.
///
/// Errors: a file that cannot be read or written, or is no module.
pub fn strip(path: &Path) -> Result<()> {
    let module = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let stripped = without_names(&module).with_context(|| format!("{} is no wasm module", path.display()))?;
    fs::write(path, stripped).with_context(|| format!("cannot write {}", path.display()))
}

/// The sections of `module` but for its names (WebAssembly core specification, 5.5).
fn without_names(module: &[u8]) -> Result<Vec<u8>> {
    let mut rest = module.strip_prefix(HEADER).context("it has no header")?;
    let mut kept = HEADER.to_vec();
    while let Some((&kind, after)) = rest.split_first() {
        let (length, body) = number(after)?;
        let Some((content, next)) = body.split_at_checked(length) else {
            bail!("a section is longer than the module");
        };
        let names = kind == CUSTOM && {
            let (length, text) = number(content)?;
            text.get(..length) == Some(b"name")
        };
        if !names {
            let section = rest.len() - next.len();
            kept.extend_from_slice(&rest[..section]);
        }
        rest = next;
    }
    Ok(kept)
}

/// Reads an unsigned number in LEB128, and gives what follows it.
fn number(bytes: &[u8]) -> Result<(usize, &[u8])> {
    let mut value = 0_u64;
    for (place, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok((usize::try_from(value)?, &bytes[place + 1..]));
        }
    }
    bail!("a number does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(kind: u8, content: &[u8]) -> Vec<u8> {
        // Two bytes for each length, as a linker writes them that does not know it beforehand.
        let length = content.len();
        let low = u8::try_from(length & 0x7f).unwrap() | 0x80;
        [&[kind, low, u8::try_from(length >> 7).unwrap()][..], content].concat()
    }

    #[test]
    fn the_names_go_and_everything_else_stays() {
        let names = section(CUSTOM, &[&[4][..], b"name", &[7; 300]].concat());
        let features = section(CUSTOM, &[&[15][..], b"target_features"].concat());
        let code = section(10, &[1; 500]);
        let module = [HEADER, &features, &names, &code].concat();
        let kept = without_names(&module).unwrap();
        assert_eq!(kept, [HEADER, &features, &code].concat());
        assert_eq!(without_names(&kept).unwrap(), kept);
    }

    #[test]
    fn what_is_no_module_is_refused() {
        let cut = [HEADER, &[10, 200, 1, 0]].concat();
        let endless = [HEADER, &[10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]].concat();
        for wrong in [&b""[..], b"\0asm", &cut, &endless] {
            assert!(without_names(wrong).is_err(), "{wrong:?}");
        }
    }
}
