//! Sockets on which nothing is said: what each costs its server, and how many it holds.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use super::side::{Kind, Side};
use super::swarm::Swarm;
use super::table::Table;
use super::work;
use crate::load::count;

/// Between these two the memory of a connection is measured: what a server takes once is in both.
const FEW: usize = 2_000;
const MANY: usize = 10_000;
/// As many as are held, where the system lets a process have them.
const HELD: usize = 30_000;
/// After so long an object with nothing to do sleeps: workerd's ten seconds and some more.
const SLEEP: Duration = Duration::from_secs(13);
/// How long the answers to all pings may take.
const PONG_MAX: Duration = Duration::from_secs(20);

/// Measures each of `kinds` on a server that has done nothing else.
pub async fn measure(kinds: &[Kind], descriptors: usize, table: &mut Table) -> Result<()> {
    for (place, kind) in kinds.iter().enumerate() {
        eprintln!("realtime, idle connections: {}", kind.name());
        let side = Side::start(*kind).await?;
        let mut swarm = Swarm::new()?;
        let mut memory = Vec::new();
        let sockets_max = kind.sockets_max(descriptors);
        let mut steps = [FEW, MANY, HELD].map(|sockets| sockets.min(sockets_max)).to_vec();
        steps.dedup();
        for sockets in steps {
            // They follow a channel, as sockets that are told something do.
            side.open(&mut swarm, sockets, true).await?;
            work::idle(&side, &mut swarm, SLEEP)?;
            memory.push((sockets, resident_bytes(side.pid)));
        }
        let before = crate::cost::cpu_time(side.pid);
        let answered = work::pings(&side, &mut swarm, PONG_MAX)?;
        let used = before.zip(crate::cost::cpu_time(side.pid));
        if let ([(few, at_few), (many, at_many), ..], Some((held, at_held))) = (memory.as_slice(), memory.last()) {
            let slope = (at_many - at_few) / count(many - few) / 1024.0;
            table.add(
                &format!("memory for each, from {few} to {MANY} or what is held"),
                "KiB",
                place,
                slope,
            );
            table.add("held", "", place, count(*held));
            table.add("– memory of the server then", "MiB", place, at_held / 1024.0 / 1024.0);
            table.add("– that answered a ping", "", place, count(answered));
            table.add(
                "– CPU time of the server for a ping",
                "µs",
                place,
                used.map_or(f64::NAN, |(before, after)| {
                    after.saturating_sub(before).as_secs_f64() * 1e6 / count(answered)
                }),
            );
        }
        drop(swarm);
        side.rest();
    }
    Ok(())
}

/// The memory that a process has in use. NaN: the system has no `/proc`.
fn resident_bytes(pid: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    parse(&status).map_or(f64::NAN, |kibibytes| f64::from(kibibytes) * 1024.0)
}

fn parse(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_kibibytes() {
        let status = "Name:\tworkerd\nVmPeak:\t  900 kB\nVmRSS:\t   12345 kB\nThreads:\t4\n";
        assert_eq!(parse(status), Some(12_345));
        assert_eq!(parse("Name:\tzombie\n"), None);
    }
}
