//! Every cause, brought about: what the client, the access log and the metrics are told of it agrees with the one list.

use ferromesh_proxy::cause::Cause;
use serde_json::{Value, json};

use crate::config::{Hop, Node, typed};
use crate::peers::{eventually, get};

#[path = "causes/answers.rs"]
mod answers;
#[path = "causes/clients.rs"]
mod clients;
#[path = "causes/connections.rs"]
mod connections;
#[path = "causes/heads.rs"]
mod heads;
#[path = "causes/times.rs"]
mod times;
#[path = "causes/upstreams.rs"]
mod upstreams;

/// A proxy to which a cause has happened.
struct Scene {
    node: Node,
    /// Whether it was a request, of which `istio_requests_total` tells.
    request: bool,
}

/// A proxy for HTTP that counts requests as Istio does; `filters` stand before the one that counts.
fn hop(filters: &[Value], manager: Value) -> Hop {
    let mut all = filters.to_vec();
    all.push(json!({"name": "istio.stats", "typed_config": {"@type": "type.googleapis.com/stats.PluginConfig"}}));
    all.push(typed("http.router.v3.Router", json!({})));
    Hop::http().terminal(json!({"http_filters": all})).terminal(manager)
}

/// Brings a cause about. A cause without a scene does not compile; one whose scene brings about another fails.
async fn bring_about(cause: Cause) -> Scene {
    use Cause::*;
    match cause {
        DownstreamProtocolError
        | UnsupportedTransferEncoding
        | ContentLengthWithTransferEncoding
        | InvalidContentLength
        | InvalidChunk
        | InvalidHost
        | MissingHost
        | InvalidTarget
        | UnknownMethod
        | RelativePath
        | InvalidPath
        | InvalidHeader
        | OriginalIpUnknown
        | LowVersion
        | HeadersTooLarge
        | TooManyHeaders => heads::scene(cause).await,
        RouteNotFound
        | ClusterNotFound
        | DirectResponse
        | UpgradeFailed
        | RateLimited
        | RbacDenied
        | FaultAbort
        | HealthCheckReply
        | HealthCheckFailed
        | CorsPreflight
        | Overload
        | NoHealthyUpstream
        | UpstreamConnectionFailure
        | MaxPendingRequests
        | MaxRequests => answers::scene(cause).await,
        UpstreamTlsFailure
        | UpstreamConnectionTermination
        | UpstreamRemoteReset
        | UpstreamRefusedStream
        | UpstreamProtocolError
        | UnwritableRequest
        | UpstreamResetAfterResponse
        | UpstreamTerminationAfterResponse
        | RetryOverflow
        | UpstreamRetryLimitExceeded
        | WebsocketHandshake
        | ResponseHeadersTooLarge
        | FaultDelay => upstreams::scene(cause).await,
        UpstreamConnectTimeout
        | ResponseTimeout
        | PerTryTimeout
        | StreamIdleTimeout
        | RequestTimeout
        | RequestHeaderTimeout
        | MaxDurationTimeout
        | UpstreamMaxStreamDuration => times::scene(cause).await,
        DownstreamRemoteDisconnect | DownstreamRemoteReset | DownstreamH2Error | DownstreamFlood => {
            clients::scene(cause).await
        }
        // A control plane must take a filter's configuration back: a test of xDS does that.
        NoFilterConfig => unreachable!("left out"),
        MaxConnections
        | DownstreamTlsFailure
        | NoFilterChain
        | TcpMaxDuration
        | TcpIdleTimeout
        | MetadataExchangeFailure => connections::scene(cause).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cause_can_be_produced() {
    let here = |cause: &Cause| *cause != Cause::NoFilterConfig;
    for cause in Cause::ALL.iter().copied().filter(here) {
        let Scene { node, request } = bring_about(cause).await;
        let line = node.logged(&[&format!("details={}", cause.stem())]).await;
        let word = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap_or_default();
        let flags = word("flags=");
        let flag = if cause.flag().is_empty() { "-" } else { cause.flag() };
        assert!(flags.split(',').any(|found| found == flag), "{cause:?}: {line}");
        // A connection without HTTP has no status.
        if cause.status() != 0 && request {
            assert!(line.contains(&format!(" {} flags=", cause.status())), "{cause:?}: {line}");
        }
        let details = line.split_once("details=").unwrap().1.split(' ').next().unwrap();
        let code = if cause.details().is_empty() { cause.flag() } else { details };
        let shown = get(node.proxy.admin_addr().unwrap(), &format!("/explain?code={}", encoded(code))).await;
        assert!(shown.0 == 200 && shown.1.contains(&format!("{cause:?}\n")), "{cause:?}: {code}: {shown:?}");
        if request {
            let label = format!("response_flags=\"{flags}\"");
            let told = || async {
                let stats = get(node.proxy.admin_addr().unwrap(), "/stats/prometheus").await.1;
                stats.lines().any(|line| line.starts_with("istio_requests_total{") && line.contains(&label))
            };
            eventually(&format!("{cause:?}: a request with {label}"), told).await;
        }
        node.stop().await;
    }
}

/// A word of a query.
fn encoded(word: &str) -> String {
    word.bytes().map(|byte| format!("%{byte:02x}")).collect()
}
