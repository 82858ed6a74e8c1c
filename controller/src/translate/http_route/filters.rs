//! Filters of a rule go in; header changes, CORS and mirrors of an Envoy route come out.

use ferromesh_api::gateway_api::filter::{
    Cors, FilterType, Fraction, HeaderModifier, HttpRouteFilter, PathModifierType,
};
use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::core::v3::{
    HeaderValueOption, RuntimeFractionalPercent, header_value_option::HeaderAppendAction,
};
use ferromesh_proto::envoy::config::route::v3::{Route, route_action::RequestMirrorPolicy};
use ferromesh_proto::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use ferromesh_proto::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use ferromesh_proto::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};

use super::super::message::{exact, header, regex};
use super::super::names;
use super::{Place, backend, texts};

/// Why a filter cannot be translated, by name.
pub fn unsupported(filter: &HttpRouteFilter) -> Option<String> {
    let needs = |there: bool, field: &str| (!there).then(|| format!("{} needs {field}", filter.type_));
    let status = filter.request_redirect.as_ref().and_then(|redirect| redirect.status_code);
    match &filter.type_ {
        FilterType::RequestHeaderModifier => needs(filter.request_header_modifier.is_some(), "requestHeaderModifier"),
        FilterType::ResponseHeaderModifier => {
            needs(filter.response_header_modifier.is_some(), "responseHeaderModifier")
        }
        FilterType::RequestMirror => needs(filter.request_mirror.is_some(), "requestMirror"),
        FilterType::RequestRedirect if !matches!(status, None | Some(301 | 302 | 303 | 307 | 308)) => {
            Some(format!("statusCode {} is not supported; 301, 302, 303, 307 and 308 are", status.unwrap_or_default()))
        }
        FilterType::RequestRedirect => needs(filter.request_redirect.is_some(), "requestRedirect"),
        FilterType::UrlRewrite => needs(filter.url_rewrite.is_some(), "urlRewrite"),
        FilterType::Cors => needs(filter.cors.is_some(), "cors"),
        other => Some(format!("{other} is not supported")),
    }
    .or_else(|| unknown_path_modifier(filter))
    .or_else(|| texts::refusal(filter))
}

fn unknown_path_modifier(filter: &HttpRouteFilter) -> Option<String> {
    let redirect = filter.request_redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
    let rewrite = filter.url_rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    match &redirect.or(rewrite)?.type_ {
        PathModifierType::Unknown(word) => Some(format!("path.type {word:?} is not known")),
        _ => None,
    }
}

/// Header changes, gathered.
#[derive(Default)]
pub struct Headers {
    /// To set or add to requests.
    pub request_add: Vec<HeaderValueOption>,
    /// To remove from requests.
    pub request_remove: Vec<String>,
    /// To set or add to responses.
    pub response_add: Vec<HeaderValueOption>,
    /// To remove from responses.
    pub response_remove: Vec<String>,
    /// What `Host` is set to: Envoy does not take that as a header.
    pub host: Option<String>,
}

/// Gathers the header changes of filters.
pub fn collect(filters: &[HttpRouteFilter]) -> Headers {
    let mut headers = Headers::default();
    for filter in filters {
        match filter.type_ {
            FilterType::RequestHeaderModifier => {
                let Some(modifier) = &filter.request_header_modifier else { continue };
                let host = modifier.set.iter().find(|header| header.name.eq_ignore_ascii_case("host"));
                headers.host = host.map(|header| header.value.clone()).or(headers.host);
                modify(modifier, &mut headers.request_add, &mut headers.request_remove);
            }
            FilterType::ResponseHeaderModifier => {
                let Some(modifier) = &filter.response_header_modifier else { continue };
                modify(modifier, &mut headers.response_add, &mut headers.response_remove);
            }
            _ => {}
        }
    }
    headers
}

fn modify(modifier: &HeaderModifier, add: &mut Vec<HeaderValueOption>, remove: &mut Vec<String>) {
    let ours = |name: &str| !name.eq_ignore_ascii_case("host") && !name.starts_with(':') && !name.is_empty();
    // Envoy reads % as the beginning of a command operator.
    let literal = |value: &str| value.replace('%', "%%");
    let set = modifier.set.iter().map(|found| (found, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let all = set.chain(modifier.add.iter().map(|found| (found, HeaderAppendAction::AppendIfExistsOrAdd)));
    add.extend(
        all.filter(|(found, _)| ours(&found.name))
            .map(|(found, action)| header(&found.name, &literal(&found.value), action)),
    );
    remove.extend(modifier.remove.iter().filter(|name| ours(name)).cloned());
}

/// Puts header changes on a route.
pub fn headers(filters: &[HttpRouteFilter], route: &mut Route) {
    let headers = collect(filters);
    route.request_headers_to_add = headers.request_add;
    route.request_headers_to_remove = headers.request_remove;
    route.response_headers_to_add = headers.response_add;
    route.response_headers_to_remove = headers.response_remove;
}

/// Puts CORS rules on a route.
pub fn cors(filters: &[HttpRouteFilter], route: &mut Route) {
    if let Some(cors) = filters.iter().find_map(|filter| filter.cors.as_ref()) {
        let policy = Any::pack(&cors_policy(cors));
        route.typed_per_filter_config.insert("envoy.filters.http.cors".to_owned(), policy);
    }
}

fn cors_policy(cors: &Cors) -> CorsPolicy {
    let joined = |words: &[String]| words.join(",");
    CorsPolicy {
        allow_origin_string_match: cors.allow_origins.iter().map(|origin| origin_matcher(origin)).collect(),
        allow_methods: joined(&cors.allow_methods),
        allow_headers: joined(&cors.allow_headers),
        expose_headers: joined(&cors.expose_headers),
        max_age: cors.max_age.unwrap_or(5).to_string(),
        allow_credentials: cors.allow_credentials,
        ..CorsPolicy::default()
    }
}

/// An origin, which may have `*` in place of host labels (or be `*` altogether).
fn origin_matcher(origin: &str) -> StringMatcher {
    if !origin.contains('*') {
        return exact(origin);
    }
    let expression = if origin == "*" { ".*".to_owned() } else { regex::escape(origin).replace("\\*", ".*") };
    StringMatcher { match_pattern: Some(MatchPattern::SafeRegex(regex(&expression))), ..StringMatcher::default() }
}

/// Mirrors; one whose backend cannot be used is left out, as requests do not depend on it.
pub fn mirrors(place: &Place<'_>, filters: &[HttpRouteFilter]) -> Vec<RequestMirrorPolicy> {
    let mirrors = filters.iter().filter_map(|filter| filter.request_mirror.as_ref());
    let one = |mirror: &ferromesh_api::gateway_api::filter::RequestMirror| {
        let (host, port) = backend::resolve(place, &mirror.backend_ref)?;
        let percent = mirror.percent.map(|percent| Fraction { numerator: percent, denominator: Some(100) });
        Some(RequestMirrorPolicy {
            cluster: names::outbound(&host, port),
            runtime_fraction: Some(fraction(mirror.fraction.or(percent))),
            // The copy asks for the host that the request asks for, as Istio has it since 1.28.
            disable_shadow_host_suffix_append: true,
            ..RequestMirrorPolicy::default()
        })
    };
    mirrors.filter_map(one).collect()
}

/// Envoy's fractions are of 100, 10,000 or 1,000,000; others are rounded to the last.
fn fraction(share: Option<Fraction>) -> RuntimeFractionalPercent {
    let share = share.unwrap_or(Fraction { numerator: 100, denominator: Some(100) });
    let denominator = share.denominator.unwrap_or(100);
    let (numerator, kind) = match denominator {
        0 | 100 => (share.numerator.min(100), DenominatorType::Hundred),
        10_000 => (share.numerator.min(10_000), DenominatorType::TenThousand),
        _ => {
            let parts = u64::from(share.numerator) * 1_000_000 / u64::from(denominator);
            (u32::try_from(parts.min(1_000_000)).unwrap_or(1_000_000), DenominatorType::Million)
        }
    };
    RuntimeFractionalPercent {
        default_value: Some(FractionalPercent { numerator, denominator: kind as i32 }),
        ..RuntimeFractionalPercent::default()
    }
}
