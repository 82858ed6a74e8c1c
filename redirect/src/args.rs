//! The command line of `ferromesh-init`; the options of `istio-iptables` under the same names.

use clap::Parser;
use ipnet::IpNet;

use crate::plan::{Capture, Mode, Plan, Ports, Ranges};

/// Redirects this network namespace's TCP traffic (and DNS, if asked) to the proxy.
#[derive(Debug, Clone, Parser)]
#[command(name = "ferromesh-init", version, after_help = EXAMPLES)]
pub struct Args {
    /// Port of the proxy for outbound traffic.
    #[arg(short = 'p', long = "envoy-port", default_value_t = 15001)]
    pub outbound_port: u16,
    /// Port of the proxy for inbound traffic.
    #[arg(short = 'z', long = "inbound-capture-port", default_value_t = 15006)]
    pub inbound_port: u16,
    /// Users whose traffic is not redirected, by number.
    #[arg(short = 'u', long = "proxy-uid", default_value = "1337", value_delimiter = ',')]
    pub uids: Vec<u32>,
    /// Groups whose traffic is not redirected, by number.
    #[arg(short = 'g', long = "proxy-gid", default_value = "1337", value_delimiter = ',')]
    pub gids: Vec<u32>,
    /// How inbound traffic is redirected.
    #[arg(short = 'm', long = "istio-inbound-interception-mode", default_value = "REDIRECT")]
    pub mode: Mode,
    /// Outbound ranges to redirect, `*` for all.
    #[arg(short = 'i', long = "istio-service-cidr", default_value = "*", allow_hyphen_values = true)]
    pub include_ranges: Ranges,
    /// Outbound ranges not to redirect.
    #[arg(short = 'x', long = "istio-service-exclude-cidr", default_value = "")]
    pub exclude_ranges: Ranges,
    /// Inbound ports to redirect, `*` for all.
    #[arg(short = 'b', long = "istio-inbound-ports", default_value = "*")]
    pub include_inbound: Ports,
    /// Inbound ports not to redirect.
    #[arg(short = 'd', long = "istio-local-exclude-ports", default_value = "")]
    pub exclude_inbound: Ports,
    /// Outbound ports to redirect whatever the ranges say.
    #[arg(short = 'q', long = "istio-outbound-ports", default_value = "")]
    pub include_outbound: Ports,
    /// Outbound ports not to redirect.
    #[arg(short = 'o', long = "istio-local-outbound-ports-exclude", default_value = "")]
    pub exclude_outbound: Ports,
    /// Interfaces (of virtual machines) whose inbound traffic is treated as outbound.
    #[arg(short = 'k', long = "istio-reroute-virtual-interfaces", value_delimiter = ',')]
    pub reroute_interfaces: Vec<String>,
    /// Interfaces whose traffic is left alone.
    #[arg(short = 'c', long = "istio-exclude-interfaces", value_delimiter = ',')]
    pub exclude_interfaces: Vec<String>,
    /// Redirect DNS questions to the proxy.
    #[arg(long)]
    pub redirect_dns: bool,
    /// Port of the proxy for DNS.
    #[arg(long, default_value_t = 15053)]
    pub dns_port: u16,
    /// Print the rules, in the language of `nft`, and change nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Check by a connection that traffic is redirected (done after applying anyway).
    #[arg(long)]
    pub run_validation: bool,
    /// Apply no rules: somebody else has (the node's agent).
    #[arg(long)]
    pub skip_rule_apply: bool,
    /// Take the rules out.
    #[arg(long, conflicts_with_all = ["dry_run", "run_validation"])]
    pub cleanup: bool,
    /// Accepted as Istio's templates give it; this program logs one line.
    #[arg(long = "log_output_level", hide = true)]
    pub log_output_level: Option<String>,
    /// Accepted as Istio's templates give it.
    #[arg(long = "log_as_json", hide = true)]
    pub log_as_json: bool,
    /// Accepted as Istio's templates give it; the rules are nf_tables' anyway.
    #[arg(long = "native-nftables", hide = true)]
    pub native_nftables: bool,
    /// Accepted as Istio's templates give it; rules are always replaced.
    #[arg(long = "force-apply", hide = true)]
    pub force_apply: bool,
}

const EXAMPLES: &str = "Examples:
  # What would be done, leaving PostgreSQL alone
  ferromesh-init --dry-run -o 5432
  # Redirect all, as in an injected pod
  ferromesh-init -p 15001 -z 15006 -u 1337 -m REDIRECT -i '*' -b '*' -d 15090,15021,15020
  # Check what the node's agent has done
  ferromesh-init --skip-rule-apply --run-validation

Exit codes: 0 redirected and checked, 1 not (the message says why and what to do), 2 wrong arguments.";

impl Args {
    /// What is asked for.
    pub fn plan(&self) -> Plan {
        let exempt = |ranges: &Ranges| match ranges {
            Ranges::All => vec![IpNet::V4(Default::default()), IpNet::V6(Default::default())],
            Ranges::Of(ranges) => ranges.clone(),
        };
        Plan {
            mode: self.mode,
            outbound_port: self.outbound_port,
            inbound_port: self.inbound_port,
            dns_port: self.redirect_dns.then_some(self.dns_port),
            uids: self.uids.clone(),
            gids: self.gids.clone(),
            outbound: Capture {
                include_ranges: self.include_ranges.clone(),
                exclude_ranges: exempt(&self.exclude_ranges),
                include_ports: self.include_outbound.clone(),
                exclude_ports: self.exclude_outbound.listed(),
            },
            include_inbound: self.include_inbound.clone(),
            exclude_inbound: self.exclude_inbound.listed(),
            reroute_interfaces: names(&self.reroute_interfaces),
            exclude_interfaces: names(&self.exclude_interfaces),
        }
    }
}

fn names(list: &[String]) -> Vec<String> {
    list.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}
