//! Which fields of which messages are implemented, and the check of encoded resources against that.
//!
//! prost drops unknown fields silently, so the check runs over the wire form: every tag that is set must be in a
//! room's table. A message that no table lists is not implemented at all. Texts that become part of a message's head are
//! checked on the way.

use std::collections::{HashMap, HashSet};

use ferromesh_proto::fields::{self, Field, Message};
use ferromesh_proto::wire::{MAX_DEPTH, Parts, Payload, WireError};
use ferromesh_proto::{Any, json};

use super::{ConfigError, header_text};

/// Rows of (full message name, names of its supported fields separated by spaces).
/// A row `("envoy.x.v3.Y", "*")` supports all fields that this build's descriptors know.
pub type Table = &'static [(&'static str, &'static str)];

/// Messages that several rooms read.
pub const COMMON: Table = &[
    ("envoy.config.core.v3.Address", "socket_address pipe envoy_internal_address"),
    ("envoy.config.core.v3.SocketAddress", "protocol address port_value named_port ipv4_compat"),
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
    ("envoy.config.core.v3.ConfigSource", "ads api_config_source resource_api_version initial_fetch_timeout"),
    ("envoy.config.core.v3.AggregatedConfigSource", "*"),
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

/// What is implemented: the tables of the rooms, and what all of them share.
///
/// A message in one room's table says nothing of the same message where another room decodes it: what stands inside of a
/// message is looked for in the table of the room that has the message, then among what is shared, then in other rooms.
pub struct Supported {
    common: Fields,
    rooms: Vec<Fields>,
}

/// Implemented fields by message.
type Fields = HashMap<&'static str, Names>;

enum Names {
    All,
    Listed(HashSet<&'static str>),
}

/// A place of `Supported::rooms`; `None` before a room is known.
type Room = Option<usize>;

fn fields_of(table: Table) -> Fields {
    let mut all = Fields::new();
    for (message, names) in table {
        let names = match *names {
            "*" => Names::All,
            names => Names::Listed(names.split_whitespace().collect()),
        };
        all.insert(*message, names);
    }
    all
}

impl Names {
    fn has(&self, field: &str) -> bool {
        match self {
            Self::All => true,
            Self::Listed(names) => names.contains(field),
        }
    }
}

impl Supported {
    /// What these tables list: what is shared, and one table a room.
    pub fn of(common: Table, rooms: impl IntoIterator<Item = Table>) -> Self {
        Self { common: fields_of(common), rooms: rooms.into_iter().map(fields_of).collect() }
    }

    /// The fields of a message that stands in `room`, and the room that reads what is inside of it.
    fn find(&self, message: &str, room: Room) -> Option<(&Names, Room)> {
        let own = room.and_then(|place| self.rooms.get(place)?.get(message));
        if let Some(names) = own.or_else(|| self.common.get(message)) {
            return Some((names, room));
        }
        let other = self.rooms.iter().enumerate().find_map(|(place, fields)| Some((fields.get(message)?, place)));
        other.map(|(names, place)| (names, Some(place)))
    }

    /// Checks that every field that `any` sets, at any depth, is implemented.
    ///
    /// # Errors
    /// Names the type URL and the path of the first field that is not.
    pub fn check(&self, any: &Any) -> Result<(), ConfigError> {
        self.check_any(any, false, None, 0).map_err(|error| error.of_type(&any.type_url))
    }

    /// Whether some room reads a field of a message.
    pub fn has(&self, message: &str, field: &str) -> bool {
        self.rooms.iter().chain([&self.common]).filter_map(|fields| fields.get(message)).any(|names| names.has(field))
    }

    fn check_any(&self, any: &Any, optional: bool, room: Room, depth: u32) -> Result<(), ConfigError> {
        let any = json::resolve_typed_struct(any).map_err(|error| ConfigError::new("", error.to_string()));
        let any = match any {
            Ok(any) => any,
            Err(_) if optional => return Ok(()),
            Err(error) => return Err(error),
        };
        let known = fields::message(&any.type_url);
        let Some(message) = known.filter(|found| self.find(found.name(), room).is_some()) else {
            return if optional {
                Ok(())
            } else {
                Err(ConfigError::new("", format!("extension type {:?} is not implemented", any.type_url)))
            };
        };
        self.check_message(message, &any.value, room, depth)
    }

    fn check_message(&self, message: Message, bytes: &[u8], room: Room, depth: u32) -> Result<(), ConfigError> {
        if depth > MAX_DEPTH {
            return Err(ConfigError::new("", WireError::Depth.to_string()));
        }
        if message.is_map_entry() {
            return self.check_fields(message, bytes, None, room, depth);
        }
        if message.name().starts_with("google.protobuf.") {
            return Ok(());
        }
        match self.find(message.name(), room) {
            None => Err(ConfigError::new("", format!("message {} is not implemented", message.name()))),
            Some((names, room)) => self.check_fields(message, bytes, Some(names), room, depth),
        }
    }

    fn check_fields(
        &self,
        message: Message,
        bytes: &[u8],
        names: Option<&Names>,
        room: Room,
        depth: u32,
    ) -> Result<(), ConfigError> {
        let optional = message.name().ends_with(".HttpFilter") && is_optional(message, bytes);
        let texts = header_text::fields(message.name());
        let mut seen: HashMap<u32, usize> = HashMap::new();
        for part in Parts::of(bytes) {
            let part = part.map_err(|error| ConfigError::new("", error.to_string()))?;
            let Some(known) = message.field(part.number) else {
                let number = part.number;
                return Err(ConfigError::new("", format!("field number {number} of {} is unknown", message.name())));
            };
            if names.is_some_and(|names| !names.has(known.name())) {
                return Err(ConfigError::new(known.name(), "is not implemented"));
            }
            let index = seen.entry(part.number).or_default();
            if let Payload::Bytes(payload) = part.payload {
                let checked = match known.message() {
                    Some(inner) => self.check_inner(inner, payload, optional, room, depth + 1),
                    None => header_text::check(texts, known.name(), payload),
                };
                checked.map_err(|error| error.at(segment(known, *index)))?;
            }
            *index += 1;
        }
        Ok(())
    }

    fn check_inner(
        &self,
        inner: Message,
        payload: &[u8],
        optional: bool,
        room: Room,
        depth: u32,
    ) -> Result<(), ConfigError> {
        if inner.name() == "google.protobuf.Any" {
            let any = ferromesh_proto::prost::Message::decode(payload)
                .map_err(|error| ConfigError::new("", error.to_string()))?;
            return self.check_any(&any, optional, room, depth);
        }
        self.check_message(inner, payload, room, depth)
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
