use ferromesh_proto::envoy::config::core::v3 as core;

use super::*;

const MORE: &str = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {clusterIP: 10.96.0.9, selector: {app: myapp}, ports: [{name: tcp, port: 3306, targetPort: 3306}]}\n";

/// Each chain of bytes in a listener: its name, and those of its filters.
fn chains(listener: &Value) -> Vec<(String, Vec<String>)> {
    let all = listener["filter_chains"].as_array().into_iter().flatten().chain(listener.get("default_filter_chain"));
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let names = |chain: &Value| chain["filters"].as_array().into_iter().flatten().map(name).collect::<Vec<_>>();
    let found = all.map(|chain| (name(chain), names(chain)));
    found.filter(|(_, filters)| filters.last().is_some_and(|last| last == "envoy.filters.network.tcp_proxy")).collect()
}

fn sent(node: &Node) -> (Vec<Resource>, Vec<Resource>) {
    let (view, translator) = (view(&(tutorial() + MORE)), Translator::new());
    // Once for who has the filters, so that nothing kept of that is given to who has not.
    let other = Node { stock: !node.stock, ..node.clone() };
    translator.listeners(&view, &other);
    translator.clusters(&view, &other);
    (translator.listeners(&view, node), translator.clusters(&view, node))
}

#[test]
fn every_chain_of_bytes_counts_and_the_inbound_ones_exchange_metadata() {
    let (listeners, clusters) = sent(&sidecar("myapp-v1-0"));
    let (stats, proxy) = ("istio.stats", "envoy.filters.network.tcp_proxy");
    let inbound = chains(&json(&listeners, "virtualInbound"));
    assert!(inbound.len() > 5 && inbound[0].0 == "virtualInbound-blackhole", "{inbound:?}");
    for (name, filters) in inbound {
        assert_eq!(filters, ["istio.metadata_exchange", stats, proxy], "{name}");
    }
    for listener in ["virtualOutbound", "0.0.0.0_80", "10.96.0.9_3306"] {
        let outbound = chains(&json(&listeners, listener));
        assert!(!outbound.is_empty(), "{listener}");
        for (name, filters) in outbound {
            assert_eq!(filters, [stats, proxy], "{listener} {name}");
        }
    }
    let filter = &json(&clusters, "outbound|3306||db.demo.svc.cluster.local")["filters"][0];
    assert_eq!(filter["name"], "istio.metadata_exchange");
    assert_eq!(filter["typed_config"]["protocol"], "istio-peer-exchange");
}

#[test]
fn an_envoy_without_istio_s_network_filters_gets_none_and_agrees_on_no_exchange() {
    for node in [sidecar("myapp-v1-0"), router()] {
        let (listeners, clusters) = sent(&Node { stock: true, ..node });
        for resource in listeners.iter().chain(&clusters) {
            let mut all = any_to_json(&resource.any, false);
            // The others' words, by which connections are told apart, stay.
            remove(&mut all, "application_protocols");
            let text = all.to_string();
            // HTTP filters may be optional, and are.
            assert!(!text.contains("istio-peer-exchange") && !text.contains("MetadataExchange"), "{text}");
            assert!(chains(&all).iter().all(|(_, filters)| filters.len() == 1), "{text}");
        }
    }
}

fn remove(value: &mut Value, name: &str) {
    match value {
        Value::Object(fields) => {
            fields.remove(name);
            fields.values_mut().for_each(|value| remove(value, name));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| remove(value, name)),
        _ => {}
    }
}

#[test]
fn who_lists_its_network_filters_has_those_and_who_lists_none_has_them_all() {
    let extension = |kind: &str| core::Extension {
        category: "envoy.filters.network".to_owned(),
        type_urls: vec![kind.to_owned()],
        ..core::Extension::default()
    };
    let (exchange, stats) = ("envoy.tcp.metadataexchange.config.MetadataExchange", "stats.PluginConfig");
    for (kinds, stock) in [
        (&[][..], false),
        (&["envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"], true),
        (&[exchange], true),
        (&[exchange, stats], false),
    ] {
        let extensions = kinds.iter().map(|kind| extension(kind)).collect();
        let id = "sidecar~10.0.0.1~a.demo~demo.svc.cluster.local".to_owned();
        let node = Node::from_proto(&core::Node { id, extensions, ..core::Node::default() }).expect("a good node");
        assert_eq!(node.stock, stock, "{kinds:?}");
    }
}
