//! HTTPRoute.

use super::backend::BackendRef;
use super::filter::HttpRouteFilter;
use super::parent::{ParentReference, RouteStatus};
use crate::Duration;
use serde::{Deserialize, Serialize};

kubernetes_object! {
    /// Rules for HTTP requests.
    HttpRoute, kind: "HTTPRoute", group: "gateway.networking.k8s.io", version: "v1",
    plural: "httproutes", scope: NamespaceResourceScope, spec: HttpRouteSpec, status: RouteStatus
}

/// A backend of an HTTPRoute, which may have filters of its own.
pub type HttpBackendRef = BackendRef<HttpRouteFilter>;

/// What an HTTPRoute says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// What it attaches to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentReference>,
    /// Whether it attaches to default Gateways (experimental, not supported yet).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_default_gateways: Option<String>,
    /// Hosts; empty is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Rules. Where none is written there is one that matches `/` and has no backend.
    #[serde(default = "one_rule")]
    pub rules: Vec<HttpRouteRule>,
}

fn one_rule() -> Vec<HttpRouteRule> {
    vec![HttpRouteRule::default()]
}

/// Matches, filters and backends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRule {
    /// Name of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Any of these; empty is the prefix `/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpRouteMatch>,
    /// What is done to the request and the response.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpRouteFilter>,
    /// Where it goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<HttpBackendRef>,
    /// Timeouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Retries (experimental).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Session persistence (experimental).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<SessionPersistence>,
}

/// What a request must look like: all of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteMatch {
    /// Path; absent is the prefix `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<NameValueMatch>,
    /// Query parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<NameValueMatch>,
    /// Method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

open_enum! {
    /// How a path is compared.
    PathMatchType { PathPrefix = "PathPrefix", Exact = "Exact", RegularExpression = "RegularExpression" }
}

/// A path to compare with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathMatch {
    /// How; absent is a prefix.
    #[serde(rename = "type", default)]
    pub type_: PathMatchType,
    /// With what; absent is `/`.
    #[serde(default = "slash")]
    pub value: String,
}

fn slash() -> String {
    "/".to_owned()
}

open_enum! {
    /// How a header or query parameter is compared.
    ValueMatchType { Exact = "Exact", RegularExpression = "RegularExpression" }
}

/// A header or query parameter to compare with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NameValueMatch {
    /// How; absent is exactly.
    #[serde(rename = "type", default)]
    pub type_: ValueMatchType,
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// Timeouts of a rule; zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// For the whole request.
    #[serde(default, with = "crate::duration::gateway_api", skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// For each try.
    #[serde(default, with = "crate::duration::gateway_api", skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Duration>,
}

/// Retries (GEP-1731).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Status codes that are tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<u16>,
    /// How often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The least time between tries.
    #[serde(default, with = "crate::duration::gateway_api", skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Duration>,
}

open_enum! {
    /// How a session is known again.
    SessionPersistenceType { Cookie = "Cookie", Header = "Header" }
}

/// Session persistence (GEP-1619).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionPersistence {
    /// Name of the cookie or header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// It ends after this time.
    #[serde(default, with = "crate::duration::gateway_api", skip_serializing_if = "Option::is_none")]
    pub absolute_timeout: Option<Duration>,
    /// It ends after this time without a request.
    #[serde(default, with = "crate::duration::gateway_api", skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// How it is known again; absent is a cookie.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<SessionPersistenceType>,
    /// More about the cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie_config: Option<CookieConfig>,
}

/// More about a session cookie.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CookieConfig {
    /// `Session` (absent is that) or `Permanent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_type: Option<String>,
}
