//! Where a request goes: its target and authority (RFC 9112, 3.2 and 3.3).

use bytes::Bytes;
use http::{Method, Version};

use super::{Refusal, Settings};
use crate::cause::Cause;
use crate::text::Text;

/// A request target, taken apart.
pub(super) struct Target {
    /// Empty if the target has none.
    pub(super) scheme: Text,
    pub(super) authority: Option<Text>,
    pub(super) path: Text,
}

/// Takes the request target apart (RFC 9112, 3.2).
pub(super) fn target_of(method: &Method, target: Bytes, settings: Settings) -> Result<Target, Refusal> {
    let bad = |detail| Refusal::new(Cause::InvalidTarget, detail);
    if target.iter().any(|byte| !byte.is_ascii_graphic()) {
        return Err(bad("the target has a character that must be percent-encoded"));
    }
    let target = Text::from_utf8(target).map_err(|_| bad("the target is not ASCII"))?;
    if *method == Method::CONNECT {
        return Ok(Target { scheme: Text::default(), authority: Some(target), path: Text::default() });
    }
    if target.starts_with('/') {
        return Ok(Target { scheme: Text::default(), authority: None, path: target });
    }
    if target.as_str() == "*" && *method == Method::OPTIONS {
        return Ok(Target { scheme: Text::default(), authority: None, path: target });
    }
    if !settings.absolute_urls {
        // Whoever looks at it as a path finds that it is none.
        return Ok(Target { scheme: Text::default(), authority: None, path: target });
    }
    let Some((scheme, rest)) = target.split_once("://") else { return Err(bad("the path does not start with /")) };
    let scheme = match scheme {
        scheme if scheme.eq_ignore_ascii_case("http") => Text::from_static("http"),
        scheme if scheme.eq_ignore_ascii_case("https") => Text::from_static("https"),
        _ => return Err(bad("a target with a scheme other than http and https")),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = match path {
        "" => Text::from_static("/"),
        path if path.starts_with(['?', '#']) => Text::from(format!("/{path}")),
        path => Text::from(path),
    };
    Ok(Target { scheme, authority: Some(Text::from(authority)), path })
}

pub(super) const fn bad_host(detail: &'static str) -> Refusal {
    Refusal::new(Cause::InvalidHost, detail)
}

/// The authority of the target, else of the one `Host`.
pub(super) fn authority_of(host: Option<&Text>, of_target: Option<Text>, version: Version) -> Result<Text, Refusal> {
    if let Some(host) = host
        && !is_authority(host.as_bytes())
    {
        return Err(bad_host("Host is malformed"));
    }
    if host.is_none() && version == Version::HTTP_11 {
        return Err(Refusal::new(Cause::MissingHost, "no Host"));
    }
    match of_target {
        Some(authority) if is_authority(authority.as_bytes()) => Ok(authority),
        Some(_) => Err(bad_host("the target's authority is malformed")),
        None => Ok(host.cloned().unwrap_or_default()),
    }
}

/// Whether this is `host [":" port]` without user information (RFC 3986, 3.2; RFC 9110, 4.2.4).
pub fn is_authority(bytes: &[u8]) -> bool {
    let (host, port) = match bytes {
        [b'[', ..] => match bytes.iter().position(|byte| *byte == b']') {
            Some(end) => bytes.split_at(end + 1),
            None => return false,
        },
        _ => bytes.split_at(bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len())),
    };
    let host_is_good = match host {
        [b'[', inner @ .., b']'] => {
            !inner.is_empty() && inner.iter().all(|byte| byte.is_ascii_hexdigit() || b":.%vV-_~".contains(byte))
        }
        host => {
            !host.is_empty()
                && host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(byte))
        }
    };
    let port_is_good = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host_is_good && port_is_good
}
