//! An ADS client over the same HTTP/2 stack as the server, and worlds to serve it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ferromesh_controller::metrics::Metrics;
use ferromesh_controller::serve::session::Wanted;
use ferromesh_controller::serve::{
    Address, Client, Hub, Kind, Kinds, Resource, ResourceSet, Server, ServerConfig, ServerTls, Snapshot,
};
use ferromesh_core::runtime::drain;
use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::core::v3::Node;
use ferromesh_proto::envoy::service::discovery::v3 as discovery;
use ferromesh_proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// A long time for a test: only reached when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const NODE: &str = "sidecar~10.0.0.1~web-0.default~default.svc.cluster.local";

/// Resources by type and name, with their versions; the same for every client.
#[derive(Clone, Default)]
pub struct World(pub HashMap<Kind, BTreeMap<String, (u64, Any)>>);

impl World {
    pub fn with(mut self, kind: Kind, name: &str, version: u64) -> Self {
        let any = Any { type_url: kind.type_url().into(), value: vec![0; 64].into() };
        self.0.entry(kind).or_default().insert(name.into(), (version, any));
        self
    }

    pub fn without(mut self, kind: Kind, name: &str) -> Self {
        self.0.entry(kind).or_default().remove(name);
        self
    }

    pub fn with_any(mut self, kind: Kind, name: &str, version: u64, any: Any) -> Self {
        self.0.entry(kind).or_default().insert(name.into(), (version, any));
        self
    }
}

impl Snapshot for World {
    fn resources(&self, _client: &Client, kind: Kind, _wanted: &Wanted) -> ResourceSet {
        let all = self.0.get(&kind).into_iter().flatten();
        let resource = |(name, (version, any)): (&String, &(u64, Any))| Resource {
            name: Arc::from(name.as_str()),
            version: *version,
            any: any.clone(),
        };
        ResourceSet::new(all.map(resource).collect())
    }
}

/// A running server and what it serves.
pub struct Fixture {
    pub hub: Hub,
    pub metrics: Metrics,
    pub server: Server,
    pub drain: drain::Signal,
}

impl Fixture {
    pub async fn start(world: World) -> Self {
        Self::with(Some(world), None, ServerConfig::default()).await
    }

    pub async fn with(world: Option<World>, tls: Option<ServerTls>, config: ServerConfig) -> Self {
        let (hub, metrics, (signal, watch)) = (Hub::new(), Metrics::new(), drain::channel());
        let address = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let parts = (hub.clone(), metrics.clone(), watch);
        let server = Server::start(address, tls, true, config, parts).await.unwrap();
        let fixture = Self { hub, metrics, server, drain: signal };
        if let Some(world) = world {
            fixture.publish(world, Kinds::ALL);
        }
        fixture
    }

    pub fn publish(&self, world: World, kinds: Kinds) -> u64 {
        self.hub.publish(Arc::new(world), Arc::new(move |_| kinds), Instant::now())
    }

    pub fn port(&self) -> u16 {
        let Address::Tcp(address) = self.server.address() else { panic!("TCP") };
        address.port()
    }

    pub async fn tcp(&self) -> tokio::net::TcpStream {
        tokio::net::TcpStream::connect(("127.0.0.1", self.port())).await.unwrap()
    }

    pub async fn delta(
        &self,
        node: &str,
    ) -> Stream<discovery::DeltaDiscoveryRequest, discovery::DeltaDiscoveryResponse> {
        Stream::delta(self.tcp().await, node).await.unwrap()
    }
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// hyper's HTTP/2 connection as the service that tonic's client takes.
#[derive(Clone)]
pub struct Channel(SendRequest<tonic::body::Body>);

impl tonic::codegen::Service<http::Request<tonic::body::Body>> for Channel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

pub async fn connect<I>(io: I) -> Result<AggregatedDiscoveryServiceClient<Channel>, hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
    tokio::spawn(connection);
    Ok(AggregatedDiscoveryServiceClient::with_origin(Channel(send), http::Uri::from_static("http://controller")))
}

/// An open ADS stream.
pub struct Stream<Q, R> {
    pub requests: mpsc::Sender<Q>,
    pub responses: Streaming<R>,
    node: Option<Node>,
}

fn node(id: &str) -> Option<Node> {
    Some(Node { id: id.into(), ..Node::default() })
}

impl<Q, R> Stream<Q, R> {
    pub async fn next(&mut self) -> Result<Option<R>, Status> {
        timeout(PATIENCE, self.responses.message()).await.expect("no response came")
    }

    pub async fn must(&mut self) -> R {
        self.next().await.unwrap().expect("the stream ended")
    }
}

impl Stream<discovery::DeltaDiscoveryRequest, discovery::DeltaDiscoveryResponse> {
    pub async fn delta<I>(io: I, id: &str) -> Result<Self, Status>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut client = connect(io).await.map_err(|error| Status::unavailable(error.to_string()))?;
        let (requests, receiver) = mpsc::channel(16);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { requests, responses, node: node(id) })
    }

    pub async fn subscribe(&mut self, kind: Kind, names: &[&str]) {
        let request = discovery::DeltaDiscoveryRequest {
            node: self.node.take(),
            type_url: kind.type_url().into(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }

    pub async fn answer(&mut self, response: &discovery::DeltaDiscoveryResponse, error: Option<&str>) {
        let detail =
            |text: &str| ferromesh_proto::google::rpc::Status { code: 13, message: text.into(), details: vec![] };
        let request = discovery::DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(detail),
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }

    /// The next response as text, after an ACK.
    pub async fn accept(&mut self) -> String {
        let response = self.must().await;
        self.answer(&response, None).await;
        text(&response)
    }
}

impl Stream<discovery::DiscoveryRequest, discovery::DiscoveryResponse> {
    pub async fn sotw<I>(io: I, id: &str) -> Result<Self, Status>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut client = connect(io).await.map_err(|error| Status::unavailable(error.to_string()))?;
        let (requests, receiver) = mpsc::channel(16);
        let responses = client.stream_aggregated_resources(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { requests, responses, node: node(id) })
    }

    pub async fn request(&mut self, kind: Kind, names: &[&str], answered: Option<&discovery::DiscoveryResponse>) {
        let request = discovery::DiscoveryRequest {
            node: self.node.take(),
            type_url: kind.type_url().into(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: answered.map(|response| response.nonce.clone()).unwrap_or_default(),
            version_info: answered.map(|response| response.version_info.clone()).unwrap_or_default(),
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }
}

/// `cds +a -b`.
pub fn text(response: &discovery::DeltaDiscoveryResponse) -> String {
    let mut text = Kind::from_type_url(&response.type_url).unwrap().to_string();
    for resource in &response.resources {
        text += &format!(" +{}", resource.name);
    }
    for name in &response.removed_resources {
        text += &format!(" -{name}");
    }
    text
}
