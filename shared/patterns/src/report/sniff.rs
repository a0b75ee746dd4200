//! Finds the format and the delimiter from the name and the first bytes.

use super::error::ReportError;
use super::profile::Format;

/// The delimiters that are looked for.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Lines looked at for the delimiter.
const LINES: usize = 20;

/// Refuses what is no text, or no lines.
pub(super) fn refuse_others(head: &[u8]) -> Result<(), ReportError> {
    let what = match head {
        [0x1f, 0x8b, ..] => "it is compressed with gzip",
        [b'P', b'K', 3, 4, ..] => "it is a ZIP archive or a spreadsheet",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed with Zstandard",
        [b'P', b'A', b'R', b'1', ..] => "it is a Parquet file",
        [b'%', b'P', b'D', b'F', ..] => "it is a PDF document",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it is UTF-16",
        _ if head.contains(&0) => "it has zero bytes, as binary data does",
        _ if head.trim_ascii().is_empty() => return Err(ReportError::Empty),
        _ => return Ok(()),
    };
    Err(ReportError::NotText(what))
}

/// The format, by the end of the name, else by the first character.
pub(super) fn format(name: &str, head: &[u8]) -> Result<Format, ReportError> {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is = |known: &[&str]| known.iter().any(|known| extension.eq_ignore_ascii_case(known));
    match head.trim_ascii_start().first() {
        _ if is(&["csv", "tsv", "tab", "psv"]) => Ok(Format::Csv),
        _ if is(&["ndjson", "jsonl"]) => Ok(Format::Ndjson),
        Some(b'{') => Ok(Format::Ndjson),
        Some(b'[') if is(&["json"]) => Err(ReportError::NotTable("it is one JSON array; write one object a line")),
        Some(b'<') => Err(ReportError::NotTable("it is XML or HTML")),
        _ => Ok(Format::Csv),
    }
}

/// The delimiter: the one that stands on most lines as often as in the header; a comma where there is none.
pub(super) fn delimiter(head: &[u8]) -> u8 {
    let mut best = (0, 0, b',');
    for delimiter in DELIMITERS {
        let (header, agreeing) = agreement(head, delimiter);
        if header > 0 && (agreeing, header) > (best.0, best.1) {
            best = (agreeing, header, delimiter);
        }
    }
    best.2
}

/// How often the delimiter stands in the first line outside of quotes, and the lines in which it does as often.
fn agreement(head: &[u8], delimiter: u8) -> (usize, usize) {
    let (mut header, mut agreeing, mut lines) = (None, 0, 0);
    let (mut here, mut in_quotes, mut is_empty) = (0, false, true);
    for byte in head {
        match byte {
            b'"' => in_quotes = !in_quotes,
            b'\n' | b'\r' if in_quotes => {}
            b'\n' | b'\r' => {
                if !is_empty {
                    agreeing += usize::from(*header.get_or_insert(here) == here);
                    lines += 1;
                }
                (here, is_empty) = (0, true);
                if lines == LINES {
                    break;
                }
                continue;
            }
            _ if *byte == delimiter && !in_quotes => here += 1,
            _ => {}
        }
        is_empty = false;
    }
    // A head without a line end is a header all the same.
    let header = header.unwrap_or(here);
    (header, agreeing)
}
