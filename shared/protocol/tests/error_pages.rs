//! Every error code has its page in `docs/errors/`, and every page its code.

use std::fs;
use std::path::{Path, PathBuf};

use tidegate_protocol::SortedSet;
use tidegate_protocol::error::{Retry, TimeLimit};
use tidegate_protocol::http::{PROBLEM_TYPES, Problem};
use tidegate_protocol::{Error, ErrorCode};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors")
}

/// The name of the page of `code`, as it ends the problem type.
fn slug(code: ErrorCode) -> String {
    code.as_str().to_ascii_lowercase().replace('_', "-")
}

#[test]
fn every_code_has_its_page_and_every_page_its_code() {
    let codes: SortedSet<String> = ErrorCode::ALL.iter().map(|code| slug(*code)).collect();
    let pages: SortedSet<String> = fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .into_string()
                .unwrap()
                .strip_suffix(".md")
                .map(str::to_owned)
        })
        .filter(|name| name != "README")
        .collect();
    assert_eq!(codes, pages);
}

#[test]
fn the_type_of_a_problem_ends_with_the_name_of_its_page() {
    for code in ErrorCode::ALL {
        let kind = Problem::new(&Error::new(*code, "what happened"), None).kind;
        assert_eq!(kind.strip_prefix(PROBLEM_TYPES), Some(slug(*code).as_str()));
    }
}

#[test]
fn a_page_and_its_row_of_the_index_say_what_the_code_says() {
    let index = fs::read_to_string(folder().join("README.md")).unwrap();
    for code in ErrorCode::ALL {
        let (name, slug, status) = (code.as_str(), slug(*code), code.status());
        let page = fs::read_to_string(folder().join(format!("{slug}.md"))).unwrap();
        let retry = match code.retry() {
            Retry::Never => "no",
            Retry::Later => "yes",
        };
        assert!(page.starts_with(&format!("# `{name}`\n")), "{slug}: the title");
        assert!(page.contains(&format!("\nHTTP {status}")), "{slug}: the status");
        assert!(
            page.contains(&format!("retryable: {retry}")),
            "{slug}: whether to try again"
        );
        let row = format!("\n| [`{name}`]({slug}.md) | {status} | {retry} |");
        assert!(index.contains(&row), "{slug}: its row of the index");
    }
}

#[test]
fn the_page_of_timeouts_names_every_limit_of_time() {
    let page = fs::read_to_string(folder().join("timeout.md")).unwrap();
    for limit in TimeLimit::ALL {
        assert!(page.contains(&format!("\n| `{}` |", limit.pointer())), "{limit:?}");
    }
}
