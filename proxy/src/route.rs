//! Routes: from a request's head to what shall be done with it. Pure.
//!
//! Precedence: Envoy takes the first route of a virtual host that matches; the virtual host with the most specific
//! domain (exact, longest suffix wildcard, longest prefix wildcard, `*`).

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::StatusCode;

use crate::format::RouteInfo;
use crate::matcher::HeaderMatcher;
use crate::text::Text;

/// A route table.
#[derive(Default)]
pub struct RouteConfiguration {
    /// Its name.
    pub name: Text,
    /// Virtual hosts.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Header rules of the table.
    pub headers: HeaderRules,
    /// Per-filter configurations by filter name.
    pub per_filter: PerFilter,
    /// Most specific header rules win (else: route, virtual host, table).
    pub most_specific_header_mutations_wins: bool,
    /// Headers that only internal requests may have (`internal_only_headers`).
    pub internal_only_headers: Vec<http::HeaderName>,
    /// Virtual hosts by domain.
    pub hosts: table::HostIndex,
}

/// A filter's configuration on a route, virtual host or route table, in the filter's own form.
pub type FilterConfig = Arc<dyn std::any::Any + Send + Sync>;

/// Configurations of filters by the filter's name; `None` means that it is disabled here.
pub type PerFilter = Vec<(String, Option<FilterConfig>)>;

/// A virtual host.
#[derive(Default)]
pub struct VirtualHost {
    /// Its name.
    pub name: Text,
    /// Routes, first match.
    pub routes: Vec<Route>,
    /// Header rules.
    pub headers: HeaderRules,
    /// Per-filter configurations.
    pub per_filter: PerFilter,
    /// Retry policy of routes that have none.
    pub retry_policy: Option<Arc<RetryPolicy>>,
    /// Rate limit actions.
    pub rate_limits: Vec<RateLimit>,
    /// Send `x-envoy-attempt-count` upstream.
    pub include_request_attempt_count: bool,
    /// Send `x-envoy-attempt-count` downstream.
    pub include_attempt_count_in_response: bool,
    /// HTTPS redirect: 0 none, 1 external only, 2 all (Envoy's enum).
    pub require_tls: i32,
    /// Metadata by filter name.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Mirrors of routes that have none.
    pub mirrors: Arc<[Mirror]>,
    /// Routes by path, if there are many.
    pub index: Option<table::PathIndex>,
}

/// A route.
pub struct Route {
    /// Its name; `%ROUTE_NAME%`.
    pub name: Text,
    /// What it does.
    pub action: Action,
    /// Header rules.
    pub headers: HeaderRules,
    /// Per-filter configurations.
    pub per_filter: PerFilter,
    /// Metadata by filter name.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Operation name for traces (`decorator`).
    pub operation: Option<Text>,
    /// The match, in the owner's own form.
    pub matcher: matcher::RouteMatch,
}

/// What a route does.
pub enum Action {
    /// Sends the request to a cluster.
    Forward(Box<Forward>),
    /// Answers with a redirect.
    Redirect(Box<Redirect>),
    /// Answers by itself.
    Direct {
        /// Status.
        status: StatusCode,
        /// Body.
        body: Text,
    },
    /// Nothing (Envoy's `non_forwarding_action`): for inbound metadata only.
    NonForwarding,
}

/// Which cluster.
pub enum ClusterSpecifier {
    /// This one.
    Name(Text),
    /// By weight.
    Weighted(Vec<WeightedCluster>),
    /// The one that a header names.
    Header(http::HeaderName),
}

/// A cluster with its share.
pub struct WeightedCluster {
    /// The cluster.
    pub name: Text,
    /// The header that names it, if `name` is empty.
    pub header: Option<http::HeaderName>,
    /// Its weight.
    pub weight: u32,
    /// Header rules for its share.
    pub headers: HeaderRules,
    /// Authority for its share.
    pub host_rewrite: Option<Text>,
    /// Per-filter configurations for its share.
    pub per_filter: PerFilter,
    /// Subset to balance over.
    pub metadata_match: Option<Arc<serde_json::Map<String, serde_json::Value>>>,
}

/// Forwarding to a cluster.
pub struct Forward {
    /// Which one.
    pub cluster: ClusterSpecifier,
    /// Status if the cluster does not exist.
    pub cluster_not_found: StatusCode,
    /// Route timeout; `None` is off.
    pub timeout: Option<Duration>,
    /// Stream idle timeout of this route, over the manager's.
    pub idle_timeout: Option<Duration>,
    /// Longest life of the stream, over the manager's; `Some(0)` is off.
    pub max_stream_duration: Option<Duration>,
    /// Whether and how `grpc-timeout` is heeded.
    pub grpc_timeout: Option<GrpcTimeout>,
    /// Path rewrite.
    pub path_rewrite: Option<Box<PathRewrite>>,
    /// Authority rewrite.
    pub host_rewrite: HostRewrite,
    /// Put the old authority in `x-forwarded-host`.
    pub append_x_forwarded_host: bool,
    /// Retries.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Redirects of the upstream that are followed here.
    pub internal_redirect: Option<Box<internal_redirect::InternalRedirect>>,
    /// Hash policies in order.
    pub hash: Vec<HashPolicy>,
    /// Mirrors.
    pub mirrors: Vec<Mirror>,
    /// Subset to balance over.
    pub metadata_match: Option<Arc<serde_json::Map<String, serde_json::Value>>>,
    /// High priority breakers.
    pub high_priority: bool,
    /// Rate limit actions.
    pub rate_limits: Vec<RateLimit>,
    /// Use the virtual host's rate limits too.
    pub include_vh_rate_limits: bool,
    /// Upgrades allowed or not here, over the manager's: (type in lower case, enabled, is CONNECT terminated).
    pub upgrades: Vec<(Text, bool, bool)>,
}

/// How a client's `grpc-timeout` is heeded.
#[derive(Debug, Clone)]
pub struct GrpcTimeout {
    /// Up to this; zero is without bound.
    pub max: Duration,
    /// What is taken off.
    pub offset: Option<Duration>,
    /// It bounds the stream (`max_stream_duration`), else the wait for the answer (`max_grpc_timeout`).
    pub of_stream: bool,
}

/// How a path is rewritten.
pub enum PathRewrite {
    /// The matched prefix (or whole path) is replaced.
    Prefix(Text),
    /// Regex with RE2 substitution.
    Regex(regex::Regex, String),
    /// The whole path without query.
    Path(Text),
}

/// How the authority is rewritten.
#[derive(Default)]
pub enum HostRewrite {
    /// Kept.
    #[default]
    Keep,
    /// To this.
    Literal(Text),
    /// To the upstream host's name.
    Auto,
    /// To a header's value.
    Header(http::HeaderName),
    /// From the path by regex.
    PathRegex(regex::Regex, String),
}

/// A redirect.
#[derive(Default)]
pub struct Redirect {
    /// Status; 301 if unset.
    pub status: StatusCode,
    /// Scheme.
    pub scheme: Option<Text>,
    /// `https_redirect`.
    pub https: bool,
    /// Host.
    pub host: Option<Text>,
    /// Port.
    pub port: Option<u16>,
    /// Path.
    pub path: Option<PathRewrite>,
    /// `path_redirect` has a query of its own, which replaces the request's.
    pub own_query: bool,
    /// Take the query off.
    pub strip_query: bool,
}

/// A retry policy.
#[derive(Debug, Clone, Default)]
pub struct RetryPolicy {
    /// Envoy's words, as bits of [`retry_on`].
    pub on: u32,
    /// Most retries.
    pub num_retries: u32,
    /// Timeout of each try.
    pub per_try_timeout: Option<Duration>,
    /// Idle timeout of each try.
    pub per_try_idle_timeout: Option<Duration>,
    /// Status codes for `retriable-status-codes`.
    pub status_codes: Vec<u16>,
    /// Response headers for `retriable-headers`.
    pub retriable_headers: Vec<Arc<HeaderMatcher>>,
    /// Requests that may be retried at all.
    pub retriable_request_headers: Vec<Arc<HeaderMatcher>>,
    /// Base of the back-off.
    pub base_interval: Duration,
    /// Its limit.
    pub max_interval: Duration,
    /// Back-off that rate-limited answers ask for.
    pub rate_limited: Option<RateLimitedBackOff>,
    /// Do not try a host twice (`previous_hosts` predicate).
    pub avoid_previous_hosts: bool,
    /// Hosts that further tries avoid, by `envoy.lb` metadata (`omit_host_metadata`, `omit_canary_hosts`).
    pub omit_hosts: Vec<serde_json::Map<String, serde_json::Value>>,
    /// Avoid the priorities of earlier tries, looked at again after so many (`previous_priorities`).
    pub avoid_priorities_every: Option<u32>,
    /// How often to re-pick a host.
    pub host_selection_attempts: u32,
}

/// Headers of an answer that say when to try again.
#[derive(Debug, Clone)]
pub struct RateLimitedBackOff {
    /// Their names, and whether they hold a Unix time (else seconds from now).
    pub headers: Vec<(http::HeaderName, bool)>,
    /// Longest time that is heeded.
    pub max_interval: Duration,
}

/// Bits of Envoy's `retry_on` words.
pub mod retry_on {
    /// 5xx
    pub const FIVE_XX: u32 = 1;
    /// gateway-error
    pub const GATEWAY_ERROR: u32 = 1 << 1;
    /// reset
    pub const RESET: u32 = 1 << 2;
    /// connect-failure
    pub const CONNECT_FAILURE: u32 = 1 << 3;
    /// retriable-4xx
    pub const RETRIABLE_4XX: u32 = 1 << 4;
    /// refused-stream
    pub const REFUSED_STREAM: u32 = 1 << 5;
    /// retriable-status-codes
    pub const STATUS_CODES: u32 = 1 << 6;
    /// retriable-headers
    pub const HEADERS: u32 = 1 << 7;
    /// reset-before-request
    pub const RESET_BEFORE_REQUEST: u32 = 1 << 8;
    /// envoy-ratelimited
    pub const ENVOY_RATELIMITED: u32 = 1 << 9;
    /// http3-post-connect-failure
    pub const HTTP3_POST_CONNECT: u32 = 1 << 10;
    /// cancelled (gRPC)
    pub const GRPC_CANCELLED: u32 = 1 << 11;
    /// deadline-exceeded (gRPC)
    pub const GRPC_DEADLINE: u32 = 1 << 12;
    /// internal (gRPC)
    pub const GRPC_INTERNAL: u32 = 1 << 13;
    /// resource-exhausted (gRPC)
    pub const GRPC_EXHAUSTED: u32 = 1 << 14;
    /// unavailable (gRPC)
    pub const GRPC_UNAVAILABLE: u32 = 1 << 15;
}

/// What the balancer hashes.
pub enum HashPolicy {
    /// A header: (name, rewrite, terminal).
    Header(http::HeaderName, Option<(regex::Regex, String)>, bool),
    /// A cookie, made if `ttl` is set and it is absent: (name, ttl, attributes for Set-Cookie, terminal).
    Cookie(String, Option<Duration>, String, bool),
    /// The client's IP: (terminal).
    SourceIp(bool),
    /// A query parameter: (name, terminal).
    Query(String, bool),
}

/// A mirror.
pub struct Mirror {
    /// Cluster (or the header that names it).
    pub cluster: ClusterSpecifier,
    /// Share in millionths.
    pub per_million: u32,
    /// Keep the authority as it is (else `-shadow` is appended).
    pub keep_host: bool,
    /// Authority of mirrored requests.
    pub host_rewrite: Option<Text>,
}

/// A rate limit: its stage and the actions that make its descriptor.
pub struct RateLimit {
    /// Stage 0 to 10.
    pub stage: u32,
    /// Actions.
    pub actions: Vec<rate_limit::Action>,
}

pub mod decode;
pub mod destinations;
pub mod hash;
pub mod header_rules;
pub mod internal_redirect;
pub mod matcher;
pub mod rate_limit;
pub mod rewrite;
pub mod table;

pub use decode::{DecodeFilterConfig, SUPPORTED};
pub use header_rules::HeaderRules;
pub use matcher::MatchInput;

/// A matched route: shares the table it is from.
#[derive(Clone)]
pub struct SelectedRoute {
    table: Arc<RouteConfiguration>,
    virtual_host: u32,
    route: u32,
    weighted: Option<u32>,
}

impl SelectedRoute {
    /// A route of `table` by its place; `None` if there is none there.
    pub fn new(table: Arc<RouteConfiguration>, virtual_host: usize, route: usize) -> Option<Self> {
        table.virtual_hosts.get(virtual_host)?.routes.get(route)?;
        Some(Self {
            table,
            virtual_host: u32::try_from(virtual_host).ok()?,
            route: u32::try_from(route).ok()?,
            weighted: None,
        })
    }

    /// The weighted cluster that was chosen when the route matched.
    pub fn weighted(&self) -> Option<&WeightedCluster> {
        match &self.route().action {
            Action::Forward(forward) => match &forward.cluster {
                ClusterSpecifier::Weighted(clusters) => clusters.get(self.weighted? as usize),
                _ => None,
            },
            _ => None,
        }
    }

    /// The name of the cluster that the request goes to; `None` if the route does not forward, or a header that
    /// should name it is absent.
    pub fn cluster_name(&self, head: &crate::message::RequestHead) -> Option<Text> {
        let Action::Forward(forward) = &self.route().action else { return None };
        let by_header = |name: &http::HeaderName| head.headers.get(name)?.to_str().ok().map(Text::from);
        match &forward.cluster {
            ClusterSpecifier::Name(name) => Some(name.clone()),
            ClusterSpecifier::Header(name) => by_header(name),
            ClusterSpecifier::Weighted(_) => {
                let cluster = self.weighted()?;
                cluster.header.as_ref().map_or_else(|| Some(cluster.name.clone()), by_header)
            }
        }
    }

    /// The table.
    pub fn table(&self) -> &RouteConfiguration {
        &self.table
    }

    /// The virtual host.
    pub fn virtual_host(&self) -> &VirtualHost {
        // Both indices were checked in `new`, and the table never changes.
        &self.table.virtual_hosts[self.virtual_host as usize]
    }

    /// The route.
    pub fn route(&self) -> &Route {
        &self.virtual_host().routes[self.route as usize]
    }

    /// What logs and header rules read of it.
    pub fn info(&self) -> RouteInfo<'_> {
        let route = self.route();
        RouteInfo { name: &route.name, virtual_host: &self.virtual_host().name, metadata: Some(&route.metadata) }
    }

    /// The most specific configuration of the named filter: weighted cluster, route, virtual host, table.
    /// `Some(None)` says that the filter is disabled here.
    pub fn filter_config(&self, filter: &str) -> Option<Option<&FilterConfig>> {
        let weighted = self.weighted().map(|cluster| &cluster.per_filter);
        weighted
            .into_iter()
            .chain([&self.route().per_filter, &self.virtual_host().per_filter, &self.table().per_filter])
            .find_map(|configs| configs.iter().find(|(name, _)| name == filter))
            .map(|(_, config)| config.as_ref())
    }
}

/// A place for a route table: inline ones are set once, RDS ones are replaced.
#[derive(Clone, Default)]
pub struct RouteHandle(Arc<ArcSwapOption<RouteConfiguration>>);

impl RouteHandle {
    /// The table now; `None` until it has come.
    pub fn load(&self) -> Option<Arc<RouteConfiguration>> {
        self.0.load_full()
    }

    /// Visits the headers that only internal requests may have.
    pub fn internal_only_headers(&self, mut each: impl FnMut(&http::HeaderName)) {
        if let Some(table) = &*self.0.load() {
            table.internal_only_headers.iter().for_each(&mut each);
        }
    }

    /// Replaces the table.
    pub fn store(&self, table: Arc<RouteConfiguration>) {
        self.0.store(Some(table));
    }
}

/// Route tables by name.
#[derive(Default)]
pub struct RouteStore {
    handles: parking_lot::Mutex<std::collections::BTreeMap<String, RouteHandle>>,
}

impl RouteStore {
    /// The place of the named table; made if new (listeners name tables before they come).
    pub fn handle(&self, name: &str) -> RouteHandle {
        self.handles.lock().entry(name.to_owned()).or_default().clone()
    }

    /// Names of the tables that living listeners ask for.
    pub fn names(&self) -> Vec<String> {
        let handles = self.handles.lock();
        let asked = handles.iter().filter(|(_, handle)| Arc::strong_count(&handle.0) > 1);
        asked.map(|(name, _)| name.clone()).collect()
    }

    /// Forgets the tables that `keep` does not want.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.handles.lock().retain(|name, _| keep(name));
    }
}
