//! The peers: each a pair of processes with one worker each. Envoy and ours run from the same YAML.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::bootstrap::{Metrics, bootstrap};
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
    Bootstrap(Option<PathBuf>, Vec<&'static str>, Metrics),
    Nginx(Option<PathBuf>),
    Haproxy(Option<PathBuf>),
    /// This program's own relay.
    Relay,
}

/// Arguments of our proxy: one worker, as all peers have.
pub const OUR_ARGUMENTS: [&str; 4] = ["--concurrency", "1", "--log-level", "error"];
/// Envoy's.
pub const ENVOY_ARGUMENTS: [&str; 5] = ["--concurrency", "1", "-l", "error", "--use-dynamic-base-id"];

/// A program of Debian's, which may stand where only root looks.
fn debian(name: &str) -> Option<PathBuf> {
    find(name).or_else(|| Some(Path::new("/usr/sbin").join(name))).filter(|program| program.is_file())
}

/// Every peer, in the order in which they are shown.
pub fn all(plan: &Plan) -> Vec<Peer> {
    let theirs = Kind::Bootstrap(envoy(), ENVOY_ARGUMENTS.to_vec(), Metrics::On);
    vec![
        ours("ferromesh", &plan.proxy, Metrics::On),
        relay(),
        Peer { name: "envoy".into(), kind: theirs },
        Peer { name: "nginx".into(), kind: Kind::Nginx(debian("nginx")) },
        Peer { name: "haproxy".into(), kind: Kind::Haproxy(debian("haproxy")) },
    ]
}

/// Our proxy.
pub fn ours(name: &str, proxy: &Path, metrics: Metrics) -> Peer {
    let kind = Kind::Bootstrap(Some(proxy.to_owned()), OUR_ARGUMENTS.to_vec(), metrics);
    Peer { name: name.into(), kind }
}

/// The floor.
pub fn relay() -> Peer {
    Peer { name: "relay".into(), kind: Kind::Relay }
}

/// What a process is started under (a counting tool): its program and arguments; the process's own command follows.
pub struct Launcher {
    /// The tool.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Launcher {
    fn around(&self, command: &Command) -> Command {
        let mut outer = Command::new(&self.program);
        outer.args(&self.arguments).arg(command.get_program()).args(command.get_args());
        outer
    }
}

/// The launcher of a side of a pair, if there is one.
type LauncherOf<'a> = &'a dyn Fn(&str) -> Launcher;

/// Under a counting tool a start takes seconds.
const START: Duration = Duration::from_secs(60);

/// One process of a pair.
pub struct Hop {
    /// Where it takes connections.
    pub listen: SocketAddr,
    /// Where it sends them.
    pub upstream: SocketAddr,
    /// Takes plain text and sends TLS; else the other way round.
    pub is_client: bool,
}

impl Peer {
    /// Starts a pair in front of `backend`; `None` if the peer is not on this machine.
    ///
    /// # Errors
    /// If it is there and does not start.
    pub fn start(&self, folder: &Path, backend: SocketAddr) -> anyhow::Result<Option<Pair>> {
        self.start_pair(folder, backend, None)
    }

    /// As [`Self::start`], each process under its side's launcher.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_under(
        &self,
        folder: &Path,
        backend: SocketAddr,
        launcher: LauncherOf<'_>,
    ) -> anyhow::Result<Option<Pair>> {
        self.start_pair(folder, backend, Some(launcher))
    }

    fn start_pair(
        &self,
        folder: &Path,
        backend: SocketAddr,
        launcher: Option<LauncherOf<'_>>,
    ) -> anyhow::Result<Option<Pair>> {
        let inner = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let outer = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let server = Hop { listen: inner, upstream: backend, is_client: false };
        let client = Hop { listen: outer, upstream: inner, is_client: true };
        let mut start_ms = 0.0;
        let mut ready = |hop: &Hop| {
            let begin = Instant::now();
            let Some(mut process) = self.start_hop(folder, hop, launcher)? else { return Ok(None) };
            process.listens_within(hop.listen, START)?;
            start_ms = f64::max(start_ms, begin.elapsed().as_secs_f64() * 1e3);
            Ok::<_, anyhow::Error>(Some(process))
        };
        let Some(server_process) = ready(&server)? else { return Ok(None) };
        let Some(client_process) = ready(&client)? else { return Ok(None) };
        Ok(Some(Pair {
            name: self.name.clone(),
            address: outer,
            inner,
            start_ms,
            processes: [client_process, server_process],
        }))
    }

    fn start_hop(&self, folder: &Path, hop: &Hop, launcher: Option<LauncherOf<'_>>) -> anyhow::Result<Option<Process>> {
        let side = if hop.is_client { "client" } else { "server" };
        let name = format!("{}-{side}", self.name);
        let Some(mut command) = self.command(folder, hop, side)? else { return Ok(None) };
        if let Some(launcher) = launcher {
            command = launcher(side).around(&command);
        }
        Process::start(&name, &mut command, folder).map(Some)
    }

    fn command(&self, folder: &Path, hop: &Hop, side: &str) -> anyhow::Result<Option<Command>> {
        let configured = |ending: &str, text: String| {
            let file = folder.join(format!("{}-{side}.{ending}", self.name));
            std::fs::write(&file, text).map(|()| file)
        };
        let mut command;
        match &self.kind {
            Kind::Bootstrap(None, ..) | Kind::Nginx(None) | Kind::Haproxy(None) => return Ok(None),
            Kind::Bootstrap(Some(program), arguments, metrics) => {
                let file = configured("json", bootstrap(folder, hop, *metrics).to_string())?;
                command = Command::new(program);
                command.arg("-c").arg(file).args(arguments);
            }
            Kind::Nginx(Some(program)) => {
                command = Command::new(program);
                command.arg("-c").arg(configured("conf", nginx(folder, hop, side))?);
            }
            Kind::Haproxy(Some(program)) => {
                command = Command::new(program);
                command.arg("-db").arg("-f").arg(configured("cfg", haproxy(folder, hop))?);
            }
            Kind::Relay => {
                command = Command::new(std::env::current_exe().context("this program's own file")?);
                command.args(["relay", "--side", side]);
                command.arg("--listen").arg(hop.listen.to_string()).arg("--upstream").arg(hop.upstream.to_string());
                command.arg("--certificates").arg(folder);
            }
        }
        Ok(Some(command))
    }
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

/// HAProxy logs to its standard output, which goes to a file here; ten rules and a request id as the others have.
fn haproxy(folder: &Path, hop: &Hop) -> String {
    let tls = format!(
        "ssl crt {} ca-file {} verify required ssl-min-ver TLSv1.3",
        path(folder, "both.pem"),
        path(folder, "ca.pem")
    );
    let (bind, server) = if hop.is_client { ("", tls.as_str()) } else { (tls.as_str(), "") };
    let rules: String = (0..10)
        .map(|i| format!("  acl rule{i} path_beg {}\n", if i == 9 { "/".to_owned() } else { format!("/never/{i}") }))
        .collect();
    let any: Vec<String> = (0..10).map(|i| format!("rule{i}")).collect();
    format!(
        "global\n  nbthread 1\n  maxconn 8192\n  log stdout format raw local0\n\
         defaults\n  mode http\n  log global\n  option httplog\n  option redispatch\n  retries 2\n  http-reuse always\n\
         \x20 timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n\
         frontend in\n  bind {listen} {bind}\n{rules}  http-request deny unless {any}\n\
         \x20 unique-id-format %[uuid()]\n  unique-id-header x-request-id\n  default_backend next\n\
         backend next\n  server next {upstream} {server}\n",
        listen = hop.listen,
        any = any.join(" or "),
        upstream = hop.upstream,
    )
}
