//! What holds of a report: by tables, by properties, and against a second implementation.

extern crate std;

mod bounds;
mod formats;
mod operation;
mod pages;
mod parts;
mod properties;

use alloc::string::String;

use super::{ColumnSummary, Options, Profile, ReportError, Summary};

/// The summary of an object of this name.
fn summary_of(name: &str, bytes: &[u8]) -> Result<Summary, ReportError> {
    let mut profile = Profile::new(options(name));
    profile.feed(bytes)?;
    profile.finish()
}

fn options(name: &str) -> Options {
    Options {
        name: String::from(name),
        ..Options::default()
    }
}

/// The only column of an object.
fn column_of(name: &str, bytes: &[u8]) -> ColumnSummary {
    let mut summary = summary_of(name, bytes).unwrap();
    assert_eq!(summary.columns.len(), 1, "{summary:#?}");
    summary.columns.remove(0)
}
