//! What the tutorial promises, checked with numbers that are measured here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::Value;

use super::binomial;
use crate::client::{Answer, Ask, many};

/// Chance that a right mesh fails the canary check, on each side.
const MISS: f64 = 1e-6;
/// The rate limit's burst: requests, and tokens in each pod's bucket.
const BURST: u32 = 100;
const TOKENS: u64 = 10;
/// A token comes back every 12 s; a slower burst proves nothing.
const BURST_LIMIT: Duration = Duration::from_secs(12);

/// One check's result.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Step of the tutorial.
    pub step: &'static str,
    /// What is expected.
    pub expected: String,
    /// What was measured.
    pub measured: String,
    /// Whether it fits.
    pub passed: bool,
}

impl Check {
    fn new(step: &'static str, expected: impl Into<String>, measured: impl Into<String>, passed: bool) -> Self {
        Self { step, expected: expected.into(), measured: measured.into(), passed }
    }

    /// A check that could not be made.
    pub fn failed(step: &'static str, expected: impl Into<String>, error: &anyhow::Error) -> Self {
        Self::new(step, expected, format!("{error:#}"), false)
    }
}

/// Where the mesh is.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The gateway's port 80.
    pub gateway: SocketAddr,
    /// Admin addresses of all proxies by pod (`namespace/name`).
    pub admin: BTreeMap<String, SocketAddr>,
    /// Outbound HTTP proxies by pod.
    pub http_proxy: BTreeMap<String, SocketAddr>,
}

/// Steps 3 and 4: routes, headers, canary.
pub async fn routing(at: &Addresses, requests: u32) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.push(record("canary 80/20", "v2 within binomial bounds of 20 %", canary(at, requests).await));
    checks.push(record("X-Mesh, X-Canary on the response", RESPONSE_HEADERS, response_headers(at).await));
    checks.push(record("X-Mesh, X-Canary on the request", RESPONSE_HEADERS, request_headers(at).await));
    checks.push(record("/other to the second service", "otherapp, without the canary's headers", other(at).await));
    checks.push(record("server header", "server: istio-envoy", server_header(at).await));
    checks
}

const RESPONSE_HEADERS: &str = "x-mesh: istio, x-canary: v2-20pct";

fn record(step: &'static str, expected: &str, result: anyhow::Result<Check>) -> Check {
    result.unwrap_or_else(|error| Check::failed(step, expected, &error))
}

async fn canary(at: &Addresses, requests: u32) -> anyhow::Result<Check> {
    let (mut v1, mut v2) = (0u32, 0u32);
    for answer in many(&Ask::get(at.gateway, "/"), requests, 16).await {
        let answer = answer?;
        match (answer.status.as_u16(), answer.text().trim()) {
            (200, "myapp v1") => v1 += 1,
            (200, "myapp v2") => v2 += 1,
            (status, text) => bail!("GET / answered {status} {text:?}"),
        }
    }
    let (low, high) = binomial::bounds(requests, 0.2, MISS);
    Ok(Check::new(
        "canary 80/20",
        format!("v2 {low} to {high} of {requests}"),
        format!("v1 {v1}, v2 {v2} ({:.1} %)", f64::from(v2) * 100.0 / f64::from(requests.max(1))),
        (low..=high).contains(&v2),
    ))
}

async fn response_headers(at: &Addresses) -> anyhow::Result<Check> {
    let answer = Ask::get(at.gateway, "/").send().await?;
    let (mesh, canary) = (answer.header("x-mesh"), answer.header("x-canary"));
    let passed = mesh == ["istio"] && canary == ["v2-20pct"];
    Ok(Check::new(
        "X-Mesh, X-Canary on the response",
        RESPONSE_HEADERS,
        format!("x-mesh: {mesh:?}, x-canary: {canary:?}"),
        passed,
    ))
}

async fn echo(at: &Addresses, path: &str) -> anyhow::Result<Value> {
    let answer = Ask::get(at.gateway, path).header("accept", "application/json").send().await?;
    if answer.status != 200 {
        bail!("GET {path} answered {} {:?}", answer.status, answer.text());
    }
    answer.json()
}

fn received(echo: &Value, header: &str) -> Vec<String> {
    let values = echo["headers"][header].as_array();
    values.into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

async fn request_headers(at: &Addresses) -> anyhow::Result<Check> {
    let echo = echo(at, "/").await?;
    let (mesh, canary) = (received(&echo, "x-mesh"), received(&echo, "x-canary"));
    let passed = mesh == ["istio"] && canary == ["v2-20pct"];
    Ok(Check::new(
        "X-Mesh, X-Canary on the request",
        RESPONSE_HEADERS,
        format!("x-mesh: {mesh:?}, x-canary: {canary:?}"),
        passed,
    ))
}

async fn other(at: &Addresses) -> anyhow::Result<Check> {
    let answer = Ask::get(at.gateway, "/other").send().await?;
    let passed = answer.status == 200 && answer.text().trim() == "otherapp" && answer.header("x-mesh").is_empty();
    Ok(Check::new(
        "/other to the second service",
        "200 otherapp, no x-mesh",
        format!("{} {}, x-mesh: {:?}", answer.status.as_u16(), answer.text().trim(), answer.header("x-mesh")),
        passed,
    ))
}

async fn server_header(at: &Addresses) -> anyhow::Result<Check> {
    let answer = Ask::get(at.gateway, "/").send().await?;
    let server = answer.header("server");
    Ok(Check::new("server header", "istio-envoy", server.join(", "), server == ["istio-envoy"]))
}

/// mTLS on every hop, as each side sees the other.
pub async fn identities(at: &Addresses) -> Vec<Check> {
    let mut checks = Vec::new();
    for (path, pods) in [("/", "myapp"), ("/other", "otherapp")] {
        let step = if path == "/" { "mTLS gateway to myapp" } else { "mTLS gateway to otherapp" };
        checks.push(record(step, "both sides' SPIFFE IDs", hop(at, step, path, pods).await));
    }
    checks.push(record("outbound through the sidecar", "both ways answer otherapp", outbound(at).await));
    // Last: what it counts includes the hops before it.
    checks.push(record("all inbound requests over mTLS", "metrics say mutual_tls only", metrics(at).await));
    checks
}

async fn hop(at: &Addresses, step: &'static str, path: &str, app: &str) -> anyhow::Result<Check> {
    let echo = echo(at, path).await?;
    let xfcc = received(&echo, "x-forwarded-client-cert").join(",");
    let part = |name: &str| {
        let found = xfcc.split([';', ',']).find_map(|part| part.strip_prefix(name));
        found.unwrap_or_default().to_owned()
    };
    let (by, uri) = (part("By="), part("URI="));
    let passed = by == "spiffe://cluster.local/ns/demo/sa/default"
        && uri == "spiffe://cluster.local/ns/demo/sa/istio-gwapi-istio";
    Ok(Check::new(
        step,
        format!("{app} sees .../sa/istio-gwapi-istio, and is .../sa/default"),
        format!("peer {uri}, self {by}"),
        passed,
    ))
}

/// Every request that a sidecar took came over mTLS from a known identity.
async fn metrics(at: &Addresses) -> anyhow::Result<Check> {
    let (mut mutual, mut other) = (0.0, 0.0);
    for admin in at.admin.values() {
        let text = Ask::get(*admin, "/stats/prometheus?filter=istio_requests_total").send().await?.text();
        for line in text.lines().filter(|line| line.contains("reporter=\"destination\"")) {
            let count: f64 = line.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0.0);
            if line.contains("connection_security_policy=\"mutual_tls\"")
                && line.contains("source_principal=\"spiffe://")
            {
                mutual += count;
            } else {
                other += count;
            }
        }
    }
    Ok(Check::new(
        "all inbound requests over mTLS",
        "istio_requests_total: mutual_tls only, with a source principal",
        format!("{mutual} mutual_tls, {other} otherwise"),
        mutual > 0.0 && other == 0.0,
    ))
}

/// A pod calls another service through its own sidecar: as an HTTP proxy, and with a plain Host.
async fn outbound(at: &Addresses) -> anyhow::Result<Check> {
    let proxy =
        at.http_proxy.iter().find(|(pod, _)| pod.starts_with("demo/myapp-v1")).context("myapp-v1 has no proxy")?.1;
    let absolute = Ask::get(*proxy, "http://otherapp.demo/other").host("otherapp.demo").send().await?;
    let plain = Ask::get(*proxy, "/other").host("otherapp").send().await?;
    let shown = |answer: &Answer| format!("{} {}", answer.status.as_u16(), answer.text().trim());
    let right = |answer: &Answer| answer.status == 200 && answer.text().trim() == "otherapp";
    Ok(Check::new(
        "outbound through the sidecar",
        "200 otherapp as http_proxy and by Host",
        format!("http_proxy: {}; Host: {}", shown(&absolute), shown(&plain)),
        right(&absolute) && right(&plain),
    ))
}

/// As the tutorial writes it the rate limit selects the gateway, whose listeners it does not patch: nothing is limited.
pub async fn unlimited(at: &Addresses, findings: &[String]) -> Vec<Check> {
    let mut checks = Vec::new();
    let step = "rate limit as written: no limit";
    checks.push(record(
        step,
        "100 of 100 pass",
        async {
            let passed = many(&Ask::get(at.gateway, "/"), BURST, 32)
                .await
                .into_iter()
                .filter(|answer| matches!(answer, Ok(answer) if answer.status == 200))
                .count();
            Ok(Check::new(step, "100 x 200", format!("{passed} x 200"), passed == BURST as usize))
        }
        .await,
    ));
    let said = findings.iter().find(|finding| finding.contains("ingress-local-ratelimit"));
    checks.push(Check::new(
        "analyze names the trap",
        "a finding on EnvoyFilter ingress-local-ratelimit",
        said.cloned().unwrap_or_else(|| "nothing".into()),
        said.is_some(),
    ));
    checks
}

/// With a filter that matches: each pod lets min(10, received) pass.
pub async fn limited(at: &Addresses) -> Vec<Check> {
    let mut checks = Vec::new();
    for (step, path, pods) in [
        ("rate limit on / (two pods)", "/", "demo/myapp-"),
        ("rate limit on /other (one pod)", "/other", "demo/otherapp-"),
    ] {
        checks.push(record(step, "each pod lets min(10, received) pass", burst(at, step, path, pods).await));
    }
    checks
}

async fn burst(at: &Addresses, step: &'static str, path: &str, pods: &str) -> anyhow::Result<Check> {
    let start = Instant::now();
    let answers = many(&Ask::get(at.gateway, path), BURST, BURST as usize).await;
    let took = start.elapsed();
    let (mut passed, mut limited, mut marked) = (0u64, 0u64, 0u64);
    for answer in answers {
        let answer = answer?;
        match answer.status.as_u16() {
            200 => passed += 1,
            429 => {
                limited += 1;
                marked += u64::from(answer.header("x-rate-limited") == ["TOO_MANY_REQUESTS"]);
            }
            status => bail!("GET {path} answered {status} {:?}", answer.text()),
        }
    }
    let mut expected = 0;
    let mut received = Vec::new();
    for (pod, admin) in at.admin.iter().filter(|(pod, _)| pod.starts_with(pods)) {
        let count = counter(*admin, "http_local_rate_limiter.http_local_rate_limit.enabled").await?;
        expected += count.min(TOKENS);
        received.push(format!("{pod} got {count}"));
    }
    let fits = passed == expected && passed + limited == u64::from(BURST) && marked == limited && took < BURST_LIMIT;
    Ok(Check::new(
        step,
        format!("{expected} x 200, the rest 429 with x-rate-limited, within 12 s"),
        format!(
            "{passed} x 200, {limited} x 429 ({marked} marked) in {:.1} s; {}",
            took.as_secs_f64(),
            received.join(", ")
        ),
        fits,
    ))
}

/// A counter of `/stats`, summed over the names that end so.
async fn counter(admin: SocketAddr, suffix: &str) -> anyhow::Result<u64> {
    let text = Ask::get(admin, "/stats").send().await?.text();
    let values = text.lines().filter_map(|line| line.split_once(": ")).filter(|(name, _)| name.ends_with(suffix));
    Ok(values.filter_map(|(_, value)| value.trim().parse::<u64>().ok()).sum())
}
