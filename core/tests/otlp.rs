//! Spans as the collector sees them, in a process of their own, because `tracing` has one subscriber for each.

use ferromesh_core::args::{LogArgs, OtlpArgs};
use ferromesh_core::telemetry::init;

#[path = "support/collector.rs"]
mod collector;

use collector::{Collector, Span};

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_the_collector_with_the_name_of_the_service_and_what_they_are_in() {
    let (collector, addr) = Collector::start().await;
    let log = LogArgs { log_level: "info".into(), ..LogArgs::default() };
    let otlp = OtlpArgs { otlp_endpoint: Some(format!("http://{addr}")), otlp_sample_ratio: None };
    let telemetry = init(&log, &otlp, "ferromesh-test").unwrap();
    tracing::info_span!("outer", mesh = "one").in_scope(|| tracing::info_span!("inner").in_scope(|| ()));
    // What is still queued is sent at the end.
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await.unwrap();

    let spans = collector.spans();
    let named = |name: &str| -> &Span { spans.iter().find(|span| span.name == name).expect(name) };
    let (outer, inner) = (named("outer"), named("inner"));
    assert_eq!((&*outer.service, &*inner.service), ("ferromesh-test", "ferromesh-test"));
    assert_eq!((&inner.parent, &inner.trace), (&outer.id, &outer.trace));
    assert!(outer.attributes.contains(&("mesh".into(), "one".into())), "{outer:?}");
}
