//! Filters of rules and of backends.

use super::{Broken, text};
use crate::gateway_api::filter::{
    Cors, FilterType, HeaderModifier, HttpRouteFilter, PathModifier, PathModifierType, RequestMirror, RequestRedirect,
};

/// Filters that may be there once only.
const ONCE: [FilterType; 5] = [
    FilterType::RequestHeaderModifier,
    FilterType::ResponseHeaderModifier,
    FilterType::RequestRedirect,
    FilterType::UrlRewrite,
    FilterType::Cors,
];
/// The methods of HTTP.
pub(super) const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// All filters of one place.
pub(super) fn check(broken: &mut Broken, filters: &[HttpRouteFilter], path: &str) {
    broken.most(filters.len(), 16, path);
    let count = |type_: &FilterType| filters.iter().filter(|filter| filter.type_ == *type_).count();
    for type_ in &ONCE {
        broken.check(count(type_) <= 1, path, &format!("{type_} is there more than once"));
    }
    let both = count(&FilterType::RequestRedirect) > 0 && count(&FilterType::UrlRewrite) > 0;
    broken.check(!both, path, "RequestRedirect and URLRewrite do not go together");
    for (index, filter) in filters.iter().enumerate() {
        one(broken, filter, &format!("{path}[{index}]"));
    }
}

/// The field that `type` names is set, and no other.
fn one(broken: &mut Broken, filter: &HttpRouteFilter, path: &str) {
    let fields = [
        (FilterType::RequestHeaderModifier, "requestHeaderModifier", filter.request_header_modifier.is_some()),
        (FilterType::ResponseHeaderModifier, "responseHeaderModifier", filter.response_header_modifier.is_some()),
        (FilterType::RequestMirror, "requestMirror", filter.request_mirror.is_some()),
        (FilterType::RequestRedirect, "requestRedirect", filter.request_redirect.is_some()),
        (FilterType::UrlRewrite, "urlRewrite", filter.url_rewrite.is_some()),
        (FilterType::Cors, "cors", filter.cors.is_some()),
        (FilterType::ExternalAuth, "externalAuth", filter.external_auth.is_some()),
        (FilterType::ExtensionRef, "extensionRef", filter.extension_ref.is_some()),
    ];
    for (type_, field, there) in fields {
        let own = filter.type_ == type_;
        broken.check(!own || there, &format!("{path}.{field}"), &format!("must be written where type is {type_}"));
        let what = format!("does not go with type {}", filter.type_);
        broken.check(own || !there, &format!("{path}.{field}"), &what);
    }
    let modifiers = [
        ("requestHeaderModifier", &filter.request_header_modifier),
        ("responseHeaderModifier", &filter.response_header_modifier),
    ];
    for (field, modifier) in modifiers {
        if let Some(modifier) = modifier {
            headers(broken, modifier, &format!("{path}.{field}"));
        }
    }
    if let Some(found) = &filter.request_mirror {
        mirror(broken, found, &format!("{path}.requestMirror"));
    }
    if let Some(found) = &filter.request_redirect {
        redirect(broken, found, &format!("{path}.requestRedirect"));
    }
    if let Some(found) = &filter.url_rewrite {
        if let Some(hostname) = &found.hostname {
            broken.subdomain(hostname, &format!("{path}.urlRewrite.hostname"));
        }
        modifier(broken, found.path.as_ref(), &format!("{path}.urlRewrite.path"));
    }
    if let Some(found) = &filter.cors {
        cors(broken, found, &format!("{path}.cors"));
    }
}

fn headers(broken: &mut Broken, modifier: &HeaderModifier, path: &str) {
    for (field, list) in [("set", &modifier.set), ("add", &modifier.add)] {
        let path = format!("{path}.{field}");
        broken.most(list.len(), 16, &path);
        broken.unique(list.iter().map(|header| header.name.as_str()), &path);
        for (index, header) in list.iter().enumerate() {
            name(broken, &header.name, &format!("{path}[{index}].name"));
            value(broken, &header.value, &format!("{path}[{index}].value"));
        }
    }
    broken.most(modifier.remove.len(), 16, &format!("{path}.remove"));
    broken.unique(modifier.remove.iter().map(String::as_str), &format!("{path}.remove"));
}

/// The name of a header.
pub(super) fn name(broken: &mut Broken, name: &str, path: &str) {
    let good = text::is_token(name) && name.len() <= 256;
    broken.check(good, path, &format!("{name:?} is not a name of a header"));
}

/// The value of a header.
pub(super) fn value(broken: &mut Broken, value: &str, path: &str) {
    let good = text::is_header_value(value) && value.len() <= 4096;
    broken.check(good, path, &format!("{value:?} is not a value of a header"));
}

fn mirror(broken: &mut Broken, mirror: &RequestMirror, path: &str) {
    broken.backend(&mirror.backend_ref, &format!("{path}.backendRef"));
    let one = mirror.percent.is_none() || mirror.fraction.is_none();
    broken.check(one, path, "percent and fraction do not go together");
    broken.check(mirror.percent.is_none_or(|percent| percent <= 100), &format!("{path}.percent"), "is more than 100");
    if let Some(fraction) = &mirror.fraction {
        let denominator = fraction.denominator.unwrap_or(100);
        broken.check(denominator > 0, &format!("{path}.fraction.denominator"), "must not be 0");
        let path = format!("{path}.fraction.numerator");
        broken.check(fraction.numerator <= denominator, &path, "is more than the denominator");
    }
}

fn redirect(broken: &mut Broken, redirect: &RequestRedirect, path: &str) {
    if let Some(hostname) = &redirect.hostname {
        broken.subdomain(hostname, &format!("{path}.hostname"));
    }
    if let Some(scheme) = &redirect.scheme {
        let good = matches!(scheme.as_str(), "http" | "https");
        broken.check(good, &format!("{path}.scheme"), &format!("{scheme:?} is neither http nor https"));
    }
    broken.check(redirect.port != Some(0), &format!("{path}.port"), "0 is not a port");
    modifier(broken, redirect.path.as_ref(), &format!("{path}.path"));
}

/// The field that the type of a path modifier names is set, and no other.
fn modifier(broken: &mut Broken, modifier: Option<&PathModifier>, path: &str) {
    let Some(modifier) = modifier else { return };
    let fields = [
        (PathModifierType::ReplaceFullPath, "replaceFullPath", &modifier.replace_full_path),
        (PathModifierType::ReplacePrefixMatch, "replacePrefixMatch", &modifier.replace_prefix_match),
    ];
    for (type_, field, found) in fields {
        let (own, path) = (modifier.type_ == type_, format!("{path}.{field}"));
        broken.check(!own || found.is_some(), &path, &format!("must be written where type is {type_}"));
        broken.check(own || found.is_none(), &path, &format!("does not go with type {}", modifier.type_));
        broken.most(found.as_ref().map_or(0, String::len), 1024, &format!("{path}: characters"));
    }
}

/// Whether a filter puts something else in place of the prefix that its rule matches.
pub(super) fn replaces_prefix(filter: &HttpRouteFilter) -> bool {
    let redirect = filter.request_redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
    let rewrite = filter.url_rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    [redirect, rewrite].into_iter().flatten().any(|path| path.type_ == PathModifierType::ReplacePrefixMatch)
}

/// A list of words by its field's name, and which words may stand in it.
type Words<'a> = (&'a str, &'a [String], fn(&str) -> bool);

fn cors(broken: &mut Broken, cors: &Cors, path: &str) {
    let lists: [Words<'_>; 4] = [
        ("allowOrigins", &cors.allow_origins, text::is_origin),
        ("allowMethods", &cors.allow_methods, |word| word == "*" || METHODS.contains(&word)),
        ("allowHeaders", &cors.allow_headers, text::is_token),
        ("exposeHeaders", &cors.expose_headers, text::is_token),
    ];
    for (field, list, good) in lists {
        let path = format!("{path}.{field}");
        broken.most(list.len(), 64, &path);
        broken.unique(list.iter().map(String::as_str), &path);
        let alone = list.len() == 1 || field == "exposeHeaders" || !list.iter().any(|word| word == "*");
        broken.check(alone, &path, "* stands alone");
        for word in list.iter().filter(|word| !good(word)) {
            broken.check(false, &path, &format!("{word:?} cannot stand here"));
        }
    }
    broken.check(cors.max_age != Some(0), &format!("{path}.maxAge"), "must not be 0");
}
