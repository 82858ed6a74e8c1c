//! Pages for people and probes: HTTP/1 by hyper, off the data path, so many connections at a time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// A request's head must come within this.
const HEAD: Duration = Duration::from_secs(10);
/// Pause after `accept` failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers requests until dropped, on the current `LocalSet`. What comes beyond `most` connections is closed.
pub async fn serve<F, A>(listener: TcpListener, most: usize, answer: F)
where
    F: Fn(Request<Incoming>, SocketAddr) -> A + 'static,
    A: Future<Output = Response<Full<Bytes>>> + 'static,
{
    let answer = Rc::new(answer);
    // One is held here, by each connection one more.
    let open = Rc::new(());
    loop {
        let Ok((socket, peer)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if Rc::strong_count(&open) > most {
            continue;
        }
        let (answer, open) = (answer.clone(), open.clone());
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let answered = answer(request, peer);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(socket), service);
            if let Err(error) = served.await {
                tracing::debug!(%peer, %error, "connection to the pages");
            }
            drop(open);
        });
    }
}
