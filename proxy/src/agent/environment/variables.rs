//! The environment's variables, one by one: read, with an error that names the variable.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ferromesh_core::ports;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{AgentError, DEFAULT_CONCURRENCY, Dns, ELSEWHERE, ProxyConfig, Role, Scrape};
use crate::agent::dns;

/// The variables, each read as what it must be.
pub(super) struct Variables<'a>(pub(super) &'a BTreeMap<String, String>);

impl Variables<'_> {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub(super) fn wrong(name: &str, reason: impl ToString) -> AgentError {
        AgentError::Variable { name: name.to_owned(), reason: reason.to_string() }
    }

    pub(super) fn needed(&self, name: &str) -> Result<String, AgentError> {
        let value = self.get(name);
        value.map(str::to_owned).ok_or_else(|| Self::wrong(name, "is missing; the pod's template sets it"))
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, AgentError> {
        let read = |text: &str| serde_json::from_str(text).map_err(|error| Self::wrong(name, error));
        self.get(name).map(read).transpose()
    }

    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, AgentError> {
        let read = |text: &str| {
            duration(text).ok_or_else(|| Self::wrong(name, format!("{text:?} is no duration (5s, 1m30s)")))
        };
        self.get(name).map(read).transpose()
    }

    pub(super) fn seconds(&self, name: &str) -> Result<Option<Duration>, AgentError> {
        let read = |text: &str| text.parse().map(Duration::from_secs).map_err(|error| Self::wrong(name, error));
        self.get(name).map(read).transpose()
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, AgentError> {
        let read = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "t" => Ok(true),
            "false" | "0" | "f" => Ok(false),
            _ => Err(Self::wrong(name, format!("{text:?} is neither true nor false"))),
        };
        self.get(name).map(read).transpose()
    }

    /// The pod's addresses: INSTANCE_IPS, with INSTANCE_IP first.
    pub(super) fn ips(&self) -> Result<Vec<IpAddr>, AgentError> {
        let first = self.needed("INSTANCE_IP")?;
        let mut ips = Vec::new();
        for (name, text) in
            [("INSTANCE_IP", first.as_str()), ("INSTANCE_IPS", self.get("INSTANCE_IPS").unwrap_or_default())]
        {
            for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                let ip = part.parse().map_err(|error| Self::wrong(name, format!("{part:?}: {error}")))?;
                if !ips.contains(&ip) {
                    ips.push(ip);
                }
            }
        }
        Ok(ips)
    }

    pub(super) fn metadata(&self) -> Result<Map<String, Value>, AgentError> {
        let mut metadata = Map::new();
        for (name, value) in self.0 {
            if let Some(key) = name.strip_prefix("ISTIO_METAJSON_") {
                metadata.insert(key.to_owned(), serde_json::from_str(value).map_err(|error| Self::wrong(name, error))?);
            } else if let Some(key) = name.strip_prefix("ISTIO_META_") {
                let structured = key == "POD_PORTS";
                let json = || serde_json::from_str(value.trim()).map_err(|error| Self::wrong(name, error));
                metadata.insert(key.to_owned(), if structured { json()? } else { value.clone().into() });
            }
        }
        Ok(metadata)
    }

    pub(super) fn scrape(&self) -> Result<Option<Scrape>, AgentError> {
        #[derive(Deserialize)]
        struct Annotations {
            #[serde(default)]
            scrape: String,
            #[serde(default)]
            path: String,
            #[serde(default)]
            port: String,
        }
        let name = "ISTIO_PROMETHEUS_ANNOTATIONS";
        if self.flag("ENABLE_PROMETHEUS_MERGE")? == Some(false) {
            return Ok(None);
        }
        let Some(found) = self.json::<Annotations>(name)?.filter(|found| found.scrape != "false") else {
            return Ok(None);
        };
        let port = if found.port.is_empty() { Ok(80) } else { found.port.parse() };
        let port: u16 = port.map_err(|_| Self::wrong(name, format!("port {:?} is no port", found.port)))?;
        if port == ports::AGENT_STATUS {
            return Err(Self::wrong(name, "port 15020 is the proxy's own: it would ask itself"));
        }
        let path = if found.path.is_empty() { "/metrics".to_owned() } else { found.path };
        Ok(Some(Scrape { port, path: if path.starts_with('/') { path } else { format!("/{path}") } }))
    }

    /// A sidecar answers where DNS is redirected to it, a gateway where it is asked to.
    pub(super) fn dns(&self, role: Role) -> Result<Option<Dns>, AgentError> {
        let captures = self.flag("ISTIO_META_DNS_CAPTURE")? == Some(true) && role == Role::Sidecar;
        if !captures && self.flag("ISTIO_META_ENABLE_DNS_SERVER")? != Some(true) {
            return Ok(None);
        }
        let name = "DNS_PROXY_ADDR";
        let wrong =
            |text: &str| Self::wrong(name, format!("{text:?} is neither localhost:<port> nor <address>:<port>"));
        let listen = self.get(name).map(|text| dns::listen(text).ok_or_else(|| wrong(text))).transpose()?;
        Ok(Some(Dns {
            listen: listen.unwrap_or(dns::Listen::Loopback(ports::DNS)),
            parallel: self.flag("DNS_FORWARD_PARALLEL")?.unwrap_or(false),
            timeout: self.duration("DNS_FORWARD_TIMEOUT")?.unwrap_or(Duration::from_secs(5)),
        }))
    }

    pub(super) fn concurrency(&self, asked: Option<usize>) -> Result<usize, AgentError> {
        let name = "ISTIO_CPU_LIMIT";
        let limit = self.get(name).map(|text| text.parse::<usize>().map_err(|error| Self::wrong(name, error)));
        let cpus = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(match (asked, limit.transpose()?) {
            (Some(0), _) => cpus(),
            (Some(count), _) => count,
            (None, Some(limit)) if limit > 0 => limit,
            (None, _) => DEFAULT_CONCURRENCY,
        })
    }

    pub(super) fn termination_drain(&self, config: &ProxyConfig) -> Result<Duration, AgentError> {
        if let Some(seconds) = self.seconds("TERMINATION_DRAIN_DURATION_SECONDS")? {
            return Ok(seconds);
        }
        let Some(text) = &config.termination_drain_duration else { return Ok(Duration::from_secs(5)) };
        duration(text)
            .ok_or_else(|| Self::wrong("PROXY_CONFIG", format!("terminationDrainDuration: {text:?} is no duration")))
    }

    pub(super) fn warnings(&self, config: &ProxyConfig) -> Vec<String> {
        let unknown = config.other.keys().filter(|name| !ELSEWHERE.contains(&name.as_str()));
        let mut warnings: Vec<String> = unknown.map(|name| format!("PROXY_CONFIG: {name} is not honoured")).collect();
        if config.drain_duration.is_some() {
            warnings.push("PROXY_CONFIG: drainDuration is not honoured: a changed listener drains for 45 s".into());
        }
        warnings
    }
}

/// PROXY_CONFIG as JSON or YAML.
pub(super) fn proxy_config(variables: &BTreeMap<String, String>) -> Result<ProxyConfig, AgentError> {
    let text = variables.get("PROXY_CONFIG").map(|text| text.trim()).filter(|text| !text.is_empty());
    let Some(text) = text else { return Ok(ProxyConfig::default()) };
    serde_saphyr::from_str(text).map_err(|error| Variables::wrong("PROXY_CONFIG", error.without_snippet()))
}

/// A duration as Go writes it: `1m30s`, `500ms`, `0s`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 0.000_001,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    (!text.trim().is_empty()).then(|| Duration::try_from_secs_f64(total).ok()).flatten()
}
