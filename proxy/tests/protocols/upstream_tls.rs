//! Which hosts of a cluster are spoken to over TLS, and how.

use serde_json::{Value, json};

use crate::config::{Hop, socket};
use crate::peers::{get, upstream};
use crate::pki::Pki;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_host_is_spoken_to_over_the_transport_that_its_metadata_matches() {
    let pki = Pki::new();
    let required = json!({"require_client_certificate": true});
    let own = pki.context("DownstreamTlsContext", &pki.workload("server", false), "client", &required);
    let secure = Hop::http().chain(json!({"transport_socket": own})).to(upstream("secure").await).start().await;
    let plain = upstream("plain").await;
    let tls = pki.context("UpstreamTlsContext", &pki.workload("client", false), "server", &json!({"sni": "server"}));
    let endpoint = |address, labels: Value| {
        json!({"endpoint": {"address": socket(address)},
            "metadata": {"filter_metadata": {"envoy.transport_socket_match": labels}}})
    };
    let raw = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    let matches = json!([
        {"name": "other", "match": {"tlsMode": "other"}, "transport_socket": {"name": "raw", "typed_config": {"@type": raw}}},
        {"name": "mtls", "match": {"tlsMode": "istio"}, "transport_socket": tls},
        {"name": "plain", "match": {}, "transport_socket": {"name": "raw", "typed_config": {"@type": raw}}}]);
    let hosts = json!([endpoint(secure.address(), json!({"tlsMode": "istio"})), endpoint(plain, json!({}))]);
    let cluster = json!({"transport_socket_matches": matches,
        "load_assignment": {"cluster_name": "next", "endpoints": [{"lb_endpoints": hosts}]}});
    let node = Hop::http().cluster("next", &[], cluster).start().await;
    let mut found = Vec::new();
    for _ in 0..4 {
        found.push(get(node.address(), "/").await);
    }
    found.sort();
    let answer = |name: &str| (200, name.to_owned());
    assert_eq!(found, [answer("plain"), answer("plain"), answer("secure"), answer("secure")]);
    node.stop().await;
    secure.stop().await;
}
