//! Listeners out of their messages.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::config::listener::v3 as proto;

use super::balance::Balancer;
use super::filter::ListenerFilter;
use super::{FilterChain, Listener, ListenerStats, MAX_CONNECTIONS, Matcher, SocketOptions, fingerprint};
use crate::access_log::AccessLog;
use crate::config::{At, ConfigError, duration, required};
use crate::context::Context;
use crate::network::NetworkChain;
use crate::text::Text;
use crate::tls::DownstreamTls;

/// Envoy's default of `listener_filters_timeout`.
const FILTERS_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for a TLS handshake where `transport_socket_connect_timeout` says nothing.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Length of the accept queue where `tcp_backlog_size` says nothing.
const BACKLOG: u32 = 1024;

impl Listener {
    /// Decodes a listener.
    ///
    /// # Errors
    /// Names the field that cannot be served.
    pub fn decode(proto: &proto::Listener, context: &Context) -> Result<Arc<Self>, ConfigError> {
        Self::decode_after(proto, context, None)
    }

    /// Decodes a new version of a listener. Filter chains that have not changed are kept as they are, with the state
    /// of their filters (rate limit buckets), and their connections go on.
    ///
    /// # Errors
    /// Names the field that cannot be served.
    pub fn decode_after(
        proto: &proto::Listener,
        context: &Context,
        before: Option<&Self>,
    ) -> Result<Arc<Self>, ConfigError> {
        let addresses = addresses(proto)?;
        let mut filters = Vec::new();
        for (index, filter) in proto.listener_filters.iter().enumerate() {
            filters.push(ListenerFilter::decode(filter).at(format!("listener_filters[{index}]"))?);
        }
        // Envoy's, too: the flag brings the filter along, the last of all.
        if proto.use_original_dst == Some(true) {
            filters.push(ListenerFilter::original_dst());
        }
        if proto.filter_chains.is_empty() && proto.default_filter_chain.is_none() && proto.bind_to_port != Some(false) {
            return Err(ConfigError::new("filter_chains", "must not be empty"));
        }
        let mut chains = Vec::new();
        for (index, chain) in proto.filter_chains.iter().enumerate() {
            chains.push(FilterChain::decode(chain, context, before, false).at(format!("filter_chains[{index}]"))?);
        }
        let default_chain = proto.default_filter_chain.as_ref();
        let default_chain = default_chain
            .map(|chain| FilterChain::decode(chain, context, before, true))
            .transpose()
            .at("default_filter_chain")?;
        let first = addresses.first().map(ToString::to_string).unwrap_or_default();
        let name = if proto.name.is_empty() { first.as_str() } else { proto.name.as_str() };
        let timeout = duration(proto.listener_filters_timeout, "listener_filters_timeout")?.unwrap_or(FILTERS_TIMEOUT);
        #[allow(deprecated)]
        let bound_before = proto.deprecated_v1.as_ref().and_then(|old| old.bind_to_port);
        Ok(Arc::new(Self {
            name: Text::from(name),
            stats: stats(proto, &first, context),
            bind_to_port: proto.bind_to_port.or(bound_before).unwrap_or(true),
            socket_options: SocketOptions { only_v6: only_v6(proto, &addresses), ..socket_options(proto)? },
            direction: proto.traffic_direction,
            drains_with_health: drains_with_health(proto.drain_type)?,
            use_original_dst: proto.use_original_dst.unwrap_or_default(),
            filters,
            filters_timeout: (!timeout.is_zero()).then_some(timeout),
            continue_on_timeout: proto.continue_on_listener_filters_timeout,
            matcher: Matcher::build(&proto.filter_chains)?,
            chains,
            default_chain,
            access_logs: AccessLog::decode_list(&proto.access_log, &context.access_logs)?,
            balancer: is_balanced(proto)?.then(Balancer::default),
            max_connections: context.runtime.connections(&proto.name).unwrap_or(MAX_CONNECTIONS),
            ignores_global_limit: proto.ignore_global_conn_limit,
            bypasses_overload: proto.bypass_overload_manager,
            addresses,
        }))
    }
}

impl FilterChain {
    fn decode(
        proto: &proto::FilterChain,
        context: &Context,
        before: Option<&Listener>,
        is_default: bool,
    ) -> Result<Arc<Self>, ConfigError> {
        let fingerprint = fingerprint::whole(proto, is_default);
        let known = |wanted: &dyn Fn(&Self) -> bool| before?.all_chains().find(|chain| wanted(chain));
        if let Some(chain) = known(&|chain| chain.fingerprint == fingerprint) {
            return Ok(chain.clone());
        }
        let frame = fingerprint::frame(proto, is_default);
        // A chain whose TLS has changed drains, but the rate limits of its filters go on.
        let before = known(&|chain| chain.frame == frame)
            .or_else(|| known(&|chain| !chain.name.is_empty() && chain.name.as_str() == proto.name));
        let timeout = duration(proto.transport_socket_connect_timeout, "transport_socket_connect_timeout")?;
        Ok(Arc::new(Self {
            name: Text::from(proto.name.as_str()),
            tls: DownstreamTls::of_socket(proto.transport_socket.as_ref(), &context.secrets).at("transport_socket")?,
            tls_timeout: timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(TLS_TIMEOUT),
            network: NetworkChain::decode_after(&proto.filters, context, before.map(|chain| &chain.network))?,
            fingerprint,
            frame,
        }))
    }
}

fn drains_with_health(drain_type: i32) -> Result<bool, ConfigError> {
    match proto::listener::DrainType::try_from(drain_type) {
        Ok(drain_type) => Ok(drain_type == proto::listener::DrainType::Default),
        Err(_) => Err(ConfigError::new("drain_type", "is unknown")),
    }
}

fn is_balanced(proto: &proto::Listener) -> Result<bool, ConfigError> {
    use proto::listener::connection_balance_config::BalanceType;
    match proto.connection_balance_config.as_ref().map(|config| &config.balance_type) {
        None => Ok(false),
        Some(Some(BalanceType::ExactBalance(_))) => Ok(true),
        Some(_) => Err(ConfigError::new("connection_balance_config", "only exact_balance is implemented")),
    }
}

fn socket_options(proto: &proto::Listener) -> Result<SocketOptions, ConfigError> {
    let backlog = proto.tcp_backlog_size.unwrap_or(BACKLOG);
    let seconds = |value: Option<u32>, default: u32| Duration::from_secs(value.unwrap_or(default).into());
    Ok(SocketOptions {
        only_v6: Vec::new(),
        backlog: i32::try_from(backlog).map_err(|_| ConfigError::new("tcp_backlog_size", "is too large"))?,
        // With exact balance one worker takes a connection and gives it to the one with the fewest.
        reuse_port: proto.enable_reuse_port.unwrap_or(true),
        transparent: proto.transparent.unwrap_or_default(),
        freebind: proto.freebind.unwrap_or_default(),
        keepalive: proto.tcp_keepalive.as_ref().map(|keepalive| {
            (
                seconds(keepalive.keepalive_time, 7200),
                seconds(keepalive.keepalive_interval, 75),
                keepalive.keepalive_probes.unwrap_or(9),
            )
        }),
    })
}

fn addresses(proto: &proto::Listener) -> Result<Vec<SocketAddr>, ConfigError> {
    let mut addresses = vec![address(required(proto.address.as_ref(), "address")?).at("address")?];
    for (index, additional) in proto.additional_addresses.iter().enumerate() {
        let path = format!("additional_addresses[{index}]");
        let found = required(additional.address.as_ref(), "address").at(&path)?;
        addresses.push(address(found).at("address").at(path)?);
    }
    Ok(addresses)
}

/// Those of the addresses that take no IPv4; unless told otherwise all that are IPv6's.
fn only_v6(proto: &proto::Listener, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let additional = proto.additional_addresses.iter().map(|additional| additional.address.as_ref());
    let all = std::iter::once(proto.address.as_ref()).chain(additional);
    let is_only = |(address, proto): &(&SocketAddr, Option<&core::Address>)| {
        let takes_v4 = match proto.and_then(|proto| proto.address.as_ref()) {
            Some(core::address::Address::SocketAddress(socket)) => socket.ipv4_compat,
            _ => false,
        };
        address.is_ipv6() && !takes_v4
    };
    addresses.iter().zip(all).filter(is_only).map(|(address, _)| *address).collect()
}

fn address(proto: &core::Address) -> Result<SocketAddr, ConfigError> {
    use core::address::Address;
    use core::socket_address::{PortSpecifier, Protocol};
    let socket = match required(proto.address.as_ref(), "address")? {
        Address::SocketAddress(socket) => socket,
        Address::Pipe(_) => return Err(ConfigError::new("pipe", "listeners on Unix sockets are not implemented")),
        Address::EnvoyInternalAddress(_) => {
            return Err(ConfigError::new("envoy_internal_address", "internal listeners are not implemented"));
        }
    };
    if socket.protocol() == Protocol::Udp {
        return Err(ConfigError::new("socket_address.protocol", "UDP is not implemented"));
    }
    let ip: IpAddr = socket.address.parse().map_err(|_| {
        ConfigError::new("socket_address.address", format!("{:?} is not an IP address", socket.address))
    })?;
    let port = match socket.port_specifier {
        Some(PortSpecifier::PortValue(port)) => u16::try_from(port)
            .map_err(|_| ConfigError::new("socket_address.port_value", format!("{port} is not a port")))?,
        _ => return Err(ConfigError::new("socket_address.port_value", "must be set")),
    };
    Ok(SocketAddr::new(ip, port))
}

fn stats(proto: &proto::Listener, address: &str, context: &Context) -> ListenerStats {
    // Envoy's form of the address in names: `0.0.0.0_15006`.
    let place = if proto.stat_prefix.is_empty() { address.replace(':', "_") } else { proto.stat_prefix.clone() };
    let scope = context.stats.root().scope("listener").tagged("envoy_listener_address", &place);
    let ssl = scope.scope("ssl");
    ListenerStats {
        downstream_cx_total: scope.counter("downstream_cx_total"),
        downstream_cx_active: scope.gauge("downstream_cx_active"),
        downstream_cx_destroy: scope.counter("downstream_cx_destroy"),
        downstream_cx_overflow: scope.counter("downstream_cx_overflow"),
        downstream_global_cx_overflow: scope.counter("downstream_global_cx_overflow"),
        downstream_cx_overload_reject: scope.counter("downstream_cx_overload_reject"),
        downstream_cx_descriptor_overflow: scope.counter("downstream_cx_descriptor_overflow"),
        downstream_pre_cx_timeout: scope.counter("downstream_pre_cx_timeout"),
        downstream_listener_filter_error: scope.counter("downstream_listener_filter_error"),
        no_filter_chain_match: scope.counter("no_filter_chain_match"),
        ssl_handshake: ssl.counter("handshake"),
        ssl_connection_error: ssl.counter("connection_error"),
        ssl_fail_verify_error: ssl.counter("fail_verify_error"),
    }
}
