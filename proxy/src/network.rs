//! Network filters: `rbac`, `tcp_proxy`, metadata exchange, `istio.stats`; the HTTP connection manager is the other terminal one.
//!
//! A connection's bytes flow in; the filters before the last one look at the connection, the last one serves it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use ferromesh_proto::envoy::config::listener::v3 as listener;
use ferromesh_proto::envoy::extensions::filters::network as proto;
use ferromesh_proto::envoy::tcp::metadataexchange::config::MetadataExchange as MetadataExchangeProto;
use ferromesh_proto::stats::PluginConfig;
use ferromesh_proto::{Any, UnpackError, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::access_log::AccessLog;
use crate::cause::Cause;
use crate::config::supported::Table;
use crate::config::{At, Awaited, ConfigError, required};
use crate::connection::Connection;
use crate::context::Context;
use crate::format::Info;
use crate::http::HttpConnectionManager;
use crate::http::filters::istio_stats::tcp::TcpStats;
use crate::http::serve::{DrainSignal, ManagerHandle};
use crate::io::Io;
use crate::stream::{Traffic, Upstream};
use crate::text::Text;
use crate::worker::Worker;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod metadata_exchange;
mod pump;
mod rbac;
mod reports;
mod tcp_proxy;

use reports::Reports;

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[
    (
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix cluster weighted_clusters metadata_match idle_timeout access_log max_connect_attempts hash_policy \
         max_downstream_connection_duration",
    ),
    ("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster", "*"),
    ("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight", "*"),
    ("envoy.type.v3.HashPolicy", "source_ip"),
    ("envoy.type.v3.HashPolicy.SourceIp", "*"),
    (
        "envoy.extensions.filters.network.rbac.v3.RBAC",
        "rules shadow_rules shadow_rules_stat_prefix stat_prefix enforcement_type",
    ),
    ("envoy.extensions.filters.network.echo.v3.Echo", "*"),
    ("envoy.extensions.filters.network.direct_response.v3.Config", "response"),
    ("envoy.extensions.filters.network.sni_cluster.v3.SniCluster", "*"),
    ("envoy.tcp.metadataexchange.config.MetadataExchange", "protocol enable_discovery additional_labels"),
];

/// The filters of a filter chain, decoded.
pub struct NetworkChain {
    filters: Vec<Filter>,
    terminal: Terminal,
}

enum Filter {
    Rbac(rbac::Rbac),
    MetadataExchange(metadata_exchange::MetadataExchange),
    /// `istio.stats`.
    Stats(Box<TcpStats>),
    /// `sni_cluster`: the server name names the cluster.
    SniCluster,
}

enum Terminal {
    Http(Arc<HttpConnectionManager>),
    Tcp(tcp_proxy::TcpProxy),
    Echo,
    DirectResponse(Bytes),
    /// No filter at all: the connection is closed, as Envoy does.
    Nothing,
}

impl NetworkChain {
    /// Decodes the filters of a chain; the last one must be terminal.
    ///
    /// # Errors
    /// Names the filter and field that cannot be served.
    pub fn decode(protos: &[listener::Filter], context: &Context) -> Result<Self, ConfigError> {
        Self::decode_after(protos, context, None)
    }

    /// Decodes a new version of a chain; HTTP filters that have not changed keep their state.
    ///
    /// # Errors
    /// Names the filter and field that cannot be served.
    pub fn decode_after(
        protos: &[listener::Filter],
        context: &Context,
        before: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        let mut chain = Self { filters: Vec::new(), terminal: Terminal::Nothing };
        for (index, proto) in protos.iter().enumerate() {
            let path = format!("filters[{index}]");
            if !matches!(chain.terminal, Terminal::Nothing) {
                return Err(ConfigError::new(path, "follows a terminal filter and would never run"));
            }
            use listener::filter::ConfigType;
            let config = required(proto.config_type.as_ref(), "typed_config").at(&path)?;
            let ConfigType::TypedConfig(any) = config else {
                return Err(ConfigError::new("config_discovery", "is not implemented").at(path));
            };
            chain.add(any, context, before).at("typed_config").at(path)?;
        }
        if matches!(chain.terminal, Terminal::Nothing) && !chain.filters.is_empty() {
            return Err(ConfigError::new("filters", "the last one must be http_connection_manager or tcp_proxy"));
        }
        Ok(chain)
    }

    fn add(&mut self, any: &Any, context: &Context, before: Option<&Self>) -> Result<(), ConfigError> {
        let broken = |error: UnpackError| ConfigError::new("", error.to_string());
        let any = json::resolve_typed_struct(any).map_err(|error| ConfigError::new("", error.to_string()))?;
        if any.is::<proto::http_connection_manager::v3::HttpConnectionManager>() {
            let message = any.unpack().map_err(broken)?;
            self.terminal = Terminal::Http(HttpConnectionManager::decode_after(
                message,
                context,
                before.and_then(Self::manager).map(Arc::as_ref),
            )?);
        } else if any.is::<proto::tcp_proxy::v3::TcpProxy>() {
            self.terminal = Terminal::Tcp(tcp_proxy::TcpProxy::decode(&any.unpack().map_err(broken)?, context)?);
        } else if any.is::<proto::rbac::v3::Rbac>() {
            self.filters.push(Filter::Rbac(rbac::Rbac::decode(&any.unpack().map_err(broken)?, context)?));
        } else if any.is::<MetadataExchangeProto>() {
            let message: MetadataExchangeProto = any.unpack().map_err(broken)?;
            let exchange = metadata_exchange::MetadataExchange::new(&message, &context.local.node);
            self.filters.push(Filter::MetadataExchange(exchange));
        } else if any.is::<PluginConfig>() {
            let stats = TcpStats::decode(&any.unpack().map_err(broken)?, context)?;
            self.filters.push(Filter::Stats(Box::new(stats)));
        } else if any.is::<proto::sni_cluster::v3::SniCluster>() {
            self.filters.push(Filter::SniCluster);
        } else if any.is::<proto::echo::v3::Echo>() {
            self.terminal = Terminal::Echo;
        } else if any.is::<proto::direct_response::v3::Config>() {
            let message: proto::direct_response::v3::Config = any.unpack().map_err(broken)?;
            let response = crate::tls::data_source(message.response.as_ref(), "response")?;
            self.terminal = Terminal::DirectResponse(response.into());
        } else {
            return Err(ConfigError::new("", format!("network filter {:?} is not implemented", any.type_url)));
        }
        Ok(())
    }

    /// The connection manager, if the chain ends with one.
    pub fn manager(&self) -> Option<&Arc<HttpConnectionManager>> {
        match &self.terminal {
            Terminal::Http(manager) => Some(manager),
            _ => None,
        }
    }

    /// The route tables and filter configurations that the chain names and that have not come yet.
    pub fn awaits(&self) -> impl Iterator<Item = Awaited> {
        self.manager().into_iter().flat_map(|manager| manager.awaits())
    }

    /// Serves a connection until it ends. `current` names the connection manager that its requests take, which may
    /// be a newer one than the chain's.
    pub async fn run(
        &self,
        worker: Rc<Worker>,
        mut io: Io,
        mut connection: Connection,
        drain: DrainSignal,
        current: Option<ManagerHandle>,
        listener_logs: &[AccessLog],
    ) {
        let mut reports = Reports::new(self.filters.iter().filter_map(|filter| match filter {
            Filter::Stats(stats) => Some(&**stats),
            _ => None,
        }));
        let cluster = match self.begin(&mut io, &mut connection).await {
            Ok(cluster) => cluster,
            Err(End { cause, reason }) => {
                let upstream = Upstream::default();
                let info = refusal(&connection, &upstream, &cause, reason.as_deref());
                listener_logs.iter().for_each(|log| log.log(&info));
                return reports.end(&info);
            }
        };
        let connection = Rc::new(connection);
        if let Terminal::Tcp(proxy) = &self.terminal {
            // In a box, as those below, so that an HTTP connection at rest does not hold the room of these.
            return Box::pin(proxy.serve(&worker, io, connection, cluster, reports, listener_logs)).await;
        }
        let _reported = (!reports.is_empty()).then(|| Box::new(Reported { reports, connection: connection.clone() }));
        match &self.terminal {
            Terminal::Http(manager) => {
                let manager = current.unwrap_or_else(|| ManagerHandle::new(manager.clone()));
                crate::http::serve::serve(worker, manager, io, connection, drain).await;
            }
            Terminal::Echo => Box::pin(echo(io)).await,
            Terminal::DirectResponse(response) => Box::pin(respond(io, response)).await,
            Terminal::Tcp(_) | Terminal::Nothing => {}
        }
    }

    /// Runs the filters before the last one; gives the cluster that one of them chose.
    async fn begin(&self, io: &mut Io, connection: &mut Connection) -> Result<Option<Text>, End> {
        let mut cluster = None;
        for filter in &self.filters {
            match filter {
                Filter::Rbac(rbac) => {
                    rbac.check(connection).map_err(|reason| End { cause: Cause::RbacDenied, reason })?
                }
                Filter::MetadataExchange(exchange) => match Box::pin(exchange.as_server(io, connection)).await {
                    Ok(Some(peer)) => connection.peer = Some(Rc::new(peer)),
                    Ok(None) => {}
                    Err(error) => {
                        let cause = Cause::MetadataExchangeFailure;
                        return Err(End { cause, reason: Some(error.to_string()) });
                    }
                },
                Filter::Stats(_) => {}
                Filter::SniCluster => cluster = connection.server_name.clone(),
            }
        }
        Ok(cluster)
    }
}

/// Why a connection ends before its last filter.
struct End {
    cause: Cause,
    reason: Option<String>,
}

/// Reports a connection that no TCP proxy serves when it is over, also if its task is aborted.
struct Reported<'a> {
    reports: Reports<'a>,
    connection: Rc<Connection>,
}

impl Drop for Reported<'_> {
    fn drop(&mut self) {
        let upstream = Upstream::default();
        self.reports.end(&connection_info(&self.connection, &upstream));
    }
}

async fn echo(io: Io) {
    let (mut reader, mut writer) = tokio::io::split(io);
    let _ = tokio::io::copy(&mut reader, &mut writer).await;
    let _ = writer.shutdown().await;
}

async fn respond(mut io: Io, response: &Bytes) {
    let _ = io.write_all(response).await;
    let _ = io.shutdown().await;
    // Unread bytes would turn the close into a reset that takes the answer with it.
    let mut rest = [0; 1024];
    let discard = async { while matches!(io.read(&mut rest).await, Ok(count) if count > 0) {} };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), discard).await;
}

/// A log line for a connection that the proxy closed by itself.
pub(crate) fn log_refused(logs: &[AccessLog], connection: &Connection, cause: Cause, reason: Option<&str>) {
    let upstream = Upstream::default();
    let info = refusal(connection, &upstream, &cause, reason);
    logs.iter().for_each(|log| log.log(&info));
}

/// What is known of a connection that the proxy closed by itself.
fn refusal<'a>(
    connection: &'a Connection,
    upstream: &'a Upstream,
    cause: &'a Cause,
    reason: Option<&'a str>,
) -> Info<'a> {
    Info {
        details: cause.details(),
        termination_details: reason.or(Some(cause.details())),
        causes: std::slice::from_ref(cause),
        ..connection_info(connection, upstream)
    }
}

/// What a log may show of a connection without HTTP, before anything has happened.
fn connection_info<'a>(connection: &'a Connection, upstream: &'a Upstream) -> Info<'a> {
    let duration = connection.start.elapsed();
    Info {
        connection,
        request: None,
        response: None,
        trailers: None,
        remote: connection.remote,
        start: connection.start,
        start_time: SystemTime::now() - duration,
        duration: Some(duration),
        request_duration: None,
        first_sent: None,
        wire: Traffic::default(),
        upstream,
        causes: &[],
        details: "",
        termination_details: None,
        status: None,
        bytes_received: 0,
        bytes_sent: 0,
        route: None,
        metadata: None,
        state: None,
        local_reply: "",
    }
}
