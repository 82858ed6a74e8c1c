//! From Envoy's route messages to the route table.

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::route::v3 as route;
use ferromesh_proto::envoy::r#type::matcher::v3 as matcher_proto;
use http::{HeaderName, StatusCode};
use regex::Regex;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::matcher::RouteMatch;
use super::table::{HostIndex, PathIndex};
use super::{
    Action, FilterConfig, HeaderRules, Mirror, PathRewrite, PerFilter, RateLimit, Redirect, RetryPolicy, Route,
    RouteConfiguration, VirtualHost,
};
use crate::config::supported::Table;
use crate::config::{At, ConfigError, data_source, required};
use crate::matcher::{metadata, re2};
use crate::text::Text;

mod action;
mod internal_redirect;
pub mod retry;

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[
    (
        "envoy.config.route.v3.RouteConfiguration",
        "name virtual_hosts internal_only_headers response_headers_to_add response_headers_to_remove \
         request_headers_to_add request_headers_to_remove most_specific_header_mutations_wins validate_clusters \
         max_direct_response_body_size_bytes request_mirror_policies ignore_port_in_host_matching \
         typed_per_filter_config metadata",
    ),
    (
        "envoy.config.route.v3.VirtualHost",
        "name domains routes require_tls rate_limits request_headers_to_add request_headers_to_remove \
         response_headers_to_add response_headers_to_remove typed_per_filter_config include_request_attempt_count \
         include_attempt_count_in_response retry_policy request_mirror_policies metadata",
    ),
    (
        "envoy.config.route.v3.Route",
        "name match route redirect direct_response non_forwarding_action metadata decorator typed_per_filter_config \
         request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove",
    ),
    ("envoy.config.route.v3.Decorator", "*"),
    ("envoy.config.route.v3.NonForwardingAction", "*"),
    (
        "envoy.config.route.v3.RouteMatch",
        "prefix path safe_regex path_separated_prefix connect_matcher case_sensitive headers query_parameters cookies \
         grpc runtime_fraction dynamic_metadata tls_context",
    ),
    ("envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions", "*"),
    ("envoy.config.route.v3.RouteMatch.TlsContextMatchOptions", "*"),
    ("envoy.config.route.v3.RouteMatch.ConnectMatcher", "*"),
    (
        "envoy.config.route.v3.HeaderMatcher",
        "name exact_match safe_regex_match range_match present_match prefix_match suffix_match contains_match \
         string_match invert_match treat_missing_header_as_empty",
    ),
    ("envoy.config.route.v3.QueryParameterMatcher", "*"),
    ("envoy.config.route.v3.CookieMatcher", "*"),
    (
        "envoy.config.route.v3.RouteAction",
        "cluster cluster_header weighted_clusters cluster_not_found_response_code metadata_match prefix_rewrite \
         regex_rewrite host_rewrite_literal auto_host_rewrite host_rewrite_header host_rewrite_path_regex \
         append_x_forwarded_host timeout idle_timeout retry_policy request_mirror_policies priority rate_limits \
         include_vh_rate_limits hash_policy max_grpc_timeout grpc_timeout_offset upgrade_configs max_stream_duration \
         internal_redirect_policy",
    ),
    ("envoy.config.route.v3.InternalRedirectPolicy", "*"),
    ("envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig", "*"),
    ("envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig", "*"),
    ("envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig", "*"),
    ("envoy.config.route.v3.RouteAction.MaxStreamDuration", "*"),
    ("envoy.config.route.v3.RouteAction.UpgradeConfig", "upgrade_type enabled connect_config"),
    ("envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig", ""),
    (
        "envoy.config.route.v3.RouteAction.RequestMirrorPolicy",
        "cluster cluster_header runtime_fraction trace_sampled disable_shadow_host_suffix_append host_rewrite_literal",
    ),
    ("envoy.config.route.v3.RouteAction.HashPolicy", "header cookie connection_properties query_parameter terminal"),
    ("envoy.config.route.v3.RouteAction.HashPolicy.Header", "*"),
    ("envoy.config.route.v3.RouteAction.HashPolicy.Cookie", "*"),
    ("envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute", "*"),
    ("envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties", "*"),
    ("envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter", "*"),
    ("envoy.config.route.v3.WeightedCluster", "clusters total_weight runtime_key_prefix"),
    (
        "envoy.config.route.v3.WeightedCluster.ClusterWeight",
        "name cluster_header weight metadata_match request_headers_to_add request_headers_to_remove \
         response_headers_to_add response_headers_to_remove typed_per_filter_config host_rewrite_literal",
    ),
    (
        "envoy.config.route.v3.RedirectAction",
        "https_redirect scheme_redirect host_redirect port_redirect path_redirect prefix_rewrite regex_rewrite \
         response_code strip_query",
    ),
    ("envoy.config.route.v3.DirectResponseAction", "status body"),
    (
        "envoy.config.route.v3.RetryPolicy",
        "retry_on num_retries per_try_timeout per_try_idle_timeout retry_host_predicate \
         host_selection_retry_max_attempts retriable_status_codes retry_back_off retriable_headers \
         retriable_request_headers rate_limited_retry_back_off retry_priority",
    ),
    ("envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff", "*"),
    ("envoy.config.route.v3.RetryPolicy.ResetHeader", "*"),
    ("envoy.config.route.v3.RetryPolicy.RetryPriority", "*"),
    ("envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig", "*"),
    ("envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate", "*"),
    ("envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig", "*"),
    ("envoy.config.route.v3.RetryPolicy.RetryHostPredicate", "*"),
    ("envoy.config.route.v3.RetryPolicy.RetryBackOff", "*"),
    ("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", "*"),
    ("envoy.config.route.v3.FilterConfig", "config is_optional disabled"),
    ("envoy.config.route.v3.RateLimit", "stage actions"),
    (
        "envoy.config.route.v3.RateLimit.Action",
        "source_cluster destination_cluster request_headers query_parameters remote_address generic_key \
         header_value_match dynamic_metadata metadata masked_remote_address query_parameter_value_match",
    ),
    ("envoy.config.route.v3.RateLimit.Action.SourceCluster", "*"),
    ("envoy.config.route.v3.RateLimit.Action.DestinationCluster", "*"),
    ("envoy.config.route.v3.RateLimit.Action.RequestHeaders", "*"),
    ("envoy.config.route.v3.RateLimit.Action.QueryParameters", "*"),
    ("envoy.config.route.v3.RateLimit.Action.RemoteAddress", "*"),
    ("envoy.config.route.v3.RateLimit.Action.MaskedRemoteAddress", "*"),
    ("envoy.config.route.v3.RateLimit.Action.GenericKey", "*"),
    ("envoy.config.route.v3.RateLimit.Action.HeaderValueMatch", "*"),
    ("envoy.config.route.v3.RateLimit.Action.DynamicMetaData", "*"),
    ("envoy.config.route.v3.RateLimit.Action.MetaData", "*"),
    ("envoy.config.route.v3.RateLimit.Action.QueryParameterValueMatch", "*"),
    ("envoy.type.metadata.v3.MetadataKey", "*"),
    ("envoy.type.metadata.v3.MetadataKey.PathSegment", "*"),
];

/// Largest body of a direct response, if the table does not say.
const DIRECT_BODY_LIMIT: usize = 4096;

/// Decodes one value of `typed_per_filter_config`: `None` if it may be skipped, `Some(None)` if it disables the filter.
pub type DecodeFilterConfig<'a> = &'a dyn Fn(&Any) -> Result<Option<Option<FilterConfig>>, ConfigError>;

/// What decoding of a table's parts needs.
struct Scope<'a> {
    filter_config: DecodeFilterConfig<'a>,
    body_limit: usize,
    /// The last retry policies: most routes of a table have the same one, and share it.
    retries: RefCell<VecDeque<(route::RetryPolicy, Arc<RetryPolicy>)>>,
}

/// How many retry policies are remembered while a table is decoded.
const SHARED_RETRIES: usize = 8;

impl RouteConfiguration {
    /// Decodes a route table; `filter_config` knows the filters.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or not implemented.
    pub fn decode(
        message: route::RouteConfiguration,
        filter_config: DecodeFilterConfig<'_>,
    ) -> Result<Self, ConfigError> {
        let limit = message.max_direct_response_body_size_bytes.and_then(|limit| usize::try_from(limit).ok());
        let scope = Scope::new(filter_config, limit.unwrap_or(DIRECT_BODY_LIMIT));
        let mirrors: Arc<[Mirror]> = scope.mirrors(message.request_mirror_policies)?.into();
        let mut hosts = HostIndex::new(message.ignore_port_in_host_matching);
        let mut virtual_hosts = Vec::with_capacity(message.virtual_hosts.len());
        for (index, host) in message.virtual_hosts.into_iter().enumerate() {
            let at = || format!("virtual_hosts[{index}]");
            let domains = host.domains.clone();
            let mut host = scope.virtual_host(host).at(at())?;
            if host.mirrors.is_empty() {
                host.mirrors = mirrors.clone();
            }
            let place = u32::try_from(index).map_err(|_| ConfigError::new("virtual_hosts", "has too many entries"))?;
            for (number, domain) in domains.iter().enumerate() {
                hosts.add(domain, place).at(format!("domains[{number}]")).at(at())?;
            }
            virtual_hosts.push(host);
        }
        Ok(Self {
            name: message.name.into(),
            virtual_hosts,
            headers: HeaderRules::decode(
                &message.request_headers_to_add,
                &message.request_headers_to_remove,
                &message.response_headers_to_add,
                &message.response_headers_to_remove,
            )?,
            per_filter: scope.per_filter(message.typed_per_filter_config)?,
            most_specific_header_mutations_wins: message.most_specific_header_mutations_wins,
            internal_only_headers: message
                .internal_only_headers
                .iter()
                .map(|name| header_name(name).at("internal_only_headers"))
                .collect::<Result<_, _>>()?,
            hosts,
        })
    }
}

impl VirtualHost {
    /// Decodes a virtual host of its own (VHDS); `filter_config` knows the filters.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or not implemented.
    pub fn decode(message: route::VirtualHost, filter_config: DecodeFilterConfig<'_>) -> Result<Self, ConfigError> {
        Scope::new(filter_config, DIRECT_BODY_LIMIT).virtual_host(message)
    }
}

impl<'a> Scope<'a> {
    fn new(filter_config: DecodeFilterConfig<'a>, body_limit: usize) -> Self {
        Self { filter_config, body_limit, retries: RefCell::default() }
    }

    /// Decodes a retry policy, or shares that of an equal message.
    fn retry(&self, message: route::RetryPolicy) -> Result<Arc<RetryPolicy>, ConfigError> {
        let mut retries = self.retries.borrow_mut();
        if let Some((_, known)) = retries.iter().find(|(known, _)| *known == message) {
            return Ok(known.clone());
        }
        let made = Arc::new(retry::decode(message.clone()).at("retry_policy")?);
        retries.truncate(SHARED_RETRIES - 1);
        retries.push_front((message, made.clone()));
        Ok(made)
    }

    fn virtual_host(&self, message: route::VirtualHost) -> Result<VirtualHost, ConfigError> {
        if message.domains.is_empty() {
            return Err(ConfigError::new("domains", "must have at least one entry"));
        }
        let retry_policy = message.retry_policy.map(|policy| self.retry(policy)).transpose()?;
        let mut routes = Vec::with_capacity(message.routes.len() + usize::from(message.require_tls != 0));
        for (index, route) in message.routes.into_iter().enumerate() {
            routes.push(self.route(route).at(format!("routes[{index}]"))?);
        }
        if message.require_tls != 0 {
            routes.push(https_redirect());
        }
        let index = PathIndex::new(&routes);
        Ok(VirtualHost {
            name: message.name.into(),
            headers: HeaderRules::decode(
                &message.request_headers_to_add,
                &message.request_headers_to_remove,
                &message.response_headers_to_add,
                &message.response_headers_to_remove,
            )?,
            per_filter: self.per_filter(message.typed_per_filter_config)?,
            retry_policy,
            rate_limits: RateLimit::decode_list(&message.rate_limits, "rate_limits")?,
            include_request_attempt_count: message.include_request_attempt_count,
            include_attempt_count_in_response: message.include_attempt_count_in_response,
            require_tls: message.require_tls,
            metadata: metadata::static_metadata(message.metadata),
            mirrors: self.mirrors(message.request_mirror_policies)?.into(),
            routes,
            index,
        })
    }

    fn route(&self, message: route::Route) -> Result<Route, ConfigError> {
        use route::route::Action as Kind;
        let matcher = RouteMatch::decode(required(message.r#match.as_ref(), "match")?).at("match")?;
        let action = match required(message.action, "action")? {
            Kind::Route(forward) => Action::Forward(Box::new(self.forward(forward).at("route")?)),
            Kind::Redirect(redirect) => Action::Redirect(Box::new(decode_redirect(redirect).at("redirect")?)),
            Kind::DirectResponse(direct) => self.direct(direct).at("direct_response")?,
            Kind::NonForwardingAction(_) => Action::NonForwarding,
            Kind::FilterAction(_) => return Err(ConfigError::new("filter_action", "is not implemented")),
        };
        Ok(Route {
            name: message.name.into(),
            action,
            headers: HeaderRules::decode(
                &message.request_headers_to_add,
                &message.request_headers_to_remove,
                &message.response_headers_to_add,
                &message.response_headers_to_remove,
            )?,
            per_filter: self.per_filter(message.typed_per_filter_config)?,
            metadata: metadata::static_metadata(message.metadata),
            operation: message.decorator.map(|decorator| decorator.operation.into()),
            matcher,
        })
    }

    fn direct(&self, message: route::DirectResponseAction) -> Result<Action, ConfigError> {
        let status = status(message.status).at("status")?;
        let body = message.body.map(data_source).transpose().at("body")?.unwrap_or_default();
        if body.len() > self.body_limit {
            let reason = format!(
                "has {} bytes, more than max_direct_response_body_size_bytes ({})",
                body.len(),
                self.body_limit
            );
            return Err(ConfigError::new("body", reason));
        }
        Ok(Action::Direct { status, body })
    }

    fn per_filter(&self, configs: BTreeMap<String, Any>) -> Result<PerFilter, ConfigError> {
        let mut all = PerFilter::with_capacity(configs.len());
        for (name, any) in configs {
            let at = format!("typed_per_filter_config[{name:?}]");
            if let Some(config) = (self.filter_config)(&any).at(at)? {
                all.push((name, config));
            }
        }
        all.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(all)
    }

    fn mirrors(&self, messages: Vec<route::route_action::RequestMirrorPolicy>) -> Result<Vec<Mirror>, ConfigError> {
        messages
            .into_iter()
            .enumerate()
            .map(|(index, message)| action::mirror(message).at(format!("request_mirror_policies[{index}]")))
            .collect()
    }
}

/// The hidden last route of a virtual host with `require_tls`.
fn https_redirect() -> Route {
    Route {
        name: Text::default(),
        action: Action::Redirect(Box::new(Redirect {
            status: StatusCode::MOVED_PERMANENTLY,
            https: true,
            ..Redirect::default()
        })),
        headers: HeaderRules::default(),
        per_filter: PerFilter::new(),
        metadata: serde_json::Map::new(),
        operation: None,
        matcher: RouteMatch::default(),
    }
}

fn decode_redirect(message: route::RedirectAction) -> Result<Redirect, ConfigError> {
    use route::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let some = |text: String| (!text.is_empty()).then(|| Text::from(text));
    let (https, scheme) = match message.scheme_rewrite_specifier.clone() {
        None => (false, None),
        Some(SchemeRewriteSpecifier::HttpsRedirect(https)) => (https, None),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => (false, some(scheme)),
    };
    let mut own_query = false;
    let path = match message.path_rewrite_specifier.clone() {
        None => None,
        Some(PathRewriteSpecifier::PathRedirect(path)) => {
            own_query = path.contains('?');
            (!path.is_empty()).then(|| PathRewrite::Path(path.into()))
        }
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => Some(PathRewrite::Prefix(prefix.into())),
        Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => {
            let (regex, substitution) = decode_substitution(&rewrite).at("regex_rewrite")?;
            Some(PathRewrite::Regex(regex, substitution))
        }
        Some(PathRewriteSpecifier::PathRewrite(_)) => {
            return Err(ConfigError::new("path_rewrite", "is not implemented"));
        }
    };
    let status = match message.response_code() {
        RedirectResponseCode::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
        RedirectResponseCode::Found => StatusCode::FOUND,
        RedirectResponseCode::SeeOther => StatusCode::SEE_OTHER,
        RedirectResponseCode::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
        RedirectResponseCode::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
    };
    let port = match message.port_redirect {
        0 => None,
        port => Some(u16::try_from(port).map_err(|_| ConfigError::new("port_redirect", "is not a port"))?),
    };
    let host = some(message.host_redirect);
    Ok(Redirect { status, scheme, https, host, port, path, own_query, strip_query: message.strip_query })
}

/// A regex with its substitution, for rewrites.
fn decode_substitution(message: &matcher_proto::RegexMatchAndSubstitute) -> Result<(Regex, String), ConfigError> {
    let pattern = required(message.pattern.as_ref(), "pattern")?;
    let regex = re2::search(&pattern.regex).map_err(|reason| ConfigError::new("pattern.regex", reason))?;
    let substitution =
        re2::substitution(&message.substitution, &regex).map_err(|reason| ConfigError::new("substitution", reason))?;
    Ok((regex, substitution))
}

fn header_name(name: &str) -> Result<HeaderName, ConfigError> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| ConfigError::new("", format!("{name:?} is not a valid header name")))
}

fn status(code: u32) -> Result<StatusCode, ConfigError> {
    u16::try_from(code)
        .ok()
        .filter(|code| (200..600).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| ConfigError::new("", format!("{code} is not a status from 200 to 599")))
}
