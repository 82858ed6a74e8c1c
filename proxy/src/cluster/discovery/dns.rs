//! STRICT_DNS and LOGICAL_DNS: hosts from names, asked anew when the answers age.
//!
//! The last good answer is kept while DNS fails (Envoy, "Service discovery").

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Weak;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use tokio::time::Instant;

use super::{Cluster, Discovery, Plan};

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv6, else IPv4.
    Auto,
    /// Only IPv4.
    V4Only,
    /// Only IPv6.
    V6Only,
    /// IPv4, else IPv6.
    V4Preferred,
    /// Both.
    All,
}

/// DNS discovery of a cluster.
#[derive(Debug)]
pub struct Dns {
    /// What is resolved.
    pub(in crate::cluster) plan: Plan,
    /// One host at a time (LOGICAL_DNS).
    pub logical: bool,
    /// Which addresses.
    pub family: Family,
    /// Time between questions, and the least time where the TTL rules.
    pub refresh: Duration,
    /// Ask when the TTL has passed.
    pub respect_ttl: bool,
    /// Added to `refresh` at random.
    pub jitter: Duration,
    /// Base and limit of the back-off after a failure.
    pub failure_refresh: (Duration, Duration),
}

/// An answer, or why there is none.
struct Answer {
    ips: Vec<IpAddr>,
    ttl: Option<Duration>,
}

pub(super) async fn run(cluster: Weak<Cluster>) {
    let mut known: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    let mut failures = 0u32;
    loop {
        let Some((names, family)) = questions(&cluster) else { return };
        let mut answers = Vec::new();
        for name in names {
            let answer = resolve(&name, family).await;
            answers.push((name, answer));
        }
        let Some(cluster) = cluster.upgrade() else { return };
        let Discovery::Dns(dns) = &cluster.discovery else { return };
        let (mut failed, mut ttl) = (false, None::<Duration>);
        for (name, answer) in answers {
            match answer {
                Ok(answer) => {
                    ttl = [ttl, answer.ttl].into_iter().flatten().min();
                    let before = known.get(&name).map(Vec::as_slice).unwrap_or_default();
                    known.insert(name, choose(answer.ips, before, dns.logical));
                }
                Err(error) => {
                    failed = true;
                    cluster.stats.update_failure.inc();
                    tracing::debug!(cluster = %cluster.config.name, name, error, "DNS gave no answer");
                }
            }
        }
        failures = if failed { failures.saturating_add(1) } else { 0 };
        // While nothing was ever known the cluster still counts as ready, as in Envoy: its requests fail as UH.
        cluster.apply(&dns.plan, &|name| known.get(name).cloned().unwrap_or_default());
        let pause = dns.pause(failures, ttl);
        drop(cluster);
        tokio::time::sleep(pause).await;
    }
}

fn questions(cluster: &Weak<Cluster>) -> Option<(Vec<String>, Family)> {
    let cluster = cluster.upgrade()?;
    let Discovery::Dns(dns) = &cluster.discovery else { return None };
    let mut names: Vec<String> = dns.plan.names().map(|(name, _)| name.to_owned()).collect();
    names.sort();
    names.dedup();
    Some((names, dns.family))
}

impl Dns {
    fn pause(&self, failures: u32, ttl: Option<Duration>) -> Duration {
        if failures > 0 {
            let (base, limit) = self.failure_refresh;
            let grown = base.saturating_mul(1 << (failures - 1).min(10)).min(limit.max(base));
            return base.max(grown.mul_f64(fastrand::f64()));
        }
        let pause = match ttl.filter(|_| self.respect_ttl) {
            // A TTL of zero would be a busy loop.
            Some(ttl) => ttl.max(Duration::from_secs(1)),
            None => self.refresh,
        };
        pause + self.jitter.mul_f64(fastrand::f64())
    }
}

/// LOGICAL_DNS keeps its address as long as it is among the answers.
fn choose(mut ips: Vec<IpAddr>, before: &[IpAddr], logical: bool) -> Vec<IpAddr> {
    if logical {
        let kept = before.first().copied().filter(|ip| ips.contains(ip));
        return kept.or(ips.first().copied()).into_iter().collect();
    }
    ips.sort();
    ips.dedup();
    ips
}

async fn resolve(name: &str, family: Family) -> Result<Answer, String> {
    let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
    let options = builder.options_mut();
    options.ip_strategy = match family {
        Family::Auto => LookupIpStrategy::Ipv6thenIpv4,
        Family::V4Only => LookupIpStrategy::Ipv4Only,
        Family::V6Only => LookupIpStrategy::Ipv6Only,
        Family::V4Preferred => LookupIpStrategy::Ipv4thenIpv6,
        Family::All => LookupIpStrategy::Ipv4AndIpv6,
    };
    // The answer's age is kept here, not in the resolver.
    options.cache_size = 0;
    let resolver = builder.build().map_err(|error| error.to_string())?;
    let found = resolver.lookup_ip(name).await.map_err(|error| error.to_string())?;
    let ttl = found.valid_until().checked_duration_since(Instant::now().into_std());
    Ok(Answer { ips: found.iter().collect(), ttl })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn logical_dns_keeps_its_address_while_it_is_among_the_answers() {
        assert_eq!(choose(ips(&["10.0.0.2", "10.0.0.1"]), &ips(&["10.0.0.1"]), true), ips(&["10.0.0.1"]));
        assert_eq!(choose(ips(&["10.0.0.2", "10.0.0.3"]), &ips(&["10.0.0.1"]), true), ips(&["10.0.0.2"]));
    }

    #[test]
    fn strict_dns_takes_every_address_once() {
        assert_eq!(choose(ips(&["10.0.0.2", "10.0.0.1", "10.0.0.2"]), &[], false), ips(&["10.0.0.1", "10.0.0.2"]));
    }

    #[tokio::test]
    async fn localhost_is_found_in_the_hosts_file() {
        let answer = resolve("localhost", Family::V4Only).await.unwrap();
        assert_eq!(answer.ips, ips(&["127.0.0.1"]));
    }
}
