//! Puts the rooms together: sources flow into the index, each new view to translation, and its resources to the xDS port.

pub mod compile;
mod endpoints;
mod river;
pub mod translated;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ferromesh_api::istio::MeshConfig;
use ferromesh_core::runtime::drain;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use crate::admin::Published;
use crate::admin::{self, Admin};
use crate::analyze::{Finding, analyze};
use crate::index::{Event, Index, Problem, View};
use crate::metrics::Metrics;
use crate::serve::debounce::Debounce;
use crate::serve::hub::ProxySync;
use crate::serve::{Address, Hub, Server, ServerConfig, ServerError, ServerTls};
use crate::source::Source;
use crate::status::Statuses;
pub use compile::Compile;
use river::River;
pub use translated::Translated;

/// Events that may wait between sources and index.
const EVENTS: usize = 4096;
/// Time that streams get to end.
const DRAIN: Duration = Duration::from_secs(5);

/// What a controller is started with.
pub struct Config {
    /// Where objects come from.
    pub sources: Vec<Box<dyn Source>>,
    /// Where proxies connect.
    pub xds_listen: Address,
    /// Where operators look (`/metrics`, `/debug/…`, `/api/…`): no authentication, so loopback unless you mean it.
    pub admin_listen: SocketAddr,
    /// Where probes and Prometheus look (`/ready`, `/healthz`, `/metrics`); nothing else is served there.
    pub health_listen: Option<SocketAddr>,
    /// How proxies and controller prove who they are.
    pub tls: Option<ServerTls>,
    /// Without `tls`: serve plaintext, on loopback or a Unix socket only, and believe what nodes say.
    pub allow_plaintext_loopback: bool,
    /// How events become views.
    pub debounce: Debounce,
    /// Bounds of the xDS port.
    pub server: ServerConfig,
    /// MeshConfig where no ConfigMap says otherwise.
    pub mesh: MeshConfig,
    /// GatewayClass `istio` is a real Istio's.
    pub leaves_istio: bool,
}

impl Config {
    /// Both ports on loopback, chosen by the system; neither TLS nor plaintext, so set one of them.
    pub fn new(sources: Vec<Box<dyn Source>>) -> Self {
        Self {
            sources,
            xds_listen: Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            health_listen: None,
            tls: None,
            allow_plaintext_loopback: false,
            debounce: Debounce::default(),
            server: ServerConfig::default(),
            mesh: MeshConfig::default(),
            leaves_istio: false,
        }
    }
}

/// Why a controller could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The xDS port.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The admin port.
    #[error("address {address}: {source}; choose another with --admin-address or --health-address")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running controller; dropping it stops it without a drain.
pub struct Controller {
    admin: Admin,
    server: Server,
    admin_addr: SocketAddr,
    drain: drain::Signal,
    _tasks: JoinSet<()>,
}

impl Controller {
    /// Starts on the caller's runtime with the translator; proxies are served once every source has reported all.
    ///
    /// # Errors
    /// If a port cannot be opened.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Arc::new(Translated::default())).await
    }

    /// Starts with another way to make resources of views.
    ///
    /// # Errors
    /// If a port cannot be opened.
    pub async fn start_with(config: Config, compile: Arc<dyn Compile>) -> Result<Self, StartError> {
        let (hub, metrics, (drain, watch)) = (Hub::new(), Metrics::new(), drain::channel());
        let parts = (hub.clone(), metrics.clone(), watch.clone());
        let plaintext = config.allow_plaintext_loopback;
        let server = Server::start(config.xds_listen, config.tls, plaintext, config.server, parts).await?;
        let index = Index::new(config.mesh).leaving_istio(config.leaves_istio);
        let first = Published {
            view: Arc::new(index.view().clone()),
            synced: false,
            generation: 0,
            statuses: Arc::default(),
            facts: Arc::default(),
        };
        let views = watch::Sender::new(first);
        let admin = Admin { hub: hub.clone(), metrics: metrics.clone(), views: views.subscribe() };
        let (listener, admin_addr) = bind(config.admin_listen).await?;
        let mut tasks = JoinSet::new();
        if let Some(address) = config.health_listen {
            let (listener, _) = bind(address).await?;
            tasks.spawn(admin::serve(listener, admin::health_router(admin.clone()), watch.clone()));
        }
        tasks.spawn(admin::serve(listener, admin::router(admin.clone()), watch));
        let (events, receiver) = mpsc::channel(EVENTS);
        let sources = config.sources.len();
        for source in config.sources {
            tasks.spawn(run_source(source, events.clone()));
        }
        let river = River { index, compile, hub, metrics, views, debounce: config.debounce, unsynced: sources };
        tasks.spawn(river.run(receiver));
        Ok(Self { admin, server, admin_addr, drain, _tasks: tasks })
    }

    /// Where proxies connect.
    pub fn xds_addr(&self) -> &Address {
        self.server.address()
    }

    /// Where operators look.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// The newest view.
    pub fn view(&self) -> Arc<View> {
        self.admin.view()
    }

    /// Tells of each new view.
    pub fn views(&self) -> watch::Receiver<Published> {
        self.admin.views.clone()
    }

    /// What sources could not take up.
    pub fn problems(&self) -> Arc<Vec<Problem>> {
        Arc::clone(&self.view().problems)
    }

    /// The status of every object that has one.
    pub fn statuses(&self) -> Arc<Statuses> {
        Arc::clone(&self.admin.views.borrow().statuses)
    }

    /// Everything worth saying about the objects, the most serious first.
    pub fn findings(&self) -> Vec<Finding> {
        let published = self.admin.views.borrow().clone();
        analyze(&published.view, &published.facts)
    }

    /// Where each proxy stands.
    pub fn sync(&self) -> Vec<ProxySync> {
        self.admin.hub.sync()
    }

    /// What the controller counts.
    pub fn metrics(&self) -> &Metrics {
        &self.admin.metrics
    }

    /// Waits until every source has reported all that it began with, and proxies are served.
    pub async fn ready(&self) {
        let mut views = self.views();
        // An error means that the river has ended, and nothing more comes.
        let _ = views.wait_for(|published| published.synced).await;
    }

    /// Tells proxies to connect elsewhere, and stops.
    pub async fn shutdown(self) {
        self.shutdown_within(DRAIN).await;
    }

    /// The same; streams get `deadline` to end.
    pub async fn shutdown_within(self, deadline: Duration) {
        if let drain::Drained::TimedOut(left) = self.drain.drain(deadline).await {
            tracing::warn!(left, "xDS connections were cut off");
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(tokio::net::TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Admin { address, source };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn run_source(source: Box<dyn Source>, events: mpsc::Sender<Event>) {
    let name = source.name();
    if let Err(error) = source.run(events).await {
        tracing::error!(source = name, %error, "a source has ended: what it reported stays as it is");
    }
}
