//! The table: every figure with its target, and the machine it was measured on.

use std::fmt::Write;
use std::fs;
use std::thread::available_parallelism;

use crate::Plan;
use crate::server::on_tmpfs;

/// Figures as they come, printed at the end.
pub struct Report {
    plan: Plan,
    load_before: String,
    rows: Vec<Row>,
    beside: Vec<Beside>,
    peers: Vec<Peer>,
    shapes: Vec<Row>,
    tables: Vec<String>,
    notes: Vec<String>,
}

struct Row {
    what: String,
    system: String,
    baseline: String,
    figure: String,
    target: String,
    verdict: &'static str,
}

/// A row of the table that has `BullMQ` beside Tidegate.
struct Beside {
    what: String,
    system: String,
    others: [String; 2],
    ratios: [String; 2],
    target: String,
    verdict: &'static str,
}

/// A row of the table of other projects that decide the same.
struct Peer {
    what: String,
    peer: String,
    system: String,
    other: String,
    ratio: String,
}

/// What a figure has to be.
#[derive(Clone, Copy)]
pub enum Target {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Not below the first, not above the second.
    Between(f64, f64),
    /// Nothing: it is there to explain the others.
    None,
}

impl Target {
    /// Whether `figure` is as it should be. A figure that could not be measured is not.
    pub fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) => figure >= least,
            Self::AtMost(most) => figure <= most,
            Self::Between(least, most) => (least..=most).contains(&figure),
            Self::None => true,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::AtMost(most) => format!("≤ {most}"),
            Self::Between(least, most) => format!("{least} to {most}"),
            Self::None => String::from("–"),
        }
    }

    fn verdict(self, figure: f64) -> &'static str {
        match (self, self.is_met(figure)) {
            (Self::None, _) => "–",
            (_, true) => "met",
            (_, false) => "**missed**",
        }
    }
}

impl Report {
    /// An empty one.
    pub fn start(plan: Plan) -> Self {
        Self {
            plan,
            load_before: load_average(),
            rows: Vec::new(),
            beside: Vec::new(),
            peers: Vec::new(),
            shapes: Vec::new(),
            tables: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A figure as a ratio: the median of the ratios of the interleaved pairs of runs.
    pub fn ratio(&mut self, what: &str, unit: &str, system: &[f64], baseline: &[f64], target: Target) {
        let ratios: Vec<f64> = system
            .iter()
            .zip(baseline)
            .map(|(system, baseline)| system / baseline)
            .collect();
        let ratio = median(&ratios);
        self.rows.push(Row {
            what: what.to_owned(),
            system: with_spread(system, unit),
            baseline: with_spread(baseline, unit),
            figure: format!("{ratio:.2} × ({})", spread(&ratios, 2)),
            target: target.text() + if matches!(target, Target::None) { "" } else { " ×" },
            verdict: target.verdict(ratio),
        });
    }

    /// A figure that stands for itself: the median of the runs.
    pub fn absolute(&mut self, what: &str, unit: &str, runs: &[f64], target: Target) {
        let figure = median(runs);
        self.rows.push(Row {
            what: what.to_owned(),
            system: with_spread(runs, unit),
            baseline: String::from("–"),
            figure: format!("{} {unit}", rounded(figure)),
            target: target.text(),
            verdict: target.verdict(figure),
        });
    }

    /// A figure of a shape of load: the median of the runs.
    pub fn shape(&mut self, what: &str, unit: &str, runs: &[f64], target: Target) {
        let figure = median(runs);
        self.shapes.push(Row {
            what: what.to_owned(),
            system: with_spread(runs, unit),
            baseline: String::new(),
            figure: String::new(),
            target: target.text(),
            verdict: target.verdict(figure),
        });
    }

    /// A figure beside that of `BullMQ`, once with a sync each second and once with one for each write, where it has one: the
    /// ratios are the medians of those of the interleaved runs. The target is Tidegate's.
    pub fn beside(&mut self, what: &str, unit: &str, system: &[f64], others: [&[f64]; 2], target: Target) {
        let figure = median(system);
        let none = || String::from("–");
        let ratio = |other: &[f64]| {
            let ratios: Vec<f64> = system.iter().zip(other).map(|(system, other)| system / other).collect();
            if ratios.is_empty() {
                none()
            } else {
                format!("{:.2} ×", median(&ratios))
            }
        };
        let shown = |other: &[f64]| {
            if other.is_empty() {
                none()
            } else {
                with_spread(other, unit)
            }
        };
        self.beside.push(Beside {
            what: what.to_owned(),
            system: shown(system),
            others: others.map(shown),
            ratios: others.map(ratio),
            target: target.text(),
            verdict: target.verdict(figure),
        });
    }

    /// A figure beside that of `peer`, which decides the same: the ratio is the median of those of the interleaved runs.
    pub fn peer(&mut self, what: &str, unit: &str, peer: &str, system: &[f64], other: &[f64]) {
        let ratios: Vec<f64> = other.iter().zip(system).map(|(other, system)| other / system).collect();
        self.peers.push(Peer {
            what: what.to_owned(),
            peer: peer.to_owned(),
            system: with_spread(system, unit),
            other: with_spread(other, unit),
            ratio: format!("{} ×", rounded(median(&ratios))),
        });
    }

    /// A table that is written already.
    pub fn table(&mut self, table: String) {
        self.tables.push(table);
    }

    /// A line below the table.
    pub fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    /// Prints it as Markdown.
    pub fn print(&self) {
        let mut text = String::new();
        let cores = available_parallelism().map_or(0, usize::from);
        let state = if on_tmpfs() {
            "on tmpfs"
        } else {
            "ON DISK: there is no tmpfs here"
        };
        let _infallible = writeln!(
            text,
            "{cores} cores, {}; load average {} before and {} after; state {state}.\n\
             Where a figure has a spread, it is the median of {} interleaved runs of {:.1} s each.",
            processor(),
            self.load_before,
            load_average(),
            self.plan.runs,
            self.plan.measured.as_secs_f64(),
        );
        if !self.rows.is_empty() {
            let head = "| what | Tidegate | bare JavaScript | figure | target | |\n|---|---|---|---|---|---|";
            let _infallible = writeln!(text, "\n{head}");
        }
        for Row {
            what,
            system,
            baseline,
            figure,
            target,
            verdict,
        } in &self.rows
        {
            let _infallible = writeln!(
                text,
                "| {what} | {system} | {baseline} | {figure} | {target} | {verdict} |"
            );
        }
        if !self.beside.is_empty() {
            let head = "| what | Tidegate | BullMQ, `everysec` | BullMQ, `always` | × `everysec` | × `always` | target | |\n\
                        |---|---|---|---|---|---|---|---|";
            let _infallible = writeln!(text, "\n{head}");
        }
        for row in &self.beside {
            let ([second, write], [to_second, to_write]) = (&row.others, &row.ratios);
            let _infallible = writeln!(
                text,
                "| {} | {} | {second} | {write} | {to_second} | {to_write} | {} | {} |",
                row.what, row.system, row.target, row.verdict
            );
        }
        if !self.peers.is_empty() {
            let head = "| what | by | its figure | Tidegate's | its figure is |\n|---|---|---|---|---|";
            let _infallible = writeln!(text, "\n{head}");
        }
        for row in &self.peers {
            let Peer {
                what,
                peer,
                system,
                other,
                ratio,
            } = row;
            let _infallible = writeln!(text, "| {what} | {peer} | {other} | {system} | {ratio} |");
        }
        if !self.shapes.is_empty() {
            let _infallible = writeln!(text, "\n| shape of load | Tidegate | target | |\n|---|---|---|---|");
        }
        for row in &self.shapes {
            let _infallible = writeln!(
                text,
                "| {} | {} | {} | {} |",
                row.what, row.system, row.target, row.verdict
            );
        }
        for table in &self.tables {
            let _infallible = writeln!(text, "\n{table}");
        }
        for note in &self.notes {
            let _infallible = write!(text, "\n{note}\n");
        }
        println!("{text}");
    }
}

fn with_spread(runs: &[f64], unit: &str) -> String {
    if runs.len() == 1 {
        return format!("{} {unit}", rounded(median(runs)));
    }
    let decimals = if median(runs) < 100.0 { 2 } else { 0 };
    format!("{} {unit} ({})", rounded(median(runs)), spread(runs, decimals))
}

fn spread(runs: &[f64], decimals: usize) -> String {
    let least = runs.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = runs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{least:.decimals$}–{greatest:.decimals$}")
}

/// `figure` with as many digits as it deserves.
pub fn rounded(figure: f64) -> String {
    if figure < 100.0 {
        format!("{figure:.2}")
    } else {
        format!("{figure:.0}")
    }
}

/// The middle of `figures`; of an even number, the mean of the two in the middle. NaN for none.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
    }
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| String::from("processor unknown"), |(_, name)| name.trim().to_owned())
}

fn load_average() -> String {
    let loads = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    loads.split_whitespace().next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_whatever_the_order() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_target_is_met_at_its_very_figure_and_never_by_what_was_not_measured() {
        assert!(Target::AtLeast(0.9).is_met(0.9));
        assert!(!Target::AtLeast(0.9).is_met(0.89));
        assert!(Target::AtMost(5.0).is_met(5.0));
        assert!(!Target::AtMost(5.0).is_met(5.1));
        assert!(!Target::AtMost(5.0).is_met(f64::NAN));
        assert!(Target::Between(99.0, 101.0).is_met(99.0));
        assert!(!Target::Between(99.0, 101.0).is_met(102.0));
        assert!(!Target::Between(99.0, 101.0).is_met(f64::NAN));
    }
}
