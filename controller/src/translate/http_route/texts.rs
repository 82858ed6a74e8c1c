//! Texts of a rule that a proxy would reject, with the whole route configuration that they stand in: so they are refused
//! here, and cost their own rule only. The API server refuses most of them by its schema, which not everybody has.

use ferromesh_api::gateway_api::filter::{Cors, HeaderModifier, HttpRouteFilter, PathModifier};
use ferromesh_api::gateway_api::rules::text::{is_hostname, is_token};

/// Why the texts of a filter cannot be sent.
pub fn refusal(filter: &HttpRouteFilter) -> Option<String> {
    let modifiers = [
        ("requestHeaderModifier", &filter.request_header_modifier),
        ("responseHeaderModifier", &filter.response_header_modifier),
    ];
    for (field, modifier) in modifiers {
        if let Some(why) = modifier.as_ref().and_then(headers) {
            return Some(format!("{field}.{why}"));
        }
    }
    if let Some(redirect) = &filter.request_redirect {
        if let Some(scheme) = redirect.scheme.as_ref().filter(|scheme| !matches!(scheme.as_str(), "http" | "https")) {
            return Some(format!("requestRedirect.scheme {scheme:?} is neither http nor https"));
        }
        if let Some(why) = host(redirect.hostname.as_deref()).or_else(|| path(redirect.path.as_ref())) {
            return Some(format!("requestRedirect.{why}"));
        }
    }
    if let Some(rewrite) = &filter.url_rewrite
        && let Some(why) = host(rewrite.hostname.as_deref()).or_else(|| path(rewrite.path.as_ref()))
    {
        return Some(format!("urlRewrite.{why}"));
    }
    filter.cors.as_ref().and_then(cors).map(|why| format!("cors.{why}"))
}

/// Whether a text can be the value of a header: Envoy refuses line ends and NUL; no other control character is sent.
pub fn is_value(text: &str) -> bool {
    text.chars().all(|c| c == '\t' || !c.is_control())
}

/// Whether a text can stand in a path or a line of a request.
pub fn is_visible(text: &str) -> bool {
    text.chars().all(|c| !c.is_whitespace() && !c.is_control())
}

fn headers(modifier: &HeaderModifier) -> Option<String> {
    for (field, list) in [("set", &modifier.set), ("add", &modifier.add)] {
        for header in list {
            if !is_token(&header.name) {
                return Some(format!("{field}: {:?} is not a name of a header", header.name));
            }
            if !is_value(&header.value) {
                return Some(format!("{field}: the value of {} has a control character", header.name));
            }
        }
    }
    let bad = modifier.remove.iter().find(|name| !is_token(name));
    bad.map(|name| format!("remove: {name:?} is not a name of a header"))
}

fn host(name: Option<&str>) -> Option<String> {
    let bad = name.filter(|name| name.starts_with('*') || !is_hostname(&name.to_ascii_lowercase()))?;
    Some(format!("hostname {bad:?} is not a hostname"))
}

fn path(modifier: Option<&PathModifier>) -> Option<String> {
    let modifier = modifier?;
    let texts = [&modifier.replace_full_path, &modifier.replace_prefix_match];
    let bad = texts.into_iter().flatten().find(|text| !is_visible(text))?;
    Some(format!("path: {bad:?} has a character that no path has"))
}

/// A list of words by its field's name, and which words may stand in it.
type Words<'a> = (&'a str, &'a [String], fn(&str) -> bool);

fn cors(cors: &Cors) -> Option<String> {
    let words: [Words<'_>; 4] = [
        ("allowOrigins", &cors.allow_origins, is_visible),
        ("allowMethods", &cors.allow_methods, is_token),
        ("allowHeaders", &cors.allow_headers, is_token),
        ("exposeHeaders", &cors.expose_headers, is_token),
    ];
    words.into_iter().find_map(|(field, list, good)| {
        let bad = list.iter().find(|word| !good(word))?;
        Some(format!("{field}: {bad:?} cannot stand here"))
    })
}
