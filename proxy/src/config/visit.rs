//! A walk over everything that an encoded resource holds.

use ferromesh_proto::fields::{self, Message};
use ferromesh_proto::prost::Message as _;
use ferromesh_proto::wire::{MAX_DEPTH, Parts, Payload};
use ferromesh_proto::{Any, json};

use super::ConfigError;
use super::supported::segment;

/// What is done with each message: its type and its bytes.
pub type Visit<'a> = dyn FnMut(Message, &[u8]) -> Result<(), ConfigError> + 'a;

/// Visits a resource's message and every message inside of it, packed ones too. What cannot be read is passed over: its
/// decoder says why.
///
/// # Errors
/// The first one of `visit`, with the path of the message.
pub fn each_message(any: &Any, visit: &mut Visit<'_>) -> Result<(), ConfigError> {
    of_any(any, visit, 0)
}

fn of_any(any: &Any, visit: &mut Visit<'_>, depth: u32) -> Result<(), ConfigError> {
    let Ok(any) = json::resolve_typed_struct(any) else { return Ok(()) };
    match fields::message(&any.type_url) {
        Some(message) => of_message(message, &any.value, visit, depth),
        None => Ok(()),
    }
}

fn of_message(message: Message, bytes: &[u8], visit: &mut Visit<'_>, depth: u32) -> Result<(), ConfigError> {
    if depth > MAX_DEPTH {
        return Ok(());
    }
    visit(message, bytes)?;
    let mut seen = std::collections::HashMap::<u32, usize>::new();
    for part in Parts::of(bytes).map_while(Result::ok) {
        let index = seen.entry(part.number).or_default();
        let place = *index;
        *index += 1;
        let (Payload::Bytes(payload), Some(field)) = (part.payload, message.field(part.number)) else { continue };
        let Some(inner) = field.message() else { continue };
        let visited = match inner.name() {
            "google.protobuf.Any" => match Any::decode(payload) {
                Ok(any) => of_any(&any, visit, depth + 1),
                Err(_) => Ok(()),
            },
            name if name.starts_with("google.protobuf.") => Ok(()),
            _ => of_message(inner, payload, visit, depth + 1),
        };
        visited.map_err(|error| error.at(segment(field, place)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ferromesh_proto::envoy::config::listener::v3::Listener;

    use super::*;

    #[test]
    fn messages_are_found_in_lists_and_packed_ones_with_their_paths() {
        let listener: Listener = json::from_yaml(
            "{name: l, filter_chains: [{}, {filters: [{name: tcp, typed_config: {'@type': \
             type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, cluster: c}}]}]}",
        )
        .unwrap();
        let mut seen = 0;
        let found = each_message(&Any::pack(&listener), &mut |message, _| {
            seen += 1;
            match message.name().ends_with(".TcpProxy") {
                true => Err(ConfigError::new("cluster", "is here")),
                false => Ok(()),
            }
        });
        assert_eq!(found.unwrap_err().path, "filter_chains[1].filters[0].typed_config.cluster");
        assert_eq!(seen, 5);
    }
}
