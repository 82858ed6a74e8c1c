//! What a patch makes keeps the rules that Envoy's protos state, or is not made: a proxy would reject it with all else
//! that stands in the same resource.
use super::*;

fn hcm(more: Value) -> Value {
    let mut config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager" });
    config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    json!({ "name": HCM, "typed_config": config })
}

/// One listener whose connection manager is whole.
fn whole() -> Listener {
    let manager = hcm(json!({ "stat_prefix": "x", "rds": { "route_config_name": "r", "config_source": { "ads": {} } },
        "http_filters": [{ "name": "envoy.filters.http.fault", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault" } }] }));
    from_json(json!({ "name": "l", "filter_chains": [{ "filters": [manager] }] })).expect("it is a listener")
}

fn outcome(patches: &Value) -> Outcome {
    let (set, proxy) = (set(patches), Proxy::default());
    let mut run = Run::new(&set, &proxy);
    let context = Some(Context::SidecarInbound);
    let subject = PatchListener { listener: whole(), context, ..PatchListener::default() };
    let patched = listener::patch_listeners(&mut run, vec![subject], &[]);
    let mut one = Cluster { name: "c".to_owned(), ..Cluster::default() };
    cluster::patch_cluster(&mut run, Context::SidecarInbound, &[], &mut one);
    let outcome = run.report().swap_remove(0).outcome;
    if matches!(outcome, Outcome::Failed(_)) {
        assert_eq!(patched, [whole()], "{patches}");
        assert_eq!(one, Cluster { name: "c".to_owned(), ..Cluster::default() }, "{patches}");
    }
    outcome
}

#[test]
fn what_breaks_a_rule_is_refused_with_its_field_and_changes_nothing() {
    let fault = |value: Value| {
        let mut config = json!({ "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault" });
        config.as_object_mut().expect("an object").extend(value.as_object().expect("an object").clone());
        json!({ "name": "envoy.filters.http.fault", "typed_config": config })
    };
    let limit = json!({ "name": "l", "typed_config": {
        "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
        "type_url": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "value": { "token_bucket": { "max_tokens": 1, "fill_interval": "1s" } } } });
    let named = sub("envoy.filters.http.fault");
    for (patches, field) in [
        (patch("HTTP_FILTER", json!({}), "INSERT_FIRST", limit), "typed_config.stat_prefix"),
        (patch("HTTP_FILTER", json!({}), "INSERT_FIRST", json!({ "typed_config": null })), "name"),
        (patch("HTTP_FILTER", named, "MERGE", fault(json!({ "abort": { "http_status": 99 } }))), "abort.http_status"),
        (
            patch("NETWORK_FILTER", json!({}), "MERGE", hcm(json!({ "max_request_headers_kb": 9000 }))),
            "max_request_headers_kb",
        ),
        (patch("CLUSTER", json!({}), "MERGE", json!({ "connect_timeout": "0s" })), "connect_timeout"),
        (patch("CLUSTER", json!({}), "ADD", json!({ "connect_timeout": "1s" })), "name"),
        (patch("VIRTUAL_HOST", json!({}), "ADD", json!({ "name": "v" })), "domains"),
        (patch("HTTP_ROUTE", json!({}), "ADD", json!({ "match": { "prefix": "/" } })), "action"),
    ] {
        let found = outcome(&patches);
        assert!(matches!(&found, Outcome::Failed(why) if why.contains(field)), "{patches}: {found:?}");
    }
}

#[test]
fn a_part_that_is_merged_need_not_be_whole_by_itself() {
    for patches in [
        patch("NETWORK_FILTER", json!({}), "MERGE", hcm(json!({ "max_request_headers_kb": 96 }))),
        patch("CLUSTER", json!({}), "MERGE", json!({ "connect_timeout": "1s" })),
    ] {
        let found = outcome(&patches);
        assert_eq!(found, Outcome::Applied(1), "{patches}");
    }
}
