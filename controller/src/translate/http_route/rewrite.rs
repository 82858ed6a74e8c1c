//! Redirects and rewrites of a rule go in; Envoy's come out, with the corner cases of `ReplacePrefixMatch`
//! (Gateway API v1: HTTPPathModifier).

use ferromesh_api::gateway_api::filter::{HttpRouteFilter, PathModifier, PathModifierType, RequestRedirect};
use ferromesh_proto::envoy::config::route::v3::{
    RedirectAction, RouteAction,
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
    route_action::HostRewriteSpecifier,
};
use ferromesh_proto::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use super::super::message::regex;
use super::{Place, filters};

/// How a path changes, in Envoy's terms.
enum Change {
    Prefix(String),
    Regex(RegexMatchAndSubstitute),
}

/// A redirect.
pub fn redirect(place: &Place<'_>, redirect: &RequestRedirect, prefix: Option<&str>) -> RedirectAction {
    let path = redirect.path.as_ref().and_then(|path| match (&path.type_, &path.replace_full_path) {
        (PathModifierType::ReplaceFullPath, Some(full)) => Some(PathRewriteSpecifier::PathRedirect(full.clone())),
        _ => change(path, prefix).map(|change| match change {
            Change::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix),
            Change::Regex(regex) => PathRewriteSpecifier::RegexRewrite(regex),
        }),
    });
    let code = match redirect.status_code {
        Some(301) => RedirectResponseCode::MovedPermanently,
        Some(303) => RedirectResponseCode::SeeOther,
        Some(307) => RedirectResponseCode::TemporaryRedirect,
        Some(308) => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    };
    RedirectAction {
        host_redirect: redirect.hostname.clone().unwrap_or_default(),
        port_redirect: port(place, redirect),
        response_code: code as i32,
        scheme_rewrite_specifier: redirect.scheme.clone().map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: path,
        ..RedirectAction::default()
    }
}

/// The port to name in the location: none where it goes without saying.
fn port(place: &Place<'_>, redirect: &RequestRedirect) -> u32 {
    let own = if place.tls { "https" } else { "http" };
    let scheme = redirect.scheme.as_deref().unwrap_or(own);
    let usual = if scheme == "https" { 443 } else { 80 };
    let wanted = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => port,
        (None, Some(_)) => usual,
        (None, None) => place.port,
    };
    // Without a new host the request's is kept with its port, which is the listener's unless that is usual.
    let host_has_port = redirect.hostname.is_none() && !matches!(place.port, 80 | 443);
    if wanted == usual && !host_has_port { 0 } else { u32::from(wanted) }
}

/// Puts a rule's rewrites (and a `Host` that a header modifier sets) on an action.
pub fn apply(all: &[HttpRouteFilter], prefix: Option<&str>, action: &mut RouteAction) {
    let rewrite = all.iter().find_map(|filter| filter.url_rewrite.as_ref());
    let host = rewrite.and_then(|rewrite| rewrite.hostname.clone()).or_else(|| filters::collect(all).host);
    action.host_rewrite_specifier = host.map(HostRewriteSpecifier::HostRewriteLiteral);
    let path = rewrite.and_then(|rewrite| rewrite.path.as_ref());
    match path.and_then(|path| change(path, prefix)) {
        Some(Change::Prefix(prefix)) => action.prefix_rewrite = prefix,
        Some(Change::Regex(regex)) => action.regex_rewrite = Some(regex),
        None => {}
    }
}

/// `prefix` is what the rule matched, without a slash at its end; empty for `/`.
fn change(path: &PathModifier, prefix: Option<&str>) -> Option<Change> {
    match path.type_ {
        PathModifierType::ReplaceFullPath => {
            Some(Change::Regex(substitute("/.*", path.replace_full_path.as_deref().unwrap_or("/"))))
        }
        PathModifierType::ReplacePrefixMatch => {
            let prefix = prefix?;
            let new = path.replace_prefix_match.as_deref().unwrap_or_default().trim_end_matches('/');
            Some(match (prefix, new) {
                // Everything is under `/`: the slash stays between the new prefix and the rest.
                ("", "") => Change::Prefix("/".to_owned()),
                ("", new) => Change::Prefix(format!("{new}/")),
                // The rest keeps its own slash, or gets one where there is no rest.
                (prefix, "") => Change::Regex(substitute(&format!("^{}/*", regex::escape(prefix)), "/")),
                (_, new) => Change::Prefix(new.to_owned()),
            })
        }
        PathModifierType::Unknown(_) => None,
    }
}

fn substitute(expression: &str, new: &str) -> RegexMatchAndSubstitute {
    // A backslash in a substitution begins a group number.
    RegexMatchAndSubstitute { pattern: Some(regex(expression)), substitution: new.replace('\\', "\\\\") }
}
