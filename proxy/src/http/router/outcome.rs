//! What the end of a try says of its host.

use super::failure::is_transport;
use super::retry;
use super::tries::Try;
use crate::body::Body;
use crate::cause::Cause;
use crate::cluster::outlier::Outcome;
use crate::cluster::{Cluster, Host};

/// By which a host says that it fails its checks.
const IMMEDIATE_FAIL: &str = "x-envoy-immediate-health-check-fail";

/// Counts how a try ended, and tells outlier detection.
pub(super) fn report(cluster: &Cluster, host: &Host, ended: &Try) {
    let stats = &cluster.stats;
    let outcome = match ended {
        Try::Answer(head, body, _) => {
            if cluster.health_check.is_some() && head.headers.contains_key(IMMEDIATE_FAIL) {
                cluster.told_failed(host);
            }
            let grpc = retry::grpc_status(&head.headers).filter(|_| matches!(body, Body::Empty));
            Outcome::Status(grpc.map_or(head.status.as_u16(), retry::http_status))
        }
        Try::Failed(error) => match error.cause {
            Cause::PerTryTimeout => {
                stats.upstream_rq_per_try_timeout.inc();
                Outcome::Timeout
            }
            Cause::ResponseTimeout => {
                stats.upstream_rq_timeout.inc();
                Outcome::Timeout
            }
            cause if is_transport(cause) => Outcome::ConnectFailed,
            Cause::UpstreamRemoteReset | Cause::UpstreamRefusedStream => {
                stats.upstream_rq_rx_reset.inc();
                Outcome::Reset
            }
            Cause::UpstreamConnectionTermination | Cause::UpstreamProtocolError | Cause::ResponseHeadersTooLarge => {
                Outcome::Reset
            }
            // Our own limits, or the client's fault: nothing to hold against the host.
            _ => return,
        },
    };
    cluster.report(host, outcome);
}
