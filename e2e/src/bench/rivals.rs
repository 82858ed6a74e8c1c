//! The configuration of peers that do not read Envoy's.

use std::path::Path;

use super::path;
use super::peers::{Hop, Protocol};

/// nginx for HTTP/1.1.
pub(super) fn nginx(folder: &Path, hop: &Hop, side: &str) -> String {
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
            "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_verify_client on; ssl_client_certificate {};",
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

/// HAProxy logs to its standard output, which goes to a file here; ten rules and a request id as the others have.
pub(super) fn haproxy(folder: &Path, hop: &Hop) -> String {
    let tls = format!(
        "ssl crt {} ca-file {} verify required ssl-min-ver TLSv1.3",
        path(folder, "both.pem"),
        path(folder, "ca.pem")
    );
    let (plain, alpn) = match hop.protocol {
        Protocol::Http2 => ("proto h2", "alpn h2"),
        Protocol::Http1 | Protocol::Tcp => ("", ""),
    };
    let (bind, server) = if hop.is_client {
        (plain.to_owned(), format!("{tls} {alpn}"))
    } else {
        (format!("{tls} {alpn} no-tls-tickets"), plain.to_owned())
    };
    let (mode, rules) = match hop.protocol {
        Protocol::Tcp => ("  mode tcp\n  option tcplog\n", String::new()),
        Protocol::Http1 | Protocol::Http2 => ("  mode http\n  option httplog\n  http-reuse always\n", http_rules()),
    };
    format!(
        "global\n  nbthread 1\n  maxconn 8192\n  tune.ssl.cachesize 0\n  log stdout format raw local0\n\
         defaults\n{mode}  log global\n  option redispatch\n  retries 2\n\
         \x20 timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n\
         frontend in\n  bind {listen} {bind}\n{rules}  default_backend next\n\
         backend next\n  server next {upstream} {server}\n",
        listen = hop.listen,
        upstream = hop.upstream,
    )
}

fn http_rules() -> String {
    let rules: String = (0..10)
        .map(|i| format!("  acl rule{i} path_beg {}\n", if i == 9 { "/".to_owned() } else { format!("/never/{i}") }))
        .collect();
    let any: Vec<String> = (0..10).map(|i| format!("rule{i}")).collect();
    let any = any.join(" or ");
    format!("{rules}  http-request deny unless {any}\n  unique-id-format %[uuid()]\n  unique-id-header x-request-id\n")
}
