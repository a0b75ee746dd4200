//! As much of the binary format of WebAssembly as shrinking a bundle takes (WebAssembly core specification 2.0, chapter 5).

use anyhow::{Context, Result, bail};

/// What every module begins with: the magic number and version 1.
const HEADER: &[u8] = b"\0asm\x01\0\0\0";
/// The identifier of a custom section.
const CUSTOM: u8 = 0;
/// The identifier of the section of imports.
pub const IMPORT: u8 = 2;
/// The identifier of the section of function bodies.
pub const CODE: u8 = 10;
/// The custom section of names. Of use only to someone who reads a stack, and a third of a module's size in transit; a
/// panic's message says its file and line without them.
const NAME: &[u8] = b"name";
/// The part of that section with the names of functions.
const FUNCTION_NAMES: u8 = 1;

/// A section of a module.
pub struct Section<'a> {
    /// What it is.
    pub kind: u8,
    /// What stands in it.
    pub content: &'a [u8],
}

/// A section of names, as it is written.
pub struct Names(Vec<u8>);

impl Section<'_> {
    /// The names of functions, by their index, rising.
    ///
    /// Errors: more than the format has numbers for.
    pub fn of_function_names(names: &[(u32, String)]) -> Result<Names> {
        let mut map = Vec::new();
        write_number(&mut map, u32::try_from(names.len())?);
        for (function, name) in names {
            write_number(&mut map, *function);
            write_bytes(&mut map, name.as_bytes())?;
        }
        let mut content = Vec::new();
        write_bytes(&mut content, NAME)?;
        content.push(FUNCTION_NAMES);
        write_bytes(&mut content, &map)?;
        let mut section = vec![CUSTOM];
        write_bytes(&mut section, &content)?;
        Ok(Names(section))
    }
}

impl Names {
    /// Puts the section at the end of `module`, where it belongs.
    pub fn append_to(&self, module: &mut Vec<u8>) {
        module.extend_from_slice(&self.0);
    }
}

/// The sections of `module`, in their order.
///
/// Errors: what is no module.
pub fn sections(module: &[u8]) -> Result<Vec<Section<'_>>> {
    let mut rest = module.strip_prefix(HEADER).context("it has no header")?;
    let mut sections = Vec::new();
    while let Some((&kind, after)) = rest.split_first() {
        let (content, next) = bytes(after).context("a section is longer than the module")?;
        sections.push(Section { kind, content });
        rest = next;
    }
    Ok(sections)
}

/// `module` without the names in it. One that has none stays as it is.
///
/// Errors: what is no module.
pub fn without_names(module: &[u8]) -> Result<Vec<u8>> {
    let mut kept = HEADER.to_vec();
    for section in sections(module)? {
        if section.kind == CUSTOM && bytes(section.content)?.0 == NAME {
            continue;
        }
        kept.push(section.kind);
        write_bytes(&mut kept, section.content)?;
    }
    Ok(kept)
}

/// How many functions a section of imports has. They come before all others in the numbering of functions.
///
/// Errors: a section that cannot be read, and a kind of import that is not known here.
pub fn imported_functions(content: &[u8]) -> Result<u32> {
    let (count, mut rest) = number(content)?;
    let mut functions = 0;
    for _ in 0..count {
        let (_module, after) = bytes(rest)?;
        let (_name, after) = bytes(after)?;
        let (&kind, after) = after.split_first().context("an import is cut off")?;
        rest = match kind {
            0 => {
                functions += 1;
                number(after)?.1
            }
            // A table and a memory have limits; a table says first what its elements are.
            1 => limits(after.get(1..).context("an import is cut off")?)?,
            2 => limits(after)?,
            // A global: its type, and whether it changes.
            3 => after.get(2..).context("an import is cut off")?,
            // A tag: an attribute and the number of its type.
            4 => number(after.get(1..).context("an import is cut off")?)?.1,
            other => bail!("imports of kind {other} are not known here"),
        };
    }
    Ok(functions)
}

fn limits(content: &[u8]) -> Result<&[u8]> {
    let (flags, rest) = number(content)?;
    let (_least, rest) = number(rest)?;
    Ok(if flags & 1 == 1 { number(rest)?.1 } else { rest })
}

/// The bodies of functions in a section of code, in their order.
///
/// Errors: a section that cannot be read.
pub fn bodies(content: &[u8]) -> Result<Vec<&[u8]>> {
    let (count, mut rest) = number(content)?;
    let mut bodies = Vec::new();
    for _ in 0..count {
        let (body, next) = bytes(rest)?;
        bodies.push(body);
        rest = next;
    }
    Ok(bodies)
}

/// Reads a length and as many bytes, and gives what follows them.
fn bytes(content: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = number(content)?;
    rest.split_at_checked(length)
        .context("something is longer than what it is in")
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

fn write_bytes(into: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    write_number(into, u32::try_from(bytes.len())?);
    into.extend_from_slice(bytes);
    Ok(())
}

/// Writes an unsigned number in LEB128.
fn write_number(into: &mut Vec<u8>, number: u32) {
    let mut rest = number;
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            return into.push(low & 0x7f);
        }
        into.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut section = vec![kind];
        write_bytes(&mut section, content).unwrap();
        section
    }

    #[test]
    fn the_names_go_and_everything_else_stays() {
        let names = section(CUSTOM, &[&[4][..], b"name", &[7; 300]].concat());
        let features = section(CUSTOM, &[&[15][..], b"target_features"].concat());
        let code = section(CODE, &[1; 500]);
        let module = [HEADER, &features, &names, &code].concat();
        let kept = without_names(&module).unwrap();
        assert_eq!(kept, [HEADER, &features, &code].concat());
        assert_eq!(without_names(&kept).unwrap(), kept);
    }

    #[test]
    fn names_are_written_as_the_specification_says() {
        let names = [(1, "f".to_owned()), (300, "gh".to_owned())];
        let mut module = HEADER.to_vec();
        Section::of_function_names(&names).unwrap().append_to(&mut module);
        let written = [&b"\0\x10\x04name\x01\x09\x02"[..], b"\x01\x01f", b"\xac\x02\x02gh"].concat();
        assert_eq!(module, [HEADER, &written].concat());
        assert_eq!(without_names(&module).unwrap(), HEADER);
    }

    #[test]
    fn functions_are_counted_among_imports_of_every_kind() {
        let imports = [
            &[6][..],
            b"\x01m\x01a\x00\x05",
            b"\x01m\x01b\x01\x70\x00\x01",
            b"\x01m\x01c\x02\x01\x01\x80\x02",
            b"\x01m\x01d\x03\x7f\x01",
            b"\x01m\x01e\x04\x00\x02",
            b"\x01m\x01f\x00\x81\x01",
        ]
        .concat();
        assert_eq!(imported_functions(&imports).unwrap(), 2);
        assert!(imported_functions(&[1, 1, b'm', 1, b'a', 9, 0]).is_err());
        assert!(imported_functions(&imports[..imports.len() - 1]).is_err());
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
