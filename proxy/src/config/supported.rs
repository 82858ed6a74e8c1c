//! Which fields of which messages are implemented, and the check of encoded resources against that.
//!
//! prost drops unknown fields silently, so the check runs over the wire form: every tag that is set must be in a
//! room's table. A message that no table lists is not implemented at all. Texts that become part of a message's head are
//! checked on the way.

use std::collections::{HashMap, HashSet};

use ferromesh_proto::fields::{self, Field, Message};
use ferromesh_proto::wire::{Parts, Payload};
use ferromesh_proto::{Any, json};

use super::{ConfigError, header_text};

/// Rows of (full message name, names of its supported fields separated by spaces).
/// A row `("envoy.x.v3.Y", "*")` supports all fields that this build's descriptors know.
pub type Table = &'static [(&'static str, &'static str)];

/// Messages that several rooms read.
pub const COMMON: Table = &[
    ("envoy.config.core.v3.Address", "socket_address pipe envoy_internal_address"),
    ("envoy.config.core.v3.SocketAddress", "protocol address port_value named_port ipv4_compat resolver_name"),
    ("envoy.config.core.v3.Pipe", "path mode"),
    ("envoy.config.core.v3.CidrRange", "*"),
    ("envoy.config.core.v3.DataSource", "filename inline_bytes inline_string environment_variable"),
    ("envoy.config.core.v3.Metadata", "filter_metadata typed_filter_metadata"),
    ("envoy.config.core.v3.Locality", "*"),
    ("envoy.config.core.v3.TypedExtensionConfig", "*"),
    ("envoy.config.core.v3.HeaderValue", "key value raw_value"),
    ("envoy.config.core.v3.HeaderValueOption", "header append append_action keep_empty_value"),
    ("envoy.config.core.v3.RuntimeFractionalPercent", "*"),
    ("envoy.config.core.v3.RuntimeFeatureFlag", "*"),
    ("envoy.config.core.v3.RuntimeDouble", "*"),
    ("envoy.config.core.v3.RuntimeUInt32", "*"),
    ("envoy.config.core.v3.RuntimePercent", "*"),
    (
        "envoy.config.core.v3.ConfigSource",
        "ads api_config_source path_config_source resource_api_version initial_fetch_timeout self",
    ),
    ("envoy.config.core.v3.AggregatedConfigSource", "*"),
    ("envoy.config.core.v3.SelfConfigSource", "*"),
    ("envoy.config.core.v3.PathConfigSource", "path"),
    (
        "envoy.config.core.v3.ApiConfigSource",
        "api_type transport_api_version grpc_services set_node_on_first_message_only",
    ),
    ("envoy.config.core.v3.GrpcService", "envoy_grpc timeout initial_metadata"),
    ("envoy.config.core.v3.GrpcService.EnvoyGrpc", "cluster_name authority"),
    ("envoy.config.core.v3.TransportSocket", "name typed_config"),
    ("envoy.config.core.v3.BackoffStrategy", "*"),
    ("envoy.type.v3.FractionalPercent", "*"),
    ("envoy.type.v3.Percent", "*"),
    ("envoy.type.v3.Int32Range", "*"),
    ("envoy.type.v3.Int64Range", "*"),
    ("envoy.type.v3.DoubleRange", "*"),
    ("envoy.type.v3.HttpStatus", "*"),
    ("envoy.type.v3.TokenBucket", "*"),
    ("envoy.type.matcher.v3.StringMatcher", "exact prefix suffix safe_regex contains ignore_case"),
    ("envoy.type.matcher.v3.RegexMatcher", "google_re2 regex"),
    ("envoy.type.matcher.v3.RegexMatcher.GoogleRE2", "*"),
    ("envoy.type.matcher.v3.RegexMatchAndSubstitute", "pattern substitution"),
    ("envoy.type.matcher.v3.ListStringMatcher", "*"),
    ("envoy.type.matcher.v3.PathMatcher", "*"),
    ("envoy.type.matcher.v3.DoubleMatcher", "*"),
    ("envoy.type.matcher.v3.ValueMatcher", "*"),
    ("envoy.type.matcher.v3.ValueMatcher.NullMatch", "*"),
    ("envoy.type.matcher.v3.ListMatcher", "*"),
    ("envoy.type.matcher.v3.OrMatcher", "*"),
    ("envoy.type.matcher.v3.MetadataMatcher", "filter path value invert"),
    ("envoy.type.matcher.v3.MetadataMatcher.PathSegment", "key"),
    ("envoy.type.matcher.v3.FilterStateMatcher", "key string_match"),
];

/// The fields of all tables, by message.
pub struct Supported(HashMap<&'static str, Fields>);

enum Fields {
    All,
    Named(HashSet<&'static str>),
}

impl Supported {
    /// What these tables list.
    pub fn of(tables: &[Table]) -> Self {
        let mut all = HashMap::new();
        for (message, names) in tables.iter().copied().flatten() {
            match *names {
                "*" => {
                    all.insert(*message, Fields::All);
                }
                names => match all.entry(*message).or_insert_with(|| Fields::Named(HashSet::new())) {
                    Fields::All => {}
                    Fields::Named(set) => set.extend(names.split_whitespace()),
                },
            }
        }
        Self(all)
    }

    /// Checks that every field that `any` sets, at any depth, is implemented.
    ///
    /// # Errors
    /// Names the type URL and the path of the first field that is not.
    pub fn check(&self, any: &Any) -> Result<(), ConfigError> {
        self.check_any(any, false).map_err(|error| error.of_type(&any.type_url))
    }

    /// Whether a field of a message is implemented.
    pub fn has(&self, message: &str, field: &str) -> bool {
        match self.0.get(message) {
            Some(Fields::All) => true,
            Some(Fields::Named(names)) => names.contains(field),
            None => false,
        }
    }

    fn check_any(&self, any: &Any, optional: bool) -> Result<(), ConfigError> {
        let any = json::resolve_typed_struct(any).map_err(|error| ConfigError::new("", error.to_string()));
        let any = match any {
            Ok(any) => any,
            Err(_) if optional => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(message) = fields::message(&any.type_url).filter(|found| self.0.contains_key(found.name())) else {
            return if optional {
                Ok(())
            } else {
                Err(ConfigError::new("", format!("extension type {:?} is not implemented", any.type_url)))
            };
        };
        self.check_message(message, &any.value)
    }

    fn check_message(&self, message: Message, bytes: &[u8]) -> Result<(), ConfigError> {
        if message.is_map_entry() {
            return self.check_fields(message, bytes, None);
        }
        if message.name().starts_with("google.protobuf.") {
            return Ok(());
        }
        match self.0.get(message.name()) {
            None => Err(ConfigError::new("", format!("message {} is not implemented", message.name()))),
            Some(Fields::All) => self.check_fields(message, bytes, None),
            Some(Fields::Named(names)) => self.check_fields(message, bytes, Some(names)),
        }
    }

    fn check_fields(
        &self,
        message: Message,
        bytes: &[u8],
        names: Option<&HashSet<&'static str>>,
    ) -> Result<(), ConfigError> {
        let optional = message.name().ends_with(".HttpFilter") && is_optional(message, bytes);
        let texts = header_text::rules(message.name());
        let mut seen: HashMap<u32, usize> = HashMap::new();
        for part in Parts::of(bytes) {
            let part = part.map_err(|error| ConfigError::new("", error.to_string()))?;
            let Some(known) = message.field(part.number) else {
                let number = part.number;
                return Err(ConfigError::new("", format!("field number {number} of {} is unknown", message.name())));
            };
            if names.is_some_and(|names| !names.contains(known.name())) {
                return Err(ConfigError::new(known.name(), "is not implemented"));
            }
            let index = seen.entry(part.number).or_default();
            if let Payload::Bytes(payload) = part.payload {
                let checked = match known.message() {
                    Some(inner) => self.check_inner(inner, payload, optional),
                    None => header_text::check(texts, known.name(), payload),
                };
                checked.map_err(|error| error.at(segment(known, *index)))?;
            }
            *index += 1;
        }
        Ok(())
    }

    fn check_inner(&self, inner: Message, payload: &[u8], optional: bool) -> Result<(), ConfigError> {
        if inner.name() == "google.protobuf.Any" {
            let any = ferromesh_proto::prost::Message::decode(payload)
                .map_err(|error| ConfigError::new("", error.to_string()))?;
            return self.check_any(&any, optional);
        }
        self.check_message(inner, payload)
    }
}

pub(super) fn segment(field: Field, index: usize) -> String {
    if field.is_list() { format!("{}[{index}]", field.name()) } else { field.name().to_owned() }
}

/// Whether an `HttpFilter` says that it may be skipped where it is unknown.
fn is_optional(message: Message, bytes: &[u8]) -> bool {
    let number = message.named("is_optional").map(Field::number);
    Parts::of(bytes).filter_map(Result::ok).any(|part| Some(part.number) == number)
}
