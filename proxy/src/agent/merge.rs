//! One exposition of two: the proxy's metrics and the application's, pure. Prometheus refuses a name whose type is
//! told twice, so what both have is taken from the proxy.

use std::collections::BTreeSet;

/// The proxy's text (Prometheus 0.0.4) with the application's after it, which may be OpenMetrics: what only that has
/// (`# EOF`, `# UNIT`, exemplars) is left out.
pub fn merge(own: &str, application: &str) -> String {
    let names: BTreeSet<&str> =
        own.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let mut merged = String::with_capacity(own.len() + application.len() + 1);
    merged.push_str(own);
    if !merged.is_empty() && !merged.ends_with('\n') {
        merged.push('\n');
    }
    for line in application.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") || is_ours(line, &names) {
            continue;
        }
        let without_exemplar = if line.starts_with('#') { line } else { line.split(" # {").next().unwrap_or(line) };
        merged.push_str(without_exemplar);
        merged.push('\n');
    }
    merged
}

/// Whether a line is about a metric that the proxy has, too.
fn is_ours(line: &str, names: &BTreeSet<&str>) -> bool {
    let rest = line.strip_prefix("# TYPE ").or_else(|| line.strip_prefix("# HELP ")).unwrap_or(line);
    let name = rest.split(['{', ' ']).next().unwrap_or_default();
    let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    names.contains(name) || family.is_some_and(|family| names.contains(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_applications_metrics_follow_and_what_both_have_is_told_once() {
        let own = "# TYPE a counter\na{} 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\n";
        let application = "# HELP b what\n# TYPE b counter\n# UNIT b bytes\nb_total{x=\"y\"} 2 # {trace=\"1\"} 1\n\
                           # TYPE a counter\na 5\nh_count 3\n# EOF\n";
        let merged = merge(own, application);
        assert_eq!(merged, format!("{own}# HELP b what\n# TYPE b counter\nb_total{{x=\"y\"}} 2\n"));
    }

    #[test]
    fn nothing_from_the_application_leaves_the_proxys() {
        assert_eq!(merge("a 1\n", ""), "a 1\n");
        assert_eq!(merge("", "b 1"), "b 1\n");
    }
}
