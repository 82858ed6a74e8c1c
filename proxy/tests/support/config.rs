//! Bootstraps of one proxy as a test needs them: a listener `in`, clusters, an access log in a folder of the test's own.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::path::PathBuf;

use ferromesh_proxy::app::{Options, Proxy};
use serde_json::{Value, json};

use crate::peers::{PATIENCE, eventually, get};

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// What a log line shows.
const LOG: &str = "%PROTOCOL% %RESPONSE_CODE% flags=%RESPONSE_FLAGS% details=%RESPONSE_CODE_DETAILS% \
                   in=%BYTES_RECEIVED% out=%BYTES_SENT% tries=%UPSTREAM_REQUEST_ATTEMPT_COUNT% \
                   cluster=%UPSTREAM_CLUSTER% closed=%CONNECTION_TERMINATION_DETAILS% \
                   remote=%DOWNSTREAM_REMOTE_ADDRESS% path=%REQ(:PATH)%\n";

/// Sets the fields of `more` in `base`, objects field by field; null takes a field away.
pub fn merge(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (name, value) in more {
                if value.is_null() {
                    base.remove(&name);
                } else {
                    merge(base.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (base, more) => *base = more,
    }
}

pub fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// A cluster of one or more endpoints.
pub fn cluster(name: &str, addresses: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({"endpoint": {"address": socket(*address)}})).collect();
    json!({"name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}})
}

/// Fields of a cluster whose hosts speak HTTP/2; `more` goes into its `http2_protocol_options`.
pub fn http2(more: Value) -> Value {
    protocol(json!({"explicit_http_config": {"http2_protocol_options": more}}))
}

/// Fields of a cluster with these HttpProtocolOptions.
pub fn protocol(more: Value) -> Value {
    let mut options = json!({"@type": format!("type.googleapis.com/{HTTP_OPTIONS}")});
    merge(&mut options, more);
    json!({"typed_extension_protocol_options": {HTTP_OPTIONS: options}})
}

pub fn typed(name: &str, more: Value) -> Value {
    let mut config = json!({"@type": format!("{FILTERS}.{name}")});
    merge(&mut config, more);
    json!({"name": name, "typed_config": config})
}

/// A route that sends everything to `cluster`; `more` goes into its action.
pub fn route(cluster: &str, more: Value) -> Value {
    let mut action = json!({"cluster": cluster});
    merge(&mut action, more);
    json!({"match": {"prefix": "/"}, "route": action})
}

/// One proxy in the making.
#[derive(Clone)]
pub struct Hop {
    listener: Value,
    chain: Value,
    before: Vec<Value>,
    terminal: Value,
    clusters: Vec<Value>,
    more: Value,
    workers: usize,
}

impl Hop {
    fn new(terminal: Value) -> Self {
        Self {
            listener: json!({"name": "in", "address": socket(([127, 0, 0, 1], 0).into())}),
            chain: json!({}),
            before: Vec::new(),
            terminal,
            clusters: Vec::new(),
            more: json!({}),
            workers: 1,
        }
    }

    /// Everything goes to the cluster `next` by HTTP.
    pub fn http() -> Self {
        Self::new(typed(
            "network.http_connection_manager.v3.HttpConnectionManager",
            json!({"stat_prefix": "in", "http_filters": [typed("http.router.v3.Router", json!({}))]}),
        ))
        .routes(json!([route("next", json!({}))]))
    }

    /// Everything goes to the cluster `next` as it is.
    pub fn tcp() -> Self {
        Self::new(typed("network.tcp_proxy.v3.TcpProxy", json!({"stat_prefix": "in", "cluster": "next"})))
    }

    pub fn routes(self, routes: Value) -> Self {
        let hosts = json!([{"name": "all", "domains": ["*"], "routes": routes}]);
        self.terminal(json!({"route_config": {"name": "local", "virtual_hosts": hosts}}))
    }

    /// Sets fields of the last network filter.
    pub fn terminal(mut self, more: Value) -> Self {
        merge(&mut self.terminal["typed_config"], more);
        self
    }

    /// Puts a network filter before the last one.
    pub fn filter(mut self, filter: Value) -> Self {
        self.before.push(filter);
        self
    }

    pub fn listener(mut self, more: Value) -> Self {
        merge(&mut self.listener, more);
        self
    }

    /// Sets fields of the filter chain.
    pub fn chain(mut self, more: Value) -> Self {
        merge(&mut self.chain, more);
        self
    }

    /// Adds a cluster.
    pub fn cluster(mut self, name: &str, addresses: &[SocketAddr], more: Value) -> Self {
        let mut cluster = cluster(name, addresses);
        merge(&mut cluster, more);
        self.clusters.push(cluster);
        self
    }

    pub fn to(self, next: SocketAddr) -> Self {
        self.cluster("next", &[next], json!({}))
    }

    /// Sets fields of the bootstrap itself.
    pub fn bootstrap(mut self, more: Value) -> Self {
        merge(&mut self.more, more);
        self
    }

    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// The bootstrap; the access log goes to `log`.
    fn text(&self, log: &std::path::Path) -> String {
        let mut terminal = self.terminal.clone();
        let access = json!([{"name": "file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": log, "log_format": {"text_format_source": {"inline_string": LOG}}}}]);
        merge(&mut terminal["typed_config"], json!({"access_log": access}));
        let mut filters = self.before.clone();
        filters.push(terminal);
        let mut chain = self.chain.clone();
        merge(&mut chain, json!({"filters": filters}));
        let mut listener = json!({"filter_chains": [chain], "access_log": access});
        if self.listener.get("filter_chains").is_some() {
            listener = json!({});
        }
        merge(&mut listener, self.listener.clone());
        let mut whole = json!({
            "node": {"id": "test", "cluster": "test"},
            "admin": {"address": socket(([127, 0, 0, 1], 0).into())},
            "static_resources": {"listeners": [listener], "clusters": self.clusters},
        });
        merge(&mut whole, self.more.clone());
        whole.to_string()
    }

    /// Runs it; comes back when it serves.
    pub async fn start(self) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let text = self.text(&log);
        let bootstrap = ferromesh_proxy::bootstrap::parse(&text).expect("the test's bootstrap is good");
        let options = Options { concurrency: self.workers, ..Options::default() };
        let proxy = Proxy::start(bootstrap, options).expect("the proxy starts");
        tokio::time::timeout(PATIENCE, proxy.ready()).await.expect("the proxy is ready in time");
        Node { proxy, log, _folder: folder }
    }
}

/// A proxy that runs.
pub struct Node {
    pub proxy: Proxy,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Node {
    pub fn address(&self) -> SocketAddr {
        self.proxy.listener_addr("in").expect("the listener `in` serves")
    }

    pub async fn stats(&self) -> String {
        get(self.proxy.admin_addr().unwrap(), "/stats").await.1
    }

    /// A counter or gauge by its whole name; 0 if it is not there.
    pub async fn stat(&self, name: &str) -> u64 {
        let stats = self.stats().await;
        let value = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }

    /// Awaits a value of a counter or gauge.
    pub async fn until_stat(&self, name: &str, wanted: u64) {
        eventually(&format!("{name} is {wanted}"), || async { self.stat(name).await == wanted }).await;
    }

    /// The whole access log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Awaits a line of the access log that has all these parts.
    pub async fn logged(&self, parts: &[&str]) -> String {
        let find = || self.log().lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned);
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                match find() {
                    Some(line) => return line,
                    None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            }
        });
        waited.await.unwrap_or_else(|_| panic!("no log line with {parts:?} in:\n{}", self.log()))
    }

    pub async fn stop(self) {
        self.proxy.shutdown().await;
    }
}

/// How many proxies stand between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One, in plain text.
    Single,
    /// Two, with mTLS between them.
    Pair,
}

pub const SHAPES: [Shape; 2] = [Shape::Single, Shape::Pair];

/// Proxies from the client's to the server's.
pub struct Way {
    pub nodes: Vec<Node>,
}

impl Way {
    /// Where clients go.
    pub fn address(&self) -> SocketAddr {
        self.nodes[0].address()
    }

    /// The client's proxy.
    pub fn first(&self) -> &Node {
        &self.nodes[0]
    }

    /// The server's proxy.
    pub fn last(&self) -> &Node {
        &self.nodes[self.nodes.len() - 1]
    }

    pub async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

impl Shape {
    /// Starts copies of `hop`, the last of which goes to `server`; `of_cluster` are fields of the clusters.
    pub async fn start(self, hop: &Hop, server: SocketAddr, of_cluster: &Value) -> Way {
        if self == Self::Single {
            return Way { nodes: vec![hop.clone().cluster("next", &[server], of_cluster.clone()).start().await] };
        }
        let pki = crate::pki::Pki::new();
        let (require, sni) = (json!({"require_client_certificate": true}), json!({"sni": "server"}));
        let inner = hop
            .clone()
            .cluster("next", &[server], of_cluster.clone())
            .chain(json!({"transport_socket":
                pki.context("DownstreamTlsContext", &pki.workload("server", false), "client", &require)}))
            .start()
            .await;
        let mut towards = of_cluster.clone();
        let socket = pki.context("UpstreamTlsContext", &pki.workload("client", false), "server", &sni);
        merge(&mut towards, json!({"transport_socket": socket}));
        let outer = hop.clone().cluster("next", &[inner.address()], towards).start().await;
        Way { nodes: vec![outer, inner] }
    }
}
