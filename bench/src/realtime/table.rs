//! A table with a column for each that was measured, and below each figure how it stands beside the first column.

use std::fmt::Write;

use super::side::Kind;
use crate::report::{median, rounded};

/// Figures as they come.
pub struct Table {
    head: String,
    columns: Vec<String>,
    rows: Vec<Row>,
}

struct Row {
    what: String,
    unit: &'static str,
    /// The runs of each column.
    runs: Vec<Vec<f64>>,
}

impl Table {
    /// An empty one with a column for each of `kinds`.
    pub fn new(head: &str, kinds: &[Kind]) -> Self {
        Self {
            head: head.to_owned(),
            columns: kinds.iter().map(|kind| kind.name()).collect(),
            rows: Vec::new(),
        }
    }

    /// A figure of a run, for the column at `place`.
    pub fn add(&mut self, what: &str, unit: &'static str, place: usize, figure: f64) {
        let columns = self.columns.len();
        // Rows that begin with a dash belong to the one before; each has its name once in a table.
        let found = self.rows.iter().position(|row| row.what == what);
        let at = found.unwrap_or_else(|| {
            self.rows.push(Row {
                what: what.to_owned(),
                unit,
                runs: vec![Vec::new(); columns],
            });
            self.rows.len() - 1
        });
        if let Some(runs) = self.rows.get_mut(at).and_then(|row| row.runs.get_mut(place)) {
            runs.push(figure);
        }
    }

    /// It, as Markdown.
    pub fn text(&self) -> String {
        let mut text = format!("| {} | {} |\n|---|", self.head, self.columns.join(" | "));
        text += &"---|".repeat(self.columns.len());
        for row in &self.rows {
            let name = if row.unit.is_empty() {
                row.what.clone()
            } else {
                format!("{}, {}", row.what, row.unit)
            };
            let _infallible = write!(text, "\n| {name} |");
            let first = row.runs.first().map(Vec::as_slice).unwrap_or_default();
            for (place, runs) in row.runs.iter().enumerate() {
                let _infallible = write!(text, " {}", rounded(median(runs)));
                // Of runs that were made one after the other.
                let ratios: Vec<f64> = first.iter().zip(runs).map(|(first, other)| first / other).collect();
                if place > 0 && !row.unit.is_empty() {
                    let _infallible = write!(text, " ({:.2} ×)", median(&ratios));
                }
                text += " |";
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_shows_its_median_and_how_many_times_it_the_first_one_is() {
        let mut table = Table::new("what", &[Kind::Bare, Kind::Agents]);
        for (first, second) in [(10.0, 20.0), (30.0, 20.0), (20.0, 40.0)] {
            table.add("echoes", "/s", 0, first);
            table.add("echoes", "/s", 1, second);
        }
        table.add("held", "", 0, 5.0);
        table.add("held", "", 1, 7.0);
        let text = table.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "| what | bare object | Agents SDK |");
        assert_eq!(lines[2], "| echoes, /s | 20.00 | 20.00 (0.50 ×) |");
        assert_eq!(lines[3], "| held | 5.00 | 7.00 |");
    }
}
