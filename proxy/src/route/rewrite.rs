//! Rewrites of path and authority, and the `Location` of redirects, by Envoy's rules. Pure.

use std::borrow::Cow;

use super::table::without_port;
use super::{HostRewrite, PathRewrite, Redirect, Route};
use crate::matcher::header::joined;
use crate::message::RequestHead;

/// The path (with query) that `rewrite` makes of a request's, which `route` matched.
pub fn rewrite_path(rewrite: &PathRewrite, route: &Route, path: &str) -> String {
    let (plain, query) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
    let mut new = match rewrite {
        PathRewrite::Prefix(prefix) => {
            let rest = plain.get(route.matcher.matched_length(plain)..).unwrap_or_default();
            format!("{prefix}{rest}")
        }
        PathRewrite::Regex(regex, substitution) => regex.replace_all(plain, substitution.as_str()).into_owned(),
        PathRewrite::Path(path) => path.to_string(),
    };
    new.push_str(query);
    new
}

/// The authority that `rewrite` makes; `None` keeps it. `upstream` is the chosen host's name, for `Auto`.
pub fn rewrite_host<'a>(rewrite: &'a HostRewrite, head: &'a RequestHead, upstream: &'a str) -> Option<Cow<'a, str>> {
    match rewrite {
        HostRewrite::Keep => None,
        HostRewrite::Literal(host) => Some(Cow::Borrowed(host.as_str())),
        HostRewrite::Auto => (!upstream.is_empty()).then_some(Cow::Borrowed(upstream)),
        HostRewrite::Header(name) => joined(&head.headers, name).filter(|value| !value.is_empty()),
        HostRewrite::PathRegex(regex, substitution) => Some(regex.replace_all(head.path_only(), substitution.as_str())),
    }
}

/// The `Location` of a redirect.
pub fn redirect_location(redirect: &Redirect, route: &Route, head: &RequestHead) -> String {
    let scheme = match &redirect.scheme {
        Some(scheme) => scheme.as_str(),
        None if redirect.https => "https",
        None => head.scheme.as_str(),
    };
    let old_host = head.authority.as_str();
    // A port that was the default of the old scheme must not stay behind when the scheme changes.
    let kept = match (head.scheme.as_str(), scheme) {
        ("http", "https") => old_host.strip_suffix(":80").unwrap_or(old_host),
        ("https", "http") => old_host.strip_suffix(":443").unwrap_or(old_host),
        _ => old_host,
    };
    let host = match (&redirect.host, redirect.port) {
        (Some(host), _) => host.as_str(),
        (None, Some(_)) => without_port(old_host),
        (None, None) => kept,
    };
    let mut location = format!("{scheme}://{host}");
    if let Some(port) = redirect.port {
        location.push_str(&format!(":{port}"));
    }
    let (plain, query) = head.path.split_at(head.path.find('?').unwrap_or(head.path.len()));
    match &redirect.path {
        Some(PathRewrite::Path(path)) if path.starts_with('/') || path.is_empty() => location.push_str(path),
        Some(PathRewrite::Path(path)) => {
            location.push('/');
            location.push_str(path);
        }
        Some(rewrite) => location.push_str(&rewrite_path(rewrite, route, plain)),
        None => location.push_str(plain),
    }
    if !redirect.strip_query && !redirect.own_query {
        location.push_str(query);
    }
    location
}

#[cfg(test)]
mod tests;
