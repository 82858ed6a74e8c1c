//! A big mesh: thousands of services with mTLS, their clusters, virtual hosts and endpoints by delta ADS, on one proxy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

use super::ads::Ads;
use super::bootstrap::{address, certificate, http2, tls_versions, trust};
use super::{Plan, peers};
use crate::process::{Process, envoy, free_port};

/// What a big mesh costs.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Scale {
    /// The peer.
    pub name: String,
    /// Services.
    pub services: usize,
    /// From the start of the process until it is ready, seconds.
    pub ready_s: f64,
    /// CPU of that, seconds.
    pub cpu_s: f64,
    /// Resident memory then, bytes.
    pub rss: u64,
    /// CPU of a change of one service's endpoint, microseconds.
    pub change_us: f64,
}

/// How many endpoint changes are averaged.
const CHANGES: u32 = 100;

/// Measures ours and Envoy, if it is here.
///
/// # Errors
/// If a proxy that is here does not become ready.
pub fn run(plan: &Plan, folder: &Path) -> anyhow::Result<Vec<Scale>> {
    let ours = (String::from(peers::OURS), Some(plan.proxy.clone()), peers::OUR_ARGUMENTS.to_vec());
    let theirs = (String::from("envoy"), envoy(), peers::ENVOY_ARGUMENTS.to_vec());
    let mut all = Vec::new();
    for (name, program, arguments) in [ours, theirs] {
        match program {
            _ if plan.skip.contains(&name) => {}
            Some(program) => all.push(measure(&name, &program, &arguments, folder, plan.services)?),
            None => eprintln!("{name}: not here, left out"),
        }
    }
    Ok(all)
}

fn measure(name: &str, program: &PathBuf, arguments: &[&str], folder: &Path, services: usize) -> anyhow::Result<Scale> {
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let ads = Ads::start()?;
    ads.set((0..services).map(cluster))?;
    ads.set((0..services).map(|i| endpoint(i, 1)))?;
    ads.set([routes(services), listener(listen)])?;
    let file = folder.join(format!("{name}-scale.json"));
    std::fs::write(&file, bootstrap(folder, admin, ads.address()).to_string())?;
    let begin = Instant::now();
    let mut process =
        Process::start(&format!("{name}-scale"), Command::new(program).arg("-c").arg(&file).args(arguments), folder)?;
    process.listens_within(listen, Duration::from_secs(120))?;
    ready(admin, begin + Duration::from_secs(120)).with_context(|| name.to_owned())?;
    if let Some(refused) = ads.refused() {
        bail!("{name} refuses: {refused}");
    }
    let (ready_s, cpu_s) = (begin.elapsed().as_secs_f64(), process.cpu_seconds()?);
    let rss = process.settled_rss()?;
    let before = process.cpu_seconds()?;
    for change in 0..CHANGES {
        ads.push([endpoint(change as usize % services, 2)], Duration::from_secs(10)).context("an endpoint change")?;
    }
    let change_us = (process.cpu_seconds()? - before) * 1e6 / f64::from(CHANGES);
    if let Some(refused) = ads.refused() {
        bail!("{name} refuses: {refused}");
    }
    eprintln!("{name:>10} {services} services: ready in {ready_s:.2} s, {:.1} MB", rss as f64 / 1e6);
    Ok(Scale { name: name.to_owned(), services, ready_s, cpu_s, rss, change_us })
}

/// Waits until a proxy says that it is ready: a listener may take connections before it serves them.
fn ready(admin: SocketAddr, deadline: Instant) -> anyhow::Result<()> {
    while Instant::now() < deadline {
        let mut answer = String::new();
        let asked = TcpStream::connect(admin).and_then(|mut socket| {
            socket.write_all(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
            socket.read_to_string(&mut answer)
        });
        if asked.is_ok() && answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("not ready in time")
}

fn bootstrap(folder: &Path, admin: SocketAddr, ads: SocketAddr) -> serde_json::Value {
    let source = json!({ "ads": {}, "resource_api_version": "V3" });
    json!({
        "node": { "id": "scale", "cluster": "bench" },
        "admin": { "address": address(admin) },
        "dynamic_resources": {
            "lds_config": source,
            "cds_config": source,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "ads" } }],
            },
        },
        "static_resources": {
            "clusters": [{
                "name": "ads",
                "type": "STATIC",
                "connect_timeout": "5s",
                "typed_extension_protocol_options": http2(),
                "load_assignment": { "cluster_name": "ads", "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(ads) } }] }] },
            }],
            "secrets": [
                { "name": "default", "tls_certificate": certificate(folder) },
                { "name": "ROOTCA", "validation_context": trust(folder) },
            ],
        },
    })
}

/// Name and resource as JSON with `@type`.
type Named = (String, serde_json::Value);

fn service(i: usize) -> String {
    format!("outbound|80||service-{i}.namespace-{}.svc.cluster.local", i % 50)
}

fn cluster(i: usize) -> Named {
    let mut tls = tls_versions();
    tls["tls_certificate_sds_secret_configs"] = json!([{ "name": "default" }]);
    tls["validation_context_sds_secret_config"] = json!({ "name": "ROOTCA" });
    let cluster = json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": service(i),
        "type": "EDS",
        "eds_cluster_config": { "eds_config": { "ads": {}, "resource_api_version": "V3" } },
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        "outlier_detection": { "consecutive_5xx": 5 },
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": tls,
                "sni": format!("outbound_.80_._.service-{i}.namespace-{}.svc.cluster.local", i % 50),
            },
        },
    });
    (service(i), cluster)
}

fn endpoint(i: usize, last: u16) -> Named {
    let at = SocketAddr::from(([127, 1, last as u8, (i % 250) as u8 + 1], 8080));
    let assignment = json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": service(i),
        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(at) } }] }],
    });
    (service(i), assignment)
}

fn routes(services: usize) -> Named {
    let host = |i: usize| {
        let name = format!("service-{i}.namespace-{}", i % 50);
        json!({
            "name": format!("{name}.svc.cluster.local:80"),
            "domains": [format!("{name}.svc.cluster.local"), format!("{name}.svc"), name],
            "routes": [{
                "match": { "prefix": "/" },
                "route": { "cluster": service(i), "retry_policy": { "retry_on": "connect-failure", "num_retries": 2 } },
            }],
        })
    };
    let hosts: Vec<_> = (0..services).map(host).collect();
    let kind = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    ("80".into(), json!({ "@type": kind, "name": "80", "virtual_hosts": hosts }))
}

fn listener(at: SocketAddr) -> Named {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound",
        "rds": { "route_config_name": "80", "config_source": { "ads": {}, "resource_api_version": "V3" } },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        }],
    });
    let listener = json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": "outbound",
        "address": address(at),
        "filter_chains": [{ "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }] }],
    });
    ("outbound".into(), listener)
}
