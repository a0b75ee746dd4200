//! Runs seeds, prints what happened how often, and stops at the first history that breaks a rule.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use tidegate_simulation::{Counters, Options, run};

const USAGE: &str = "usage: tidegate-simulation [--seeds N] [--from N] [--steps N]\n       tidegate-simulation --seed N [--steps N] [--trace]";

struct Arguments {
    from: u64,
    seeds: u64,
    steps: u64,
    trace: bool,
    one: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        from: 0,
        seeds: 2000,
        steps: 300,
        trace: false,
        one: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or_else(|| format!("{word} takes a number\n{USAGE}"))?;
            text.parse::<u64>()
                .map_err(|_| format!("{word} takes a number, not `{text}`\n{USAGE}"))
        };
        match word.as_str() {
            "--seeds" => arguments.seeds = number()?,
            "--from" => arguments.from = number()?,
            "--steps" => arguments.steps = number()?,
            "--seed" => {
                arguments.from = number()?;
                arguments.seeds = 1;
                arguments.one = true;
            }
            "--trace" => arguments.trace = true,
            _ => return Err(format!("unknown argument `{word}`\n{USAGE}")),
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let begun = Instant::now();
    let mut total = Counters::default();
    for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
        let options = Options {
            seed,
            steps: arguments.steps,
            trace: arguments.trace,
        };
        // A panic of the engine is a broken rule as well, and has a seed like any other.
        let outcome = catch_unwind(AssertUnwindSafe(|| run(options))).unwrap_or_else(|_| Err("a panic".into()));
        match outcome {
            Ok(counters) => total += counters,
            Err(rule) => {
                println!("seed {seed} breaks a rule: {rule}");
                println!(
                    "replay: cargo run -p tidegate-simulation --release -- --seed {seed} --steps {} --trace",
                    arguments.steps
                );
                return ExitCode::FAILURE;
            }
        }
    }
    print!("{total}");
    println!(
        "{} seeds of {} steps in {:.1} s: no rule broken",
        arguments.seeds,
        arguments.steps,
        begun.elapsed().as_secs_f64()
    );
    let never: Vec<&str> = total
        .all()
        .into_iter()
        .filter(|(_, count)| *count == 0)
        .map(|(name, _)| name)
        .collect();
    if !arguments.one && !never.is_empty() {
        println!("never happened: {}", never.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
