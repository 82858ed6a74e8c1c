use super::*;
use proptest::prelude::*;

/// Changes one value somewhere in a document, in the `steps`-th place.
fn mutate(value: &mut Value, place: &mut usize, with: &Value) {
    if *place == 0 {
        *value = with.clone();
        *place = usize::MAX;
        return;
    }
    *place = place.saturating_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| mutate(item, place, with)),
        Value::Object(fields) => fields.values_mut().for_each(|field| mutate(field, place, with)),
        _ => {}
    }
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(Value::from(0)),
        Just(Value::from(65_536)),
        Just(Value::from(-1)),
        Just(Value::from("")),
        Just(Value::from("%")),
        Just(Value::from("*.")),
        Just(Value::from("None")),
        Just(Value::from("(")),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
        ".{0,12}".prop_map(Value::from),
    ]
}

fn documents() -> Vec<Value> {
    let yaml = tutorial() + include_str!("envoy_filter.yaml");
    let documents = yaml.split("\n---\n").filter(|text| !text.trim().is_empty());
    documents.map(|text| ferromesh_proto::json::yaml_value(text).expect("the fixture is YAML")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn translation_never_panics_and_is_the_same_twice(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..60, odd_value()), 0..5),
        gone in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let mut documents = documents();
        for (document, place, with) in changes {
            let mut place = place;
            let spec = document.get(&documents).clone();
            let index = documents.iter().position(|other| *other == spec).unwrap_or_default();
            if let Some(spec) = documents[index].get_mut("spec") {
                mutate(spec, &mut place, &with);
            }
        }
        for index in gone {
            let at = index.index(documents.len());
            documents.remove(at);
        }
        // What does not have its kind's shape is refused before it gets here.
        let objects: Vec<Object> = documents.into_iter().filter_map(read).collect();
        let view = View::of(objects);
        for node in [sidecar("myapp-v1-0"), router()] {
            let all = || {
                let translator = Translator::new();
                let names = translator.route_names(&view, &node);
                let mut all = translator.listeners(&view, &node);
                all.extend(translator.routes(&view, &node, &names));
                all.extend(translator.clusters(&view, &node));
                let names: Vec<String> = all.iter().map(|resource| resource.name.to_string()).collect();
                all.extend(translator.endpoints(&view, &node, &names));
                translator.patch_reports(&view, &node);
                all
            };
            prop_assert_eq!(all(), all());
        }
    }
}

fn read(mut value: Value) -> Option<Object> {
    let version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let kind = Kind::named(group, value["kind"].as_str().unwrap_or_default())?;
    if kind.namespaced() && value["metadata"].get("namespace").is_none() {
        value["metadata"]["namespace"] = "demo".into();
    }
    Object::read(kind, Json(value)).ok()
}
