//! What the pod says about itself: environment variables (Istio's names), the podinfo mount, arguments. Read once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use ferromesh_core::ports;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::dns;
use super::probe::Probers;

mod variables;

#[cfg(test)]
pub(super) use variables::duration;
use variables::{Variables, proxy_config};

/// Where the controller is, unless ProxyConfig says otherwise.
pub const DEFAULT_DISCOVERY: &str = "ferromesh-controller.ferromesh-system.svc:15012";
/// Account of the controller, in the namespace of the discovery address.
pub const CONTROLLER_ACCOUNT: &str = "ferromesh-controller";
/// Workers where nothing says how many, as Istio's.
const DEFAULT_CONCURRENCY: usize = 2;
/// Kubernetes' own grace period, less the time to say goodbye.
const DEFAULT_GRACE: Duration = Duration::from_secs(28);

/// Kind of proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Beside an application.
    Sidecar,
    /// A gateway.
    Router,
}

/// Runs as the proxy of a pod, as pilot-agent does.
#[derive(Debug, Clone, Args)]
pub struct ProxyArgs {
    /// Kind of proxy.
    #[arg(value_enum)]
    pub role: Role,
    /// DNS domain of the pod; default: <namespace>.svc.cluster.local.
    #[arg(long)]
    pub domain: Option<String>,
    /// Worker threads; 0: one for each CPU.
    #[arg(long)]
    pub concurrency: Option<usize>,
    /// Level of the proxy's log: trace, debug, info, warning, error, critical, off.
    #[arg(long = "proxyLogLevel", visible_alias = "proxy-log-level", default_value = "warning")]
    pub proxy_log_level: String,
    /// Levels of single components: http:debug,tls:info.
    #[arg(long = "proxyComponentLogLevel", visible_alias = "proxy-component-log-level", default_value = "")]
    pub proxy_component_log_level: String,
    /// Level of the agent's own log: default:info.
    #[arg(long = "log_output_level", visible_alias = "log-output-level", default_value = "default:info")]
    pub log_output_level: String,
    /// Log in JSON.
    #[arg(long = "log_as_json", visible_alias = "log-as-json")]
    pub log_as_json: bool,
}

impl ProxyArgs {
    /// The levels in the form of our own log filter.
    pub fn log_level(&self) -> String {
        let level = |word: &str| match word.trim() {
            "warning" => "warn".to_owned(),
            "critical" => "error".to_owned(),
            "none" => "off".to_owned(),
            other => other.to_owned(),
        };
        let mut filter = level(&self.proxy_log_level);
        let agent = self.log_output_level.rsplit(':').next().unwrap_or("info");
        filter.push_str(&format!(",ferromesh_proxy::agent={}", level(agent)));
        for (component, of) in self.proxy_component_log_level.split(',').filter_map(|pair| pair.split_once(':')) {
            // Envoy's catch-all component, which Istio's own templates set.
            if component != "misc" {
                filter.push_str(&format!(",ferromesh_proxy::{}={}", component.trim(), level(of)));
            }
        }
        filter
    }
}

/// Why the proxy of a pod cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A variable is missing or wrong.
    #[error("environment variable {name}: {reason}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The proxy cannot run.
    #[error("{0}")]
    Start(String),
}

/// ProxyConfig, as far as the proxy itself honours it; the rest is the injector's and the controller's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ProxyConfig {
    concurrency: Option<usize>,
    drain_duration: Option<String>,
    termination_drain_duration: Option<String>,
    discovery_address: Option<String>,
    proxy_admin_port: Option<u16>,
    status_port: Option<u16>,
    mesh_id: Option<String>,
    proxy_metadata: BTreeMap<String, Value>,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

/// Fields of ProxyConfig that others honour, or that change nothing here.
const ELSEWHERE: [&str; 9] = [
    "holdApplicationUntilProxyStarts",
    "gatewayTopology",
    "proxyHeaders",
    "image",
    "readinessProbe",
    "binaryPath",
    "configPath",
    "serviceCluster",
    "controlPlaneAuthPolicy",
];

/// All that the proxy knows of its pod.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Kind of proxy.
    pub role: Role,
    /// Pod.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its addresses, the first one first.
    pub ips: Vec<IpAddr>,
    /// Its DNS domain.
    pub domain: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Node metadata from ISTIO_META_ and ISTIO_METAJSON_ variables.
    pub metadata: Map<String, Value>,
    /// Trust domain.
    pub trust_domain: String,
    /// The controller, `<name>:<port>`.
    pub discovery_address: String,
    /// The CA, `<name>:<port>`.
    pub ca_address: String,
    /// PEM file of the mesh's roots.
    pub ca_root: PathBuf,
    /// File with the token for the CA.
    pub token_file: PathBuf,
    /// Application probes that come to the status port.
    pub probers: Probers,
    /// Where the application's metrics are, if they are to be merged.
    pub scrape: Option<Scrape>,
    /// Port of the admin pages.
    pub admin_port: u16,
    /// Port of this pod's status.
    pub status_port: u16,
    /// The DNS proxy, if there is to be one.
    pub dns: Option<Dns>,
    /// What was given and is not honoured.
    pub warnings: Vec<String>,
    probe_loopback: bool,
    concurrency: usize,
    exit_when_idle: bool,
    minimum_drain: Duration,
    termination_drain: Duration,
    grace: Duration,
    /// Lifetime to ask the CA for; `None` leaves it to the CA.
    pub certificate_lifetime: Option<Duration>,
}

/// The pod's own `prometheus.io` annotations, before ours took their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrape {
    /// Port.
    pub port: u16,
    /// Path.
    pub path: String,
}

/// How the DNS proxy is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Where it listens.
    pub listen: dns::Listen,
    /// All name servers are asked at once.
    pub parallel: bool,
    /// Time for a name server.
    pub timeout: Duration,
}

impl Environment {
    /// From this process's environment and `/etc/istio/pod`.
    ///
    /// # Errors
    /// Names a variable that is missing or wrong.
    pub fn read(args: &ProxyArgs) -> Result<Self, AgentError> {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::of(args, &variables, Path::new("/etc/istio/pod"))
    }

    /// From these variables and this podinfo folder.
    ///
    /// # Errors
    /// Names a variable that is missing or wrong.
    pub fn of(args: &ProxyArgs, variables: &BTreeMap<String, String>, podinfo: &Path) -> Result<Self, AgentError> {
        let config = proxy_config(variables)?;
        // ProxyConfig's own variables, under the pod's.
        let mut all: BTreeMap<String, String> = config
            .proxy_metadata
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect();
        all.extend(variables.clone());
        let vars = Variables(&all);
        let namespace = vars.needed("POD_NAMESPACE")?;
        let discovery = config.discovery_address.clone().unwrap_or_else(|| DEFAULT_DISCOVERY.to_owned());
        let control_plane = discovery.split('.').nth(1).unwrap_or("ferromesh-system").to_owned();
        let labels = podinfo_file(&podinfo.join("labels"));
        let annotations = podinfo_file(&podinfo.join("annotations"));
        // 0 is that nobody asks; readiness is asked by way of the agent all the same.
        let asked = status_port(&annotations)?.or(config.status_port).filter(|port| *port != 0);
        let mut metadata = vars.metadata()?;
        if let Some(id) = &config.mesh_id {
            metadata.entry("MESH_ID").or_insert_with(|| id.clone().into());
        }
        let file = |name: &str, default: &str| vars.get(name).map_or_else(|| default.into(), PathBuf::from);
        Ok(Self {
            role: args.role,
            pod: vars.needed("POD_NAME")?,
            service_account: vars.get("SERVICE_ACCOUNT").unwrap_or("default").to_owned(),
            ips: vars.ips()?,
            domain: args.domain.clone().unwrap_or_else(|| format!("{namespace}.svc.cluster.local")),
            annotations,
            labels,
            metadata,
            trust_domain: vars.get("TRUST_DOMAIN").unwrap_or("cluster.local").to_owned(),
            ca_address: vars
                .get("CA_ADDR")
                .map_or_else(|| format!("ferromesh-ca.{control_plane}.svc:15012"), str::to_owned),
            discovery_address: discovery,
            ca_root: file("CA_ROOT_CA", "/var/run/secrets/istio/root-cert.pem"),
            token_file: file("ISTIO_TOKEN_FILE", "/var/run/secrets/tokens/istio-token"),
            probers: vars.json("ISTIO_KUBE_APP_PROBERS")?.unwrap_or_default(),
            scrape: vars.scrape()?,
            admin_port: config.proxy_admin_port.unwrap_or(ports::PROXY_ADMIN),
            status_port: asked.unwrap_or(ports::AGENT_STATUS),
            probe_loopback: vars.flag("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION")?.unwrap_or(false),
            concurrency: vars.concurrency(args.concurrency.or(config.concurrency))?,
            exit_when_idle: vars.flag("EXIT_ON_ZERO_ACTIVE_CONNECTIONS")?.unwrap_or(false),
            minimum_drain: vars.duration("MINIMUM_DRAIN_DURATION")?.unwrap_or(Duration::from_secs(5)),
            termination_drain: vars.termination_drain(&config)?,
            grace: vars.seconds("TERMINATION_GRACE_PERIOD_SECONDS")?.map_or(DEFAULT_GRACE, |grace| {
                grace.saturating_sub(Duration::from_secs(2)).max(Duration::from_secs(1))
            }),
            certificate_lifetime: vars.duration("SECRET_TTL")?,
            dns: vars.dns(args.role)?,
            warnings: vars.warnings(&config),
            namespace,
        })
    }

    /// Worker threads.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// `sidecar~<ip>~<pod>.<namespace>~<domain>`.
    pub fn node_id(&self) -> String {
        let role = match self.role {
            Role::Sidecar => "sidecar",
            Role::Router => "router",
        };
        format!("{role}~{}~{}.{}~{}", self.ip(), self.pod, self.namespace, self.domain)
    }

    /// The pod's first address.
    pub fn ip(&self) -> IpAddr {
        self.ips.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Where the application is asked: on its loopback where inbound traffic goes there (Istio's
    /// `inboundTrafficPolicy: LOCALHOST`), else on the pod's address.
    pub fn probed_ip(&self) -> IpAddr {
        match self.ip() {
            ip if !self.probe_loopback => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// Every address of the pod's family.
    pub fn any(&self) -> IpAddr {
        match self.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// Where the status port listens.
    pub fn status_address(&self) -> SocketAddr {
        SocketAddr::new(self.any(), self.status_port)
    }

    /// The workload's identity.
    pub fn spiffe_id(&self) -> String {
        format!("spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }

    /// Name in the CA's certificate.
    pub fn ca_server_name(&self) -> String {
        self.ca_address.rsplit_once(':').map_or(self.ca_address.as_str(), |(host, _)| host).to_owned()
    }

    /// Host and port of the controller.
    pub fn discovery(&self) -> (&str, u16) {
        let (host, port) = self.discovery_address.rsplit_once(':').unwrap_or((&self.discovery_address, ""));
        (host, port.parse().unwrap_or(ports::XDS_TLS))
    }

    /// Identity of the controller: its account in the namespace of the discovery address.
    pub fn controller_id(&self) -> String {
        let namespace = self.discovery_address.split('.').nth(1).unwrap_or("ferromesh-system");
        format!("spiffe://{}/ns/{namespace}/sa/{CONTROLLER_ACCOUNT}", self.trust_domain)
    }

    /// The least time between the signal to end and the end.
    pub fn drain_before_end(&self) -> Duration {
        if self.exit_when_idle { self.minimum_drain } else { self.termination_drain }
    }

    /// The longest time that connections get. Without `EXIT_ON_ZERO_ACTIVE_CONNECTIONS` it is Istio's
    /// `terminationDrainDuration`; with it, what the kubelet's grace period leaves.
    pub fn longest_drain(&self) -> Duration {
        if self.exit_when_idle { self.grace } else { self.termination_drain }
    }
}

/// The port that the pod's annotation sets, which goes before ProxyConfig's.
fn status_port(annotations: &BTreeMap<String, String>) -> Result<Option<u16>, AgentError> {
    const NAME: &str = "status.sidecar.istio.io/port";
    let wrong =
        |text: &str| AgentError::Start(format!("annotation {NAME}: {text:?} is no port; give one, or 0 for none"));
    let read = |text: &String| text.trim().parse().map_err(|_| wrong(text));
    annotations.get(NAME).map(read).transpose()
}

/// A file of the downward API: `key="value"`, a line each. One that is not there is empty.
fn podinfo_file(path: &Path) -> BTreeMap<String, String> {
    podinfo(&std::fs::read_to_string(path).unwrap_or_default())
}

/// Values are quoted as Go quotes strings, which is JSON but for rare control characters.
pub(super) fn podinfo(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (key, quoted) = line.split_once('=')?;
        let value = serde_json::from_str(quoted).unwrap_or_else(|_| quoted.trim_matches('"').to_owned());
        Some((key.to_owned(), value))
    };
    text.lines().filter_map(pair).collect()
}
