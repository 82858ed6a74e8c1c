//! The comparison as tables: figures, and ratios within a run with their spread.

use std::fmt::Write;

use super::handshake::Handshakes;
use super::transfer::Transfers;
use super::{Comparison, Measured, Sample};

/// Least, median and most.
pub(super) fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (at(0), at(values.len() / 2), at(values.len().saturating_sub(1)))
}

pub(super) fn figures(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> (f64, f64, f64) {
    spread(samples.iter().map(figure).collect())
}

fn median(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> f64 {
    figures(samples, figure).1
}

fn samples<'a>(measured: &'a [Measured], name: &str, connections: u32) -> Option<&'a [Sample]> {
    let peer = measured.iter().find(|peer| peer.name == name)?;
    let (_, samples) = peer.samples.iter().find(|(found, _)| *found == connections)?;
    (!samples.is_empty()).then_some(samples.as_slice())
}

/// A figure as a share of another peer's, run by run: what the machine did meanwhile met both.
pub fn ratio(
    measured: &[Measured],
    name: &str,
    of: &str,
    connections: u32,
    figure: fn(&Sample) -> f64,
) -> Option<(f64, f64, f64)> {
    let (ours, theirs) = (samples(measured, name, connections)?, samples(measured, of, connections)?);
    Some(spread(ours.iter().zip(theirs).map(|(a, b)| figure(a) / figure(b)).collect()))
}

/// `median (least-most)` with so many digits.
fn with_spread((least, middle, most): (f64, f64, f64), digits: usize) -> String {
    format!("{middle:.digits$} ({least:.digits$}-{most:.digits$})")
}

fn shown(ratio: Option<(f64, f64, f64)>) -> String {
    ratio.map_or("-".into(), |ratio| with_spread(ratio, 2))
}

/// Numbers of connections that were measured.
pub(super) fn connections(measured: &[Measured]) -> Vec<u32> {
    measured.first().map(|peer| peer.samples.iter().map(|(c, _)| *c).collect()).unwrap_or_default()
}

/// All tables, in Markdown.
pub fn table(comparison: &Comparison) -> String {
    let mut text = String::new();
    let loads = [("HTTP/1.1", &comparison.http1), ("HTTP/2", &comparison.http2), ("Unary gRPC", &comparison.grpc)];
    for (title, measured) in loads {
        for c in connections(measured) {
            let _ = writeln!(text, "\n{title}, {c} request{} at a time\n", if c == 1 { "" } else { "s" });
            load_table(&mut text, measured, c);
        }
    }
    tcp_table(&mut text, &comparison.tcp);
    handshake_table(&mut text, &comparison.handshakes);
    idle_table(&mut text, comparison);
    scale_table(&mut text, comparison);
    text
}

fn tcp_table(text: &mut String, all: &[Transfers]) {
    if all.is_empty() {
        return;
    }
    text.push_str(
        "\nOne large transfer over TCP, mTLS between\n\n| pair | MB/s | CPU s/GB | of HAProxy's |\n|---|---|---|---|\n",
    );
    let cost = |transfers: &Transfers| transfers.samples.iter().map(|sample| sample.cpu_s_per_gb).collect::<Vec<_>>();
    let theirs = all.iter().find(|peer| peer.name == "haproxy").map(cost);
    for peer in all {
        let ours = cost(peer);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            peer.name,
            with_spread(spread(peer.samples.iter().map(|sample| sample.mb_per_s).collect()), 0),
            with_spread(spread(ours.clone()), 2),
            shown(theirs.as_deref().map(|theirs| spread(run_by_run(&ours, theirs)))),
        );
    }
}

fn handshake_table(text: &mut String, all: &[Handshakes]) {
    if all.is_empty() {
        return;
    }
    text.push_str("\nNew mTLS connections, none resumed\n\n| server | CPU us each | of HAProxy's |\n|---|---|---|\n");
    let theirs = all.iter().find(|peer| peer.name == "haproxy");
    for peer in all {
        let ratio = theirs.map(|theirs| spread(run_by_run(&peer.cpu_us, &theirs.cpu_us)));
        let cost = with_spread(spread(peer.cpu_us.clone()), 0);
        let _ = writeln!(text, "| {} | {cost} | {} |", peer.name, shown(ratio));
    }
}

fn run_by_run(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

fn load_table(text: &mut String, measured: &[Measured], c: u32) {
    text.push_str(
        "| pair | CPU us/request (min-max) | of Envoy's | of the relay's | p50 us | p99 us | p99 of the relay's | requests/s | RSS loaded |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for peer in measured {
        let Some(samples) = samples(measured, &peer.name, c) else { continue };
        let (least, cpu, most) = figures(samples, |sample| sample.cpu_us);
        let of = |other: &str| shown(ratio(measured, &peer.name, other, c, |sample| sample.cpu_us));
        let _ = writeln!(
            text,
            "| {} | {cpu:.1} ({least:.1}-{most:.1}) | {} | {} | {:.0} | {:.0} | {} | {:.0} | {:.1} MB |",
            peer.name,
            of("envoy"),
            of("relay"),
            median(samples, |sample| sample.p50_us),
            median(samples, |sample| sample.p99_us),
            shown(ratio(measured, &peer.name, "relay", c, |sample| sample.p99_us)),
            median(samples, |sample| sample.rps),
            median(samples, |sample| sample.rss as f64) / 1e6,
        );
    }
}

fn idle_table(text: &mut String, comparison: &Comparison) {
    if comparison.http1.is_empty() {
        return;
    }
    text.push_str(
        "\nAt rest: memory of a proxy and of a connection that nobody uses, without and with a request before\n\n",
    );
    text.push_str("| peer | RSS idle | start to ready | plain | plain, used | mTLS | mTLS, used |\n|---|---|---|---|---|---|---|\n");
    for peer in &comparison.http1 {
        let _ = write!(text, "| {} | {:.1} MB | {:.0} ms |", peer.name, peer.idle_rss as f64 / 1e6, peer.start_ms);
        match comparison.idle.iter().find(|idle| idle.name == peer.name) {
            None => text.push_str(" - | - | - | - |\n"),
            Some(idle) => {
                for bytes in [idle.plain, idle.plain_used, idle.tls, idle.tls_used] {
                    let _ = write!(text, " {:.1} KiB |", bytes / 1024.0);
                }
                text.push('\n');
            }
        }
    }
}

fn scale_table(text: &mut String, comparison: &Comparison) {
    let Some(services) = comparison.scale.first().map(|scale| scale.services) else { return };
    let _ = writeln!(text, "\n{services} services with mTLS by delta ADS\n");
    text.push_str(
        "| proxy | ready after | CPU until ready | RSS | CPU of one endpoint change |\n|---|---|---|---|---|\n",
    );
    for scale in &comparison.scale {
        let _ = writeln!(
            text,
            "| {} | {:.2} s | {:.2} s | {:.1} MB | {:.0} us |",
            scale.name,
            scale.ready_s,
            scale.cpu_s,
            scale.rss as f64 / 1e6,
            scale.change_us,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, cpu: [f64; 3]) -> Measured {
        let sample = |cpu_us| Sample { cpu_us, rps: 1.0, p50_us: 1.0, p99_us: 1.0, rss: 1 };
        let samples = vec![(32, cpu.map(sample).to_vec())];
        Measured { name: name.into(), idle_rss: 1, start_ms: 1.0, samples }
    }

    #[test]
    fn a_ratio_is_taken_run_by_run_and_its_spread_is_shown() {
        let load = vec![peer("ferromesh", [30.0, 40.0, 90.0]), peer("envoy", [100.0, 80.0, 90.0])];
        assert_eq!(ratio(&load, "ferromesh", "envoy", 32, |sample| sample.cpu_us), Some((0.3, 0.5, 1.0)));
        assert_eq!(ratio(&load, "ferromesh", "relay", 32, |sample| sample.cpu_us), None);
        let comparison = Comparison { http1: load, ..Default::default() };
        let table = table(&comparison);
        assert!(table.contains("40.0 (30.0-90.0) | 0.50 (0.30-1.00) | -"), "{table}");
        assert!(super::super::plot::svg(&comparison).contains("envoy"));
    }
}
