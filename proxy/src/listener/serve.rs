//! One connection: listener filters, hand-over, filter chain, TLS, network filters.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::filter::{Arrival, FilterError};
use super::worker::{Active, Counted, Listeners};
use super::{Facts, FilterChain, Listener};
use crate::cause::Cause;
use crate::connection::{Connection, TlsInfo};
use crate::io::{Io, Rewind, Socket};
use crate::text::Text;
use crate::tls::TlsError;

/// Hand-overs of one connection at most; listeners that point at each other must not make a circle.
const MAX_HAND_OVERS: usize = 2;

/// Serves an accepted socket until it ends.
pub(super) async fn connection(
    listeners: Rc<Listeners>,
    mut active: Rc<Active>,
    socket: TcpStream,
    peer: SocketAddr,
    mut counted: Counted,
) {
    let start = Instant::now();
    let _ = socket.set_nodelay(true);
    let Ok(local) = socket.local_addr() else { return };
    let mut arrival = Arrival {
        socket: Socket::Tcp(socket),
        ahead: BytesMut::new(),
        remote: peer,
        direct_remote: peer,
        direct_local: local,
        local,
        restored: false,
        transport: "",
        server_name: None,
        alpn: Vec::new(),
    };
    for _ in 0..=MAX_HAND_OVERS {
        let listener = active.listener();
        if !run_filters(&listener, &mut arrival).await {
            return;
        }
        let next = (listener.use_original_dst && arrival.restored)
            .then(|| listeners.for_destination(arrival.local, &active))
            .flatten();
        let Some(next) = next else { break };
        counted.hand_over(next.clone());
        active = next;
    }
    let listener = active.listener();
    let Some(chain) = listener.choose(&facts(&arrival)).cloned() else {
        listener.stats.no_filter_chain_match.inc();
        let connection = describe(&listeners, &listener, None, &arrival, start);
        return refuse(&listener, &connection, Cause::NoFilterChain, None);
    };
    let mut connection = describe(&listeners, &listener, Some(&chain), &arrival, start);
    let rewind = Rewind::new(arrival.ahead.freeze(), arrival.socket);
    let io = match secure(&listener, &chain, rewind).await {
        Ok((io, tls)) => {
            connection.tls = tls;
            io
        }
        Err(reason) => return refuse(&listener, &connection, Cause::DownstreamTlsFailure, Some(&reason)),
    };
    if connection.server_name.is_none()
        && let Io::Accepted(stream) = &io
    {
        connection.server_name = stream.get_ref().1.server_name().map(|name| Text::from(name.to_ascii_lowercase()));
    }
    serve(&listeners, &active, &listener, &chain, io, connection, counted).await;
}

/// Runs the chain's filters in a task of its own, so that the end of a drain can abort it.
async fn serve(
    listeners: &Rc<Listeners>,
    active: &Rc<Active>,
    listener: &Arc<Listener>,
    chain: &Arc<FilterChain>,
    io: Io,
    connection: Connection,
    counted: Counted,
) {
    let id = connection.id;
    let (ready, go) = tokio::sync::oneshot::channel();
    let task = {
        let (worker, chain, listener) = (listeners.worker.clone(), chain.clone(), listener.clone());
        tokio::task::spawn_local(async move {
            let _counted = counted;
            // An aborted task must leave its group too, so the membership lives in it.
            let Ok(membership) = go.await else { return };
            let membership: super::worker::Membership = membership;
            let signal = membership.group.signal();
            let manager = membership.group.manager();
            chain.network.run(worker, io, connection, signal, manager, &listener.access_logs).await;
        })
    };
    let _ = ready.send(listeners.join(active, chain, id, task.abort_handle()));
}

/// Whether the connection goes on.
async fn run_filters(listener: &Listener, arrival: &mut Arrival) -> bool {
    let all = async {
        for filter in &listener.filters {
            filter.run(arrival).await?;
        }
        Ok::<_, FilterError>(())
    };
    let outcome = match listener.filters_timeout {
        Some(limit) => tokio::time::timeout(limit, all).await,
        None => Ok(all.await),
    };
    match outcome {
        Ok(Ok(())) => true,
        Ok(Err(FilterError::Closed)) => false,
        Ok(Err(error)) => {
            listener.stats.downstream_listener_filter_error.inc();
            tracing::debug!(listener = %listener.name, remote = %arrival.remote, %error, "closed by a listener filter");
            false
        }
        Err(_) => {
            listener.stats.downstream_pre_cx_timeout.inc();
            listener.continue_on_timeout
        }
    }
}

fn facts(arrival: &Arrival) -> Facts<'_> {
    Facts {
        local: arrival.local,
        remote: arrival.remote,
        direct_remote: arrival.direct_remote,
        server_name: arrival.server_name.as_deref().unwrap_or_default(),
        // What no filter has recognized (a client that waits for its server to speak, a timeout) is plain text.
        transport: if arrival.transport.is_empty() { "raw_buffer" } else { arrival.transport },
        alpn: &arrival.alpn,
    }
}

fn describe(
    listeners: &Listeners,
    listener: &Listener,
    chain: Option<&Arc<FilterChain>>,
    arrival: &Arrival,
    start: Instant,
) -> Connection {
    Connection {
        id: listeners.next_id(),
        remote: arrival.remote,
        direct_remote: arrival.direct_remote,
        direct_local: arrival.direct_local,
        local: arrival.local,
        original_dst: arrival.restored.then_some(arrival.local),
        server_name: arrival.server_name.as_deref().map(Text::from),
        tls: None,
        peer: None,
        listener: listener.name.clone(),
        direction: listener.direction,
        filter_chain: chain.map(|chain| chain.name.clone()).unwrap_or_default(),
        start,
    }
}

/// Ends TLS, if the chain asks for it.
async fn secure(listener: &Listener, chain: &FilterChain, rewind: Rewind) -> Result<(Io, Option<Rc<TlsInfo>>), String> {
    let Some(tls) = &chain.tls else { return Ok((Io::Plain(rewind), None)) };
    match tokio::time::timeout(chain.tls_timeout, tls.accept(rewind)).await {
        Ok(Ok((stream, info))) => {
            listener.stats.ssl_handshake.inc();
            Ok((Io::Accepted(stream), Some(Rc::new(info))))
        }
        Ok(Err(error)) => {
            listener.stats.ssl_connection_error.inc();
            if matches!(error, TlsError::Rejected(_)) {
                listener.stats.ssl_fail_verify_error.inc();
            }
            Err(error.to_string())
        }
        Err(_) => {
            listener.stats.ssl_connection_error.inc();
            Err(format!("the client did not finish its handshake within {:?}", chain.tls_timeout))
        }
    }
}

/// Notes a connection that is closed before its filters ran.
fn refuse(listener: &Listener, connection: &Connection, cause: Cause, reason: Option<&str>) {
    tracing::debug!(
        listener = %connection.listener,
        remote = %connection.remote,
        local = %connection.local,
        reason = reason.unwrap_or(cause.explain()),
        "connection refused: {cause}",
    );
    crate::network::log_refused(&listener.access_logs, connection, cause, reason);
}
