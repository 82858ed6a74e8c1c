//! One line for headers that come in several: whoever reads only the first must not miss the others.

use bytes::BytesMut;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};

/// Headers that are a list by nature, or of which there is one: Envoy keeps one line of each, values with commas between.
const ONE_LINE: [HeaderName; 30] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCESS_CONTROL_REQUEST_HEADERS,
    header::ACCESS_CONTROL_REQUEST_METHOD,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::ORIGIN,
    header::PRAGMA,
    header::REFERER,
    header::USER_AGENT,
    header::VIA,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("x-client-trace-id"),
    HeaderName::from_static("x-envoy-external-address"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-request-id"),
];

/// Joins the lines of those headers.
pub fn join(headers: &mut HeaderMap) {
    if headers.len() == headers.keys_len() {
        return;
    }
    for name in &ONE_LINE {
        if headers.get_all(name).iter().nth(1).is_none() {
            continue;
        }
        let mut joined = BytesMut::new();
        for value in headers.get_all(name) {
            if !joined.is_empty() {
                joined.extend_from_slice(b",");
            }
            joined.extend_from_slice(value.as_bytes());
        }
        // Values that a head may have are one together, too.
        if let Ok(joined) = HeaderValue::from_maybe_shared(joined.freeze()) {
            headers.insert(name, joined);
        }
    }
}
