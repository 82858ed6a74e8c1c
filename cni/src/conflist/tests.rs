use proptest::prelude::*;

use super::*;

fn entry() -> Entry {
    Entry { socket: "/run/ferromesh-cni/agent.sock".into(), exclude_namespaces: vec!["kube-system".into()] }
}

fn types(text: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(text).unwrap();
    value["plugins"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap().to_owned()).collect()
}

const CALICO: &str = r#"{ "name": "k8s-pod-network", "cniVersion": "0.3.1",
  "plugins": [ {"type": "calico", "mtu": 0, "big": 18446744073709551615, "exact": 1.10}, {"type":"portmap","snat":true} ] }"#;

#[test]
fn it_comes_last_and_what_others_wrote_is_there_to_the_letter() {
    let with_us = with(CALICO, &entry()).unwrap().unwrap();
    assert_eq!(types(&with_us), ["calico", "portmap", TYPE]);
    for text in [r#"{"type": "calico", "mtu": 0, "big": 18446744073709551615, "exact": 1.10}"#, r#""snat":true"#] {
        assert!(with_us.contains(text), "{with_us}");
    }
    assert!(with_us.find("\"name\"").unwrap() < with_us.find("\"cniVersion\"").unwrap(), "in their order: {with_us}");
    let value: Value = serde_json::from_str(&with_us).unwrap();
    assert_eq!(value["plugins"][2]["capabilities"], json!({ANNOTATIONS: true}));
    assert_eq!(value["plugins"][2]["socket"], "/run/ferromesh-cni/agent.sock");
}

#[test]
fn who_came_behind_it_stays_there() {
    let text = with(CALICO, &entry()).unwrap().unwrap();
    let behind = text.replace("\n  ]", ",\n    {\"type\": \"tuning\"}\n  ]");
    assert_eq!(types(&behind), ["calico", "portmap", TYPE, "tuning"]);
    assert_eq!(with(&behind, &entry()).unwrap(), None);
    let other = Entry { socket: "/run/other.sock".into(), ..entry() };
    let told = with(&behind, &other).unwrap().unwrap();
    assert_eq!(types(&told), ["calico", "portmap", TYPE, "tuning"], "other words, in the same place");
    assert!(told.contains("/run/other.sock") && !told.contains("/run/ferromesh-cni"));
}

#[test]
fn a_second_one_of_ours_goes() {
    let text = format!(
        r#"{{"cniVersion":"1.0.0","name":"n","plugins":[{{"type":"{TYPE}"}},{{"type":"a"}},{{"type":"{TYPE}"}}]}}"#
    );
    assert_eq!(types(&with(&text, &entry()).unwrap().unwrap()), [TYPE, "a"]);
}

#[test]
fn what_cannot_be_chained_to_is_refused_with_the_reason() {
    let json = BadConflist::Json { line: 1, column: 0 };
    let version = |version: &str| BadConflist::Version(version.into());
    for (text, expected) in [
        ("", json),
        ("[]", BadConflist::Json { line: 1, column: 0 }),
        (r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a"}"#, BadConflist::Json { line: 1, column: 56 }),
        (r#"{"cniVersion":"1.0.0","name":"n"}"#, BadConflist::NoPlugins),
        (r#"{"cniVersion":"1.0.0","name":"n","plugins":{}}"#, BadConflist::NoPlugins),
        (r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#, BadConflist::NoPlugins),
        (r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a"},{"typ":"b"}]}"#, BadConflist::NoType(1)),
        (r#"{"name":"n","plugins":[{"type":"a"}]}"#, version("0.1.0")),
        (r#"{"cniVersion":"0.2.0","name":"n","plugins":[{"type":"a"}]}"#, version("0.2.0")),
        (
            r#"{"cniVersion":"1.1.0","cniVersions":["1.0.0","1.2.0"],"name":"n","plugins":[{"type":"a"}]}"#,
            version("1.2.0"),
        ),
        (
            r#"{"cniVersion":"1.0.0","cniVersions":"1.0.0","name":"n","plugins":[{"type":"a"}]}"#,
            version("\"1.0.0\" of \"1.0.0\""),
        ),
    ] {
        assert_eq!(with(text, &entry()), Err(expected), "{text}");
    }
}

#[test]
fn the_only_plugin_of_an_older_file_becomes_a_list() {
    let one = "{\"cniVersion\": \"0.3.1\", \"name\": \"net\", \"type\": \"bridge\", \"mtu\": 9000}\n";
    let list = of_one(one).unwrap();
    assert_eq!(types(&list), ["bridge"]);
    let value: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&value["name"], &value["cniVersion"]), (&json!("net"), &json!("0.3.1")));
    assert_eq!(types(&with(&list, &entry()).unwrap().unwrap()), ["bridge", TYPE]);
    assert_eq!(of_one("{\"name\": \"net\"}"), Err(BadConflist::NoType(0)));
}

/// Any JSON.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,5}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn lists() -> impl Strategy<Value = Value> {
    let fields = || prop::collection::btree_map("[a-z\"\\\\é]{1,6}", values(), 0..4);
    let plugin = ("[a-z-]{1,12}", fields()).prop_map(|(name, fields)| {
        let mut plugin: serde_json::Map<String, Value> = fields.into_iter().collect();
        plugin.insert("type".into(), if name == TYPE { "x".into() } else { name.into() });
        Value::Object(plugin)
    });
    let version = prop::sample::select(VERSIONS.to_vec());
    (fields(), prop::collection::vec(plugin, 1..5), version).prop_map(|(fields, plugins, version)| {
        let mut list: serde_json::Map<String, Value> = fields.into_iter().collect();
        list.insert("cniVersion".into(), version.into());
        list.insert("plugins".into(), plugins.into());
        Value::Object(list)
    })
}

proptest! {
    #[test]
    fn nothing_of_others_is_lost_and_doing_it_again_changes_nothing(list in lists(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&list).unwrap() } else { list.to_string() };
        let with_us = with(&text, &entry()).unwrap().unwrap();
        let mut expected = list.clone();
        expected["plugins"].as_array_mut().unwrap().push(entry().json());
        prop_assert_eq!(serde_json::from_str::<Value>(&with_us).unwrap(), expected);
        prop_assert!(contains(&with_us).unwrap());
        prop_assert_eq!(with(&with_us, &entry()).unwrap(), None);
        let gone = without(&with_us).unwrap().unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&gone).unwrap(), list);
        prop_assert_eq!(without(&gone).unwrap(), None);
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}", cut in 0usize..200) {
        let _ = (with(&text, &entry()), without(&text), of_one(&text), contains(&text));
        let list = with(CALICO, &entry()).unwrap().unwrap();
        // Half a file, as one that is being written.
        let half: String = list.chars().take(cut).collect();
        prop_assert!(with(&half, &entry()).is_err());
    }
}
