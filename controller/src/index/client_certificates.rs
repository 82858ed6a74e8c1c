//! By which roots a listener checks the certificates of its clients: `spec.tls.frontend` of the Gateway (Gateway API
//! v1), or the listener's `tls.options` (Istio). What is asked for and cannot be had refuses the listener: it never
//! serves without the check.

use super::listeners::{Fault, value};
use super::references::End;
use super::{Key, View};
use ferromesh_api::conditions::reasons;
use ferromesh_api::gateway_api::backend::ObjectReference;
use ferromesh_api::gateway_api::gateway::{FrontendTls, FrontendValidationMode, Listener, ListenerTls, Protocol};
use ferromesh_api::gateway_api::{GROUP, Gateway};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Istio's option: `SIMPLE` asks clients for nothing, `MUTUAL` for a certificate that the roots beside the listener's
/// own certificate vouch for.
pub const TERMINATE_MODE: &str = "gateway.istio.io/tls-terminate-mode";

/// What a listener asks of its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCheck {
    /// Roots in PEM; nothing if no certificate is asked for.
    pub roots: Option<Vec<u8>>,
    /// Why the listener is not accepted.
    pub unaccepted: Option<Fault>,
    /// Why roots are missing.
    pub unresolved: Option<Fault>,
}

/// What a listener asks of its clients.
pub fn check(view: &View, key: &Key, gateway: &Gateway, listener: &Listener) -> ClientCheck {
    let Some(tls) = listener.tls.as_ref().filter(|_| listener.protocol == Protocol::Https) else {
        return ClientCheck::default();
    };
    let mutual = match mutual(tls) {
        Ok(mutual) => mutual,
        Err(what) => return unaccepted(reasons::UNSUPPORTED_VALUE, what),
    };
    let mut check = frontend(view, key, gateway, listener);
    if mutual && check.unaccepted.is_none() && check.unresolved.is_none() {
        match beside_certificate(view, key, tls) {
            Ok(roots) => check.roots.get_or_insert_default().extend(roots),
            Err(what) => check.unresolved = Some((reasons::INVALID_CERTIFICATE_REF, what)),
        }
    }
    check
}

fn unaccepted(reason: &'static str, what: String) -> ClientCheck {
    ClientCheck { unaccepted: Some((reason, what)), ..ClientCheck::default() }
}

/// Whether the options ask for a client's certificate.
fn mutual(tls: &ListenerTls) -> Result<bool, String> {
    if let Some(name) = tls.options.keys().find(|name| *name != TERMINATE_MODE) {
        return Err(format!("tls.options {name:?} is not supported; {TERMINATE_MODE} is"));
    }
    match tls.options.get(TERMINATE_MODE).map(String::as_str) {
        None | Some("SIMPLE") => Ok(false),
        Some("MUTUAL") => Ok(true),
        Some(word) => Err(format!("tls.options {TERMINATE_MODE}: {word} is not supported; SIMPLE and MUTUAL are")),
    }
}

/// What `spec.tls.frontend` says of the listener's port.
fn frontend(view: &View, key: &Key, gateway: &Gateway, listener: &Listener) -> ClientCheck {
    let Some(frontend) = gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) else {
        return ClientCheck::default();
    };
    let of_port = frontend.per_port.iter().find(|one| one.port == listener.port);
    let (place, FrontendTls { validation }) = match of_port {
        Some(one) => (format!("spec.tls.frontend.perPort[port {}]", one.port), &one.tls),
        None => ("spec.tls.frontend.default".to_owned(), &frontend.default),
    };
    let Some(validation) = validation else { return ClientCheck::default() };
    match &validation.mode {
        None | Some(FrontendValidationMode::AllowValidOnly) => {}
        Some(mode) => {
            let what = format!("{place}.validation.mode {mode} is not supported; AllowValidOnly is");
            return unaccepted(reasons::UNSUPPORTED_VALUE, what);
        }
    }
    let mut check = ClientCheck::default();
    for reference in &validation.ca_certificate_refs {
        match roots(view, key, reference) {
            Ok(roots) => check.roots.get_or_insert_default().extend(roots),
            Err((reason, what)) => {
                check.unresolved.get_or_insert((reason, format!("{place}.validation.caCertificateRefs: {what}")));
            }
        }
    }
    if check.roots.is_none() {
        let what = format!("{place}.validation.caCertificateRefs: no reference leads to a root");
        check.unaccepted = Some((reasons::NO_VALID_CA_CERTIFICATE, what));
    }
    check
}

/// The roots in the object that a reference of a Gateway means.
fn roots(view: &View, gateway: &Key, reference: &ObjectReference) -> Result<Vec<u8>, Fault> {
    let (kind, name) = (reference.kind.as_str(), reference.name.as_str());
    if !reference.group.is_empty() || !matches!(kind, "ConfigMap" | "Secret") {
        let what = format!("{kind} {name:?} is not a ConfigMap or a Secret");
        return Err((reasons::INVALID_CA_CERTIFICATE_KIND, what));
    }
    let namespace = reference.namespace.as_deref().unwrap_or(&gateway.namespace);
    let from = End { group: GROUP, kind: "Gateway", namespace: &gateway.namespace };
    if !view.may_refer(from, End { group: "", kind, namespace }, name) {
        let what = format!(
            "{kind} {namespace}/{name} needs a ReferenceGrant in namespace {namespace} for Gateways of namespace {}",
            gateway.namespace
        );
        return Err((reasons::REF_NOT_PERMITTED, what));
    }
    let found = match kind {
        "ConfigMap" => view.config_maps.named(namespace, name).map(|map| {
            let text = map.data.as_ref().and_then(|data| data.get("ca.crt")).map(|text| text.clone().into_bytes());
            text.or_else(|| Some(map.binary_data.as_ref()?.get("ca.crt")?.0.clone()))
        }),
        _ => view.secrets.named(namespace, name).map(|secret| value(secret, "ca.crt")),
    };
    let invalid = |what: String| (reasons::INVALID_CA_CERTIFICATE_REF, what);
    let pem = found.ok_or_else(|| invalid(format!("{kind} {namespace}/{name} is not there, or may not be read")))?;
    let pem = pem.filter(|pem| holds_certificates(pem));
    pem.map(terminated).ok_or_else(|| invalid(format!("{kind} {namespace}/{name}: ca.crt holds no certificate in PEM")))
}

/// The roots beside the listener's own certificate: `ca.crt` in its Secret, or in the Secret `<name>-cacert` (Istio).
fn beside_certificate(view: &View, gateway: &Key, tls: &ListenerTls) -> Result<Vec<u8>, String> {
    let Some(reference) = tls.certificate_refs.first() else { return Err("tls.certificateRefs is empty".to_owned()) };
    let namespace = reference.namespace_or(&gateway.namespace);
    // The reference itself is judged with the listener's certificates: one that is not granted gets no further.
    super::listeners::certificate(view, gateway, reference).map_err(|(_, what)| what)?;
    let second = format!("{}-cacert", reference.name);
    let places = [(reference.name.as_str(), "ca.crt"), (&second, "ca.crt"), (&second, "cacert")];
    let found = places.into_iter().find_map(|(name, key)| value(view.secrets.named(namespace, name)?, key));
    found.filter(|pem| holds_certificates(pem)).map(terminated).ok_or_else(|| {
        format!(
            "tls.options {TERMINATE_MODE}: MUTUAL needs roots for clients: neither ca.crt in Secret {namespace}/{} nor \
             Secret {namespace}/{second} holds a certificate in PEM",
            reference.name
        )
    })
}

fn holds_certificates(pem: &[u8]) -> bool {
    let mut all = CertificateDer::pem_slice_iter(pem).peekable();
    all.peek().is_some() && all.all(|one| one.is_ok())
}

/// Ends with a line's end, so that another text may follow.
fn terminated(mut pem: Vec<u8>) -> Vec<u8> {
    if !pem.ends_with(b"\n") {
        pem.push(b'\n');
    }
    pem
}
