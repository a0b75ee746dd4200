//! Runs seeds, prints what happened how often, and stops at the first history that breaks a rule.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
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

/// Runs the seeds on as many threads as the machine has cores; each history has one of them for itself.
///
/// Errors: the lowest seed that broke a rule before all stopped, and the rule.
fn run_all(arguments: &Arguments) -> Result<Counters, (u64, String)> {
    let end = arguments.from.saturating_add(arguments.seeds);
    let (next, broken) = (AtomicU64::new(arguments.from), Mutex::new(BTreeMap::new()));
    let work = || {
        let mut total = Counters::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return total;
            }
            let options = Options {
                seed,
                steps: arguments.steps,
                trace: arguments.trace,
            };
            // A panic of the engine is a broken rule as well, and has a seed like any other.
            match catch_unwind(AssertUnwindSafe(|| run(options))).unwrap_or_else(|_| Err("a panic".into())) {
                Ok(counters) => total += counters,
                Err(rule) => {
                    next.store(end, Ordering::Relaxed);
                    if let Ok(mut broken) = broken.lock() {
                        broken.insert(seed, rule);
                    }
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut total = Counters::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            total += worker.join().unwrap_or_default();
        }
    });
    let broken = broken.into_inner().unwrap_or_default();
    broken.into_iter().next().map_or(Ok(total), Err)
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
    let total = match run_all(&arguments) {
        Ok(total) => total,
        Err((seed, rule)) => {
            println!("seed {seed} breaks a rule: {rule}");
            println!(
                "replay: cargo run -p tidegate-simulation --release -- --seed {seed} --steps {} --trace",
                arguments.steps
            );
            return ExitCode::FAILURE;
        }
    };
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
