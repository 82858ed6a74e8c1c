//! The two ADS methods over HTTP/2: <https://grpc.github.io/grpc/core/md_doc__p_r_o_t_o_c_o_l-_h_t_t_p2.html>. Read
//! and written here, piece by piece: a buffer of a proxy's whole configuration for each stream, and one of all names
//! that it has asked for, is what a control plane's memory would be made of.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::client::Peer;
use super::incoming::Requests;
use super::outgoing::Outgoing;
use super::stream::{self, Shared};
use super::wire::{Delta, StateOfTheWorld, Wire};

/// How long the last status of a stream waits for a client that does not read.
const LAST_WORDS: Duration = Duration::from_secs(1);
const SERVICE: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/";

/// Answers a call: a stream, or a status.
pub(super) fn call(shared: &Arc<Shared>, peer: &Peer, request: Request<Incoming>) -> Response<Responses> {
    let method = request.uri().path().strip_prefix(SERVICE).filter(|_| request.method() == Method::POST);
    let opened = match method {
        Some("DeltaAggregatedResources") => open::<Delta>(shared, peer, request),
        Some("StreamAggregatedResources") => open::<StateOfTheWorld>(shared, peer, request),
        _ => Err(Status::unimplemented(format!(
            "only {SERVICE}DeltaAggregatedResources and StreamAggregatedResources are served"
        ))),
    };
    let body = match opened {
        Ok(receiver) => Responses::Open { receiver, current: None },
        Err(status) => return status.into_http(),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

type Receiver = mpsc::Receiver<Result<Box<Outgoing>, Status>>;

fn open<W: Wire>(shared: &Arc<Shared>, peer: &Peer, request: Request<Incoming>) -> Result<Receiver, Status> {
    let too_many = |_| Status::resource_exhausted("too many xDS streams are open; try again later");
    let permit = Arc::clone(&shared.streams).try_acquire_owned().map_err(too_many)?;
    let encoding = request.headers().get("grpc-encoding");
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(Status::unimplemented("requests must not be compressed (grpc-encoding)"));
    }
    let requests = Requests::<_, W::Request>::new(request.into_body());
    let (sender, receiver) = mpsc::channel(1);
    let (shared, peer) = (Arc::clone(shared), peer.clone());
    tokio::spawn(async move {
        let _permit = permit;
        let gone = sender.clone();
        let end = tokio::select! {
            end = stream::serve::<W>(shared, peer, requests, sender.clone()) => end,
            () = gone.closed() => Ok(()),
        };
        if let Err(status) = end {
            // Nobody may be reading any more.
            let _ = timeout(LAST_WORDS, sender.send(Err(status))).await;
        }
    });
    Ok(receiver)
}

/// The body of a call's response: messages as they come, and a status.
#[derive(Default)]
pub(super) enum Responses {
    /// The stream.
    Open {
        /// The messages.
        receiver: Receiver,
        /// The one that is being sent.
        current: Option<Box<Outgoing>>,
    },
    /// All has been said.
    #[default]
    Ended,
}

impl Body for Responses {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            let Self::Open { receiver, current } = &mut *self else { return Poll::Ready(None) };
            if let Some(piece) = current.as_mut().and_then(|current| current.piece()) {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let status = match ready!(receiver.poll_recv(cx)) {
                Some(Ok(next)) => {
                    *current = Some(next);
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::new(Code::Ok, ""),
            };
            *self = Self::Ended;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Ended)
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // Its text cannot be written: the code can.
        trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    trailers
}
