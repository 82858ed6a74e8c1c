//! `envoy.filters.http.grpc_stats`: counts the messages of gRPC requests and responses.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use ferromesh_proto::envoy::extensions::filters::http::grpc_stats::v3 as proto;

use super::{Build, Flow, HttpFilter};
use crate::body::{Body, BodyError, BodySource, Frame};
use crate::config::ConfigError;
use crate::config::supported::Table;
use crate::http::stream::Stream;
use crate::message::ResponseHead;

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table =
    &[("envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", "emit_filter_state stats_for_all_methods")];

/// Full name of the configuration.
pub const MESSAGE: &str = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig";

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    use proto::filter_config::PerMethodStatSpecifier;
    let message: proto::FilterConfig = build.unpack()?;
    if message.per_method_stat_specifier == Some(PerMethodStatSpecifier::StatsForAllMethods(true)) {
        // Methods come from requests: there is no bound for their number.
        return Err(ConfigError::new("stats_for_all_methods", "is not implemented; false is"));
    }
    Ok(Arc::new(GrpcStats))
}

struct GrpcStats;

/// Numbers of messages, in a stream's filter state.
#[derive(Debug, Default)]
pub struct Messages {
    request: Rc<Cell<u64>>,
    response: Rc<Cell<u64>>,
}

impl Messages {
    /// (of the request, of the response)
    pub fn counts(&self) -> [u64; 2] {
        [self.request.get(), self.response.get()]
    }
}

impl HttpFilter for GrpcStats {
    fn on_request(&self, stream: &mut Stream, body: &mut Body) -> Flow {
        if stream.request.is_grpc() {
            let messages = Messages::default();
            count(body, &messages.request);
            stream.state.set(messages);
        }
        Flow::Next
    }

    fn on_response(&self, stream: &mut Stream, _head: &mut ResponseHead, body: &mut Body) {
        if let Some(messages) = stream.state.get::<Messages>() {
            count(body, &messages.response);
        }
    }
}

fn count(body: &mut Body, messages: &Rc<Cell<u64>>) {
    if !body.is_empty() {
        *body =
            Body::new(Counted { body: std::mem::take(body), messages: messages.clone(), frames: Frames::default() });
    }
}

struct Counted {
    body: Body,
    messages: Rc<Cell<u64>>,
    frames: Frames,
}

impl BodySource for Counted {
    fn poll_frame(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = self.body.poll_frame(cx);
        if let Poll::Ready(Some(Ok(Frame::Data(data)))) = &frame {
            self.messages.set(self.messages.get() + self.frames.count(data));
        }
        frame
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }
}

/// Where in gRPC's framing (a flag, four bytes of length, the message) a body is.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; 5],
    have: usize,
    left: u64,
}

impl Frames {
    /// How many messages begin (have their whole header) in `data`.
    fn count(&mut self, mut data: &[u8]) -> u64 {
        let mut messages = 0;
        while !data.is_empty() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len());
                self.left -= skip as u64;
                data = &data[skip..];
                continue;
            }
            let take = (self.header.len() - self.have).min(data.len());
            self.header[self.have..self.have + take].copy_from_slice(&data[..take]);
            self.have += take;
            data = &data[take..];
            if self.have == self.header.len() {
                self.have = 0;
                let [_, length @ ..] = self.header;
                self.left = u32::from_be_bytes(length).into();
                messages += 1;
            }
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_wherever_the_body_is_cut() {
        let body = [&[0, 0, 0, 0, 2, 1, 2][..], &[0, 0, 0, 0, 0], &[1, 0, 0, 0, 1, 9]].concat();
        for cut in 0..body.len() {
            let (first, second) = body.split_at(cut);
            let mut frames = Frames::default();
            assert_eq!(frames.count(first) + frames.count(second), 3, "cut at {cut}");
        }
    }
}
