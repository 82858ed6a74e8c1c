//! STRICT_DNS and LOGICAL_DNS: hosts from names, each asked anew when its answer ages.
//!
//! The last good answer is kept while DNS fails, also while it says that the name does not exist: Envoy empties the
//! cluster then, but a resolver that is restarted or wrongly configured says so too.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Weak;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::resolver::{Answer, Resolver};
use super::{Cluster, Discovery, Plan, Settings};

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
    /// Who is asked.
    pub settings: Settings,
    /// Time between questions.
    pub refresh: Duration,
    /// Ask when the TTL has passed, if it is not zero.
    pub respect_ttl: bool,
    /// Added to `refresh` at random.
    pub jitter: Duration,
    /// Base and limit of the back-off after a failure.
    pub failure_refresh: (Duration, Duration),
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Known {
    ips: Vec<IpAddr>,
    /// Failures in a row.
    failures: u32,
}

pub(super) async fn run(cluster: Weak<Cluster>) {
    let Some((names, resolver)) = begin(&cluster) else { return };
    let count = names.len();
    let ask = async |pause: Duration, name: String| {
        tokio::time::sleep(pause).await;
        let answer = resolver.resolve(&name).await;
        (name, answer)
    };
    let mut questions: FuturesUnordered<_> = names.into_iter().map(|name| ask(Duration::ZERO, name)).collect();
    let mut known = BTreeMap::new();
    while let Some((name, answer)) = questions.next().await {
        let Some(cluster) = cluster.upgrade() else { return };
        let Discovery::Dns(dns) = &cluster.discovery else { return };
        let pause = dns.answered(&cluster, &mut known, &name, answer);
        if known.len() == count {
            // A name that has no address yet does not hold the cluster back, as in Envoy: its requests fail as UH.
            cluster.set_known();
        }
        drop(cluster);
        questions.push(ask(pause, name));
    }
}

/// The names to resolve, and who is asked.
fn begin(cluster: &Weak<Cluster>) -> Option<(Vec<String>, Resolver)> {
    let cluster = cluster.upgrade()?;
    let Discovery::Dns(dns) = &cluster.discovery else { return None };
    let mut names: Vec<String> = dns.plan.names().map(|(name, _)| name.to_owned()).collect();
    names.sort();
    names.dedup();
    // Endpoints that are addresses already.
    cluster.put(&dns.plan, &|_| Vec::new());
    if names.is_empty() {
        cluster.set_known();
    }
    Some((names, Resolver::new(dns.settings.clone(), dns.family)))
}

impl Dns {
    /// Takes an answer; gives the time until the next question.
    fn answered(
        &self,
        cluster: &Cluster,
        known: &mut BTreeMap<String, Known>,
        name: &str,
        answer: Result<Answer, String>,
    ) -> Duration {
        let stats = &cluster.stats;
        stats.update_attempt.inc();
        let state = known.entry(name.to_owned()).or_default();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                stats.update_failure.inc();
                tracing::debug!(cluster = %cluster.config.name, name, error, "DNS gave no answer");
                return self.pause(state.failures, Duration::ZERO);
            }
        };
        state.failures = 0;
        stats.update_success.inc();
        let ips = choose(answer.ips, &state.ips, self.logical);
        if ips == state.ips {
            stats.update_no_rebuild.inc();
        } else {
            state.ips = ips;
            cluster.put(&self.plan, &|name| known.get(name).map(|known| known.ips.clone()).unwrap_or_default());
        }
        self.pause(0, answer.ttl)
    }

    fn pause(&self, failures: u32, ttl: Duration) -> Duration {
        if failures > 0 {
            let (base, limit) = self.failure_refresh;
            let grown = base.saturating_mul(1 << (failures - 1).min(10)).min(limit.max(base));
            return base.max(grown.mul_f64(fastrand::f64()));
        }
        let pause = if self.respect_ttl && !ttl.is_zero() { ttl } else { self.refresh };
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
        let answer = Resolver::new(Settings::default(), Family::V4Only).resolve("localhost").await.unwrap();
        assert_eq!(answer.ips, ips(&["127.0.0.1"]));
    }
}
