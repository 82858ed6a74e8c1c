//! `envoy.filters.http.rbac`: authorization of requests by [`crate::policy`].

use std::sync::Arc;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::extensions::filters::http::rbac::v3 as proto;
use serde_json::Value;

use super::{Build, Flow, HttpFilter, RouteConfig, route_config};
use crate::body::Body;
use crate::cause::Cause;
use crate::config::supported::Table;
use crate::config::{At, ConfigError, unpack};
use crate::context::Context;
use crate::http::stream::Stream;
use crate::message::LocalReply;
use crate::policy::{self, Rules};
use crate::stats::{Counter, Scope};

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table = &[
    (
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules rules_stat_prefix shadow_rules shadow_rules_stat_prefix track_per_rule_stats",
    ),
    ("envoy.extensions.filters.http.rbac.v3.RBACPerRoute", "rbac"),
];

/// Full name of the configuration.
pub const MESSAGE: &str = "envoy.extensions.filters.http.rbac.v3.RBAC";
/// Full name of the configuration of a route.
pub const ROUTE_MESSAGE: &str = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute";

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    let message: proto::Rbac = build.unpack()?;
    let scope = build.stats();
    Ok(Arc::new(Rbac {
        filter: build.name.to_owned(),
        stats: Stats::new(&scope, &message.rules_stat_prefix, &message.shadow_rules_stat_prefix),
        scope,
        config: Arc::new(Config::decode(&message)?),
    }))
}

/// Makes the configuration of a route; one without rules turns authorization off there.
pub fn build_route(any: &Any, _context: &Context) -> Result<RouteConfig, ConfigError> {
    let message: proto::RbacPerRoute = unpack(any)?;
    let config = message.rbac.as_ref().map(Config::decode).transpose().at("rbac")?;
    Ok(Arc::new(config.unwrap_or_default()))
}

struct Rbac {
    filter: String,
    scope: Scope,
    stats: Stats,
    config: Arc<Config>,
}

#[derive(Default)]
struct Config {
    rules: Option<Rules>,
    shadow: Option<Rules>,
    prefix: String,
    shadow_prefix: String,
    per_rule: bool,
}

impl Config {
    fn decode(message: &proto::Rbac) -> Result<Self, ConfigError> {
        Ok(Self {
            rules: message.rules.as_ref().map(Rules::decode).transpose().at("rules")?,
            shadow: message.shadow_rules.as_ref().map(Rules::decode).transpose().at("shadow_rules")?,
            prefix: message.rules_stat_prefix.clone(),
            shadow_prefix: message.shadow_rules_stat_prefix.clone(),
            per_rule: message.track_per_rule_stats,
        })
    }
}

struct Stats {
    allowed: Counter,
    denied: Counter,
    shadow_allowed: Counter,
    shadow_denied: Counter,
}

impl Stats {
    fn new(scope: &Scope, prefix: &str, shadow_prefix: &str) -> Self {
        let rbac = scope.scope("rbac");
        let (rules, shadow) = (under(&rbac, prefix), under(&rbac, shadow_prefix));
        Self {
            allowed: rules.counter("allowed"),
            denied: rules.counter("denied"),
            shadow_allowed: shadow.counter("shadow_allowed"),
            shadow_denied: shadow.counter("shadow_denied"),
        }
    }
}

/// The scope that a prefix of the configuration names; Envoy joins it by a dot.
fn under(scope: &Scope, prefix: &str) -> Scope {
    match prefix.trim_end_matches('.') {
        "" => scope.clone(),
        prefix => scope.scope(prefix),
    }
}

impl Rbac {
    fn count_policy(&self, config: &Config, policy: Option<&str>, prefix: &str, outcome: &str) {
        if let (true, Some(policy)) = (config.per_rule, policy) {
            // Names come from the configuration, so that their number is bounded by it.
            let scope = under(&self.scope.scope("rbac"), prefix).scope("policy");
            scope.tagged("envoy_rbac_policy_name", policy).counter(outcome).inc();
        }
    }

    fn shadow(&self, config: &Config, stream: &mut Stream) {
        let Some(rules) = &config.shadow else { return };
        let decision = rules.decide(&stream.policy_input());
        let outcome = if decision.allowed { "allowed" } else { "denied" };
        if decision.allowed {
            self.stats.shadow_allowed.inc();
        } else {
            self.stats.shadow_denied.inc();
        }
        self.count_policy(config, decision.policy, &config.shadow_prefix, &format!("shadow_{outcome}"));
        let prefix = &config.shadow_prefix;
        let values = stream.metadata.entry("envoy.filters.http.rbac".to_owned()).or_default();
        values.insert(format!("{prefix}shadow_engine_result"), Value::from(outcome));
        if let Some(policy) = decision.policy {
            values.insert(format!("{prefix}shadow_effective_policy_id"), Value::from(policy));
        }
    }
}

impl HttpFilter for Rbac {
    fn on_request(&self, stream: &mut Stream, _body: &mut Body) -> Flow {
        let config = route_config::<Config>(stream, &self.filter).unwrap_or_else(|| self.config.clone());
        self.shadow(&config, stream);
        let Some(rules) = &config.rules else { return Flow::Next };
        let decision = rules.decide(&stream.policy_input());
        if rules.action() == policy::Action::Log {
            let values = stream.metadata.entry("envoy.common".to_owned()).or_default();
            values.insert("access_log_hint".to_owned(), Value::Bool(decision.policy.is_some()));
            return Flow::Next;
        }
        if decision.allowed {
            self.stats.allowed.inc();
            self.count_policy(&config, decision.policy, &config.prefix, "allowed");
            return Flow::Next;
        }
        self.stats.denied.inc();
        self.count_policy(&config, decision.policy, &config.prefix, "denied");
        let mut reply = LocalReply::new(Cause::RbacDenied).body("RBAC: access denied");
        reply.details = Some(policy::details(decision.policy));
        Flow::Respond(Box::new(reply))
    }
}
