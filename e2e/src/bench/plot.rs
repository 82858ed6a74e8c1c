//! The comparison as a picture: SVG, and by Chromium a PNG.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::report::{connections, figures, spread};
use super::{Comparison, Measured, Sample};
use crate::process::find;

const COLOURS: [(&str, &str); 6] = [
    ("ferromesh", "#b7410e"),
    ("2 workers", "#d98a5f"),
    ("relay", "#8a8a8a"),
    ("envoy", "#4a6fa5"),
    ("nginx", "#5b8c5a"),
    ("haproxy", "#9a7aa0"),
];
const BAR: f64 = 44.0;
const HEIGHT: f64 = 190.0;
const PANEL: f64 = HEIGHT + 110.0;

/// A bar with the least and the most that was measured.
struct Bar {
    name: String,
    least: f64,
    middle: f64,
    most: f64,
}

/// Bars that are compared, and what they have in common.
struct Group {
    title: String,
    bars: Vec<Bar>,
}

/// Bar charts of CPU, latency and memory.
pub fn svg(comparison: &Comparison) -> String {
    let panels = panels(comparison);
    let width_of = |groups: &[Group]| groups.iter().map(|group| BAR * group.bars.len() as f64 + 36.0).sum::<f64>();
    let width = panels.iter().map(|(_, groups)| width_of(groups)).fold(600.0, f64::max) + 60.0;
    let height = PANEL * panels.len() as f64 + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (row, (title, groups)) in panels.iter().enumerate() {
        panel(&mut svg, PANEL * row as f64, title, groups);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panels(comparison: &Comparison) -> Vec<(&'static str, Vec<Group>)> {
    let load = |measured: &[Measured], figure: fn(&Sample) -> f64| {
        let group = |c: u32| {
            let bars = measured.iter().filter_map(|peer| {
                let (_, samples) = peer.samples.iter().find(|(found, samples)| *found == c && !samples.is_empty())?;
                Some(bar(&peer.name, figures(samples, figure)))
            });
            Group { title: format!("{c} at a time"), bars: bars.collect() }
        };
        connections(measured).into_iter().map(group).collect::<Vec<_>>()
    };
    let one = |name: &str, value: f64| bar(name, (value, value, value));
    let memory = vec![
        Group {
            title: "idle, MB".into(),
            bars: comparison.http1.iter().map(|peer| one(&peer.name, peer.idle_rss as f64 / 1e6)).collect(),
        },
        Group {
            title: "idle mTLS connection, used, KiB".into(),
            bars: comparison.idle.iter().map(|idle| one(&idle.name, idle.tls_used / 1024.0)).collect(),
        },
    ];
    let tcp = comparison.tcp.iter();
    let tcp = tcp.map(|peer| bar(&peer.name, spread(peer.samples.iter().map(|sample| sample.cpu_s_per_gb).collect())));
    let handshakes = comparison.handshakes.iter().map(|peer| bar(&peer.name, spread(peer.cpu_us.clone())));
    let connections = vec![
        Group { title: "new mTLS connection, CPU us of the server".into(), bars: handshakes.collect() },
        Group { title: "TCP transfer, CPU s of both for a GB".into(), bars: tcp.collect() },
    ];
    let mut panels = vec![
        ("HTTP/1.1: CPU of both proxies for a request, us", load(&comparison.http1, |sample| sample.cpu_us)),
        ("HTTP/1.1: 99th percentile of latency, us", load(&comparison.http1, |sample| sample.p99_us)),
        ("HTTP/2: CPU of both proxies for a request, us", load(&comparison.http2, |sample| sample.cpu_us)),
        ("gRPC: CPU of both proxies for a call, us", load(&comparison.grpc, |sample| sample.cpu_us)),
        ("Connections and bytes", connections),
        ("Memory at rest", memory),
    ];
    if let Some(services) = comparison.scale.first().map(|scale| scale.services) {
        let bars = |figure: fn(&super::scale::Scale) -> f64| {
            comparison.scale.iter().map(|scale| one(&scale.name, figure(scale))).collect()
        };
        let groups = vec![
            Group { title: "RSS, MB".into(), bars: bars(|scale| scale.rss as f64 / 1e6) },
            Group { title: "ready after, ms".into(), bars: bars(|scale| scale.ready_s * 1e3) },
            Group { title: "endpoint change, CPU us".into(), bars: bars(|scale| scale.change_us) },
        ];
        panels.push(if services == 5000 { ("5000 services with mTLS", groups) } else { ("A big mesh", groups) });
    }
    for (_, groups) in &mut panels {
        groups.retain(|group| !group.bars.is_empty());
    }
    panels.retain(|(_, groups)| !groups.is_empty());
    panels
}

fn bar(name: &str, (least, middle, most): (f64, f64, f64)) -> Bar {
    Bar { name: name.to_owned(), least, middle, most }
}

/// Each group has a scale of its own: one connection and many are not compared with each other.
fn panel(svg: &mut String, top: f64, title: &str, groups: &[Group]) {
    let _ =
        writeln!(svg, "<text x=\"16\" y=\"{:.0}\" font-size=\"15\" font-weight=\"bold\">{title}</text>", top + 26.0);
    let floor = top + HEIGHT + 62.0;
    let mut left = 24.0;
    for group in groups {
        let highest = group.bars.iter().map(|bar| bar.most).fold(f64::MIN_POSITIVE, f64::max);
        let y = |value: f64| floor - HEIGHT * (value / highest).max(0.0);
        let right = left + BAR * group.bars.len() as f64;
        let _ = writeln!(svg, "<line x1=\"{left}\" x2=\"{right}\" y1=\"{floor}\" y2=\"{floor}\" stroke=\"#444\"/>");
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"{:.0}\">{}</text>", floor + 32.0, group.title);
        for (i, bar) in group.bars.iter().enumerate() {
            let x = left + BAR * i as f64;
            let colour = COLOURS.iter().find(|(name, _)| *name == bar.name).map_or("#444444", |(_, colour)| colour);
            let (high, middle) = (y(bar.middle), x + BAR / 2.0 - 2.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{high:.1}\" width=\"{:.0}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                BAR - 4.0,
                floor - high
            );
            if bar.least < bar.most {
                let (from, to) = (y(bar.least), y(bar.most));
                let _ = writeln!(
                    svg,
                    "<line x1=\"{middle}\" x2=\"{middle}\" y1=\"{from:.1}\" y2=\"{to:.1}\" stroke=\"black\"/>"
                );
            }
            let digits = if bar.middle < 2.0 { 2 } else { usize::from(bar.middle < 20.0) };
            let _ = writeln!(
                svg,
                "<text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\">{:.digits$}</text>",
                y(bar.most) - 5.0,
                bar.middle
            );
            let _ = writeln!(
                svg,
                "<text x=\"{middle}\" y=\"{:.0}\" text-anchor=\"middle\" font-size=\"9\">{}</text>",
                floor + 14.0,
                bar.name
            );
        }
        left = right + 36.0;
    }
}

/// Renders an SVG file; `false` if there is no Chromium.
///
/// # Errors
/// If Chromium is there and does not write the file.
pub fn render(svg: &Path, png: &Path) -> anyhow::Result<bool> {
    let Some(chromium) = find("chromium").or_else(|| find("chromium-browser")) else { return Ok(false) };
    let text = std::fs::read_to_string(svg)?;
    let size = |name: &str| {
        let value = text.split_once(&format!("{name}=\""))?.1;
        value.split_once('"').map(|(size, _)| size.to_owned())
    };
    let (width, height) = size("width").zip(size("height")).context("the size of the plot")?;
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .arg(format!("--window-size={width},{height}"))
        .arg(format!("--screenshot={}", png.display()))
        .arg(format!("file://{}", svg.canonicalize()?.display()))
        .output()?;
    if !png.is_file() {
        bail!("Chromium wrote no picture: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(true)
}
