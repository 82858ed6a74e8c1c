//! What was measured, as a table.

use std::fmt::Write;

use super::{Measured, Size};

/// A size's figures in a line.
pub(super) fn line(one: &Measured) -> String {
    format!(
        "{} {}x{}: read after {:.1} s, all served in {:.1} s, {:.1} CPU s, peak {:.0} MB; a change {:.1} ms CPU, {:.0} ms",
        one.plane,
        one.size.services,
        one.size.sidecars,
        one.synced_s,
        one.served_s,
        one.cpu_s,
        one.peak_rss as f64 / 1e6,
        one.change_cpu_s * 1e3,
        quantile(&one.changes_s, 0.5) * 1e3,
    )
}

/// The value at a share of sorted ones; 0 if there are none.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

/// A table (Markdown) of each size, ours as a share of istiod's where both were measured.
pub fn table(measured: &[Measured]) -> String {
    let mut text = String::from(
        "| services x sidecars | control plane | peak RSS | has read all | CPU to there | all served | CPU of serving | sent | CPU of a change | change to last ACK, median | p99 |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for one in measured {
        let _ = writeln!(
            text,
            "| {} x {} | {} | {:.0} MB | {:.2} s | {:.2} s | {:.2} s | {:.2} s | {:.0} MB | {:.2} ms | {:.0} ms | {:.0} ms |",
            one.size.services,
            one.size.sidecars,
            one.plane,
            one.peak_rss as f64 / 1e6,
            one.synced_s,
            one.cpu_s - one.cpu_served_s,
            one.served_s,
            one.cpu_served_s,
            one.sent as f64 / 1e6,
            one.change_cpu_s * 1e3,
            quantile(&one.changes_s, 0.5) * 1e3,
            quantile(&one.changes_s, 0.99) * 1e3,
        );
    }
    for (size, ours, theirs) in pairs(measured) {
        let _ = writeln!(
            text,
            "\nOf istiod's at {} x {}: memory {:.3}, CPU until all are served {:.3}, CPU of a change {:.3}.",
            size.services,
            size.sidecars,
            ours.peak_rss as f64 / theirs.peak_rss as f64,
            ours.cpu_s / theirs.cpu_s,
            ours.change_cpu_s / theirs.change_cpu_s,
        );
    }
    text
}

/// Sizes at which both were measured.
fn pairs(measured: &[Measured]) -> Vec<(Size, &Measured, &Measured)> {
    let ours = measured.iter().filter(|one| one.plane == "ferromesh");
    let pair = |one: &'_ _| {
        let one: &Measured = one;
        measured.iter().find(|other| other.plane == "istiod" && other.size == one.size)
    };
    ours.filter_map(|one| Some((one.size, one, pair(one)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5).to_bits(), 50f64.to_bits());
        assert_eq!(quantile(&values, 0.99).to_bits(), 99f64.to_bits());
        assert_eq!(quantile(&values[..1], 0.99).to_bits(), 1f64.to_bits());
        assert_eq!(quantile(&[], 0.5).to_bits(), 0f64.to_bits());
    }
}
