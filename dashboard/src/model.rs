//! The join, pure: proxies' metrics as text in, edges from workload to service out.

use std::collections::BTreeMap;

use prometheus_parse::{Scrape, Value};
use serde::Serialize;

/// The metric that is joined (prometheus-client adds `_total`, Istio's has it in its name; both are one).
const REQUESTS: &str = "istio_requests_total";
/// Edges that are shown at most; what is above is counted together.
const MAX_EDGES: usize = 10_000;

/// Requests from a workload to a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Edge {
    /// Namespace of the caller.
    pub source_namespace: String,
    /// The calling workload; `unknown` if it is outside the mesh.
    pub source: String,
    /// Namespace of the service.
    pub destination_namespace: String,
    /// The called service's name.
    pub destination: String,
    /// Requests answered so far.
    pub requests: u64,
    /// How many of these failed: status 5xx, no response, or a gRPC status that is the server's fault.
    pub errors: u64,
    /// `errors` of `requests`, from 0 to 1.
    pub error_share: f64,
}

type Ends = (String, String, String, String);

/// Joins the metrics of all proxies. A request that both ends report is counted once, at the end that saw more.
pub fn edges<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Edge> {
    // For each edge: what its source side reports, and what its destination side reports.
    let mut counts: BTreeMap<Ends, [(f64, f64); 2]> = BTreeMap::new();
    for text in texts {
        // A line that is not a metric ends this text: the rest of it cannot be trusted.
        let Ok(scrape) = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))) else { continue };
        for sample in scrape.samples.iter().filter(|sample| sample.metric == REQUESTS) {
            let (Value::Counter(count) | Value::Untyped(count) | Value::Gauge(count)) = sample.value else { continue };
            if !count.is_finite() || count < 0.0 {
                continue;
            }
            let label = |name| sample.labels.get(name).unwrap_or("unknown").to_owned();
            let ends = (
                label("source_workload_namespace"),
                label("source_workload"),
                label("destination_service_namespace"),
                label("destination_service_name"),
            );
            if counts.len() >= MAX_EDGES && !counts.contains_key(&ends) {
                continue;
            }
            let side = usize::from(label("reporter") == "destination");
            let (requests, errors) = &mut counts.entry(ends).or_default()[side];
            *requests += count;
            if is_error(&label("response_code"), &label("grpc_response_status")) {
                *errors += count;
            }
        }
    }
    counts.into_iter().map(|(ends, sides)| edge(ends, sides)).collect()
}

fn edge(ends: Ends, [source, destination]: [(f64, f64); 2]) -> Edge {
    // The source sees also what never arrived; the destination also sees callers outside the mesh.
    let (requests, errors) = if destination.0 > source.0 { destination } else { source };
    let (source_namespace, source, destination_namespace, destination) = ends;
    let error_share = if requests > 0.0 { errors / requests } else { 0.0 };
    let (requests, errors) = (requests as u64, errors as u64);
    Edge { source_namespace, source, destination_namespace, destination, requests, errors, error_share }
}

/// gRPC: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
fn is_error(code: &str, grpc: &str) -> bool {
    code == "0" || code.starts_with('5') || matches!(grpc, "2" | "4" | "12" | "13" | "14" | "15")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURE: &str = include_str!("../tests/stats.prom");

    #[test]
    fn metrics_become_edges_with_requests_and_errors() {
        let edges = edges([FIXTURE]);
        let rows: Vec<_> =
            edges.iter().map(|e| (e.source.as_str(), e.destination.as_str(), e.requests, e.errors)).collect();
        assert_eq!(rows, [("gateway-istio", "web", 100, 20), ("web-v1", "api", 40, 4), ("unknown", "web", 7, 0)]);
        assert!((edges[0].error_share - 0.2).abs() < 1e-9);
        assert_eq!((edges[1].source_namespace.as_str(), edges[1].destination_namespace.as_str()), ("shop", "shop"));
    }

    #[test]
    fn a_request_that_both_ends_report_is_counted_once() {
        let line = |reporter, count| {
            format!(
                "istio_requests_total{{reporter=\"{reporter}\",source_workload=\"a\",destination_service_name=\"b\",response_code=\"200\"}} {count}\n"
            )
        };
        let (one, two) = (line("source", 10), line("destination", 9));
        assert_eq!(edges([one.as_str(), two.as_str()])[0].requests, 10);
        // Two proxies of one workload add up.
        assert_eq!(edges([one.as_str(), one.as_str()])[0].requests, 20);
    }

    #[test]
    fn odd_text_gives_no_edges_and_no_panic() {
        for text in ["", "{", "istio_requests_total{ 1", "istio_requests_total{a=\"b\"} NaN\n", "\u{0}é"] {
            assert_eq!(edges([text]), [], "{text:?}");
        }
    }
}
