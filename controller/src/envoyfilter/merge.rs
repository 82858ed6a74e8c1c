//! A message and a patch of the same type go in; the message with the patch merged into it comes out, by the rules of
//! [`ferromesh_proto::merge`].

use ferromesh_proto::{Any, fields, merge, rules};
use prost::{Message, Name};

use super::patch::Operation;

pub(super) use ferromesh_proto::merge::Lists;

impl From<Operation> for Lists {
    fn from(operation: Operation) -> Self {
        if operation == Operation::MergeAndReplaceList { Self::Replace } else { Self::Append }
    }
}

/// Merges `patch` into a typed message.
pub(super) fn merge_into<M: Message + Name + Default>(target: &mut M, patch: &Any, lists: Lists) -> Result<(), String> {
    let merged = merge_any(&Any::pack(target), patch, lists)?;
    *target = M::decode(merged.value).map_err(|error| error.to_string())?;
    Ok(())
}

/// Merges what `patch` packs into what `target` packs; both must be of one type. What breaks a rule that Envoy's protos
/// state is not made: a proxy would reject it with all else that stands in the same resource.
pub(super) fn merge_any(target: &Any, patch: &Any, lists: Lists) -> Result<Any, String> {
    if target.type_name() != patch.type_name() {
        return Err(format!("a {} cannot be merged into a {}", patch.type_name(), target.type_name()));
    }
    let message =
        fields::message(&target.type_url).ok_or_else(|| format!("unknown message type {:?}", target.type_url))?;
    let merged = merge::merge(message, &target.value, &patch.value, lists).map_err(|error| error.to_string())?;
    if let Err(broken) = rules::check(message, &merged)
        && rules::check(message, &target.value).is_ok()
    {
        return Err(format!("merged, {broken}"));
    }
    Ok(Any { type_url: target.type_url.clone(), value: merged.into() })
}
