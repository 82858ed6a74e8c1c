//! The alphabets of Gateway API's texts.

/// A label of DNS: small letters, digits and hyphens, 63 at most.
pub fn is_label(text: &str) -> bool {
    text.len() <= 63 && part(text)
}

/// A name of DNS (RFC 1123 subdomain), 253 characters at most.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(part)
}

/// A hostname, or one with `*.` before it.
pub fn is_hostname(text: &str) -> bool {
    is_subdomain(text.strip_prefix("*.").unwrap_or(text))
}

fn part(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain) && text.ends_with(plain) && text.chars().all(|c| plain(c) || c == '-')
}

/// The name of a header, a method and so on: a token of HTTP (RFC 9110).
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// The value of a header: visible ASCII, with single spaces or tabs inside.
pub fn is_header_value(text: &str) -> bool {
    let (mut gap, bytes) = (true, text.as_bytes());
    for byte in bytes {
        match byte {
            b'!'..=b'~' => gap = false,
            b' ' | b'\t' if !gap => gap = true,
            _ => return false,
        }
    }
    !gap
}

/// A path: the characters of RFC 3986, `%` with two hexadecimal digits.
pub fn is_path(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let good = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&byte),
        };
        if !good {
            return false;
        }
    }
    !text.is_empty()
}

/// An origin (scheme, host and perhaps port), which may have `*` in place of the host's first labels; or `*`.
pub fn is_origin(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else { return text == "*" };
    let (host, port) = rest.split_once(':').unwrap_or((rest, "1"));
    let host = if host == "*" { "a" } else { host.strip_prefix("*.").unwrap_or(host) };
    let plain = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    host.split('.').all(plain) && port.parse::<u16>().is_ok()
}
