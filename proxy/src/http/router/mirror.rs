//! Mirrors: the same request to another cluster, whose answer nobody waits for.

use std::time::Duration;

use http::HeaderValue;

use super::plan::shadow_authority;
use super::replay::Replay;
use super::wanted;
use crate::cluster::LbContext;
use crate::http::stream::Stream;
use crate::matcher::hit;
use crate::message::RequestHead;
use crate::route::{ClusterSpecifier, Forward, Mirror, SelectedRoute};
use crate::text::Text;

/// A mirror without a limit of its own ends after this.
const LONGEST: Duration = Duration::from_secs(15);

/// Starts the mirrors that the route asks for and chance selects.
pub(super) fn start(
    stream: &Stream,
    route: &SelectedRoute,
    forward: &Forward,
    body: &Replay,
    timeout: Option<Duration>,
) {
    if stream.request.upgrade.is_some() {
        return;
    }
    let of_host = &route.virtual_host().mirrors;
    let mirrors: &[Mirror] = if forward.mirrors.is_empty() { of_host } else { &forward.mirrors };
    for mirror in mirrors {
        if hit(mirror.per_million, fastrand::u64(..)) {
            one(stream, mirror, forward, body, timeout.unwrap_or(LONGEST));
        }
    }
}

/// A mirrored request is one of the proxy's own.
fn mark(head: &mut RequestHead, stream: &Stream) {
    let own = stream.worker.context.local.address().to_string();
    crate::http::head::append_forwarded_for(&mut head.headers, &own);
    head.headers.insert("x-envoy-internal", HeaderValue::from_static("true"));
}

fn one(stream: &Stream, mirror: &Mirror, forward: &Forward, body: &Replay, timeout: Duration) {
    let name: Text = match &mirror.cluster {
        ClusterSpecifier::Name(name) => name.clone(),
        ClusterSpecifier::Header(header) => match stream.request.headers.get(header).map(|value| value.to_str()) {
            Some(Ok(name)) => name.into(),
            _ => return,
        },
        ClusterSpecifier::Weighted(_) => return,
    };
    let Some(cluster) = stream.worker.context.clusters.get(&name) else { return };
    let mut head = stream.request.clone();
    match &mirror.host_rewrite {
        Some(host) => head.authority = host.clone(),
        None if !mirror.keep_host => head.authority = shadow_authority(&head.authority).into(),
        None => {}
    }
    mark(&mut head, stream);
    let Ok(host) = cluster.pick(&LbContext::default()) else { return };
    let wanted = wanted::wanted(stream, &cluster, forward.high_priority);
    let pools = stream.worker.pools.clone();
    let body = body.copy(cluster.config.buffer_limit);
    tokio::task::spawn_local(async move {
        let exchange = async {
            let connection = pools.stream(&cluster, &host, &wanted).await?;
            let (answer, mut body) = connection.send(&head, body, None).await?;
            cluster.stats.count_status(answer.status.as_u16(), true);
            while let Some(Ok(_)) = body.frame().await {}
            Ok::<_, crate::upstream::UpstreamError>(())
        };
        if !matches!(tokio::time::timeout(timeout, exchange).await, Ok(Ok(()))) {
            tracing::debug!(cluster = %cluster.config.name, "a mirrored request had no whole answer");
        }
    });
}
