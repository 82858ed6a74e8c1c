//! What `stats_config` makes of the metrics: which there are, their tags, the bounds of histograms.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::as_envoy::{Kind, kinds};
use crate::hosts::Host;
use crate::peers::get;
use crate::process::Process;
use crate::proxies::{Setup, endpoints};

/// Filters that count by names of their own.
const FILTERS: &str = "http_filters: [{name: rbac, typed_config: {'@type': \
    type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, track_per_rule_stats: true, \
    rules: {policies: {mine: {permissions: [{any: true}], principals: [{any: true}]}}}}}, \
    {name: limit, typed_config: {'@type': \
    type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: lim, \
    token_bucket: {max_tokens: 99, fill_interval: 1s}}}, ";

/// A proxy that has answered.
async fn started(kind: &Kind, host: &Host, config: &str) -> Process {
    let cluster = format!("alt_stat_name: 'outbound|80||c;', {}", endpoints(&[(host.address, "")]));
    let text = Setup { cluster: &cluster, ..Setup::default() }.bootstrap().replace("http_filters: [", FILTERS);
    let process = kind.start(&format!("stats_config: {{{config}}}\n{text}")).await;
    assert_eq!(get(process.listener("in").await, "/").await.0, 200);
    process
}

/// Names of `/stats`.
async fn names(process: &Process) -> BTreeSet<String> {
    let text = get(process.admin, "/stats").await.1;
    text.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name.to_owned()).collect()
}

/// What both have.
async fn common(kinds: &[Kind], host: &Host) -> BTreeSet<String> {
    let mut all: Vec<BTreeSet<String>> = Vec::new();
    for kind in kinds {
        all.push(names(&started(kind, host, "").await).await);
    }
    // Envoy makes those of files before it reads what tags there are.
    let first = all.pop().unwrap().into_iter().filter(|name| !name.starts_with("filesystem."));
    let found: BTreeSet<String> = first.filter(|name| all.iter().all(|other| other.contains(name))).collect();
    assert!(found.len() > 40, "{found:?}");
    for name in ["http.in.rbac.policy.mine.allowed", "lim.http_local_rate_limit.ok"] {
        assert!(found.contains(name), "{found:?}");
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_there_by_the_lists_of_the_matcher() {
    let (host, kinds) = (Host::start("a").await, kinds());
    let common = common(&kinds, &host).await;
    // Of prefixes that end with a dot Envoy passes over names that it makes while it runs, as those of RBAC's policies.
    for config in [
        "reject_all: true",
        "reject_all: false",
        "exclusion_list: {patterns: [{prefix: 'cluster.outbound|80||c;.upstream_rq'}, {suffix: downstream_cx_total}]}",
        "inclusion_list: {patterns: [{prefix: http.in}, {exact: 'cluster.outbound|80||c;.membership_total'}, {contains: ssl}]}",
        "inclusion_list: {patterns: [{safe_regex: {regex: 'cluster\\..*\\.upstream_cx_.*'}}, {suffix: _RQ_TOTAL, ignore_case: true}]}",
        "inclusion_list: {patterns: [{safe_regex: {regex: 'upstream_cx_total'}}]}",
    ] {
        let mut found = Vec::new();
        for kind in &kinds {
            let process = started(kind, &host, &format!("stats_matcher: {{{config}}}")).await;
            let names = names(&process).await;
            found.push(names.intersection(&common).cloned().collect::<BTreeSet<_>>());
        }
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{config}: {found:#?}");
        let few = found[0].len() < common.len();
        assert_eq!(few, config != "reject_all: false", "{config}");
    }
}

/// Lines of one metric for Prometheus, without numbers and buckets, labels in order.
async fn series(admin: SocketAddr, name: &str) -> BTreeSet<String> {
    let filter: String =
        name.chars().flat_map(|c| if c.is_ascii_alphanumeric() { vec![c] } else { vec!['.'] }).collect();
    let text = get(admin, &format!("/stats/prometheus?filter=^{filter}$")).await.1;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#') && !line.contains("_bucket{"));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, _)| {
            let (name, labels) = series.split_once('{').unwrap();
            let mut labels: Vec<&str> =
                labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect();
            labels.sort_unstable();
            format!("{name}{{{}}}", labels.join(","))
        })
        .collect()
}

/// As a default Istio's bootstrap.
const ISTIO: &str = r"use_all_default_tags: false, stats_tags: [
    {tag_name: cluster_name, regex: '^cluster(\.(.+);)'},
    {tag_name: http_conn_manager_prefix, regex: '^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)'},
    {tag_name: tcp_prefix, regex: '^tcp\.((.*?)\.)\w+?$'},
    {tag_name: response_code, regex: '_rq(_(\d{3}))$'},
    {tag_name: response_code_class, regex: '_rq(_(\dxx))$'},
    {tag_name: http_conn_manager_listener_prefix, regex: '^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)'},
    {tag_name: listener_address, regex: '^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)'},
    {tag_name: mesh, fixed_value: one}]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_names_become_tags_as_the_specifiers_say() {
    let (host, kinds) = (Host::start("a").await, kinds());
    let common = common(&kinds, &host).await;
    for config in [
        "",
        ISTIO,
        r"stats_tags: [{tag_name: kind, regex: '_(rq|cx)()_'}, {tag_name: what, regex: '^((cluster)\.)'}]",
        r"stats_tags: [{tag_name: envoy.cluster_name, regex: '^cluster\.((out)bound)'}]",
        r"allow_default_tag_overrides: true, stats_tags: [{tag_name: envoy.cluster_name, regex: '^cluster\.((out)bound)'}]",
        r"allow_default_tag_overrides: true, stats_tags: [{tag_name: envoy.cluster_name, regex: '^never(x)'}]",
        "use_all_default_tags: false, stats_tags: [{tag_name: envoy.http_conn_manager_prefix}]",
        "use_all_default_tags: false",
    ] {
        let mut found: Vec<BTreeMap<&String, BTreeSet<String>>> = Vec::new();
        for kind in &kinds {
            let process = started(kind, &host, config).await;
            let mut all = BTreeMap::new();
            for name in &common {
                all.insert(name, series(process.admin, name).await);
            }
            found.push(all);
        }
        let differing = common.iter().filter(|name| found.windows(2).any(|pair| pair[0][*name] != pair[1][*name]));
        let shown: Vec<_> = differing.map(|name| found.iter().map(|all| &all[name]).collect::<Vec<_>>()).collect();
        assert!(shown.is_empty(), "{config}: {shown:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histograms_have_the_bounds_of_the_first_setting_that_matches() {
    let host = Host::start("a").await;
    let mut all = Vec::new();
    for kind in kinds() {
        let mut found = Vec::new();
        for settings in
            ["", "{match: {prefix: http.in.}, buckets: [500, 10, 0.25]}, {match: {prefix: http}, buckets: [7]}"]
        {
            let process = started(&kind, &host, &format!("histogram_bucket_settings: [{settings}]")).await;
            let bounds = || async {
                let text = get(process.admin, "/stats/prometheus?filter=^http.in.downstream_rq_time").await.1;
                let bounds = text.lines().filter_map(|line| line.split_once("le=\"")?.1.split_once('"'));
                bounds.map(|(bound, _)| bound.to_owned()).collect::<Vec<_>>()
            };
            crate::peers::eventually("it is shown", || async { !bounds().await.is_empty() }).await;
            found.push(bounds().await);
        }
        assert_eq!(found[1], ["0.25", "10", "500", "+Inf"], "{kind:?}");
        all.push(found);
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:#?}");
}
