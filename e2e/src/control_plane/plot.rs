//! How control planes grow, as a picture (SVG): both axes logarithmic, so that a straight line is a power.

use std::fmt::Write;

use super::{Measured, Size};

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 44.0;
const COLOURS: [(&str, &str); 2] = [("ferromesh", "#b7410e"), ("istiod", "#4a6fa5")];

/// A figure of what was measured.
struct Figure {
    title: &'static str,
    value: fn(&Measured) -> f64,
}

const FIGURES: [Figure; 4] = [
    Figure { title: "peak RSS, MB", value: |one| one.peak_rss as f64 / 1e6 },
    Figure { title: "CPU until all are served, s", value: |one| one.cpu_s },
    Figure { title: "CPU of an endpoint change, ms", value: |one| one.change_cpu_s * 1e3 },
    Figure { title: "change to last ACK, p99, ms", value: |one| super::report::quantile(&one.changes_s, 0.99) * 1e3 },
];

/// What grows from left to right.
struct Axis {
    title: String,
    of: fn(Size) -> u32,
    points: Vec<Measured>,
}

/// Panels: a row for more services, one for more sidecars.
pub fn svg(measured: &[Measured]) -> String {
    let axes = axes(measured);
    let (width, height) = (FIGURES.len() as f64 * (WIDTH + 20.0), axes.len() as f64 * (HEIGHT + 70.0) + 30.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (place, (name, colour)) in COLOURS.iter().enumerate() {
        let x = LEFT + place as f64 * 110.0;
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.0}\" cy=\"16\" r=\"5\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"20\">{name}</text>",
            x + 10.0
        );
    }
    for (row, axis) in axes.iter().enumerate() {
        for (column, figure) in FIGURES.iter().enumerate() {
            let at = (column as f64 * (WIDTH + 20.0), row as f64 * (HEIGHT + 70.0) + 30.0);
            panel(&mut svg, at, axis, figure);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The two ways to grow that were measured: the size that most others share a side with is where they cross.
fn axes(measured: &[Measured]) -> Vec<Axis> {
    let alike = |size: Size| {
        measured.iter().filter(|one| one.size.services == size.services || one.size.sidecars == size.sidecars).count()
    };
    let Some(cross) = measured.iter().map(|one| one.size).max_by_key(|size| alike(*size)) else { return Vec::new() };
    let points = |keep: &dyn Fn(Size) -> bool| measured.iter().filter(|one| keep(one.size)).cloned().collect();
    let axes = [
        Axis {
            title: format!("services, {} sidecars", cross.sidecars),
            of: |size| size.services,
            points: points(&|size| size.sidecars == cross.sidecars),
        },
        Axis {
            title: format!("sidecars, {} services", cross.services),
            of: |size| size.sidecars,
            points: points(&|size| size.services == cross.services),
        },
    ];
    axes.into_iter().filter(|axis| !axis.points.is_empty()).collect()
}

/// Powers of ten that hold all values.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let logs: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
    let least = logs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if least > most {
        return (0, 1);
    }
    let low = least.floor() as i32;
    (low, (most.ceil() as i32).max(low + 1))
}

fn panel(svg: &mut String, (left, top): (f64, f64), axis: &Axis, figure: &Figure) {
    let across = decades(axis.points.iter().map(|one| f64::from((axis.of)(one.size))));
    let up = decades(axis.points.iter().map(figure.value));
    let (inner_width, inner_height) = (WIDTH - LEFT - 16.0, HEIGHT - TOP);
    let part = |value: f64, (low, high): (i32, i32)| (value.max(1e-9).log10() - f64::from(low)) / f64::from(high - low);
    let x = |value: f64| left + LEFT + inner_width * part(value, across);
    let y = |value: f64| top + TOP + inner_height * (1.0 - part(value, up));
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\" font-weight=\"bold\">{}</text>",
        left + LEFT,
        top + 30.0,
        figure.title
    );
    for power in up.0..=up.1 {
        let at = y(10f64.powi(power));
        let _ = writeln!(
            svg,
            "<line x1=\"{:.0}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left + LEFT,
            left + LEFT + inner_width,
            left + LEFT - 6.0,
            at + 4.0,
            label(power),
        );
    }
    for power in across.0..=across.1 {
        let at = x(10f64.powi(power));
        let bottom = top + HEIGHT;
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.0}\" y2=\"{bottom:.0}\" stroke=\"#eee\"/><text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            top + TOP,
            bottom + 16.0,
            label(power),
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\" fill=\"#555\">{}</text>",
        left + LEFT,
        top + HEIGHT + 34.0,
        axis.title
    );
    for (name, colour) in COLOURS {
        let mut points: Vec<(f64, f64)> = axis
            .points
            .iter()
            .filter(|one| one.plane == name)
            .map(|one| (x(f64::from((axis.of)(one.size))), y((figure.value)(one))))
            .collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (x, y) in points {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        }
    }
}

fn label(power: i32) -> String {
    if power < 0 {
        format!("{:.*}", power.unsigned_abs() as usize, 10f64.powi(power))
    } else {
        format!("{:.0}", 10f64.powi(power))
    }
}

#[cfg(test)]
mod tests {
    use super::{axes, decades, label};
    use crate::control_plane::{Measured, Size};

    fn measured(services: u32, sidecars: u32) -> Measured {
        Measured {
            plane: "ferromesh",
            size: Size { services, sidecars },
            synced_s: 1.0,
            rss_synced: 1,
            served_s: 1.0,
            cpu_s: 1.0,
            cpu_served_s: 1.0,
            sent: 1,
            peak_rss: 1,
            change_cpu_s: 1.0,
            changes_s: vec![1.0],
        }
    }

    #[test]
    fn sizes_that_cross_are_two_ways_to_grow() {
        let all =
            [measured(100, 200), measured(1000, 10), measured(1000, 200), measured(1000, 500), measured(5000, 200)];
        let axes = axes(&all);
        assert_eq!(axes.iter().map(|axis| axis.points.len()).collect::<Vec<_>>(), [3, 3]);
        assert_eq!(axes[0].title, "services, 200 sidecars");
        assert_eq!(axes[1].title, "sidecars, 1000 services");
    }

    #[test]
    fn an_axis_begins_and_ends_with_a_power_of_ten() {
        assert_eq!(decades([12.0, 800.0].into_iter()), (1, 3));
        assert_eq!(decades([0.02].into_iter()), (-2, -1));
        assert_eq!(decades(std::iter::empty()), (0, 1));
        assert_eq!([label(-2), label(0), label(3)], ["0.01", "1", "1000"]);
    }
}
