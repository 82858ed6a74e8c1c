//! A control plane of a test: resources by type and name, served by delta and state-of-the-world ADS.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use ferromesh_proto::Any;
use ferromesh_proto::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use ferromesh_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service;

/// (type URL, name) -> (version, payload)
type Resources = BTreeMap<(String, String), (u64, Any)>;

/// What a proxy said.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub type_url: String,
    pub names: BTreeSet<String>,
    /// Versions that it held when the stream began.
    pub held: BTreeMap<String, String>,
    pub error: Option<String>,
}

/// The resources of a control plane, and what proxies said to it.
#[derive(Clone)]
pub struct Ads {
    resources: watch::Sender<Resources>,
    said: Arc<Mutex<Vec<Said>>>,
}

impl Ads {
    pub fn new() -> Self {
        Self { resources: watch::Sender::new(Resources::new()), said: Arc::default() }
    }

    /// Sets resources in one push.
    pub fn set(&self, changes: impl IntoIterator<Item = (String, Any)>) {
        self.resources.send_modify(|resources| {
            for (name, any) in changes {
                let entry = resources.entry((any.type_url.clone(), name)).or_insert((0, Any::default()));
                *entry = (entry.0 + 1, any);
            }
        });
    }

    pub fn remove(&self, type_url: &str, name: &str) {
        self.resources.send_modify(|resources| {
            resources.remove(&(type_url.to_owned(), name.to_owned()));
        });
    }

    /// Everything that was said so far.
    pub fn said(&self) -> Vec<Said> {
        self.said.lock().unwrap().clone()
    }

    /// The reasons of all refusals so far.
    pub fn refusals(&self) -> Vec<String> {
        self.said().into_iter().filter_map(|said| said.error).collect()
    }

    pub fn serve_tcp(&self, listener: TcpListener) -> JoinHandle<()> {
        let ads = self.clone();
        tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(connection(socket, ads.clone()));
            }
        })
    }

    pub fn serve_tls(&self, listener: TcpListener, config: Arc<rustls::ServerConfig>) -> JoinHandle<()> {
        let (ads, acceptor) = (self.clone(), tokio_rustls::TlsAcceptor::from(config));
        tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (ads, acceptor) = (ads.clone(), acceptor.clone());
                connections.spawn(async move {
                    if let Ok(socket) = acceptor.accept(socket).await {
                        connection(socket, ads).await;
                    }
                });
            }
        })
    }

    pub fn serve_unix(&self, path: &Path) -> JoinHandle<()> {
        let ads = self.clone();
        let listener = UnixListener::bind(path).unwrap();
        tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(connection(socket, ads.clone()));
            }
        })
    }

    fn of(&self, type_url: &str, names: &BTreeSet<String>) -> BTreeMap<String, (u64, Any)> {
        let all = self.resources.borrow();
        let wanted = all.iter().filter(|((url, name), _)| {
            let wildcard = [".Cluster", ".Listener", ".NameTable"].iter().any(|kind| url.ends_with(kind));
            url == type_url && (wildcard || names.contains(name))
        });
        wanted.map(|((_, name), found)| (name.clone(), found.clone())).collect()
    }

    fn note(&self, said: Said) {
        self.said.lock().unwrap().push(said);
    }
}

async fn connection(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, ads: Ads) {
    let service = AggregatedDiscoveryServiceServer::new(ads);
    let call = hyper::service::service_fn(move |request| service.clone().call(request));
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(socket), call)
        .await;
}

type Responses<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(whole(self.clone(), request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(delta(self.clone(), request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

#[derive(Default)]
struct Watched {
    names: BTreeSet<String>,
    sent: BTreeMap<String, String>,
    answered: bool,
}

async fn delta(
    ads: Ads,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) {
    let mut changes = ads.resources.subscribe();
    let mut watched: BTreeMap<String, Watched> = BTreeMap::new();
    let mut nonce = 0;
    loop {
        tokio::select! {
            request = requests.message() => {
                let Ok(Some(request)) = request else { return };
                let state = watched.entry(request.type_url.clone()).or_default();
                for name in &request.resource_names_unsubscribe {
                    state.names.remove(name);
                    state.sent.remove(name);
                }
                let held: BTreeMap<String, String> = request.initial_resource_versions.into_iter().collect();
                state.sent.extend(held.clone());
                state.names.extend(request.resource_names_subscribe.iter().cloned());
                ads.note(Said {
                    type_url: request.type_url,
                    names: state.names.clone(),
                    held,
                    error: request.error_detail.map(|status| status.message),
                });
            }
            changed = changes.changed() => if changed.is_err() { return },
        }
        for (url, state) in &mut watched {
            let found = ads.of(url, &state.names);
            let fresh: Vec<Resource> = found
                .iter()
                .filter(|(name, (version, _))| state.sent.get(*name) != Some(&version.to_string()))
                .map(|(name, (version, any))| Resource {
                    name: name.clone(),
                    version: version.to_string(),
                    resource: Some(any.clone()),
                    ..Default::default()
                })
                .collect();
            let gone: Vec<String> = state.sent.keys().filter(|name| !found.contains_key(*name)).cloned().collect();
            let is_first = !std::mem::replace(&mut state.answered, true);
            if fresh.is_empty() && gone.is_empty() && !is_first {
                continue;
            }
            state.sent = found.iter().map(|(name, (version, _))| (name.clone(), version.to_string())).collect();
            nonce += 1;
            let response = DeltaDiscoveryResponse {
                type_url: url.clone(),
                resources: fresh,
                removed_resources: gone,
                nonce: nonce.to_string(),
                ..Default::default()
            };
            if responses.send(Ok(response)).await.is_err() {
                return;
            }
        }
    }
}

async fn whole(
    ads: Ads,
    mut requests: Streaming<DiscoveryRequest>,
    responses: mpsc::Sender<Result<DiscoveryResponse, Status>>,
) {
    let mut changes = ads.resources.subscribe();
    let mut watched: BTreeMap<String, (BTreeSet<String>, Option<String>)> = BTreeMap::new();
    let mut nonce = 0;
    loop {
        tokio::select! {
            request = requests.message() => {
                let Ok(Some(request)) = request else { return };
                let names: BTreeSet<String> = request.resource_names.into_iter().collect();
                let state = watched.entry(request.type_url.clone()).or_default();
                state.0.clone_from(&names);
                ads.note(Said {
                    type_url: request.type_url,
                    names,
                    held: BTreeMap::from([(String::new(), request.version_info)]),
                    error: request.error_detail.map(|status| status.message),
                });
            }
            changed = changes.changed() => if changed.is_err() { return },
        }
        for (url, (names, sent)) in &mut watched {
            let found = ads.of(url, names);
            let version: Vec<String> = found.iter().map(|(name, (version, _))| format!("{name}={version}")).collect();
            let version = version.join(",");
            if sent.as_ref() == Some(&version) {
                continue;
            }
            *sent = Some(version.clone());
            nonce += 1;
            let response = DiscoveryResponse {
                version_info: version,
                resources: found.into_values().map(|(_, any)| any).collect(),
                type_url: url.clone(),
                nonce: nonce.to_string(),
                ..Default::default()
            };
            if responses.send(Ok(response)).await.is_err() {
                return;
            }
        }
    }
}
