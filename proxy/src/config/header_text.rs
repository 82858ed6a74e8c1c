//! Texts that become part of a message's head, or name a header: which fields hold them, and what they must not hold.
//!
//! Envoy marks these fields in its protos (`well_known_regex`) and refuses resources that break the rule; so must every
//! reader of them, since a line break in one of them adds lines to somebody's request. A test holds the rows against
//! the protos.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::ConfigError;
use super::supported::Table;

/// What a text must be; the expressions are protoc-gen-validate's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A header's name, loosely: anything but nothing, NUL, CR and LF.
    Name,
    /// A header's name: `:` at most at its start, then the characters of a token.
    StrictName,
    /// A header's value, loosely: no NUL, CR and LF.
    Value,
    /// A header's value: no control characters but the tab.
    StrictValue,
}

/// Fields of each rule.
pub(super) const ROWS: &[(Rule, Table)] =
    &[(Rule::Name, NAMES), (Rule::StrictName, STRICT_NAMES), (Rule::Value, VALUES), (Rule::StrictValue, STRICT_VALUES)];

const NAMES: Table = &[
    ("envoy.config.route.v3.VirtualHost", "request_headers_to_remove response_headers_to_remove"),
    ("envoy.config.route.v3.Route", "request_headers_to_remove response_headers_to_remove"),
    (
        "envoy.config.route.v3.WeightedCluster.ClusterWeight",
        "cluster_header request_headers_to_remove response_headers_to_remove",
    ),
    ("envoy.config.route.v3.WeightedCluster", "header_name"),
    ("envoy.config.route.v3.RouteAction", "cluster_header host_rewrite_header"),
    ("envoy.config.route.v3.RouteAction.RequestMirrorPolicy", "cluster_header"),
    ("envoy.config.route.v3.RouteAction.HashPolicy.Header", "header_name"),
    ("envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute", "name"),
    ("envoy.config.route.v3.RetryPolicy.ResetHeader", "name"),
    ("envoy.config.route.v3.InternalRedirectPolicy", "response_headers_to_copy"),
    ("envoy.config.route.v3.RateLimit.Action.RequestHeaders", "header_name"),
    ("envoy.config.route.v3.HeaderMatcher", "name"),
    (
        "envoy.config.route.v3.RouteConfiguration",
        "internal_only_headers request_headers_to_remove response_headers_to_remove",
    ),
    ("envoy.config.core.v3.HealthCheck.HttpHealthCheck", "request_headers_to_remove"),
    ("envoy.config.core.v3.HeaderValue", "key"),
    ("envoy.config.bootstrap.v3.CustomInlineHeader", "inline_header_name"),
];

const STRICT_NAMES: Table = &[
    ("envoy.config.core.v3.UpstreamHttpProtocolOptions", "override_auto_sni_header"),
    ("envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig", "header_name"),
];

const VALUES: Table = &[
    ("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "server_name via"),
    ("envoy.config.route.v3.VirtualHost", "domains"),
    ("envoy.config.route.v3.WeightedCluster.ClusterWeight", "host_rewrite_literal"),
    ("envoy.config.route.v3.RouteAction", "prefix_rewrite host_rewrite_literal"),
    ("envoy.config.route.v3.RouteAction.RequestMirrorPolicy", "host_rewrite_literal"),
    ("envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute", "value"),
    ("envoy.config.route.v3.RouteAction.UpgradeConfig", "upgrade_type"),
    ("envoy.config.route.v3.RedirectAction", "host_redirect path_redirect prefix_rewrite"),
    ("envoy.config.common.mutation_rules.v3.HeaderMutation", "remove"),
    ("envoy.config.core.v3.HealthCheck.GrpcHealthCheck", "authority"),
    ("envoy.config.core.v3.HeaderValue", "value"),
    ("envoy.config.core.v3.GrpcService.EnvoyGrpc", "authority"),
    ("envoy.config.core.v3.SubstitutionFormatString", "content_type"),
    ("envoy.type.matcher.v3.RegexMatchAndSubstitute", "substitution"),
    // Not marked in Envoy's protos, and as much a part of a head: names that `auto_host_rewrite` and health checks send,
    // cookies that hash policies set, and others.
    ("envoy.config.endpoint.v3.Endpoint", "hostname"),
    ("envoy.config.endpoint.v3.Endpoint.HealthCheckConfig", "hostname"),
    ("envoy.config.core.v3.Http1ProtocolOptions", "default_host_for_http_10"),
    ("envoy.config.route.v3.RedirectAction", "scheme_redirect"),
    ("envoy.config.route.v3.RouteAction.HashPolicy.Cookie", "name path"),
    ("envoy.config.route.v3.CorsPolicy", "allow_methods allow_headers expose_headers max_age"),
    ("envoy.extensions.filters.http.cors.v3.CorsPolicy", "allow_methods allow_headers expose_headers max_age"),
    ("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni"),
];

const STRICT_VALUES: Table = &[("envoy.config.core.v3.HealthCheck.HttpHealthCheck", "host path")];

/// The rules of a message's fields.
pub(super) fn rules(message: &str) -> &'static [(&'static str, Rule)] {
    static RULES: OnceLock<HashMap<&'static str, Vec<(&'static str, Rule)>>> = OnceLock::new();
    let rules = RULES.get_or_init(|| {
        let mut rules: HashMap<_, Vec<_>> = HashMap::new();
        for (rule, table) in ROWS {
            for (message, fields) in *table {
                rules.entry(*message).or_default().extend(fields.split_whitespace().map(|field| (field, *rule)));
            }
        }
        rules
    });
    rules.get(message).map(Vec::as_slice).unwrap_or_default()
}

/// Checks a field's text by the rules of its message.
///
/// # Errors
/// Says what is wrong with the text.
pub(super) fn check(rules: &[(&str, Rule)], field: &str, text: &[u8]) -> Result<(), ConfigError> {
    let broken = rules.iter().filter(|(known, _)| *known == field).find_map(|(_, rule)| rule.broken(text));
    broken.map_or(Ok(()), |reason| Err(ConfigError::new("", reason)))
}

impl Rule {
    /// What is wrong with a text, if anything is.
    pub(super) fn broken(self, text: &[u8]) -> Option<&'static str> {
        let breaks = |byte: &u8| matches!(byte, 0 | b'\r' | b'\n');
        match self {
            Self::Name if text.is_empty() => Some("must not be empty"),
            Self::Name | Self::Value => {
                text.iter().any(breaks).then_some("must not have NUL, CR or LF, which would begin another header line")
            }
            Self::StrictName => {
                let name = text.strip_prefix(b":").unwrap_or(text);
                let fits = name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+,-.^_|~`".contains(byte));
                // Envoy passes over an empty one.
                let named = !name.is_empty() || text.is_empty();
                (!fits || !named).then_some("must be a header's name")
            }
            Self::StrictValue => {
                let control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
                text.iter().any(control).then_some("must not have control characters")
            }
        }
    }
}

#[cfg(test)]
mod tests;
