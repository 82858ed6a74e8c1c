//! The resolver of a cluster: name servers and options as `typed_dns_resolver_config` gives them, else the bootstrap's,
//! else the system's.

// Envoy's own deprecations; older bootstraps still send these fields.
#![allow(deprecated)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::bootstrap::v3::Bootstrap;
use ferromesh_proto::envoy::config::cluster::v3 as cluster;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{TokioResolver, system_conf};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Family;
use crate::cluster::HostAddress;
use crate::cluster::endpoints::{self, Target};
use crate::config::{At, ConfigError};

/// Envoy's time for one question, and how often it asks.
const TIMEOUT: Duration = Duration::from_secs(5);
const TRIES: usize = 4;

/// How names are resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Name servers; the system's if there are none.
    servers: Vec<SocketAddr>,
    /// Only if the system has no name servers.
    as_fallback: bool,
    tcp: bool,
    no_search: bool,
    rotate: bool,
    timeout: Option<Duration>,
    tries: Option<usize>,
    payload: Option<u16>,
}

/// Addresses of a name, and how long they hold.
#[derive(Debug)]
pub(super) struct Answer {
    pub ips: Vec<IpAddr>,
    pub ttl: Duration,
}

impl Settings {
    /// What the bootstrap says for clusters that say nothing.
    ///
    /// # Errors
    /// Names the field.
    pub fn of_bootstrap(bootstrap: &Bootstrap) -> Result<Self, ConfigError> {
        let chosen = choose(
            bootstrap.typed_dns_resolver_config.as_ref(),
            bootstrap.dns_resolution_config.as_ref(),
            &[],
            bootstrap.use_tcp_for_dns_lookups,
        );
        Ok(chosen?.unwrap_or_default())
    }

    /// What a cluster says; `default` if it says nothing.
    pub(in crate::cluster) fn of_cluster(cluster: &cluster::Cluster, default: &Self) -> Result<Self, ConfigError> {
        let chosen = choose(
            cluster.typed_dns_resolver_config.as_ref(),
            cluster.dns_resolution_config.as_ref(),
            &cluster.dns_resolvers,
            cluster.use_tcp_for_dns_lookups,
        );
        Ok(chosen?.unwrap_or_else(|| default.clone()))
    }

    fn from_cares(config: &CaresDnsResolverConfig) -> Result<Self, ConfigError> {
        let options = config.dns_resolver_options.unwrap_or_default();
        let payload = match config.edns0_max_payload_size {
            Some(size) if !(512..=4096).contains(&size) => {
                return Err(ConfigError::new("edns0_max_payload_size", "must be 512 to 4096"));
            }
            size => size.and_then(|size| u16::try_from(size).ok()),
        };
        if config.query_timeout_seconds == Some(0) {
            return Err(ConfigError::new("query_timeout_seconds", "must be at least 1"));
        }
        if config.query_tries == Some(0) {
            return Err(ConfigError::new("query_tries", "must be at least 1"));
        }
        Ok(Self {
            servers: servers(&config.resolvers).at("resolvers")?,
            as_fallback: config.use_resolvers_as_fallback,
            tcp: options.use_tcp_for_dns_lookups,
            no_search: options.no_default_search_domain,
            rotate: config.rotate_nameservers,
            timeout: config.query_timeout_seconds.map(Duration::from_secs),
            tries: config.query_tries.map(|tries| tries as usize),
            payload,
        })
    }

    fn build(&self, strategy: LookupIpStrategy) -> Result<TokioResolver, String> {
        let system =
            if self.servers.is_empty() || self.as_fallback { Some(system_conf::read_system_conf()) } else { None };
        let (config, mut options) = match system {
            Some(Ok((config, options))) if self.servers.is_empty() || !config.name_servers().is_empty() => {
                (config, options)
            }
            Some(Err(error)) if self.servers.is_empty() => return Err(error.to_string()),
            _ => self.own_servers(),
        };
        let (domain, search, mut servers) = config.into_parts();
        if self.tcp {
            servers.iter_mut().for_each(|server| {
                let port = server.connections.first().map_or(53, |connection| connection.port);
                server.connections = vec![on_port(ConnectionConfig::tcp(), port)];
            });
        }
        let config = match self.no_search {
            true => ResolverConfig::from_parts(None, Vec::new(), servers),
            false => ResolverConfig::from_parts(domain, search, servers),
        };
        options.timeout = self.timeout.unwrap_or(TIMEOUT);
        options.attempts = self.tries.unwrap_or(TRIES) - 1;
        options.server_ordering_strategy = match self.rotate {
            true => ServerOrderingStrategy::RoundRobin,
            false => ServerOrderingStrategy::UserProvidedOrder,
        };
        options.ip_strategy = strategy;
        // As many answers as there are come in one datagram or by TCP.
        options.edns0 = true;
        if let Some(payload) = self.payload {
            options.edns_payload_len = payload;
        }
        // An answer's age is kept by who asked, not here.
        options.cache_size = 0;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        builder.build().map_err(|error| error.to_string())
    }

    /// These servers, with the system's search list where it can be read.
    fn own_servers(&self) -> (ResolverConfig, ResolverOpts) {
        let (domain, search, options) = match system_conf::read_system_conf() {
            Ok((config, options)) => {
                let (domain, search, _) = config.into_parts();
                (domain, search, options)
            }
            Err(_) => Default::default(),
        };
        let servers = self.servers.iter().map(|server| {
            let port = server.port();
            let connections = vec![on_port(ConnectionConfig::udp(), port), on_port(ConnectionConfig::tcp(), port)];
            NameServerConfig::new(server.ip(), true, connections)
        });
        (ResolverConfig::from_parts(domain, search, servers.collect()), options)
    }
}

fn on_port(mut connection: ConnectionConfig, port: u16) -> ConnectionConfig {
    connection.port = port;
    connection
}

/// The first of the fields by which Envoy's messages name a resolver, newest first.
fn choose(
    typed: Option<&core::TypedExtensionConfig>,
    older: Option<&core::DnsResolutionConfig>,
    oldest: &[core::Address],
    tcp: bool,
) -> Result<Option<Settings>, ConfigError> {
    if let Some(typed) = typed {
        return from_typed(typed.typed_config.as_ref()).at("typed_dns_resolver_config.typed_config").map(Some);
    }
    if let Some(older) = older {
        let options = older.dns_resolver_options.unwrap_or_default();
        let servers = servers(&older.resolvers).at("dns_resolution_config.resolvers")?;
        let (tcp, no_search) = (options.use_tcp_for_dns_lookups, options.no_default_search_domain);
        return Ok(Some(Settings { servers, tcp, no_search, ..Settings::default() }));
    }
    if oldest.is_empty() && !tcp {
        return Ok(None);
    }
    Ok(Some(Settings { servers: servers(oldest).at("dns_resolvers")?, tcp, ..Settings::default() }))
}

fn from_typed(any: Option<&Any>) -> Result<Settings, ConfigError> {
    let any = crate::config::required(any, "")?;
    if !any.is::<CaresDnsResolverConfig>() {
        let reason = format!("resolver {:?} is not implemented; CaresDnsResolverConfig is", any.type_url);
        return Err(ConfigError::new("", reason));
    }
    let config = any.unpack().map_err(|error| ConfigError::new("", error.to_string()))?;
    Settings::from_cares(&config)
}

fn servers(addresses: &[core::Address]) -> Result<Vec<SocketAddr>, ConfigError> {
    let server =
        |(place, address): (usize, &core::Address)| match endpoints::target(address).at(format_args!("[{place}]"))? {
            Target::Address(HostAddress::Tcp(address)) if address.port() == 0 => Ok(SocketAddr::new(address.ip(), 53)),
            Target::Address(HostAddress::Tcp(address)) => Ok(address),
            _ => Err(ConfigError::new(format!("[{place}]"), "must be an IP address and port")),
        };
    addresses.iter().enumerate().map(server).collect()
}

/// The resolver of one cluster, made when it is first asked, and anew after a failure: the system's may have changed.
#[derive(Debug)]
pub(super) struct Resolver {
    settings: Settings,
    strategy: LookupIpStrategy,
    made: Mutex<Option<Arc<TokioResolver>>>,
}

impl Resolver {
    pub(super) fn new(settings: Settings, family: Family) -> Self {
        let strategy = match family {
            Family::Auto => LookupIpStrategy::Ipv6thenIpv4,
            Family::V4Only => LookupIpStrategy::Ipv4Only,
            Family::V6Only => LookupIpStrategy::Ipv6Only,
            Family::V4Preferred => LookupIpStrategy::Ipv4thenIpv6,
            Family::All => LookupIpStrategy::Ipv4AndIpv6,
        };
        Self { settings, strategy, made: Mutex::default() }
    }

    pub(super) async fn resolve(&self, name: &str) -> Result<Answer, String> {
        let resolver = self.resolver()?;
        match resolver.lookup_ip(name).await {
            Ok(found) => {
                let ttl = found.valid_until().saturating_duration_since(Instant::now().into_std());
                Ok(Answer { ips: found.iter().collect(), ttl })
            }
            Err(error) => {
                self.made.lock().take();
                Err(error.to_string())
            }
        }
    }

    fn resolver(&self) -> Result<Arc<TokioResolver>, String> {
        let mut made = self.made.lock();
        if let Some(resolver) = &*made {
            return Ok(resolver.clone());
        }
        let resolver = Arc::new(self.settings.build(self.strategy)?);
        *made = Some(resolver.clone());
        Ok(resolver)
    }
}
