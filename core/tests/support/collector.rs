//! An OTLP collector of traces inside a test: gRPC on loopback, what comes is kept.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use tonic::{Request, Response, Status};

/// What daemons have sent.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

/// One span as tests look at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub service: String,
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    /// Id of the span that it is in; empty for none.
    pub parent: Vec<u8>,
}

impl Collector {
    /// Listens on a free port for as long as the test's runtime lives.
    pub async fn start() -> (Self, SocketAddr) {
        let collector = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(service.clone());
                tokio::spawn(async move {
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        (collector, addr)
    }

    /// All spans that came.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for part in self.0.lock().unwrap().iter().flat_map(|request| &request.resource_spans) {
            let about = part.resource.as_ref().map(|resource| texts(&resource.attributes)).unwrap_or_default();
            let service = about.into_iter().find(|(key, _)| key == "service.name").map(|(_, value)| value);
            for span in part.scope_spans.iter().flat_map(|scope| &scope.spans) {
                let (service, name) = (service.clone().unwrap_or_default(), span.name.clone());
                let (trace, id, parent) = (span.trace_id.clone(), span.span_id.clone(), span.parent_span_id.clone());
                spans.push(Span { service, name, attributes: texts(&span.attributes), trace, id, parent });
            }
        }
        spans
    }
}

fn texts(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some((attribute.key.clone(), text.clone())),
        Value::IntValue(number) => Some((attribute.key.clone(), number.to_string())),
        _ => None,
    };
    attributes.iter().filter_map(text).collect()
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
