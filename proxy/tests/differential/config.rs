//! The bootstrap of all groups: one listener each, and clusters that they share.

use std::fmt::Write;
use std::path::Path;

use crate::groups::Group;

/// Metadata of a cluster.
const OWN: &str = "metadata: {filter_metadata: {own: {a: 7, b: {c: [x, 1, false]}, e: ''}}}, ";

/// Groups run at the same time, and share the clusters.
const RETRIES: &str = "circuit_breakers: {thresholds: [{max_retries: 1000}]}, ";

fn of_http2() -> String {
    "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\
     '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
     explicit_http_config: {http2_protocol_options: {}}}}, "
        .to_owned()
}

/// The servers upstream.
pub const SERVERS: [&str; 3] = ["echo", "second", "third"];

/// Ports by name.
#[derive(Default)]
pub struct Ports(Vec<(&'static str, u16)>);

impl Ports {
    /// Names a port.
    pub fn add(&mut self, name: &'static str, port: u16) {
        self.0.push((name, port));
    }

    /// The port of a name.
    pub fn of(&self, name: &str) -> u16 {
        self.0.iter().find(|(other, _)| *other == name).unwrap_or_else(|| panic!("no port {name}")).1
    }

    /// Names instead of numbers.
    pub fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, port)| text.replace(&format!(":{port}"), &format!(":{name}")))
    }
}

const LOG: &str = "case=%REQ(X-CASE)%|code=%RESPONSE_CODE%|details=%RESPONSE_CODE_DETAILS%|flags=%RESPONSE_FLAGS%|\
    method=%REQ(:METHOD)%|path=%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%|\
    authority=%REQ(:AUTHORITY)%|protocol=%PROTOCOL%|received=%BYTES_RECEIVED%|sent=%BYTES_SENT%|host=%UPSTREAM_HOST%|\
    cluster=%UPSTREAM_CLUSTER%|route=%ROUTE_NAME%|failure=%UPSTREAM_TRANSPORT_FAILURE_REASON%|\
    termination=%CONNECTION_TERMINATION_DETAILS%|attempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT%|\
    xff=%REQ(X-FORWARDED-FOR)%|id=%REQ(X-REQUEST-ID)%|remote=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%|\
    direct=%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%|local=%DOWNSTREAM_LOCAL_ADDRESS%|\
    sni=%REQUESTED_SERVER_NAME%|grpc=%GRPC_STATUS%|trailer=%TRAILER(X-TRAILER)%|served=%RESP(X-SERVED-BY):3%|\
    scheme=%REQ(:SCHEME)%|client=%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%";

/// The whole text.
pub fn bootstrap(groups: &[Group], ports: &Ports, folder: &Path) -> String {
    let mut text = format!(
        "admin: {{address: {}}}\n{}\nstatic_resources:\n  listeners:\n",
        address(ports.of("admin")),
        crate::groups::runtime::LAYERS
    );
    for group in groups {
        let log = folder.join(group.name);
        let more = if group.log.is_empty() { String::new() } else { format!("|{}", group.log) };
        let second = if group.json.is_empty() { String::new() } else { objects(&group.json, &log) };
        let hcm = if group.hcm.is_empty() { String::new() } else { format!("{}, ", group.hcm) };
        let filters = if group.filters.is_empty() { String::new() } else { format!("{}, ", group.filters) };
        write!(
            text,
            r#"  - {{name: {name}, address: {address}, filter_chains: [{{filters: [{{name: hcm, typed_config: {{
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
      stat_prefix: {name}, {hcm}
      access_log: [{{name: file, typed_config: {{
        "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: "{log}",
        log_format: {{text_format_source: {{inline_string: "{LOG}{more}\n"}}}}}}}}{second}],
      http_filters: [{filters}{{name: router, typed_config: {{
        "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}],
      route_config: {{name: {name}, validate_clusters: false, {table}}}}}}}]}}]}}
"#,
            name = group.name,
            address = address(ports.of(group.name)),
            log = log.display(),
            table = group.table,
        )
        .unwrap();
    }
    text += "  clusters:\n";
    for name in SERVERS {
        cluster(&mut text, name, RETRIES, &[endpoint(ports.of(name), name)]);
    }
    let trailing = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
        explicit_http_config: {http_protocol_options: {enable_trailers: true}}}}, ";
    cluster(&mut text, "trailing", &format!("{trailing}{OWN}{RETRIES}"), &[endpoint(ports.of("echo"), "echo")]);
    let names = |format: &str| {
        format!(
            "typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{\
             '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
             explicit_http_config: {{http_protocol_options: {{enable_trailers: true, header_key_format: {{{format}}}}}}}}}}}, "
        )
    };
    let kept = |more: &str| {
        names(&format!(
            "stateful_formatter: {{name: p, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig{more}}}}}"
        ))
    };
    let echo = [endpoint(ports.of("echo"), "echo")];
    cluster(&mut text, "echo-2", &format!("{}{RETRIES}", of_http2()), &[endpoint(ports.of("echo-2"), "echo-2")]);
    let named = format!("{{endpoint: {{hostname: 'host.test:80', address: {}}}}}", address(ports.of("echo")));
    cluster(&mut text, "named", &format!("alt_stat_name: other, {OWN}"), &[named]);
    cluster(&mut text, "proper", &names("proper_case_words: {}"), &echo);
    cluster(&mut text, "kept", &kept(""), &echo);
    cluster(&mut text, "kept-reason", &kept(", forward_reason_phrase: true"), &echo);
    cluster(&mut text, "refused", "", &[endpoint(ports.of("refused"), "refused")]);
    cluster(&mut text, "empty", "", &[]);
    let none = "circuit_breakers: {thresholds: [{max_requests: 0, max_pending_requests: 0, max_connections: 0}]}, ";
    cluster(&mut text, "full", none, &[endpoint(ports.of("echo"), "echo")]);
    for (name, budget) in crate::groups::followed::BUDGETS {
        let breakers = format!("circuit_breakers: {{thresholds: [{{retry_budget: {{{budget}}}}}]}}, ");
        cluster(&mut text, name, &breakers, &echo);
    }
    let all: Vec<String> = SERVERS.iter().map(|name| endpoint(ports.of(name), name)).collect();
    cluster(&mut text, "ring", "lb_policy: RING_HASH, ", &all);
    cluster(&mut text, "ring-one", "lb_policy: RING_HASH, ", &echo);
    levels(&mut text, "levels", &all);
    cluster(&mut text, "maglev", "lb_policy: MAGLEV, ", &all);
    text
}

/// A second log.
fn objects(format: &str, log: &Path) -> String {
    format!(
        ", {{name: objects, typed_config: {{'@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, \
         path: '{}.json', log_format: {{{format}}}}}}}",
        log.display()
    )
}

fn address(port: u16) -> String {
    format!("{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}")
}

/// An endpoint; hashed by its name, since its port is another for each proxy.
fn endpoint(port: u16, name: &str) -> String {
    format!(
        "{{endpoint: {{address: {}}}, metadata: {{filter_metadata: {{envoy.lb: {{hash_key: {name}}}}}}}}}",
        address(port)
    )
}

/// A cluster whose endpoints have a priority each.
fn levels(text: &mut String, name: &str, endpoints: &[String]) {
    let level = |(level, endpoint): (usize, &String)| format!("{{priority: {level}, lb_endpoints: [{endpoint}]}}");
    let levels: Vec<String> = endpoints.iter().enumerate().map(level).collect();
    writeln!(
        text,
        "  - {{name: {name}, type: STATIC, connect_timeout: 1s, {RETRIES}load_assignment: {{cluster_name: {name}, endpoints: [{}]}}}}",
        levels.join(", ")
    )
    .unwrap();
}

fn cluster(text: &mut String, name: &str, more: &str, endpoints: &[String]) {
    writeln!(
        text,
        "  - {{name: {name}, type: STATIC, connect_timeout: 1s, {more}load_assignment: {{cluster_name: {name}, \
         endpoints: [{{lb_endpoints: [{}]}}]}}}}",
        endpoints.join(", ")
    )
    .unwrap();
}
