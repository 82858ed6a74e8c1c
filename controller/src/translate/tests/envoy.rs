//! The real Envoy reads what is made here. `FERROMESH_ENVOY` is the path of its binary.

use super::*;
use crate::translate::gateway::{certificates, served};
use ferromesh_proto::envoy::config::bootstrap::v3::{Bootstrap, bootstrap::StaticResources};
use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::config::listener::v3::Listener;
use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use prost::Message;
use std::process::Command;

/// A bootstrap that has everything of one proxy as static resources.
fn bootstrap(view: &View, node: &Node) -> Bootstrap {
    let translator = Translator::new();
    let unpack = |resources: Vec<Resource>| resources.into_iter().map(|resource| resource.any);
    let mut clusters: Vec<Cluster> =
        unpack(translator.clusters(view, node)).map(|any| any.unpack().expect("a cluster")).collect();
    clusters.extend(["xds-grpc", "sds-grpc"].map(|name| Cluster { name: name.to_owned(), ..Cluster::default() }));
    let listeners: Vec<Listener> =
        unpack(translator.listeners(view, node)).map(|any| any.unpack().expect("a listener")).collect();
    let names: Vec<String> = certificates(&served(view, node, None)).into_keys().collect();
    let secrets: Vec<Secret> =
        unpack(translator.secrets(view, node, &names)).map(|any| any.unpack().expect("a secret")).collect();
    let ads = core::ApiConfigSource {
        api_type: core::api_config_source::ApiType::DeltaGrpc as i32,
        transport_api_version: message::V3,
        grpc_services: vec![core::GrpcService {
            target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(core::grpc_service::EnvoyGrpc {
                cluster_name: "xds-grpc".to_owned(),
                ..Default::default()
            })),
            ..Default::default()
        }],
        ..Default::default()
    };
    Bootstrap {
        node: Some(core::Node { id: "test".to_owned(), cluster: "test".to_owned(), ..Default::default() }),
        static_resources: Some(StaticResources { listeners, clusters, secrets }),
        dynamic_resources: Some(ferromesh_proto::envoy::config::bootstrap::v3::bootstrap::DynamicResources {
            ads_config: Some(ads),
            ..Default::default()
        }),
        ..Bootstrap::default()
    }
}

/// Puts the routes that listeners would fetch into them, so that Envoy reads those too.
pub(super) fn inline_routes(view: &View, node: &Node, bootstrap: &mut Bootstrap) {
    use ferromesh_proto::envoy::config::listener::v3::filter::ConfigType;
    use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
    use hcm::http_connection_manager::RouteSpecifier;
    let resources = bootstrap.static_resources.as_mut().expect("it was set");
    let chains = resources.listeners.iter_mut().flat_map(|listener| listener.filter_chains.iter_mut());
    for filter in chains.flat_map(|chain| chain.filters.iter_mut()) {
        let Some(ConfigType::TypedConfig(any)) = &mut filter.config_type else { continue };
        let Ok(mut manager) = any.unpack::<hcm::HttpConnectionManager>() else { continue };
        let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier else { continue };
        let found = Translator::new().routes(view, node, std::slice::from_ref(&rds.route_config_name));
        let config = found.first().expect("a listener asks for routes that there are").any.unpack().expect("routes");
        manager.route_specifier = Some(RouteSpecifier::RouteConfig(config));
        *any = ferromesh_proto::Any::pack(&manager);
    }
}

fn validate(binary: &std::ffi::OsStr, what: &str, bootstrap: &Bootstrap) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("bootstrap.pb");
    std::fs::write(&file, bootstrap.encode_to_vec()).expect("it can be written to");
    let output = Command::new(binary)
        .args(["--mode", "validate", "--log-level", "warning", "-c"])
        .arg(&file)
        .output()
        .expect("FERROMESH_ENVOY names a program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}");
}

#[test]
fn the_real_envoy_accepts_every_resource() {
    let Some(binary) = std::env::var_os("FERROMESH_ENVOY") else {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "CI needs FERROMESH_ENVOY, the path of Envoy 1.40"
        );
        eprintln!("skipped: FERROMESH_ENVOY, the path of Envoy's binary, is not set");
        return;
    };
    let more = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {clusterIP: 10.96.0.9, ports: [{name: tcp-db, port: 3307}, {name: web, port: 8080}, {name: grpc, port: 9000}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: headless}\nspec: {clusterIP: None, ports: [{name: http, port: 80}, {name: tcp, port: 81}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: outside}\nspec: {type: ExternalName, externalName: example.com, ports: [{name: http, port: 80}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: auto}\nspec: {clusterIP: 10.96.0.7, selector: {app: myapp, version: v1}, ports: [{name: any, port: 7777}, {name: tcp-any, port: 7778}]}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'accessLogFile: /dev/stdout'}\n";
    let filter = include_str!("envoy_filter.yaml").replace("istio: ingressgateway", "app: myapp");
    for policy in ["PERMISSIVE", "STRICT", "DISABLE"] {
        let policy = format!(
            "\n---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: p}}\nspec: {{mtls: {{mode: {policy}}}}}\n"
        );
        let view = view(&(tutorial() + more + &filter + &policy));
        for node in [sidecar("myapp-v1-0"), router()] {
            let node = Node { stock: true, ..node };
            let mut bootstrap = bootstrap(&view, &node);
            inline_routes(&view, &node, &mut bootstrap);
            validate(&binary, &format!("{:?} {policy}", node.kind), &bootstrap);
        }
    }
}
