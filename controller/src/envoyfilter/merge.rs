//! A message and a patch of the same type go in; the message with the patch merged into it comes out.
//!
//! Protobuf merge (protobuf.dev, "Merge"): fields that the patch sets overwrite, messages merge, lists append (or are
//! replaced), map entries are replaced. A `Duration` and a wrapper (`BoolValue` and so on) are one value and are
//! overwritten, so that `false` and `0` in a patch mean what they say.

use ferromesh_proto::{Any, json};
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use super::patch::Operation;

/// What becomes of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lists {
    /// The patch's items come after those that are there.
    Append,
    /// The patch's items stand instead of those that are there.
    Replace,
}

impl From<Operation> for Lists {
    fn from(operation: Operation) -> Self {
        if operation == Operation::MergeAndReplaceList { Self::Replace } else { Self::Append }
    }
}

/// Merges `patch` into a typed message.
pub(super) fn merge_into<M: Message + Name + Default>(
    target: &mut M,
    patch: &DynamicMessage,
    lists: Lists,
) -> Result<(), String> {
    let descriptor = json::descriptor(&M::full_name()).ok_or_else(|| format!("unknown message {}", M::full_name()))?;
    let bytes = target.encode_to_vec();
    let mut dynamic = DynamicMessage::decode(descriptor, bytes.as_slice()).map_err(|error| error.to_string())?;
    merge(&mut dynamic, patch, lists)?;
    *target = M::decode(dynamic.encode_to_vec().as_slice()).map_err(|error| error.to_string())?;
    Ok(())
}

/// Merges what `patch` packs into what `target` packs; both must be of one type.
pub(super) fn merge_any(target: &Any, patch: &Any, lists: Lists) -> Result<Any, String> {
    if target.type_name() != patch.type_name() {
        return Err(format!("a {} cannot be merged into a {}", patch.type_name(), target.type_name()));
    }
    let descriptor =
        json::descriptor(&target.type_url).ok_or_else(|| format!("unknown message type {:?}", target.type_url))?;
    let decode =
        |any: &Any| DynamicMessage::decode(descriptor.clone(), any.value.clone()).map_err(|error| error.to_string());
    let mut merged = decode(target)?;
    merge(&mut merged, &decode(patch)?, lists)?;
    Ok(Any { type_url: target.type_url.clone(), value: merged.encode_to_vec().into() })
}

fn merge(target: &mut DynamicMessage, patch: &DynamicMessage, lists: Lists) -> Result<(), String> {
    if target.descriptor() != patch.descriptor() {
        let (patch, target) = (patch.descriptor(), target.descriptor());
        return Err(format!("a {} cannot be merged into a {}", patch.full_name(), target.full_name()));
    }
    for (field, value) in patch.fields() {
        match value {
            Value::List(items) if lists == Lists::Append => {
                if let Some(list) = target.get_field_mut(&field).as_list_mut() {
                    list.extend(items.iter().cloned());
                }
            }
            Value::Map(entries) => {
                if let Some(map) = target.get_field_mut(&field).as_map_mut() {
                    map.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
                }
            }
            Value::Message(inner) if target.has_field(&field) && !is_one_value(inner) => {
                if let Some(message) = target.get_field_mut(&field).as_message_mut() {
                    merge(message, inner, lists)?;
                }
            }
            other => target.set_field(&field, other.clone()),
        }
    }
    Ok(())
}

fn is_one_value(message: &DynamicMessage) -> bool {
    let descriptor = message.descriptor();
    let Some(name) = descriptor.full_name().strip_prefix("google.protobuf.") else { return false };
    matches!(name, "Duration" | "Timestamp" | "Any")
        || (name.ends_with("Value") && name != "Value" && name != "ListValue")
}
