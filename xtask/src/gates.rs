//! Gates on the bundle: what the platform charges for with patience. Each prints the figure beside its limit.

use anyhow::{Context, Result, bail};

use crate::process::{output, wrangler};
use crate::project::Project;

/// Gzipped size of the whole upload. A free account takes 3 MB; half of it leaves room and keeps the start quick.
const BUNDLE_KIB_MAX: f64 = 1_500_000.0 / 1_024.0;
/// Time that V8 is active while the script starts. The platform allows 1 s; a cold start should not be felt.
const STARTUP_MS_MAX: f64 = 40.0;
/// How often the start is measured at most: the least of the figures counts, as all else on the machine only adds to it.
const STARTUP_RUNS: usize = 3;

/// Measures the release bundle as wrangler would upload it. Errors: a figure above its limit.
pub fn check(project: &Project) -> Result<String> {
    let mut kib = f64::NAN;
    let mut active_ms = f64::INFINITY;
    for _ in 0..STARTUP_RUNS {
        let profile = project.target.join("startup.cpuprofile");
        let printed = output(wrangler(project).args(["check", "startup", "--outfile"]).arg(profile));
        let printed = printed.context("`wrangler check startup` failed; run it with `npx wrangler check startup`")?;
        kib = figure_after(&printed, "gzip:").context("`wrangler check startup` printed no size")?;
        active_ms =
            active_ms.min(figure_after(&printed, "Active:").context("`wrangler check startup` printed no time")?);
        if active_ms <= STARTUP_MS_MAX {
            break;
        }
    }
    let figures = format!(
        "bundle {kib:.0} KiB gzipped (at most {BUNDLE_KIB_MAX:.0}), start {active_ms:.1} ms active (at most {STARTUP_MS_MAX:.0})"
    );
    if kib > BUNDLE_KIB_MAX || active_ms > STARTUP_MS_MAX {
        bail!("{figures}");
    }
    Ok(figures)
}

/// The number that follows `label` in what a program printed.
fn figure_after(printed: &str, label: &str) -> Option<f64> {
    let (_, rest) = printed.split_once(label)?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::figure_after;

    #[test]
    fn figures_are_read_from_what_wrangler_prints() {
        let printed =
            "│ Bundle: 715.15 KiB / gzip: 213.39 KiB\n│   Active: 7.6 ms (including 0.0 ms garbage collection)\n";
        assert_eq!(figure_after(printed, "gzip:"), Some(213.39));
        assert_eq!(figure_after(printed, "Active:"), Some(7.6));
        assert_eq!(figure_after(printed, "Idle:"), None);
    }
}
