//! The network `rbac` filter: the connection's addresses and identity in, pass or close out.

use ferromesh_proto::envoy::extensions::filters::network::rbac::v3 as proto;

use crate::config::{At, ConfigError};
use crate::connection::Connection;
use crate::context::Context;
use crate::policy::{Input, Rules};
use crate::stats::Counter;

pub(super) struct Rbac {
    rules: Option<Rules>,
    shadow: Option<Rules>,
    allowed: Counter,
    denied: Counter,
    shadow_allowed: Counter,
    shadow_denied: Counter,
}

impl Rbac {
    pub(super) fn decode(proto: &proto::Rbac, context: &Context) -> Result<Self, ConfigError> {
        if proto.enforcement_type() == proto::rbac::EnforcementType::Continuous {
            return Err(ConfigError::new("enforcement_type", "CONTINUOUS is not implemented"));
        }
        let scope = context.stats.root();
        let scope = match proto.stat_prefix.trim_end_matches('.') {
            "" => scope.scope("rbac"),
            prefix => scope.tagged("envoy_rbac_prefix", prefix).scope("rbac"),
        };
        let shadow = match proto.shadow_rules_stat_prefix.trim_end_matches('.') {
            "" => scope.clone(),
            prefix => scope.scope(prefix),
        };
        Ok(Self {
            rules: proto.rules.as_ref().map(Rules::decode).transpose().at("rules")?,
            shadow: proto.shadow_rules.as_ref().map(Rules::decode).transpose().at("shadow_rules")?,
            allowed: scope.counter("allowed"),
            denied: scope.counter("denied"),
            shadow_allowed: shadow.counter("shadow_allowed"),
            shadow_denied: shadow.counter("shadow_denied"),
        })
    }

    /// `Err` has the details for the log.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), Option<String>> {
        let input = Input::of_connection(connection);
        if let Some(shadow) = &self.shadow {
            let allowed = shadow.decide(&input).allowed;
            if allowed { &self.shadow_allowed } else { &self.shadow_denied }.inc();
        }
        let Some(rules) = &self.rules else { return Ok(()) };
        let decision = rules.decide(&input);
        if decision.allowed {
            self.allowed.inc();
            return Ok(());
        }
        self.denied.inc();
        Err(Some(crate::policy::details(decision.policy).into_owned()))
    }
}
