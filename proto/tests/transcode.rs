//! The transcoder and the merge beside prost-reflect, which is made from the same definitions: every message type, with
//! random content.

#[path = "transcode/random.rs"]
mod random;

use std::sync::LazyLock;

use ferromesh_proto::prost::{Message as _, Name};
use ferromesh_proto::{Any, fields, json, merge};
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, ReflectMessage, SerializeOptions};
use random::Random;
use serde_json::Value;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let descriptors = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    DescriptorPool::decode(descriptors.as_slice()).expect("written by the build script")
});

/// Random messages of every type that is not a map's entry.
fn every_type(seeds: u64) -> impl Iterator<Item = (u64, DynamicMessage)> {
    let types: Vec<_> = POOL.all_messages().filter(|message| !message.is_map_entry()).collect();
    (0..seeds).flat_map(move |seed| {
        types.clone().into_iter().enumerate().map(move |(index, message)| {
            let seed = seed << 32 | index as u64;
            (seed, Random::new(seed).message(&message, 0))
        })
    })
}

fn reference_json(message: &DynamicMessage, proto_names: bool) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(proto_names);
    message.serialize_with_options(serde_json::value::Serializer, &options).expect("made of valid values")
}

fn shown(message: &DynamicMessage) -> Value {
    let any = Any { type_url: message.descriptor().full_name().to_owned(), value: message.encode_to_vec().into() };
    json::any_to_json(&any, false)
}

/// Equal, but that 32-bit numbers may be shown with as few digits as they need.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64().map(|a| a as f32) == b.as_f64().map(|b| b as f32),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

#[test]
fn the_table_says_of_every_message_what_the_descriptors_say() {
    for descriptor in POOL.all_messages() {
        let found = fields::message(descriptor.full_name()).expect("every message is in the table");
        assert_eq!((found.name(), found.is_map_entry()), (descriptor.full_name(), descriptor.is_map_entry()));
        assert_eq!(found.fields().count(), descriptor.fields().len(), "{}", descriptor.full_name());
        for field in descriptor.fields() {
            let listed = found.field(field.number()).expect("every field is in the table");
            assert_eq!(found.named(field.name()), Some(listed));
            assert_eq!(found.named(field.json_name()), Some(listed));
            assert_eq!(
                (listed.name(), listed.is_list(), listed.is_map(), listed.is_packed()),
                (field.name(), field.is_list(), field.is_map(), field.is_packed()),
            );
            let inner = match field.kind() {
                prost_reflect::Kind::Message(inner) => Some(inner.full_name().to_owned()),
                _ => None,
            };
            assert_eq!(listed.message().map(|inner| inner.name().to_owned()), inner);
        }
    }
    assert_eq!(fields::messages().count(), POOL.all_messages().len());
    assert!(fields::message("type.googleapis.com/no.such.Message").is_none());
}

#[test]
fn every_message_is_shown_as_prost_reflect_shows_it() {
    for (seed, message) in every_type(3) {
        let (ours, theirs) = (shown(&message), reference_json(&message, true));
        assert!(same(&ours, &theirs), "{} {seed}\n{ours:#}\n{theirs:#}", message.descriptor().full_name());
    }
}

#[test]
fn every_message_is_read_from_either_spelling_and_encoded_in_one_way() {
    for (seed, message) in every_type(3) {
        let name = message.descriptor().full_name().to_owned();
        let snake = json::encode(&name, &reference_json(&message, true)).unwrap_or_else(|e| panic!("{seed}: {e}"));
        let camel = json::encode(&name, &reference_json(&message, false)).unwrap_or_else(|e| panic!("{seed}: {e}"));
        assert_eq!(snake, camel, "{name} {seed}");
        let read = DynamicMessage::decode(message.descriptor(), snake.as_slice()).expect("decodes");
        let (read, wanted) = (reference_json(&read, true), reference_json(&message, true));
        assert_eq!(read, wanted, "{name} {seed}");
    }
}

#[test]
fn what_is_read_has_the_bytes_that_prost_writes() {
    use ferromesh_proto::envoy::config as c;
    use ferromesh_proto::envoy::extensions as e;
    fn check<M: ferromesh_proto::prost::Message + Name + Default>() {
        let descriptor = POOL.get_message_by_name(&M::full_name()).expect("known");
        for seed in 0..60 {
            let message = Random::new(seed).message(&descriptor, 0);
            let bytes = json::encode(&M::full_name(), &reference_json(&message, true)).expect("reads");
            let typed = M::decode(bytes.as_slice()).expect("decodes");
            assert!(typed.encode_to_vec() == bytes, "{} {seed}", M::full_name());
        }
    }
    check::<c::bootstrap::v3::Bootstrap>();
    check::<c::listener::v3::Listener>();
    check::<c::cluster::v3::Cluster>();
    check::<c::endpoint::v3::ClusterLoadAssignment>();
    check::<c::route::v3::RouteConfiguration>();
    check::<c::rbac::v3::Rbac>();
    check::<e::transport_sockets::tls::v3::UpstreamTlsContext>();
    check::<e::filters::network::http_connection_manager::v3::HttpConnectionManager>();
}

#[test]
fn what_prost_reflect_refuses_is_refused_and_what_it_accepts_is_accepted() {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let (mut accepted, mut refused, mut failures) = (0, 0, Vec::new());
    for (seed, message) in every_type(4) {
        let mut value = reference_json(&message, seed % 2 == 0);
        Random::new(seed).spoil(&mut value);
        let name = message.descriptor().full_name().to_owned();
        let theirs = DynamicMessage::deserialize_with_options(message.descriptor(), &value, &options);
        let ours = json::encode(&name, &value);
        match (&ours, &theirs) {
            (Ok(_), Ok(_)) => accepted += 1,
            (Err(_), Err(_)) => refused += 1,
            // An unknown or missing type is kept here; a whole number may be written with a point.
            (Ok(_), Err(error)) if is_more_lenient(&error.to_string()) => {}
            _ => failures.push(format!("{name} {seed}: ours {ours:?}, theirs {theirs:?}\n{value}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(accepted > 300 && refused > 3000, "{accepted} accepted, {refused} refused");
}

fn is_more_lenient(error: &str) -> bool {
    error.contains("@type") || error.contains("type url") || error.contains("not found")
}

#[test]
fn a_merge_does_what_a_merge_of_descriptors_does() {
    for (seed, target) in every_type(3) {
        let descriptor = target.descriptor();
        let patch = Random::new(!seed).message(&descriptor, 0);
        for lists in [merge::Lists::Append, merge::Lists::Replace] {
            let message = fields::message(descriptor.full_name()).expect("known");
            let ours = merge::merge(message, &target.encode_to_vec(), &patch.encode_to_vec(), lists).expect("messages");
            let ours = DynamicMessage::decode(descriptor.clone(), ours.as_slice()).expect("decodes");
            let mut theirs = target.clone();
            reference_merge(&mut theirs, &patch, lists);
            let (ours, theirs) = (reference_json(&ours, true), reference_json(&theirs, true));
            assert_eq!(ours, theirs, "{} {seed} {lists:?}", descriptor.full_name());
        }
    }
}

fn reference_merge(target: &mut DynamicMessage, patch: &DynamicMessage, lists: merge::Lists) {
    use prost_reflect::Value as V;
    for (field, value) in patch.fields() {
        match value {
            V::List(items) if lists == merge::Lists::Append => {
                target.get_field_mut(&field).as_list_mut().expect("a list").extend(items.iter().cloned());
            }
            V::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.clone(), value.clone()));
                target.get_field_mut(&field).as_map_mut().expect("a map").extend(entries);
            }
            V::Message(inner) if target.has_field(&field) && !is_one_value(inner) => {
                reference_merge(target.get_field_mut(&field).as_message_mut().expect("a message"), inner, lists);
            }
            other => target.set_field(&field, other.clone()),
        }
    }
}

fn is_one_value(message: &DynamicMessage) -> bool {
    let descriptor = message.descriptor();
    let Some(name) = descriptor.full_name().strip_prefix("google.protobuf.") else { return false };
    matches!(name, "Duration" | "Timestamp" | "Any")
        || (name.ends_with("Value") && name != "Value" && name != "ListValue")
}
