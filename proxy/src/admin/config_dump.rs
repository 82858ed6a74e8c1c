//! What `/config_dump?resource=` and `?mask=` keep of the dump.
//!
//! Rules: Envoy, "Administration interface", `config_dump`. `resource` names a list of one of the dumps, whose items become
//! the answer; `mask` names fields, of the items or of the dumps, that alone are shown. A mask goes into messages, also
//! packed ones, but not into lists.

use ferromesh_proto::fields::{self, Message};
use http::StatusCode;
use serde_json::{Map, Value, json};

/// Status and reason of an answer that cannot be given.
type Refused = (StatusCode, String);

/// The part of a dump that is asked for.
pub(super) fn select(mut dump: Value, resource: Option<&str>, mask: Option<&str>) -> Result<Value, Refused> {
    let configs = match dump["configs"].take() {
        Value::Array(configs) => configs,
        _ => Vec::new(),
    };
    let mut configs = match resource {
        Some(resource) => items(configs, resource)?,
        None => configs,
    };
    if let Some(mask) = mask {
        let count = configs.len();
        configs = configs.iter().filter_map(|config| trimmed(config, mask)).collect();
        // Items have one type: the mask fits all of them, or none.
        if configs.is_empty() && (count > 0 || resource.is_none()) {
            return Err((StatusCode::BAD_REQUEST, format!("mask {mask:?} names fields that nothing here has\n")));
        }
    }
    Ok(if configs.is_empty() { json!({}) } else { json!({ "configs": configs }) })
}

fn message_of(value: &Value) -> Option<Message> {
    fields::message(value.get("@type")?.as_str()?)
}

/// The items of the list of that name.
fn items(configs: Vec<Value>, list: &str) -> Result<Vec<Value>, Refused> {
    for mut config in configs {
        let Some(field) = message_of(&config).and_then(|message| message.named(list)) else { continue };
        let Some(of) = field.message().filter(|_| field.is_list()) else {
            let why = format!("{list} is not a list; ask for ?mask={list} to get this field alone\n");
            return Err((StatusCode::BAD_REQUEST, why));
        };
        let Value::Array(mut items) = config[list].take() else { return Ok(Vec::new()) };
        for item in &mut items {
            item["@type"] = format!("type.googleapis.com/{}", of.name()).into();
        }
        return Ok(items);
    }
    Err((StatusCode::NOT_FOUND, format!("{list} not found in config dump\n")))
}

/// The fields that a mask names; `None` if the message has no such fields.
fn trimmed(config: &Value, mask: &str) -> Option<Value> {
    let message = message_of(config)?;
    let mut kept = Map::new();
    keep_type(config, &mut kept);
    for path in mask.split(',') {
        keep(message, config, path, &mut kept)?;
    }
    Some(kept.into())
}

fn keep(message: Message, value: &Value, path: &str, kept: &mut Map<String, Value>) -> Option<()> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let field = message.named(name)?;
    let inner = value.get(name);
    let Some(rest) = rest else {
        if let Some(inner) = inner {
            kept.insert(name.to_owned(), inner.clone());
        }
        return Some(());
    };
    let of = field.message().filter(|_| !field.is_list() && !field.is_map())?;
    let Some(inner) = inner else { return Some(()) };
    let of = if of.name() == "google.protobuf.Any" { message_of(inner)? } else { of };
    let entry = kept.entry(name).or_insert_with(|| {
        let mut empty = Map::new();
        keep_type(inner, &mut empty);
        empty.into()
    });
    match entry {
        Value::Object(kept) => keep(of, inner, rest, kept),
        _ => Some(()),
    }
}

fn keep_type(value: &Value, kept: &mut Map<String, Value>) {
    if let Some(kind) = value.get("@type") {
        kept.insert("@type".to_owned(), kind.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump() -> Value {
        let cluster =
            json!({"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "echo", "type": "EDS"});
        json!({ "configs": [
            {"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
             "bootstrap": {"node": {"id": "t", "cluster": "c"}}, "last_updated": "now"},
            {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
             "static_clusters": [{"cluster": cluster, "last_updated": "now"}]},
        ]})
    }

    fn selected(resource: Option<&str>, mask: Option<&str>) -> Result<Value, u16> {
        select(dump(), resource, mask).map(|mut kept| kept["configs"].take()).map_err(|(status, _)| status.as_u16())
    }

    #[test]
    fn a_resource_is_a_list_of_the_dump_and_each_item_names_its_type() {
        let items = selected(Some("static_clusters"), None).unwrap();
        assert_eq!(items[0]["@type"], "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster");
        assert_eq!(items[0]["cluster"]["name"], "echo");
        assert_eq!(selected(Some("dynamic_active_clusters"), None), Ok(Value::Null));
        assert_eq!(selected(Some("nope"), None), Err(404));
        assert_eq!(selected(Some("bootstrap"), None), Err(400));
    }

    #[test]
    fn a_mask_keeps_the_fields_that_it_names_also_inside_of_packed_messages() {
        let cluster = json!({"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "echo"});
        let item = json!([{"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster", "cluster": cluster}]);
        assert_eq!(selected(Some("static_clusters"), Some("cluster.name")), Ok(item));
        let node = json!([{"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": {"node": {"id": "t"}}}]);
        assert_eq!(selected(None, Some("bootstrap.node.id")), Ok(node));
        assert_eq!(selected(Some("static_clusters"), Some("nope")), Err(400));
        assert_eq!(selected(None, Some("nope.a")), Err(400));
        assert_eq!(selected(None, Some("static_clusters.cluster")), Err(400));
    }
}
