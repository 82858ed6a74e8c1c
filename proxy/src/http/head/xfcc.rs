//! X-Forwarded-Client-Cert: who the client of an mTLS connection is (Envoy, "x-forwarded-client-cert").

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::append;
use crate::connection::TlsInfo;
use crate::http::manager::{ForwardClientCert, HttpConnectionManager};

const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Changes the header as the manager's settings say.
pub fn apply(manager: &HttpConnectionManager, tls: Option<&TlsInfo>, headers: &mut HeaderMap) {
    let mode = manager.forward_client_cert;
    if mode == ForwardClientCert::AlwaysForwardOnly {
        return;
    }
    let Some(tls) = tls.filter(|tls| tls.mtls && mode != ForwardClientCert::Sanitize) else {
        headers.remove(XFCC);
        return;
    };
    match mode {
        ForwardClientCert::AppendForward => append(headers, &XFCC, &element(manager, tls), ","),
        ForwardClientCert::SanitizeSet => match HeaderValue::from_str(&element(manager, tls)) {
            Ok(value) => {
                headers.insert(XFCC, value);
            }
            Err(_) => {
                headers.remove(XFCC);
            }
        },
        ForwardClientCert::Sanitize | ForwardClientCert::ForwardOnly | ForwardClientCert::AlwaysForwardOnly => {}
    }
}

/// The element for this connection's client.
pub fn element(manager: &HttpConnectionManager, tls: &TlsInfo) -> String {
    element_with(manager.set_client_cert_details, tls)
}

/// As [`element`]; details are subject, cert, chain, dns and uri.
fn element_with([subject, cert, chain, dns, uri]: [bool; 5], tls: &TlsInfo) -> String {
    let mut parts = Vec::with_capacity(6);
    if let Some(by) = tls.local_uri_sans.first() {
        parts.push(format!("By={}", quoted(by, false)));
    }
    parts.push(format!("Hash={}", tls.peer_sha256));
    if cert {
        parts.push(format!("Cert={}", quoted(&tls.peer_pem(), true)));
    }
    if chain {
        parts.push(format!("Chain={}", quoted(&tls.peer_chain_pem(), true)));
    }
    if subject {
        parts.push(format!("Subject={}", quoted(&tls.peer_subject, true)));
    }
    if uri {
        // The key is there also if there is no URI.
        let first = tls.peer_uri_sans.first().map(|uri| uri.as_str()).unwrap_or_default();
        parts.push(format!("URI={}", quoted(first, false)));
        parts.extend(tls.peer_uri_sans.iter().skip(1).map(|uri| format!("URI={}", quoted(uri, false))));
    }
    if dns {
        parts.extend(tls.peer_dns_sans.iter().map(|dns| format!("DNS={}", quoted(dns, false))));
    }
    parts.join(";")
}

/// Quotes a value that must be, or could be read as more than a value.
fn quoted(value: &str, always: bool) -> String {
    if !always && !value.contains([',', ';', '=', '"', '\\']) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The keys of a header's parts as its readers find them: split where `;` and `,` stand outside of quotes.
    fn keys(element: &str) -> Vec<String> {
        let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
        for letter in element.chars() {
            match letter {
                ';' | ',' if !quoted => parts.push(String::new()),
                '"' if !escaped => quoted = !quoted,
                _ => {}
            }
            escaped = letter == '\\' && !escaped;
            if let (Some(part), false) = (parts.last_mut(), matches!(letter, ';' | ',') && !quoted) {
                part.push(letter);
            }
        }
        parts.iter().map(|part| part.split('=').next().unwrap_or_default().to_owned()).collect()
    }

    proptest! {
        #[test]
        fn no_name_of_a_certificate_adds_a_part_or_another_client(
            uri in "[ -~]{0,20}", dns in "[ -~]{0,20}", subject in "[ -~]{0,20}", by in "[ -~]{0,20}",
        ) {
            let tls = TlsInfo {
                peer_uri_sans: vec![uri.as_str().into()],
                peer_dns_sans: vec![dns.as_str().into()],
                local_uri_sans: vec![by.as_str().into()],
                peer_subject: subject.as_str().into(),
                ..TlsInfo::default()
            };
            let element = element_with([true, false, false, true, true], &tls);
            prop_assert_eq!(keys(&element), ["By", "Hash", "Subject", "URI", "DNS"], "{}", element);
        }
    }
}
