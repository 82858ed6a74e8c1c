//! `envoy.filters.http.compressor`: compresses bodies for clients that accept it, and those of requests if it is told to.

use std::cell::RefCell;
use std::sync::Arc;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::extensions::filters::http::compressor::v3 as proto;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Build, Flow, HttpFilter, RouteConfig, route_config};
use crate::body::Body;
use crate::config::supported::Table;
use crate::config::{At, ConfigError, required, unpack};
use crate::context::Context;
use crate::http::stream::Stream;
use crate::matcher::header::joined;
use crate::message::ResponseHead;

mod choice;
mod compressed;
mod direction;
mod library;

use choice::{Choice, Offer};
use compressed::Compressed;
use direction::{Direction, Responses};
use library::Library;

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table = &[
    (
        "envoy.extensions.filters.http.compressor.v3.Compressor",
        "compressor_library request_direction_config response_direction_config choose_first content_length \
         content_type disable_on_etag_header remove_accept_encoding_header runtime_enabled",
    ),
    (
        "envoy.extensions.filters.http.compressor.v3.Compressor.CommonDirectionConfig",
        "enabled min_content_length content_type content_type_matcher",
    ),
    ("envoy.extensions.filters.http.compressor.v3.Compressor.RequestDirectionConfig", "common_config"),
    (
        "envoy.extensions.filters.http.compressor.v3.Compressor.ResponseDirectionConfig",
        "common_config disable_on_etag_header weaken_etag_on_compress remove_accept_encoding_header \
         uncompressible_response_codes status_header_enabled",
    ),
    ("envoy.extensions.filters.http.compressor.v3.CompressorPerRoute", "disabled overrides"),
    ("envoy.extensions.filters.http.compressor.v3.CompressorOverrides", "response_direction_config"),
    ("envoy.extensions.filters.http.compressor.v3.ResponseDirectionOverrides", "remove_accept_encoding_header"),
    ("envoy.extensions.compression.gzip.compressor.v3.Gzip", "compression_level window_bits memory_level chunk_size"),
    (
        "envoy.extensions.compression.brotli.compressor.v3.Brotli",
        "quality encoder_mode window_bits input_block_bits chunk_size disable_literal_context_modeling",
    ),
    ("envoy.extensions.compression.zstd.compressor.v3.Zstd", "chunk_size"),
];

/// Full name of the configuration.
pub const MESSAGE: &str = "envoy.extensions.filters.http.compressor.v3.Compressor";
/// Full name of the configuration of a route.
pub const ROUTE_MESSAGE: &str = "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute";

const STATUS: HeaderName = HeaderName::from_static("x-envoy-compression-status");

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    let message: proto::Compressor = build.unpack()?;
    let named = required(message.compressor_library.as_ref(), "compressor_library")?;
    let library = Library::decode(named).at("compressor_library")?;
    let scope = build.stats().scope("compressor").scope(&named.name).scope(library.stat_name());
    let config = Config {
        library,
        choose_first: message.choose_first,
        requests: Direction::of_requests(message.request_direction_config.as_ref(), &scope.scope("request"))
            .at("request_direction_config.common_config")?,
        responses: Responses::decode(&message, &scope)?,
    };
    Ok(Arc::new(Compressor { name: build.name.to_owned(), config: Arc::new(config) }))
}

/// Makes the configuration of a route.
pub fn build_route(any: &Any, _context: &Context) -> Result<RouteConfig, ConfigError> {
    use proto::compressor_per_route::Override;
    let message: proto::CompressorPerRoute = unpack(any)?;
    Ok(Arc::new(match required(message.r#override, "override")? {
        Override::Disabled(true) => ByRoute { is_off: true, ..ByRoute::default() },
        Override::Disabled(false) => return Err(ConfigError::new("disabled", "must be true")),
        Override::Overrides(overrides) => ByRoute {
            is_off: false,
            responses: overrides.response_direction_config.is_some(),
            removes: overrides.response_direction_config.and_then(|responses| responses.remove_accept_encoding_header),
        },
    }))
}

/// What a route says.
#[derive(Default)]
struct ByRoute {
    /// Nothing is compressed.
    is_off: bool,
    /// Responses are compressed, whatever the filter says.
    responses: bool,
    /// Whether servers see which encodings the client accepts.
    removes: Option<bool>,
}

struct Compressor {
    /// The key of routes' configurations.
    name: String,
    config: Arc<Config>,
}

struct Config {
    library: Library,
    choose_first: bool,
    /// Off unless the configuration says how.
    requests: Direction,
    responses: Responses,
}

/// The compressors that a request has passed, each with what the client accepts as it has seen it.
#[derive(Default)]
struct Passed(RefCell<Vec<(Arc<Config>, Option<String>)>>);

impl Compressor {
    fn is_on(&self, route: Option<&ByRoute>) -> bool {
        match route {
            Some(route) if route.is_off => false,
            Some(route) if route.responses => true,
            _ => self.config.responses.direction.is_enabled,
        }
    }

    /// Notes what the client accepts, for the way back.
    fn register(&self, stream: &mut Stream) {
        if stream.state.get::<Passed>().is_none() {
            stream.state.set(Passed::default());
        }
        let accepted = joined(&stream.request.headers, &ACCEPT_ENCODING).map(std::borrow::Cow::into_owned);
        if let Some(passed) = stream.state.get::<Passed>() {
            passed.0.borrow_mut().push((self.config.clone(), accepted));
        }
    }

    fn compress_request(&self, stream: &mut Stream, body: &mut Body, is_off: bool) {
        let (requests, head) = (&self.config.requests, &mut stream.request);
        let is_compressed = !body.is_empty()
            && !is_off
            && head.upgrade.is_none()
            && head.method != Method::CONNECT
            && requests.is_enabled
            && requests.is_long_enough(&head.headers)
            && requests.has_type(head.headers.get(CONTENT_TYPE))
            && !head.headers.contains_key(CONTENT_ENCODING);
        if !is_compressed {
            requests.not_compressed.inc();
            return;
        }
        self.begin(&mut head.headers, body, requests);
    }

    /// The body goes on compressed.
    fn begin(&self, headers: &mut HeaderMap, body: &mut Body, direction: &Direction) {
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(self.config.library.encoding()));
        direction.compressed.inc();
        let encoder = self.config.library.encoder();
        *body = Body::new(Compressed::new(std::mem::take(body), encoder, direction.bytes.clone()));
    }

    /// Whether the client takes this compressor's encoding rather than that of another that it has passed.
    fn is_accepted(&self, stream: &mut Stream, headers: &HeaderMap) -> bool {
        let responses = &self.config.responses;
        let Some(passed) = stream.state.get::<Passed>() else { return false };
        let list = passed.0.borrow();
        let own = list.iter().find(|(config, _)| Arc::ptr_eq(config, &self.config));
        let Some(accepted) = own.and_then(|(_, accepted)| accepted.clone()) else {
            responses.headers.none.inc();
            return false;
        };
        let earlier = stream.state.get::<Choice>().cloned();
        let choice = earlier.unwrap_or_else(|| {
            let kind = headers.get(CONTENT_TYPE);
            let fits = list.iter().filter(|(config, _)| config.responses.direction.competes_for(kind));
            let offers: Vec<Offer> = fits
                .map(|(config, _)| Offer { encoding: config.library.encoding(), is_first: config.choose_first })
                .collect();
            choice::choose(&accepted, offers)
        });
        drop(list);
        let is_ours = choice.encoding() == Some(self.config.library.encoding());
        responses.headers.count(&choice, is_ours);
        stream.state.set(choice);
        is_ours
    }

    fn compress_response(&self, stream: &mut Stream, head: &mut ResponseHead, body: &mut Body) {
        let responses = &self.config.responses;
        let direction = &responses.direction;
        let has_body = !body.is_empty() && stream.request.method != Method::HEAD;
        let is_long_enough = direction.is_long_enough(&head.headers);
        let refusal = (!is_long_enough).then_some("ContentLengthTooSmall").or_else(|| responses.refusal(head));
        let may_change = head.upgrade.is_none()
            && !head.headers.contains_key(CONTENT_ENCODING)
            && !joined(&head.headers, &CACHE_CONTROL).is_some_and(|value| has_token(&value, "no-transform"));
        let is_compressible = refusal.is_none() && may_change;
        let is_accepted = has_body && is_long_enough && self.is_accepted(stream, &head.headers);
        if is_compressible && is_accepted {
            let length = head.headers.get(CONTENT_LENGTH).cloned();
            weaken(&mut head.headers, responses.weakens_etag);
            self.begin(&mut head.headers, body, direction);
            let length = length.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
            self.tell(head, &format!("Compressed;OriginalLength={length}"));
        } else {
            direction.not_compressed.inc();
            if let Some(refusal) = refusal.filter(|_| has_body && may_change) {
                self.tell(head, refusal);
            }
        }
        if is_compressible {
            vary(&mut head.headers);
        }
    }

    fn tell(&self, head: &mut ResponseHead, what: &str) {
        let value = format!("{};{what}", self.config.library.encoding());
        if let Some(value) = Some(value).filter(|_| self.config.responses.tells).and_then(|text| text.try_into().ok()) {
            head.headers.append(STATUS, value);
        }
    }
}

impl HttpFilter for Compressor {
    fn on_request(&self, stream: &mut Stream, body: &mut Body) -> Flow {
        let route = route_config::<ByRoute>(stream, &self.name);
        let route = route.as_deref();
        self.register(stream);
        let removes = route.and_then(|route| route.removes).unwrap_or(self.config.responses.removes);
        if removes && self.is_on(route) {
            stream.request.headers.remove(ACCEPT_ENCODING);
        }
        self.compress_request(stream, body, route.is_some_and(|route| route.is_off));
        Flow::Next
    }

    fn on_response(&self, stream: &mut Stream, head: &mut ResponseHead, body: &mut Body) {
        let route = route_config::<ByRoute>(stream, &self.name);
        if self.is_on(route.as_deref()) {
            self.compress_response(stream, head, body);
        } else {
            self.config.responses.direction.not_compressed.inc();
        }
    }
}

/// The compressed body is another one: an entity tag that asks for the same bytes goes, or becomes a weak one.
fn weaken(headers: &mut HeaderMap, weakens: bool) {
    let Some(tag) = headers.get(ETAG) else { return };
    let is_weak = tag.as_bytes().get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"W/"));
    if is_weak {
        return;
    }
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) if weakens => headers.insert(ETAG, weak),
        _ => headers.remove(ETAG),
    };
}

/// Tells caches that other clients may get another encoding.
fn vary(headers: &mut HeaderMap) {
    const NAME: &str = "Accept-Encoding";
    let value = match joined(headers, &VARY) {
        Some(value) if value.split(',').any(|token| token.trim() == NAME) => return,
        Some(value) => HeaderValue::from_str(&format!("{value}, {NAME}")),
        None => Ok(HeaderValue::from_static(NAME)),
    };
    if let Ok(value) = value {
        headers.insert(VARY, value);
    }
}

fn has_token(value: &str, token: &str) -> bool {
    value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests;
