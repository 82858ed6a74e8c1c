//! Where the admin pages are served: read from the bootstrap, and bound.

use std::net::SocketAddr;

use ferromesh_proto::envoy::config::bootstrap::v3::Bootstrap;
use ferromesh_proto::envoy::config::core::v3::{address, socket_address};
use socket2::{Domain, Socket, Type};

use crate::config::ConfigError;

/// Length of the accept queue.
const BACKLOG: i32 = 128;

/// A listening socket for the admin address; one on `::` takes IPv4 if `ipv4_compat` says so.
pub(super) fn bind(address: SocketAddr, bootstrap: &Bootstrap) -> std::io::Result<std::net::TcpListener> {
    let configured = bootstrap.admin.as_ref().and_then(|admin| admin.address.as_ref()?.address.as_ref());
    let takes_v4 = matches!(configured, Some(address::Address::SocketAddress(socket)) if socket.ipv4_compat);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!takes_v4)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The admin address of the bootstrap, if it has one.
pub(super) fn configured(bootstrap: &Bootstrap) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(address) = bootstrap.admin.as_ref().and_then(|admin| admin.address.as_ref()) else { return Ok(None) };
    let Some(address::Address::SocketAddress(socket)) = &address.address else {
        return Err(ConfigError::new("admin.address", "must be a socket_address"));
    };
    let Some(socket_address::PortSpecifier::PortValue(port)) = socket.port_specifier else {
        return Err(ConfigError::new("admin.address.socket_address.port_value", "must be set"));
    };
    let wrong = || {
        ConfigError::new(
            "admin.address.socket_address",
            format!("{}:{port} is not an IP address and port", socket.address),
        )
    };
    let ip = socket.address.parse().map_err(|_| wrong())?;
    Ok(Some(SocketAddr::new(ip, u16::try_from(port).map_err(|_| wrong())?)))
}
