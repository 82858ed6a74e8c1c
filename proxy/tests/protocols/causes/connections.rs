//! Connections that end without HTTP.

use ferromesh_proxy::cause::Cause;
use serde_json::json;

use super::Scene;
use crate::config::Hop;
use crate::wire::{Server, Wire};

pub async fn scene(cause: Cause) -> Scene {
    let server = Server::new().await;
    if cause == Cause::MetadataExchangeFailure {
        return told_nothing(&server).await;
    }
    let tcp = Hop::tcp();
    let mut of_cluster = json!({});
    let hop = match cause {
        Cause::MaxConnections => {
            of_cluster = json!({"circuit_breakers": {"thresholds": [{"max_connections": 0}]}});
            tcp
        }
        Cause::DownstreamTlsFailure => {
            let pki = crate::pki::Pki::new();
            let own = pki.workload("server", false);
            tcp.chain(json!({"transport_socket": pki.context("DownstreamTlsContext", &own, "client", &json!({}))}))
        }
        Cause::NoFilterChain => tcp.chain(json!({"filter_chain_match": {"destination_port": 1}})),
        Cause::TcpMaxDuration => tcp.terminal(json!({"max_downstream_connection_duration": "0.1s"})),
        Cause::TcpIdleTimeout => tcp.terminal(json!({"idle_timeout": "0.1s"})),
        _ => unreachable!("{cause:?} is another room's"),
    };
    let node = hop.cluster("next", &[server.address], of_cluster).start().await;
    let mut client = Wire::connect(node.address()).await;
    client.send("neither TLS nor anything else").await;
    client.rest().await;
    Scene { node, request: false }
}

/// A client's proxy that agrees on the exchange, and then passes on what its application says.
async fn told_nothing(server: &Server) -> Scene {
    let (outer, inner) = crate::tcp_metrics::pair(server.address, &json!({}), json!([])).await;
    let mut client = Wire::connect(outer.address()).await;
    client.send("no labels, but the first words").await;
    client.rest().await;
    outer.stop().await;
    Scene { node: inner, request: false }
}
