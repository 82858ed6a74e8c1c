//! Traces reach a collector: its own protocol, over gRPC, in a process of their own, because `tracing` has one subscriber for each.

use std::time::Duration;

use ferromesh_core::args::{LogArgs, OtlpArgs};
use ferromesh_core::telemetry::init;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio::sync::mpsc;
use tonic::codegen::Service;
use tonic::{Request, Response, Status};

/// A collector that hands on what it is sent.
struct Collector(mpsc::Sender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_the_collector_with_the_name_of_the_service() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut received) = mpsc::channel(8);
    let service = TraceServiceServer::new(Collector(sender));
    let call = hyper::service::service_fn(move |request| service.clone().call(request));
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(socket), call)
            .await
    });

    let log = LogArgs { log_level: "info".into(), ..LogArgs::default() };
    let otlp = OtlpArgs { otlp_endpoint: Some(endpoint), otlp_sample_ratio: None };
    let telemetry = init(&log, &otlp, "ferromesh-test").unwrap();
    tracing::info_span!("outer", mesh = "one").in_scope(|| tracing::info_span!("inner").in_scope(|| ()));
    // What is still queued is sent at the end.
    let ended = tokio::task::spawn_blocking(move || telemetry.shutdown());
    let request = tokio::time::timeout(Duration::from_secs(30), received.recv()).await.unwrap().unwrap();
    ended.await.unwrap();

    let traces = request.resource_spans.first().unwrap();
    let attributes = &traces.resource.as_ref().unwrap().attributes;
    let service = attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
    let value = service.value.as_ref().unwrap().value.clone();
    assert_eq!(value, Some(Value::StringValue("ferromesh-test".into())));
    let spans: Vec<_> = traces.scope_spans.iter().flat_map(|scope| &scope.spans).collect();
    let named = |name: &str| *spans.iter().find(|span| span.name == name).unwrap();
    assert_eq!(named("inner").parent_span_id, named("outer").span_id);
    assert_eq!(named("inner").trace_id, named("outer").trace_id);
    assert!(named("outer").attributes.iter().any(|attribute| attribute.key == "mesh"));
}
