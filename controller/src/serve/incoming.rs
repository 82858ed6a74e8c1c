//! The body of a call goes in; its requests come out. Nothing is kept once a request is read.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use http_body::Body;
use prost::Message;
use tonic::Status;

/// Largest request, bytes: names of 65,536 resources with room to spare.
const MAX_REQUEST: usize = 8 << 20;
/// What gRPC puts before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The requests of a stream.
pub(super) struct Requests<B, R> {
    /// `None` at the end.
    body: Option<B>,
    /// What came of the next request.
    begun: BytesMut,
    request: PhantomData<fn() -> R>,
}

impl<B, R: Message + Default> Requests<B, R> {
    pub(super) fn new(body: B) -> Self {
        Self { body: Some(body), begun: BytesMut::new(), request: PhantomData }
    }

    /// The next request, if all of it has come.
    fn whole(&mut self) -> Result<Option<R>, Status> {
        let Some((prefix, rest)) = self.begun.split_at_checked(PREFIX) else { return Ok(None) };
        let &[compressed, ref length @ ..] = prefix else { return Ok(None) };
        if compressed != 0 {
            return Err(Status::unimplemented("requests must not be compressed (grpc-encoding)"));
        }
        let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        if length > MAX_REQUEST {
            let reason = format!("a request of {length} bytes; at most {MAX_REQUEST} are read: subscribe to less");
            return Err(Status::resource_exhausted(reason));
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let request = R::decode(message);
        let request =
            request.map_err(|error| Status::invalid_argument(format!("a request does not decode: {error}")))?;
        self.begun.advance(PREFIX + length);
        if self.begun.is_empty() {
            self.begun = BytesMut::new();
        }
        Ok(Some(request))
    }
}

impl<B, R> Stream for Requests<B, R>
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    R: Message + Default,
{
    type Item = Result<R, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(request) = self.whole().transpose() {
                if request.is_err() {
                    self.body = None;
                    self.begun = BytesMut::new();
                }
                return Poll::Ready(Some(request));
            }
            let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.begun.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    self.body = None;
                    self.begun = BytesMut::new();
                    return Poll::Ready(Some(Err(Status::cancelled(format!("the stream broke: {error}")))));
                }
                None => {
                    self.body = None;
                    if !std::mem::take(&mut self.begun).is_empty() {
                        return Poll::Ready(Some(Err(Status::invalid_argument("the stream ended within a request"))));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ferromesh_proto::envoy::service::discovery::v3::DiscoveryRequest;
    use futures_util::{FutureExt, StreamExt};
    use http_body::Frame;
    use proptest::prelude::*;

    use super::*;

    /// A body of these pieces.
    struct Pieces(Vec<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let next = (!self.0.is_empty()).then(|| self.0.remove(0));
            Poll::Ready(next.map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn message(name: &str) -> Vec<u8> {
        let request = DiscoveryRequest { resource_names: vec![name.to_owned()], ..DiscoveryRequest::default() };
        let bytes = request.encode_to_vec();
        [&[0], &(bytes.len() as u32).to_be_bytes()[..], &bytes].concat()
    }

    /// All requests of a body, and how it ended.
    fn read(body: &[u8], piece: usize) -> (Vec<String>, Option<Status>) {
        let pieces = body.chunks(piece).map(Bytes::copy_from_slice).collect();
        let mut requests = Requests::<_, DiscoveryRequest>::new(Pieces(pieces));
        let mut names = Vec::new();
        loop {
            match requests.next().now_or_never().unwrap() {
                Some(Ok(request)) => names.extend(request.resource_names),
                Some(Err(status)) => {
                    assert!(requests.next().now_or_never().unwrap().is_none(), "nothing follows an error");
                    return (names, Some(status));
                }
                None => {
                    assert_eq!(requests.begun.capacity(), 0, "nothing is kept");
                    return (names, None);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn requests_are_the_same_however_they_are_cut(
            names in prop::collection::vec("[a-z]{0,300}", 0..10),
            piece in 1..700_usize,
        ) {
            let body = names.iter().flat_map(|name| message(name)).collect::<Vec<_>>();
            let (found, end) = read(&body, piece);
            prop_assert_eq!(found, names);
            prop_assert!(end.is_none());
        }

        #[test]
        fn any_bytes_end_in_a_status_and_no_panic(body in prop::collection::vec(any::<u8>(), 0..200), piece in 1..50_usize) {
            read(&body, piece);
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let cases = [
            (vec![1, 0, 0, 0, 0], tonic::Code::Unimplemented),
            (vec![0, 255, 0, 0, 0], tonic::Code::ResourceExhausted),
            (vec![0, 0, 0, 0, 1, 255], tonic::Code::InvalidArgument),
            (vec![0, 0, 0, 0, 9, 1], tonic::Code::InvalidArgument),
        ];
        for (body, code) in cases {
            let (names, end) = read(&[message("first"), body].concat(), 3);
            assert_eq!((names, end.map(|status| status.code())), (vec!["first".to_owned()], Some(code)));
        }
    }
}
