//! Checks the checks: breaks the engine by hand in known ways, on a copy, and sees that each is caught.
//!
//! `cargo run -p tidegate-simulation --bin mutants [-- NAME…]`. Every mutant is built and run against the simulation,
//! and against the engine's own tests where that lets it live. A mutant that lives fails the command.

mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use self::table::{MUTANTS, Mutant};

/// Finds `wanted` in `text` whatever the white space between; its bytes.
fn find(text: &str, wanted: &str) -> Vec<(usize, usize)> {
    let wanted: Vec<char> = wanted.chars().filter(|c| !c.is_whitespace()).collect();
    let ends = |start: usize| {
        let mut left = wanted.iter();
        let mut next = left.next();
        for (at, c) in text[start..].char_indices().filter(|(_, c)| !c.is_whitespace()) {
            if next != Some(&c) {
                return None;
            }
            next = left.next();
            if next.is_none() {
                return Some(start + at + c.len_utf8());
            }
        }
        None
    };
    let starts = text.char_indices().filter(|(_, c)| Some(c) == wanted.first());
    starts
        .filter_map(|(start, _)| ends(start).map(|end| (start, end)))
        .collect()
}

/// Makes `to` the same as `from`: what is no longer there is removed, or a file that was split would be built as well.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", from.display());
    fs::create_dir_all(to).map_err(told)?;
    for entry in fs::read_dir(to).map_err(told)? {
        let entry = entry.map_err(told)?;
        if from.join(entry.file_name()).exists() {
            continue;
        }
        let stale = entry.path();
        let removed = if stale.is_dir() {
            fs::remove_dir_all(&stale)
        } else {
            fs::remove_file(&stale)
        };
        removed.map_err(told)?;
    }
    for entry in fs::read_dir(from).map_err(told)? {
        let entry = entry.map_err(told)?;
        let target = to.join(entry.file_name());
        if entry.file_type().map_err(told)?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            let bytes = fs::read(entry.path()).map_err(told)?;
            // What has not changed keeps its time, so that it is not built again.
            if fs::read(&target).ok().as_ref() != Some(&bytes) {
                fs::write(&target, bytes).map_err(told)?;
            }
        }
    }
    Ok(())
}

/// The root manifest of the copy: the same versions, few members, a quick build.
fn manifest(original: &str) -> Result<String, String> {
    let (before, rest) = original
        .split_once("members = [")
        .ok_or("the root manifest names no members")?;
    let (_, rest) = rest.split_once(']').ok_or("the root manifest's members have no end")?;
    let (rest, _) = rest
        .split_once("\n[package]")
        .ok_or("the root manifest is no package")?;
    let absent = [
        "tidegate-durable-objects",
        "tidegate-identity",
        "tidegate-patterns",
        "tidegate-sdk",
    ];
    let lines = rest
        .lines()
        .filter(|line| !absent.iter().any(|name| line.starts_with(name)));
    let rest: Vec<&str> = lines.collect();
    Ok(format!(
        "{before}members = [\"shared/cbor\", \"shared/cbor_derive\", \"shared/engine\", \"shared/protocol\", \"simulation\"]{}\n\n\
         [profile.dev]\nopt-level = 1\ndebug = false\n[profile.dev.package.\"*\"]\nopt-level = 2\n",
        rest.join("\n")
    ))
}

struct Bench {
    house: PathBuf,
    copy: PathBuf,
}

impl Bench {
    fn refresh(&self) -> Result<(), String> {
        for name in ["cbor", "cbor_derive", "engine", "protocol"] {
            let folder = format!("shared/{name}");
            copy(&self.house.join(&folder), &self.copy.join(&folder))?;
        }
        copy(&self.house.join("simulation"), &self.copy.join("simulation"))?;
        // Tests of the engine read the published schema.
        copy(&self.house.join("docs"), &self.copy.join("docs"))?;
        copy(&self.house.join("examples"), &self.copy.join("examples"))?;
        for name in ["rustfmt.toml", "clippy.toml", "Cargo.lock"] {
            if let Ok(bytes) = fs::read(self.house.join(name)) {
                fs::write(self.copy.join(name), bytes).map_err(|error| error.to_string())?;
            }
        }
        let original = fs::read_to_string(self.house.join("Cargo.toml")).map_err(|error| error.to_string())?;
        fs::write(self.copy.join("Cargo.toml"), manifest(&original)?).map_err(|error| error.to_string())
    }

    fn apply(&self, mutant: &Mutant) -> Result<(), String> {
        let path = self.copy.join(mutant.file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let [(start, end)] = find(&text, mutant.from)[..] else {
            return Err(format!("`{}` must stand once in {}", mutant.from, mutant.file));
        };
        let broken = format!("{}{}{}", &text[..start], mutant.to, &text[end..]);
        fs::write(&path, broken).map_err(|error| error.to_string())
    }

    fn cargo(&self, arguments: &[&str]) -> Result<(bool, String), String> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(arguments)
            .current_dir(&self.copy)
            .env("CARGO_TARGET_DIR", self.copy.join("target"))
            .env("RUST_BACKTRACE", "0")
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    /// What killed the code as it stands; `None` where it lives.
    fn killer(&self) -> Result<Option<String>, String> {
        let (built, said) = self.cargo(&[
            "build",
            "--quiet",
            "-p",
            "tidegate-simulation",
            "--bin",
            "tidegate-simulation",
        ])?;
        if !built {
            return Err(format!("it does not build:\n{said}"));
        }
        let seeds = [
            "run",
            "--quiet",
            "-p",
            "tidegate-simulation",
            "--",
            "--seeds",
            "400",
            "--steps",
            "400",
        ];
        let (lives, said) = self.cargo(&seeds)?;
        if !lives {
            let rule = said
                .lines()
                .find(|line| line.starts_with("seed "))
                .unwrap_or("simulation")
                .to_owned();
            return Ok(Some(rule));
        }
        let (lives, said) = self.cargo(&[
            "test",
            "--quiet",
            "-p",
            "tidegate-engine",
            "--features",
            "native",
            "--lib",
            "--",
            "jobs::",
            "hub::",
            "breath::",
            "company::",
        ])?;
        if !lives {
            let test = said
                .lines()
                .find(|line| line.starts_with("---- "))
                .unwrap_or("a test")
                .to_owned();
            return Ok(Some(test.trim_matches(['-', ' ']).replace(" stdout", "")));
        }
        Ok(None)
    }
}

fn run() -> Result<bool, String> {
    let house = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or("no workspace")?
        .to_path_buf();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| house.join("target"), PathBuf::from);
    let bench = Bench {
        copy: target.join("mutants"),
        house,
    };
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    bench.refresh()?;
    if let Some(rule) = bench.killer()? {
        return Err(format!("the engine itself does not pass: {rule}"));
    }
    let mut all_die = true;
    for mutant in MUTANTS
        .iter()
        .filter(|mutant| wanted.is_empty() || wanted.iter().any(|name| mutant.name.contains(name)))
    {
        let begun = Instant::now();
        bench.refresh()?;
        let killer = bench.apply(mutant).and_then(|()| bench.killer());
        all_die &= matches!(killer, Ok(Some(_)));
        let by = match killer {
            Ok(Some(by)) => by,
            Ok(None) => "LIVES".into(),
            Err(error) => format!("does not apply: {error}"),
        };
        let by: String = by.chars().take(150).collect();
        println!("{:<60} {:>4} s  {by}", mutant.name, begun.elapsed().as_secs());
    }
    Ok(all_die)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => {
            println!("every mutant dies");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            println!("a mutant lives: the checks do not see it");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use super::*;

    #[test]
    fn each_mutant_breaks_one_place_of_the_code_as_it_is() {
        let house = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for mutant in MUTANTS {
            let text = fs::read_to_string(house.join(mutant.file)).unwrap();
            let places = find(&text, mutant.from).len();
            assert_eq!(places, 1, "{}: `{}` in {}", mutant.name, mutant.from, mutant.file);
        }
    }
}
