//! Whether something changed since the last time: a hash over the content of files.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

/// A hash over the names and contents of `paths` (folders with everything in them) and over `extra`.
///
/// A path that does not exist counts as such. It holds for one version of this program, which is enough: another one
/// builds again.
pub fn of(root: &Path, paths: &[&str], extra: &str) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    extra.hash(&mut hasher);
    for file in files(root, paths)? {
        file.strip_prefix(root).unwrap_or(&file).hash(&mut hasher);
        fs::read(&file)
            .with_context(|| format!("cannot read {}", file.display()))?
            .hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// The number of files in `paths` and the time of the last change: cheaper than [`of`], for looking often.
pub fn last_change(root: &Path, paths: &[&str]) -> Result<(usize, SystemTime)> {
    let files = files(root, paths)?;
    let times = files.iter().filter_map(|file| fs::metadata(file).ok()?.modified().ok());
    Ok((files.len(), times.max().unwrap_or(SystemTime::UNIX_EPOCH)))
}

fn files(root: &Path, paths: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        collect(&root.join(path), &mut found)?;
    }
    found.sort();
    Ok(found)
}

fn collect(path: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        found.push(path.to_path_buf());
    } else if path.is_dir() {
        for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
            let entry = entry?;
            if entry.file_name() != "target" && !entry.file_name().to_string_lossy().starts_with('.') {
                collect(&entry.path(), found)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_a_renamed_and_a_new_file_each_change_the_fingerprint() {
        let root = std::env::temp_dir().join(format!("xtask-fingerprint-{}", std::process::id()));
        fs::create_dir_all(root.join("src")).unwrap();
        fs::write(root.join("src/a"), "one").unwrap();
        let of_now = || of(&root, &["src", "absent"], "").unwrap();
        let first = of_now();
        assert_eq!(first, of_now());
        fs::write(root.join("src/a"), "two").unwrap();
        let changed = of_now();
        fs::rename(root.join("src/a"), root.join("src/b")).unwrap();
        let renamed = of_now();
        fs::write(root.join("src/c"), "").unwrap();
        let added = of_now();
        fs::remove_dir_all(&root).unwrap();
        let all = std::collections::HashSet::from([first, changed, renamed, added]);
        assert_eq!(all.len(), 4);
    }
}
