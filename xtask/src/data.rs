//! `cargo xtask data`: public sample data, taken from an npm package.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::arguments::Arguments;
use crate::process::say;
use crate::project::Project;
use crate::toolchain;

const SOURCE: &str = "node_modules/vega-datasets/data/zipcodes.csv";
const LICENCE: &str =
    "GeoNames postal codes (United States, as of 2017), from the npm package vega-datasets; licence: CC BY 4.0";
/// The large file is at least this large.
const LARGE_BYTES: u64 = 200_000_000;

/// `cargo xtask data [--large]`.
pub fn data(project: &Project, mut arguments: Arguments) -> Result<()> {
    let large = arguments.flag("--large");
    arguments.end()?;
    toolchain::ensure(project)?;
    let small = copy(project)?;
    say(format!("{}: {LICENCE}", project.relative(&small).display()));
    if large {
        let path = multiply(project, &small)?;
        let bytes = fs::metadata(&path)?.len();
        say(format!(
            "{}: {} MB, made from the same rows",
            project.relative(&path).display(),
            bytes / 1_000_000
        ));
    }
    Ok(())
}

/// Puts `examples/data/zips.csv` in place and returns its path.
pub fn copy(project: &Project) -> Result<PathBuf> {
    let path = project.root.join("examples/data/zips.csv");
    if !path.exists() {
        fs::create_dir_all(project.root.join("examples/data"))?;
        fs::copy(project.root.join(SOURCE), &path).with_context(|| format!("cannot copy {SOURCE}"))?;
    }
    Ok(path)
}

/// Writes `zips-large.csv`: the rows again and again, each round with other positions and a number of its own, so that
/// quantiles and distinct counts have work to do.
fn multiply(project: &Project, small: &PathBuf) -> Result<PathBuf> {
    let path = project.root.join("examples/data/zips-large.csv");
    if fs::metadata(&path).is_ok_and(|found| found.len() >= LARGE_BYTES) {
        return Ok(path);
    }
    let text = fs::read_to_string(small)?;
    let (header, rows) = text.split_once('\n').context("the sample has no header")?;
    let unfinished = path.with_extension("part");
    let mut out = BufWriter::new(File::create(&unfinished)?);
    let mut written = 0;
    writeln!(out, "{},round", header.trim_end())?;
    for round in 0_u32.. {
        if written >= LARGE_BYTES {
            break;
        }
        for row in rows.lines() {
            let line = varied(row, round).unwrap_or_else(|| format!("{row},{round}"));
            writeln!(out, "{line}")?;
            written += line.len() as u64 + 1;
        }
    }
    out.flush()?;
    fs::rename(unfinished, &path)?;
    Ok(path)
}

/// A row of `zip,latitude,longitude,…` moved by `round` thousandths of a degree. `None`: the row has another shape.
fn varied(row: &str, round: u32) -> Option<String> {
    let mut fields = row.splitn(4, ',');
    let (zip, latitude, longitude, rest) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let moved = |degrees: &str| Some(degrees.parse::<f64>().ok()? + f64::from(round) / 1_000.0);
    Some(format!(
        "{zip},{:.6},{:.6},{rest},{round}",
        moved(latitude)?,
        moved(longitude)?
    ))
}

#[cfg(test)]
mod tests {
    use super::varied;

    #[test]
    fn a_row_is_moved_and_numbered_and_keeps_the_rest() {
        let row = "00501,40.922326,-72.637078,Holtsville,NY,Suffolk";
        assert_eq!(
            varied(row, 0).as_deref(),
            Some("00501,40.922326,-72.637078,Holtsville,NY,Suffolk,0")
        );
        assert_eq!(
            varied(row, 1500).as_deref(),
            Some("00501,42.422326,-71.137078,Holtsville,NY,Suffolk,1500")
        );
        assert_eq!(varied("not,a,row,here", 1), None);
    }
}
