//! `envoy.filters.http.header_mutation`: changes headers of requests and responses.

use std::sync::Arc;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::extensions::filters::http::header_mutation::v3 as proto;

use super::{Build, Flow, HttpFilter, RouteConfig, route_config};
use crate::body::Body;
use crate::config::supported::Table;
use crate::config::{At, ConfigError, unpack};
use crate::context::Context;
use crate::http::stream::Stream;
use crate::message::ResponseHead;
use crate::route::header_rules::Mutations;

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table = &[
    ("envoy.extensions.filters.http.header_mutation.v3.HeaderMutation", "mutations"),
    ("envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute", "mutations"),
    ("envoy.extensions.filters.http.header_mutation.v3.Mutations", "request_mutations response_mutations"),
    ("envoy.config.common.mutation_rules.v3.HeaderMutation", "remove append"),
];

/// Full name of the configuration.
pub const MESSAGE: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
/// Full name of the configuration of a route.
pub const ROUTE_MESSAGE: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute";

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    let message: proto::HeaderMutation = build.unpack()?;
    let config = Config::decode(message.mutations.as_ref()).at("mutations")?;
    Ok(Arc::new(HeaderMutation { name: build.name.to_owned(), config }))
}

/// Makes the configuration of a route, which is applied after the filter's.
pub fn build_route(any: &Any, _context: &Context) -> Result<RouteConfig, ConfigError> {
    let message: proto::HeaderMutationPerRoute = unpack(any)?;
    Ok(Arc::new(Config::decode(message.mutations.as_ref()).at("mutations")?))
}

struct HeaderMutation {
    name: String,
    config: Config,
}

#[derive(Default)]
struct Config {
    request: Mutations,
    response: Mutations,
}

impl Config {
    fn decode(message: Option<&proto::Mutations>) -> Result<Self, ConfigError> {
        let Some(message) = message else { return Ok(Self::default()) };
        Ok(Self {
            request: Mutations::decode_ordered(&message.request_mutations).at("request_mutations")?,
            response: Mutations::decode_ordered(&message.response_mutations).at("response_mutations")?,
        })
    }
}

impl HttpFilter for HeaderMutation {
    fn on_request(&self, stream: &mut Stream, _body: &mut Body) -> Flow {
        self.config.request.apply_request(stream);
        if let Some(config) = route_config::<Config>(stream, &self.name) {
            config.request.apply_request(stream);
        }
        Flow::Next
    }

    fn on_response(&self, stream: &mut Stream, head: &mut ResponseHead, _body: &mut Body) {
        self.config.response.apply_response(stream, head);
        if let Some(config) = route_config::<Config>(stream, &self.name) {
            config.response.apply_response(stream, head);
        }
    }
}
