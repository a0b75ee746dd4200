//! Histograms as SVG, for the eye and, by their title, for a screen reader.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use super::super::histogram::Histogram;
use super::figures::{escape, percent, whole};

/// The width of a chart in its own units.
const WIDTH: f64 = 600.0;

/// The bars alone, in a line of a table. Hidden from screen readers, which are told the numbers.
pub(super) fn spark(histogram: &Histogram) -> String {
    let bars = bars(histogram, 24.0, None);
    format!(
        "<svg class=\"spark\" viewBox=\"0 0 {WIDTH} 24\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{bars}</svg>"
    )
}

/// The histogram with its axis. `label` is how a value is shown.
pub(super) fn plot(name: &str, histogram: &Histogram, label: &dyn Fn(f64) -> String) -> String {
    let (Some(first), Some(last)) = (histogram.bins.first(), histogram.bins.last()) else {
        return String::new();
    };
    let middle = first.from / 2.0 + last.to / 2.0;
    let mut plot = format!(
        "<div><h4>Distribution</h4><svg class=\"plot\" role=\"img\" viewBox=\"0 0 {WIDTH} 120\" \
         preserveAspectRatio=\"none\" aria-label=\"Histogram of {} from {} to {}\">{}</svg>\
         <div class=\"axis\" aria-hidden=\"true\"><span>{}</span><span>{}</span><span>{}</span></div>",
        escape(name),
        label(first.from),
        label(last.to),
        bars(histogram, 120.0, Some(label)),
        label(first.from),
        label(middle),
        label(last.to),
    );
    if histogram.below + histogram.above > 0 {
        let _ = write!(
            plot,
            "<p class=\"note\">The middle 98 % of the values. Outside: {} below, {} above.</p>",
            whole(histogram.below),
            whole(histogram.above)
        );
    }
    plot.push_str("</div>");
    plot
}

fn bars(histogram: &Histogram, height: f64, label: Option<&dyn Fn(f64) -> String>) -> String {
    let highest = histogram.bins.iter().map(|bin| bin.count).max().unwrap_or(0);
    let count = u32::try_from(histogram.bins.len()).unwrap_or(1).max(1);
    let step = WIDTH / f64::from(count);
    let mut bars = String::new();
    for (at, bin) in (0_u32..).zip(&histogram.bins) {
        if bin.count == 0 {
            continue;
        }
        // A bin that is not empty is seen, however small it is.
        let tall = (percent(bin.count, highest) / 100.0 * height).max(1.0);
        let (left, top, wide) = (step * f64::from(at) + step * 0.06, height - tall, step * 0.88);
        let _ = write!(
            bars,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\""
        );
        if let Some(label) = label {
            let (from, to, count) = (label(bin.from), label(bin.to), whole(bin.count));
            let _ = write!(bars, "><title>{from} to {to}: {count}</title></rect>");
        } else {
            bars.push_str("/>");
        }
    }
    bars
}
