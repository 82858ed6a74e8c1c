//! Traces of the daemon itself: spans in, OTLP over gRPC out, through a bounded queue that drops when full.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};

use crate::args::OtlpArgs;

/// Spans that wait for the collector; more than these are dropped.
const MAX_QUEUE: usize = 2048;
const MAX_BATCH: usize = 512;
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// A tracer provider that sends to the endpoint of `args`, or none if there is no endpoint.
///
/// Needs a tokio runtime.
///
/// # Errors
/// If the endpoint is not a URL.
pub(super) fn provider(args: &OtlpArgs, service: &'static str) -> Result<Option<SdkTracerProvider>, String> {
    let Some(endpoint) = &args.otlp_endpoint else { return Ok(None) };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint.as_str())
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| error.to_string())?;
    let config =
        BatchConfigBuilder::default().with_max_queue_size(MAX_QUEUE).with_max_export_batch_size(MAX_BATCH).build();
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let ratio = Sampler::TraceIdRatioBased(args.otlp_sample_ratio.unwrap_or(1.0));
    let provider = SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(config).build())
        .with_sampler(Sampler::ParentBased(Box::new(ratio)))
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}
