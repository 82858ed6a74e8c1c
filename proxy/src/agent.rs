//! The proxy in a pod: what Istio's pilot-agent does, in the process of the proxy itself.
//!
//! ```text
//! environment, podinfo ── bootstrap (pure) ──> proxy (its certificate from the CA, ADS to the controller)
//!                                                ^
//! application ──> 15053: names of the mesh and of others, where DNS is redirected here
//! kubelet, Prometheus ──> 15020: /healthz/ready, /app-health/..., /stats/prometheus, /drain, /quitquitquit
//!                         15021: /healthz/ready, through the proxy's own data path
//! ```
//!
//! Nothing is written to disk, and the key never leaves the process.

pub mod bootstrap;
mod client;
pub mod dns;
pub mod environment;
mod grpc_health;
pub mod merge;
pub mod probe;
mod status;

#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ferromesh_core::SpiffeId;
use ferromesh_core::runtime::signals::Signals;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::app::{Options, Proxy, SetLogLevel};
use crate::identity::{self, Pem, TokenSource};
use crate::xds::NameTables;

pub use client::{RequestArgs, WaitArgs, request, wait};
pub use environment::{AgentError, Environment, ProxyArgs};

/// What a page of the status port asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Connections end with their requests; new ones are served.
    Drain,
    /// End now.
    Quit,
}

/// Runs the proxy of this pod to its end.
///
/// # Errors
/// If the environment or an address cannot be used; the error says which.
pub async fn run(args: &ProxyArgs, set_log_level: Option<SetLogLevel>) -> Result<ExitCode, AgentError> {
    let environment = Arc::new(Environment::read(args)?);
    for warning in &environment.warnings {
        tracing::warn!("{warning}");
    }
    let mut signals = Signals::listen().map_err(|error| AgentError::Start(format!("signals: {error}")))?;
    let text = bootstrap::bootstrap(&environment).to_string();
    let bootstrap = crate::bootstrap::parse(&text).map_err(|error| AgentError::Start(error.to_string()))?;
    // Bound first, as the status address is: a second agent in the pod must fail before it serves.
    let dns = match &environment.dns {
        Some(settings) => Some(start_dns(&environment, settings).await?),
        None => None,
    };
    let options = Options {
        names: dns.as_ref().map(|dns| dns.names.clone()),
        concurrency: environment.concurrency(),
        identity: Some(identity(&environment)?),
        set_log_level,
        drain_time: environment.longest_drain(),
        ..Options::default()
    };
    let address = environment.status_address();
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| AgentError::Start(format!("status address {address}: {error}")))?;
    let proxy = Proxy::start(bootstrap, options).map_err(|error| AgentError::Start(error.to_string()))?;
    let (orders, mut ordered) = mpsc::channel(4);
    let status = status::Status::new(environment.clone(), &proxy, orders).with_dns(dns);
    let pages = tokio::task::spawn_local(status.serve(listener));
    tracing::info!(node = environment.node_id(), "started");
    loop {
        tokio::select! {
            () = proxy.ended() => break,
            order = ordered.recv() => match order {
                Some(Order::Drain) => proxy.drain(),
                Some(Order::Quit) | None => {
                    proxy.drain();
                    end(&environment, proxy, &mut signals, Duration::ZERO).await;
                    break;
                }
            },
            signal = signals.next() => {
                tracing::info!(signal, "draining");
                proxy.drain();
                let wait = environment.drain_before_end();
                end(&environment, proxy, &mut signals, wait).await;
                break;
            }
        }
    }
    pages.abort();
    Ok(ExitCode::SUCCESS)
}

/// A DNS proxy that answers.
#[derive(Clone)]
struct DnsProxy {
    names: NameTables,
    metrics: Arc<dns::metrics::Metrics>,
}

/// Starts the DNS proxy; it answers until the process ends, also while connections drain.
async fn start_dns(environment: &Environment, settings: &environment::Dns) -> Result<DnsProxy, AgentError> {
    let path = dns::resolv_conf::PATH;
    let text = std::fs::read_to_string(path)
        .map_err(|error| AgentError::Start(format!("{path}: {error}; the DNS proxy asks the name servers in it")))?;
    let found = dns::resolv_conf::parse(&text);
    let config = dns::Config {
        place: dns::table::Place::new(
            &environment.namespace,
            &environment.domain,
            found.search.first().map(String::as_str),
        ),
        upstream: dns::upstream::Upstream {
            servers: found.servers,
            parallel: settings.parallel,
            timeout: settings.timeout,
        },
    };
    let metrics = Arc::new(dns::metrics::Metrics::default());
    let server = dns::Server::bind(settings.listen, config, metrics.clone()).await;
    let server = server.map_err(|error| AgentError::Start(error.to_string()))?;
    tracing::info!(addresses = ?server.addresses(), "DNS proxy");
    let (names, tables) = watch::channel(None);
    tokio::task::spawn_local(server.serve(tables));
    Ok(DnsProxy { names: Arc::new(names), metrics })
}

/// Waits for `least`, then until no client is left (or the longest drain is over); a second signal ends it at once.
async fn end(environment: &Environment, proxy: Proxy, signals: &mut Signals, least: Duration) {
    let longest = environment.longest_drain();
    let drained = async {
        tokio::time::sleep(least).await;
        if tokio::time::timeout(longest, proxy.shutdown()).await.is_err() {
            tracing::warn!(?longest, "connections were cut at the end of the drain");
        }
    };
    tokio::select! {
        () = drained => {}
        _ = signals.next() => tracing::warn!("second signal: ending without waiting for connections"),
    }
}

/// Where the workload's certificate comes from.
fn identity(environment: &Environment) -> Result<identity::Config, AgentError> {
    let id = SpiffeId::parse(&environment.spiffe_id())
        .map_err(|error| AgentError::Variable { name: "SERVICE_ACCOUNT".into(), reason: error.to_string() })?;
    Ok(identity::Config {
        ca_address: environment.ca_address.clone(),
        ca_server_name: environment.ca_server_name(),
        ca_root: Pem::File(environment.ca_root.clone()),
        token: TokenSource::File(environment.token_file.clone()),
        id: Some(id),
        lifetime: environment.certificate_lifetime,
    })
}
