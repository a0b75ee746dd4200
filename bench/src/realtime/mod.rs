//! Sockets by the thousand: Tidegate beside a bare object, `PartyServer`, the Agents SDK and Centrifuge, which do the same work on the
//! same data in one run.
//!
//! Centrifuge is the library that Centrifugo consists of; a small server in `bench/baseline/realtime/centrifuge` runs it. The others run on
//! the same workerd, with the same options, as Tidegate does.

mod dialect;
mod frames;
mod idle;
mod side;
mod swarm;
mod table;
mod work;

use anyhow::{Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Plan;
use crate::report::Report;
use side::{Kind, Side};
use table::Table;

/// Sockets, and requests on each, that saturate every server here.
const ECHO_SOCKETS: usize = 20;
const ECHO_IN_FLIGHT: usize = 16;
/// A quiet room: those who follow, and messages a second.
const STEADY_SOCKETS: usize = 10;
const STEADY_RATE: u32 = 100;
/// Sockets that one message goes to; as many as a process may have, where that is fewer.
const FAN_OUTS: [usize; 2] = [1_000, 10_000];
/// Descriptors that a process needs besides its sockets.
const DESCRIPTORS_KEPT: usize = 250;

/// Measures all of them, in turn.
pub async fn measure(plan: Plan, report: &mut Report) -> Result<()> {
    let descriptors = descriptors()?.saturating_sub(DESCRIPTORS_KEPT);
    let kinds = Kind::all();
    let mut table = Table::new("what", &kinds);
    let measured = under_load(plan, &kinds, descriptors, &mut table).await;
    report.table(table.text());
    measured?;
    let mut table = Table::new("idle connections", &kinds);
    let measured = idle::measure(&kinds, descriptors, &mut table).await;
    report.table(table.text());
    measured?;
    if !kinds.contains(&Kind::Centrifuge) {
        report.note(String::from(
            "Centrifuge is not measured: `cargo xtask bench realtime` builds it where Go is installed.",
        ));
    }
    Ok(())
}

async fn under_load(plan: Plan, kinds: &[Kind], descriptors: usize, table: &mut Table) -> Result<()> {
    // As many for all of them, so that they can be compared.
    let sockets_max = kinds
        .iter()
        .map(|kind| kind.sockets_max(descriptors))
        .min()
        .unwrap_or_default();
    let mut sides = Vec::new();
    for kind in kinds {
        sides.push(Side::start(*kind).await?);
    }
    let mut frames = None;
    for side in sides.iter().filter(|side| side.kind.has_our_frames()) {
        let these = work::sample(side).await?;
        let those = frames.get_or_insert_with(|| these.clone());
        if these != *those {
            bail!(
                "{} answers with {these:?}, and the first with {those:?}",
                side.kind.name()
            );
        }
    }
    for run in 0..plan.runs {
        for (place, side) in sides.iter().enumerate() {
            eprintln!("realtime, run {} of {}: {}", run + 1, plan.runs, side.kind.name());
            let echoes = work::echoes(side, ECHO_SOCKETS, ECHO_IN_FLIGHT, plan.measured).await?;
            let what = format!("echoes on {ECHO_SOCKETS} sockets × {ECHO_IN_FLIGHT} in flight");
            table.add(&what, "/s", place, echoes.rate);
            table.add("– p99", "ms", place, echoes.p99_ms);
            table.add("– CPU time of the server for each", "µs", place, echoes.cpu_us);
            side.rest();
            let delivery = work::steady(side, STEADY_SOCKETS, STEADY_RATE, plan.measured).await?;
            let what = format!("{STEADY_RATE} messages/s to {STEADY_SOCKETS} sockets: publish → delivery, p50");
            table.add(&what, "ms", place, delivery.p50_ms);
            table.add("– p99 of the same", "ms", place, delivery.p99_ms);
            side.rest();
            for sockets in FAN_OUTS.map(|sockets| sockets.min(sockets_max)) {
                let fan_out = work::fan_out(side, sockets, plan.measured / 2).await?;
                let what = format!("one message to {sockets} sockets: the last has it after");
                table.add(&what, "ms", place, fan_out.last_ms);
                let rate = crate::load::count(sockets) / fan_out.last_ms * 1e3;
                table.add(&format!("– deliveries to {sockets}"), "/s", place, rate);
                let what = format!("– CPU time of the server for a delivery, of {sockets}");
                table.add(&what, "µs", place, fan_out.cpu_us);
                let what = format!("– to connect and follow, one of {sockets}");
                table.add(&what, "µs", place, fan_out.join_us);
                side.rest();
            }
        }
    }
    Ok(())
}

/// Raises the number of descriptors as far as the system lets this process; servers get the same. Gives how many there may be.
fn descriptors() -> Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    Ok(limit
        .maximum
        .map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX)))
}
