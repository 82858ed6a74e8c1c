//! Small parts that many messages share: durations, addresses, packed filters, config sources.

use std::time::Duration;

use ferromesh_proto::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ConfigSource, HeaderValue, HeaderValueOption, Metadata, SocketAddress, address,
    config_source::ConfigSourceSpecifier, header_value_option::HeaderAppendAction, socket_address::PortSpecifier,
};
use ferromesh_proto::envoy::config::listener::v3::{Filter, ListenerFilter, filter, listener_filter};
use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use ferromesh_proto::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use ferromesh_proto::{Any, prost_types};
use prost::{Message, Name};
use serde_json::Value;

/// xDS API version 3.
pub const V3: i32 = 2;

/// A protobuf duration; one that is too long for protobuf is the longest there is.
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration { seconds: 315_576_000_000, nanos: 0 })
}

/// So many seconds.
pub fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// A TCP address.
pub fn address(host: &str, port: u32) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..SocketAddress::default()
        })),
    }
}

/// Aggregated discovery, without an own limit on how long the first answer may take.
pub fn ads() -> ConfigSource {
    ConfigSource {
        initial_fetch_timeout: Some(seconds(0)),
        resource_api_version: V3,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

/// A network filter.
pub fn network_filter<M: Message + Name>(name: &str, config: &M) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(Any::pack(config))) }
}

/// A listener filter.
pub fn listener_filter<M: Message + Name>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(Any::pack(config))),
        ..ListenerFilter::default()
    }
}

/// An HTTP filter.
pub fn http_filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(Any::pack(config))),
        ..HttpFilter::default()
    }
}

/// Metadata of one namespace.
pub fn metadata(namespace: &str, value: &Value) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.filter_metadata.insert(namespace.to_owned(), ferromesh_proto::json::json_to_struct(value));
    metadata
}

/// A matcher for one exact text.
pub fn exact(text: &str) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Exact(text.to_owned())), ..StringMatcher::default() }
}

/// A matcher for an RE2 expression, which must match the whole text.
pub fn regex(expression: &str) -> RegexMatcher {
    RegexMatcher { regex: expression.to_owned(), ..RegexMatcher::default() }
}

/// A header to add (or overwrite).
pub fn header(name: &str, value: &str, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned(), ..HeaderValue::default() }),
        append_action: action as i32,
        ..HeaderValueOption::default()
    }
}

/// `127.0.0.1:80` or `[::1]:80` as host and port.
pub fn host_port(text: &str) -> Option<(String, u32)> {
    let address: std::net::SocketAddr = text.parse().ok()?;
    Some((address.ip().to_string(), u32::from(address.port())))
}
