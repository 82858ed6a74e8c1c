//! The peers: each a pair of processes with one worker each. Envoy and ours run from the same YAML.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::certificates::SPIFFE_ID;
use super::{Pair, Plan, path};
use crate::process::{Process, envoy, find, free_port};

/// A peer that may be here.
pub struct Peer {
    /// Its name.
    pub name: String,
    kind: Kind,
}

enum Kind {
    /// Runs an Envoy bootstrap; extra arguments.
    Bootstrap(Option<PathBuf>, Vec<&'static str>),
    Nginx(Option<PathBuf>),
    /// This program's own relay.
    Relay,
}

/// Every peer, in the order in which they are shown.
pub fn all(plan: &Plan) -> Vec<Peer> {
    let ours = Kind::Bootstrap(Some(plan.proxy.clone()), vec!["--concurrency", "1", "--log-level", "error"]);
    let envoy_arguments = vec!["--concurrency", "1", "-l", "error", "--use-dynamic-base-id"];
    vec![
        Peer { name: "ferromesh".into(), kind: ours },
        Peer { name: "relay".into(), kind: Kind::Relay },
        Peer { name: "envoy".into(), kind: Kind::Bootstrap(envoy(), envoy_arguments) },
        Peer { name: "nginx".into(), kind: Kind::Nginx(find("nginx").or_else(|| Some("/usr/sbin/nginx".into()))) },
    ]
}

/// One process of a pair.
struct Hop {
    listen: SocketAddr,
    upstream: SocketAddr,
    is_client: bool,
}

impl Peer {
    /// Starts a pair in front of `backend`; `None` if the peer is not on this machine.
    ///
    /// # Errors
    /// If it is there and does not start.
    pub fn start(&self, folder: &Path, backend: SocketAddr) -> anyhow::Result<Option<Pair>> {
        let inner = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let outer = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let server = Hop { listen: inner, upstream: backend, is_client: false };
        let client = Hop { listen: outer, upstream: inner, is_client: true };
        let Some(mut server_process) = self.start_hop(folder, &server)? else { return Ok(None) };
        server_process.listens(inner)?;
        let Some(mut client_process) = self.start_hop(folder, &client)? else { return Ok(None) };
        client_process.listens(outer)?;
        Ok(Some(Pair { name: self.name.clone(), address: outer, processes: [client_process, server_process] }))
    }

    fn start_hop(&self, folder: &Path, hop: &Hop) -> anyhow::Result<Option<Process>> {
        let side = if hop.is_client { "client" } else { "server" };
        let name = format!("{}-{side}", self.name);
        let process = match &self.kind {
            Kind::Bootstrap(None, _) | Kind::Nginx(None) => return Ok(None),
            Kind::Bootstrap(Some(program), arguments) => {
                let file = folder.join(format!("{name}.json"));
                std::fs::write(&file, bootstrap(folder, hop).to_string())?;
                Process::start(&name, Command::new(program).arg("-c").arg(&file).args(arguments), folder)?
            }
            Kind::Nginx(Some(program)) if !program.is_file() => return Ok(None),
            Kind::Nginx(Some(program)) => {
                let file = folder.join(format!("{name}.conf"));
                std::fs::write(&file, nginx(folder, hop, side))?;
                Process::start(&name, Command::new(program).arg("-c").arg(&file), folder)?
            }
            Kind::Relay => {
                let program = std::env::current_exe().context("this program's own file")?;
                let mut command = Command::new(program);
                command.args(["relay", "--side", side]);
                command.arg("--listen").arg(hop.listen.to_string()).arg("--upstream").arg(hop.upstream.to_string());
                Process::start(&name, command.arg("--certificates").arg(folder), folder)?
            }
        };
        Ok(Some(process))
    }
}

/// A sidecar's features: access log, request ids, retries, authorization, outlier detection, mTLS.
fn bootstrap(folder: &Path, hop: &Hop) -> serde_json::Value {
    let common = serde_json::json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "tls_certificates": [{
            "certificate_chain": { "filename": path(folder, "cert.pem") },
            "private_key": { "filename": path(folder, "key.pem") },
        }],
        "validation_context": {
            "trusted_ca": { "filename": path(folder, "ca.pem") },
            "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": SPIFFE_ID } }],
        },
    });
    let socket = |kind: &str, mut context: serde_json::Value| {
        context["@type"] = format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}").into();
        serde_json::json!({ "name": "envoy.transport_sockets.tls", "typed_config": context })
    };
    let address = |at: SocketAddr| serde_json::json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } });
    let mut chain = serde_json::json!({ "filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager(folder, hop),
    }] });
    let mut cluster = serde_json::json!({
        "name": "next",
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        "outlier_detection": { "consecutive_5xx": 5 },
        "load_assignment": { "cluster_name": "next", "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(hop.upstream) } }] }] },
    });
    if hop.is_client {
        cluster["transport_socket"] = socket("UpstreamTlsContext", serde_json::json!({ "common_tls_context": common }));
    } else {
        let context = serde_json::json!({ "require_client_certificate": true, "common_tls_context": common });
        chain["transport_socket"] = socket("DownstreamTlsContext", context);
    }
    serde_json::json!({
        "node": { "id": "bench", "cluster": "bench" },
        "static_resources": {
            "listeners": [{ "name": "in", "address": address(hop.listen), "filter_chains": [chain] }],
            "clusters": [cluster],
        },
    })
}

fn manager(folder: &Path, hop: &Hop) -> serde_json::Value {
    let log = path(folder, if hop.is_client { "client-access.log" } else { "server-access.log" });
    let allow = |i: u32| {
        let path = serde_json::json!({ "prefix": if i == 9 { "/".to_owned() } else { format!("/never/{i}") } });
        serde_json::json!({ "permissions": [{ "url_path": { "path": path } }], "principals": [{ "any": true }] })
    };
    let policies: serde_json::Map<String, serde_json::Value> =
        (0..10).map(|i| (format!("rule-{i}"), allow(i))).collect();
    serde_json::json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "access_log": [{
            "name": "envoy.access_loggers.file",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": log },
        }],
        "http_filters": [
            {
                "name": "envoy.filters.http.rbac",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
                    "rules": { "action": "ALLOW", "policies": policies },
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
            },
        ],
        "route_config": {
            "name": "local",
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{
                    "match": { "prefix": "/" },
                    "route": { "cluster": "next", "retry_policy": { "retry_on": "connect-failure,refused-stream", "num_retries": 2 } },
                }],
            }],
        },
    })
}

fn nginx(folder: &Path, hop: &Hop, side: &str) -> String {
    let file = |name: &str| path(folder, name);
    let (listen, next) = if hop.is_client {
        let tls = format!(
            "proxy_ssl_certificate {}; proxy_ssl_certificate_key {}; proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse off;",
            file("cert.pem"),
            file("key.pem"),
        );
        (format!("listen {};", hop.listen), format!("proxy_pass https://next; {tls}"))
    } else {
        let tls = format!(
            "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3; ssl_verify_client on; ssl_client_certificate {};",
            file("cert.pem"),
            file("key.pem"),
            file("ca.pem"),
        );
        (format!("listen {} ssl; {tls}", hop.listen), "proxy_pass http://next;".to_owned())
    };
    format!(
        "daemon off; worker_processes 1; pid {pid}; error_log stderr error;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log {log}; client_body_temp_path {tmp}; proxy_temp_path {tmp}; fastcgi_temp_path {tmp}; uwsgi_temp_path {tmp}; scgi_temp_path {tmp};\n\
         keepalive_requests 100000000; upstream next {{ server {upstream}; keepalive 512; keepalive_requests 100000000; }}\n\
         server {{ {listen} location / {{ {next} proxy_http_version 1.1; proxy_set_header Connection ''; }} }} }}\n",
        pid = file(&format!("nginx-{side}.pid")),
        log = file(&format!("nginx-{side}-access.log")),
        tmp = file("nginx-tmp"),
        upstream = hop.upstream,
    )
}
