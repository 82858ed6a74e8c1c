//! A control plane for a measurement: resources by type and name over delta ADS, and whether they were acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use ferromesh_proto::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use ferromesh_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use ferromesh_proto::{Any, json};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service;

/// (type URL, name) -> (version, payload)
type Resources = BTreeMap<(String, String), (u64, Any)>;

/// The control plane; it serves as long as the process lives.
#[derive(Clone)]
pub struct Ads {
    address: SocketAddr,
    resources: watch::Sender<Resources>,
    talk: Arc<Mutex<Talk>>,
}

#[derive(Default)]
struct Talk {
    sent: u64,
    answered: u64,
    refused: Option<String>,
}

impl Ads {
    /// Serves on a free port, in a thread of its own.
    ///
    /// # Errors
    /// If there is no free port.
    pub fn start() -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let resources = watch::Sender::new(Resources::new());
        let ads = Self { address: listener.local_addr()?, resources, talk: Arc::default() };
        let served = ads.clone();
        std::thread::Builder::new().name("ads".into()).spawn(move || {
            super::relay::local(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                while let Ok((socket, _)) = listener.accept().await {
                    let service = AggregatedDiscoveryServiceServer::new(served.clone());
                    let call = hyper::service::service_fn(move |request| service.clone().call(request));
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(async move { server.serve_connection(TokioIo::new(socket), call).await });
                }
            });
        })?;
        Ok(ads)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets resources, given as JSON with `@type`, in one push.
    ///
    /// # Errors
    /// If one does not fit its type.
    pub fn set(&self, changes: impl IntoIterator<Item = (String, serde_json::Value)>) -> anyhow::Result<()> {
        let changes: Vec<(String, Any)> = changes
            .into_iter()
            .map(|(name, value)| Ok((name, json::any_from_json(value)?)))
            .collect::<Result<_, json::JsonError>>()?;
        self.resources.send_modify(|resources| {
            for (name, any) in changes {
                let entry = resources.entry((any.type_url.clone(), name)).or_insert((0, Any::default()));
                *entry = (entry.0 + 1, any);
            }
        });
        Ok(())
    }

    /// Sets resources and waits until that push, and all before it, are acknowledged.
    ///
    /// # Errors
    /// As [`Self::set`], and if it takes longer than `within`.
    pub fn push(
        &self,
        changes: impl IntoIterator<Item = (String, serde_json::Value)>,
        within: Duration,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        let before = self.talk().sent;
        self.set(changes)?;
        loop {
            let (sent, answered) = {
                let talk = self.talk();
                (talk.sent, talk.answered)
            };
            if sent > before && answered >= sent {
                return Ok(());
            }
            if Instant::now() > deadline {
                let refused = self.refused().unwrap_or_default();
                bail!("not acknowledged: {sent} pushes, {answered} answers {refused}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The last refusal.
    pub fn refused(&self) -> Option<String> {
        self.talk().refused.clone()
    }

    fn talk(&self) -> std::sync::MutexGuard<'_, Talk> {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Responses<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("this control plane serves delta ADS"))
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

/// What a stream asked for of a type, and which versions it has.
#[derive(Default)]
struct Watched {
    names: BTreeSet<String>,
    sent: HashMap<String, u64>,
    answered: bool,
}

async fn delta(
    ads: Ads,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) {
    let mut changes = ads.resources.subscribe();
    let mut watched: BTreeMap<String, Watched> = BTreeMap::new();
    let mut nonce = 0u64;
    loop {
        tokio::select! {
            request = requests.message() => {
                let Ok(Some(request)) = request else { return };
                if !request.response_nonce.is_empty() {
                    let mut talk = ads.talk();
                    talk.answered += 1;
                    // The first of thousands alike says enough.
                    let refused = request.error_detail.map(|status| status.message.chars().take(300).collect());
                    talk.refused = refused.or(talk.refused.take());
                    if request.resource_names_subscribe.is_empty() {
                        continue;
                    }
                }
                let state = watched.entry(request.type_url).or_default();
                state.names.extend(request.resource_names_subscribe);
            }
            changed = changes.changed() => if changed.is_err() { return },
        }
        for (type_url, state) in &mut watched {
            let resources = fresh(&ads.resources.borrow(), type_url, state);
            let is_first = !std::mem::replace(&mut state.answered, true);
            if resources.is_empty() && !is_first {
                continue;
            }
            nonce += 1;
            ads.talk().sent += 1;
            let (type_url, nonce) = (type_url.clone(), nonce.to_string());
            let response = DeltaDiscoveryResponse { type_url, resources, nonce, ..Default::default() };
            if responses.send(Ok(response)).await.is_err() {
                return;
            }
        }
    }
}

/// What a stream lacks of a type.
fn fresh(all: &Resources, type_url: &str, state: &mut Watched) -> Vec<Resource> {
    let is_wildcard = type_url.ends_with(".Cluster") || type_url.ends_with(".Listener");
    let of_type = all.range((type_url.to_owned(), String::new())..).take_while(|((url, _), _)| url == type_url);
    let mut fresh = Vec::new();
    for ((_, name), (version, any)) in of_type {
        let is_wanted = is_wildcard || state.names.contains(name);
        if is_wanted && state.sent.insert(name.clone(), *version) != Some(*version) {
            let (name, version) = (name.clone(), version.to_string());
            fresh.push(Resource { name, version, resource: Some(any.clone()), ..Default::default() });
        }
    }
    fresh
}
