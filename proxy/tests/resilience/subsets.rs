//! Subsets: which hosts serve what a route asks for, and which when none has it.

use crate::balance::named;
use crate::hosts::{Client, Host};
use crate::proxies::{Serving, Setup, endpoints};

async fn start(cluster: &str, route: &str) -> Serving {
    Setup { cluster, route, ..Setup::default() }.start().await
}

/// Endpoints with `envoy.lb` metadata.
fn labelled(hosts: &[Host], labels: &[&str]) -> String {
    let metadata = |labels: &&str| format!(", metadata: {{filter_metadata: {{envoy.lb: {{{labels}}}}}}}");
    let labels: Vec<String> = labels.iter().map(metadata).collect();
    let hosts: Vec<_> = hosts.iter().zip(&labels).map(|(host, labels)| (host.address, labels.as_str())).collect();
    endpoints(&hosts)
}

/// The answers to twenty requests, each once.
async fn found(cluster: &str, route: &str) -> Vec<String> {
    let serving = start(cluster, route).await;
    let names = Client::new(serving.address).count(20, "/").await;
    serving.proxy.shutdown().await;
    names.into_keys().collect()
}

fn wants(labels: &str) -> String {
    format!(", metadata_match: {{filter_metadata: {{envoy.lb: {{{labels}}}}}}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subset_serves_or_falls_back_as_it_is_told() {
    let hosts = named(["v1", "v2"]).await;
    let version = |version: &str| format!(", metadata: {{filter_metadata: {{envoy.lb: {{version: {version}}}}}}}");
    let endpoints = endpoints(&[(hosts[0].address, &version("v1")), (hosts[1].address, &version("v2"))]);
    let route = |wanted: &str| format!(", metadata_match: {{filter_metadata: {{envoy.lb: {{{wanted}}}}}}}");
    for (fallback, wanted, found) in [
        ("NO_FALLBACK", "version: v2", vec!["v2"]),
        ("NO_FALLBACK", "version: v3", vec!["503"]),
        ("ANY_ENDPOINT", "version: v3", vec!["v1", "v2"]),
        ("DEFAULT_SUBSET", "version: v3", vec!["v1"]),
        ("DEFAULT_SUBSET", "other: key", vec!["v1"]),
    ] {
        let cluster = format!(
            "lb_subset_config: {{fallback_policy: {fallback}, default_subset: {{version: v1}}, \
             subset_selectors: [{{keys: [version]}}]}}, {endpoints}"
        );
        let serving = start(&cluster, &route(wanted)).await;
        let names = Client::new(serving.address).count(20, "/").await;
        assert_eq!(names.into_keys().collect::<Vec<_>>(), found, "{fallback}, {wanted}");
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selector_has_its_own_way_out_before_the_clusters() {
    let hosts = named(["one", "two"]).await;
    let endpoints = labelled(&hosts, &["stage: test, version: v1", "stage: live, version: v2"]);
    let selector = "keys: [stage, version], fallback_policy";
    for (selectors, wanted, hosts) in [
        (format!("{{{selector}: NO_FALLBACK}}"), "stage: test, version: v2", vec!["503"]),
        (format!("{{{selector}: ANY_ENDPOINT}}"), "stage: test, version: v2", vec!["one", "two"]),
        (format!("{{{selector}: DEFAULT_SUBSET}}"), "stage: test, version: v2", vec!["two"]),
        (
            format!("{{{selector}: KEYS_SUBSET, fallback_keys_subset: [stage]}}, {{keys: [stage]}}"),
            "stage: test, version: v2",
            vec!["one"],
        ),
        // Another set of keys takes the cluster's way.
        (format!("{{{selector}: NO_FALLBACK}}"), "stage: test", vec!["two"]),
    ] {
        let cluster = format!(
            "lb_subset_config: {{fallback_policy: DEFAULT_SUBSET, default_subset: {{version: v2}}, \
             subset_selectors: [{selectors}]}}, {endpoints}"
        );
        assert_eq!(found(&cluster, &wants(wanted)).await, hosts, "{selectors}, {wanted}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_may_stand_for_its_elements_and_a_panic_for_any_host() {
    let hosts = named(["one", "two"]).await;
    let endpoints = labelled(&hosts, &["version: [v1, v2]", "version: v3"]);
    for (more, wanted, hosts) in [
        ("list_as_any: true", "version: v2", vec!["one"]),
        ("list_as_any: false", "version: v2", vec!["503"]),
        (
            "panic_mode_any: true, fallback_policy: DEFAULT_SUBSET, default_subset: {version: v8}",
            "version: v9",
            vec!["one", "two"],
        ),
        ("fallback_policy: DEFAULT_SUBSET, default_subset: {version: v8}", "version: v9", vec!["503"]),
        // A panic is for a fallback that finds nobody; without one there is none.
        ("panic_mode_any: true", "version: v9", vec!["503"]),
    ] {
        let cluster = format!("lb_subset_config: {{{more}, subset_selectors: [{{keys: [version]}}]}}, {endpoints}");
        assert_eq!(found(&cluster, &wants(wanted)).await, hosts, "{more}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_a_route_asks_for_its_own_subset_within_the_routes() {
    let hosts = named(["test1", "live1", "live2"]).await;
    let endpoints =
        labelled(&hosts, &["stage: test, version: v1", "stage: live, version: v1", "stage: live, version: v2"]);
    let cluster = format!(
        "lb_subset_config: {{fallback_policy: NO_FALLBACK, subset_selectors: [{{keys: [stage, version]}}]}}, {endpoints}"
    );
    for (share, hosts) in [("version: v1", "live1"), ("version: v2", "live2"), ("stage: test, version: v1", "test1")] {
        let text = Setup { cluster: &cluster, route: &wants("stage: live"), ..Setup::default() }.bootstrap();
        let share = format!("weighted_clusters: {{clusters: [{{name: c, weight: 1{}}}]}}", wants(share));
        let serving = Serving::new(crate::peers::proxy(&text.replace("cluster: c,", &format!("{share},")))).await;
        let names = Client::new(serving.address).count(10, "/").await;
        assert_eq!(names.into_keys().collect::<Vec<_>>(), [hosts], "{share}");
        serving.proxy.shutdown().await;
    }
}
