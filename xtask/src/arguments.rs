//! Command lines of a few flags, and the nearest word for one that was mistyped.

use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// The words after the command's name.
pub struct Arguments(Vec<String>);

impl Arguments {
    /// Takes the words as they were typed.
    pub fn new(words: impl Iterator<Item = String>) -> Self {
        Self(words.collect())
    }

    /// Whether `name` was given; takes it.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != name);
        self.0.len() < before
    }

    /// The value of `name VALUE` or `name=VALUE`; takes both. Errors: the value is absent or does not parse.
    pub fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(at) = self
            .0
            .iter()
            .position(|word| word == name || word.starts_with(&format!("{name}=")))
        else {
            return Ok(None);
        };
        let word = self.0.remove(at);
        let text = match word.split_once('=') {
            Some((_, text)) => text.to_owned(),
            None if at < self.0.len() => self.0.remove(at),
            None => bail!("{name} needs a value"),
        };
        text.parse()
            .ok()
            .with_context(|| format!("{name} cannot be {text:?}"))
            .map(Some)
    }

    /// The next word that is no flag.
    pub fn word(&mut self) -> Option<String> {
        let at = self.0.iter().position(|word| !word.starts_with('-'))?;
        Some(self.0.remove(at))
    }

    /// Refuses what nobody took.
    pub fn end(self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(word) => bail!("there is no {word:?} here; `cargo xtask help` lists what there is"),
        }
    }
}

/// The one of `words` that `typed` was probably meant to be.
pub fn nearest<'a>(typed: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, word) = words.map(|word| (distance(typed, word), word)).min()?;
    (distance <= 2 && distance < typed.len()).then_some(word)
}

/// How many letters have to be put in, taken out or replaced to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::new(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn flags_and_values_are_taken_in_any_order_and_the_rest_is_refused() {
        let mut given = arguments("--port 80 --quick --state=dir extra");
        assert_eq!(given.value::<u16>("--port").unwrap(), Some(80));
        assert!(given.flag("--quick"));
        assert!(!given.flag("--quick"));
        assert_eq!(given.value::<String>("--state").unwrap().as_deref(), Some("dir"));
        assert!(given.end().unwrap_err().to_string().contains("extra"));
    }

    #[test]
    fn a_value_that_is_absent_or_wrong_is_an_error() {
        assert!(arguments("--port").value::<u16>("--port").is_err());
        assert!(arguments("--port many").value::<u16>("--port").is_err());
    }

    #[test]
    fn a_typing_error_finds_the_command_and_a_strange_word_finds_none() {
        let words = || ["build", "serve", "test"].into_iter();
        assert_eq!(nearest("biuld", words()), Some("build"));
        assert_eq!(nearest("tset", words()), Some("test"));
        assert_eq!(nearest("deploy", words()), None);
    }
}
