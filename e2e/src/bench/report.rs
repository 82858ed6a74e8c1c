//! The comparison as a table and as a plot: ratios with their spread.

use std::fmt::Write;

use super::{Measured, Sample};

/// Least, median and most of a figure.
fn spread(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = samples.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (at(0), at(values.len() / 2), at(values.len().saturating_sub(1)))
}

fn median(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> f64 {
    spread(samples, figure).1
}

/// CPU per request as a share of Envoy's at the same connections, if Envoy was measured.
pub fn ratio_to(measured: &[Measured], name: &str, of: &str, connections: u32) -> Option<f64> {
    let cpu = |name: &str| {
        let peer = measured.iter().find(|peer| peer.name == name)?;
        let samples = &peer.samples.iter().find(|(found, _)| *found == connections)?.1;
        Some(median(samples, |sample| sample.cpu_us))
    };
    Some(cpu(name)? / cpu(of)?)
}

/// The table, in Markdown.
pub fn table(measured: &[Measured]) -> String {
    let mut shown = String::new();
    let connections: Vec<u32> =
        measured.first().map(|peer| peer.samples.iter().map(|(c, _)| *c).collect()).unwrap_or_default();
    for c in connections {
        let _ = writeln!(shown, "\n{c} connection{}\n", if c == 1 { "" } else { "s" });
        shown.push_str(
            "| pair | CPU us/request (min-max) | of Envoy's | p50 us | p99 us | requests/s | RSS loaded | RSS idle |\n",
        );
        shown.push_str("|---|---|---|---|---|---|---|---|\n");
        for peer in measured {
            let Some((_, samples)) = peer.samples.iter().find(|(found, _)| *found == c) else { continue };
            let (least, cpu, most) = spread(samples, |sample| sample.cpu_us);
            let ratio = ratio_to(measured, &peer.name, "envoy", c).map_or("-".into(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(
                shown,
                "| {} | {cpu:.1} ({least:.1}-{most:.1}) | {ratio} | {:.0} | {:.0} | {:.0} | {:.1} MB | {:.1} MB |",
                peer.name,
                median(samples, |sample| sample.p50_us),
                median(samples, |sample| sample.p99_us),
                median(samples, |sample| sample.rps),
                median(samples, |sample| sample.rss as f64) / 1e6,
                peer.idle_rss as f64 / 1e6,
            );
        }
    }
    shown
}

/// A bar chart of CPU per request as SVG, one group for each number of connections.
pub fn plot(measured: &[Measured]) -> String {
    const COLOURS: [&str; 5] = ["#b7410e", "#888888", "#4a6fa5", "#5b8c5a", "#9a7aa0"];
    let connections: Vec<u32> =
        measured.first().map(|peer| peer.samples.iter().map(|(c, _)| *c).collect()).unwrap_or_default();
    let cpu = |peer: &Measured, c: u32| {
        let samples = peer.samples.iter().find(|(found, _)| *found == c).map(|(_, samples)| samples.as_slice());
        spread(samples.unwrap_or_default(), |sample| sample.cpu_us)
    };
    let top = measured.iter().flat_map(|peer| connections.iter().map(|c| cpu(peer, *c).2)).fold(1.0, f64::max);
    let group = 40.0 * measured.len() as f64 + 40.0;
    let width = 60.0 + group * connections.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"340\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"18\">CPU per request of both proxies, microseconds (bar: median; line: least to most)</text>\n"
    );
    for (g, c) in connections.iter().enumerate() {
        let left = 50.0 + group * g as f64;
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"330\">{c} connections</text>");
        for (i, peer) in measured.iter().enumerate() {
            let (least, mid, most) = cpu(peer, *c);
            let (x, y) = (left + 40.0 * i as f64, |value: f64| 290.0 - 240.0 * value / top);
            let colour = COLOURS[i % COLOURS.len()];
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{:.1}\" width=\"32\" height=\"{:.1}\" fill=\"{colour}\"/>",
                y(mid),
                290.0 - y(mid)
            );
            let _ = writeln!(
                svg,
                "<line x1=\"{0}\" x2=\"{0}\" y1=\"{1:.1}\" y2=\"{2:.1}\" stroke=\"black\"/>",
                x + 16.0,
                y(least),
                y(most)
            );
            let _ = writeln!(svg, "<text x=\"{x}\" y=\"{:.1}\">{mid:.0}</text>", y(most) - 4.0);
            let _ = writeln!(svg, "<text x=\"{x}\" y=\"306\" font-size=\"9\">{}</text>", peer.name);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, cpu: [f64; 3]) -> Measured {
        let sample = |cpu_us| Sample { cpu_us, rps: 1.0, p50_us: 1.0, p99_us: 1.0, rss: 1 };
        Measured { name: name.into(), idle_rss: 1, samples: vec![(32, cpu.map(sample).to_vec())] }
    }

    #[test]
    fn a_ratio_is_of_medians_and_the_spread_is_shown() {
        let measured = [peer("ferromesh", [30.0, 40.0, 90.0]), peer("envoy", [100.0, 80.0, 60.0])];
        assert_eq!(ratio_to(&measured, "ferromesh", "envoy", 32), Some(0.5));
        let table = table(&measured);
        assert!(table.contains("40.0 (30.0-90.0) | 0.50"), "{table}");
        assert!(plot(&measured).contains("envoy"));
    }
}
