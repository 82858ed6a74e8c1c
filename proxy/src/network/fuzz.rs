//! What a peer says of itself, in headers and before the first byte of a connection.

use futures_util::FutureExt;

use super::metadata_exchange;
use crate::connection::Peer;

/// `x-envoy-peer-metadata`, an endpoint's `istio.workload`, and the message of the TCP exchange.
pub fn peer_metadata(data: &[u8]) {
    let _ = Peer::from_header("id", data);
    if let Ok(text) = std::str::from_utf8(data) {
        let peer = Peer::from_endpoint(text);
        assert!(peer.app.is_empty() && peer.version.is_empty(), "an endpoint says nothing of these");
    }
    let mut rest = data;
    let read = metadata_exchange::read(&mut rest).now_or_never().expect("bytes that are there are not waited for");
    if read.is_ok() {
        assert!(data.len() - rest.len() >= 8, "a message has a magic number and a length");
    }
}
