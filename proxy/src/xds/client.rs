//! The ADS stream: connects through the bootstrap's cluster, feeds the session, applies, answers, and starts over.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ferromesh_core::backoff::Backoff;
use ferromesh_core::runtime::memory;
use ferromesh_proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataKey, MetadataValue};

use super::Kind;
use super::session::{Session, Update};
use super::store::Store;
use super::wire::{Delta, Named, StateOfTheWorld, Wire};
use crate::bootstrap::Ads;
use crate::cluster::Wanted;
use crate::cluster::{Cluster, LbContext};
use crate::context::Context;
use crate::grpc::{Channel, LocalExecutor};
use crate::upstream::Pools;

/// Requests that may wait for the stream to take them; a full queue ends the stream.
const REQUEST_QUEUE: usize = 1024;
/// Bytes of one response, at most.
const MAX_RESPONSE: usize = 256 * 1024 * 1024;
/// A silent peer is asked for a sign of life this often, and given up after twice that.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The cluster is not in the bootstrap.
    #[error("the ADS cluster {0:?} is not among the bootstrap's static clusters")]
    NoCluster(String),
    /// No connection.
    #[error("cannot connect to the control plane: {0}")]
    Connect(String),
    /// The control plane ended the stream, or refused it.
    #[error("the control plane ended the stream: {0}")]
    Ended(String),
    /// It does not take our requests.
    #[error("the control plane does not read our requests")]
    Stalled,
}

/// The client of one proxy; lives in the admin thread.
pub struct Client {
    ads: Ads,
    context: Arc<Context>,
    session: Session,
    store: Store,
    pools: Rc<Pools>,
    /// When what the last update needed goes back to the system.
    spare: Option<tokio::time::Instant>,
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(ads: Ads, context: Arc<Context>, store: Store) -> Self {
        let mut kinds = Vec::new();
        if ads.cds.is_some() {
            kinds.push(Kind::Cluster);
        }
        if ads.lds.is_some() {
            kinds.push(Kind::Listener);
        }
        if store.takes_names() {
            kinds.push(Kind::NameTable);
        }
        let session = Session::new(context.local.node.clone(), &kinds);
        Self { ads, session, store, pools: Rc::new(Pools::new()), context, spare: None }
    }

    /// Runs until the future is dropped.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));
        let mut rng = fastrand::Rng::new();
        loop {
            let connected = self.context.stats.root().scope("control_plane").gauge("connected_state");
            let started = tokio::time::Instant::now();
            let result =
                if self.ads.delta { self.stream::<Delta>().await } else { self.stream::<StateOfTheWorld>().await };
            connected.set(0);
            if let Err(error) = &result {
                tracing::warn!(%error, "xDS stream");
            }
            // A stream that lived is no reason to wait long before the next.
            if started.elapsed() > Duration::from_secs(30) {
                backoff.reset();
            }
            let delay = backoff.next_delay(&mut rng);
            self.idle(delay).await;
            self.session.reconnect();
        }
    }

    /// Waits, while what is warming goes on.
    async fn idle(&mut self, delay: Duration) {
        let deadline = tokio::time::Instant::now() + delay;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                () = self.store.changed() => self.store.publish(),
            }
        }
    }

    /// Does `work`, while what has become warm is published: static resources do not wait for a control plane.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.store.changed() => self.store.publish(),
            }
        }
    }

    async fn connect(&mut self) -> Result<AggregatedDiscoveryServiceClient<Channel>, StreamError> {
        let connecting = connect(self.ads.clone(), self.context.clone(), self.pools.clone());
        self.meanwhile(connecting).await
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        for (key, value) in &self.ads.metadata {
            if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), MetadataValue::try_from(value)) {
                request.metadata_mut().insert(key, value);
            }
        }
        request
    }

    /// One stream, from its first request to its end.
    async fn stream<W: Wire>(&mut self) -> Result<(), StreamError> {
        let ended = |status: tonic::Status| StreamError::Ended(status.message().to_owned());
        let mut client = self.connect().await?;
        let (requests, queue) = mpsc::channel::<W::Request>(REQUEST_QUEUE);
        for request in W::open(&mut self.session) {
            requests.try_send(request).map_err(|_| StreamError::Stalled)?;
        }
        self.tell_interest::<W>(&requests)?;
        let request = self.request(ReceiverStream::new(queue));
        let response = self.meanwhile(W::call(&mut client, request)).await;
        let mut stream = response.map_err(ended)?.into_inner();
        self.connected();
        loop {
            tokio::select! {
                message = stream.message() => {
                    let Some(message) = message.map_err(ended)? else {
                        return Err(StreamError::Ended("end of stream".into()));
                    };
                    if let Some((kind, update)) = W::take(&mut self.session, message) {
                        let (versions, errors) = self.apply(kind, update);
                        let answer = W::answer(&mut self.session, kind, &versions, &errors);
                        requests.try_send(answer).map_err(|_| StreamError::Stalled)?;
                        self.tell_interest::<W>(&requests)?;
                    }
                }
                () = self.store.changed() => {
                    self.store.publish();
                    self.tell_interest::<W>(&requests)?;
                }
                () = at(self.spare) => {
                    self.spare = None;
                    memory::give_back();
                }
            }
        }
    }

    fn tell_interest<W: Wire>(&mut self, requests: &mpsc::Sender<W::Request>) -> Result<(), StreamError> {
        for (kind, names) in self.store.interest() {
            if let Some(request) = W::interest(&mut self.session, kind, names) {
                requests.try_send(request).map_err(|_| StreamError::Stalled)?;
            }
        }
        Ok(())
    }

    fn connected(&self) {
        self.context.stats.root().scope("control_plane").gauge("connected_state").set(1);
    }

    /// Applies an update: (name, version) of what came, (name, reason) of what was refused.
    fn apply(&mut self, kind: Kind, update: Update) -> (Vec<Named>, Vec<Named>) {
        let versions =
            update.resources.iter().map(|(name, version, _)| (name.clone(), version.clone())).collect::<Vec<_>>();
        let span =
            tracing::info_span!("xds", ?kind, resources = update.resources.len(), removed = update.removed.len());
        let _entered = span.enter();
        let errors = self.store.apply(kind, update);
        for (name, error) in &errors {
            tracing::warn!(resource = %name, %error, "refused");
        }
        let errors = errors.into_iter().map(|(name, error)| (name, error.to_string())).collect();
        self.store.publish();
        self.spare = Some(tokio::time::Instant::now() + memory::KEPT);
        (versions, errors)
    }
}

/// Until then; for ever if there is no such time.
async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn connect(
    ads: Ads,
    context: Arc<Context>,
    pools: Rc<Pools>,
) -> Result<AggregatedDiscoveryServiceClient<Channel>, StreamError> {
    let cluster = context.clusters.get(&ads.cluster).ok_or_else(|| StreamError::NoCluster(ads.cluster.clone()))?;
    let host = cluster.pick(&LbContext::default()).map_err(|cause| StreamError::Connect(cause.explain().to_owned()))?;
    secrets_of(&cluster, &context).await;
    let wanted = Wanted { http2: true, reserve: true, ..Wanted::default() };
    let upstream =
        pools.connect(&cluster, &host, &wanted).await.map_err(|error| StreamError::Connect(error.to_string()))?;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE * 2)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(upstream.io))
        .await
        .map_err(|error| StreamError::Connect(error.to_string()))?;
    let open = upstream.open;
    tokio::task::spawn_local(async move {
        let _open = open;
        if let Err(error) = connection.await {
            tracing::debug!(%error, "xDS connection");
        }
    });
    let authority = ads.authority.as_deref().unwrap_or(&ads.cluster);
    let origin = http::Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query("/")
        .build()
        .map_err(|_| StreamError::Connect(format!("{authority:?} is not a valid :authority")))?;
    Ok(AggregatedDiscoveryServiceClient::with_origin(Channel::new(sender), origin)
        .max_decoding_message_size(MAX_RESPONSE))
}

/// Waits for the secrets that the cluster's TLS names: without them there is nothing to try.
async fn secrets_of(cluster: &Cluster, context: &Context) {
    let mut changes = context.secrets.changes();
    while cluster.config.transports.iter().any(|transport| transport.tls.as_ref().is_some_and(|tls| !tls.is_warm())) {
        // The sender lives in the context that this holds.
        let _ = changes.changed().await;
    }
}
