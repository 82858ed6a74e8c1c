//! The state of each listener of a Gateway: can it be used, does it conflict with another, do its certificates resolve
//! (Gateway API v1, Listener conditions).

use super::references::End;
use super::{Key, Kind, View};
use ferromesh_api::conditions::reasons;
use ferromesh_api::gateway_api::gateway::{Listener, Protocol, TlsMode};
use ferromesh_api::gateway_api::{GROUP, Gateway, SecretObjectReference};
use k8s_openapi::api::core::v1::Secret;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why something is not as it should be: a reason of Gateway API, and the same for people.
pub type Fault = (&'static str, String);

/// The state of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerState {
    /// Its name.
    pub name: String,
    /// The kinds of route that it takes.
    pub kinds: Vec<Kind>,
    /// Why it is not accepted.
    pub unaccepted: Option<Fault>,
    /// Why it conflicts with another.
    pub conflict: Option<Fault>,
    /// Why references do not resolve.
    pub unresolved: Option<Fault>,
}

impl ListenerState {
    /// True if the listener can be given to a proxy. An unresolved kind of route does not stop it; a certificate that is
    /// not there does.
    pub fn usable(&self) -> bool {
        let unresolved = self.unresolved.as_ref().is_some_and(|(reason, _)| *reason != reasons::INVALID_ROUTE_KINDS);
        self.unaccepted.is_none() && self.conflict.is_none() && !unresolved
    }
}

/// The state of every listener, in order.
pub fn states(view: &View, key: &Key, gateway: &Gateway) -> Vec<ListenerState> {
    let all = &gateway.spec.listeners;
    all.iter().enumerate().map(|(index, listener)| state(view, key, all, index, listener)).collect()
}

fn state(view: &View, key: &Key, all: &[Listener], index: usize, listener: &Listener) -> ListenerState {
    let (kinds, wrong_kinds) = kinds(listener);
    let unaccepted = unaccepted(listener);
    let kinds = if unaccepted.is_some() { Vec::new() } else { kinds };
    let unresolved = certificates(view, key, listener).or(wrong_kinds);
    ListenerState { name: listener.name.clone(), kinds, unaccepted, conflict: conflict(all, index), unresolved }
}

fn unaccepted(listener: &Listener) -> Option<Fault> {
    let mode = listener.tls.as_ref().map(|tls| tls.mode());
    match (&listener.protocol, mode) {
        (Protocol::Http, _) | (Protocol::Https, None | Some(TlsMode::Terminate)) => None,
        (Protocol::Https, Some(mode)) => {
            let what = format!("tls.mode {mode} does not go with protocol HTTPS; use Terminate");
            Some((reasons::UNSUPPORTED_VALUE, what))
        }
        (other, _) => {
            let what = format!("protocol {other} is not supported yet; HTTP and HTTPS are");
            Some((reasons::UNSUPPORTED_PROTOCOL, what))
        }
    }
}

/// The kinds that a listener takes, and what is wrong with those that it names.
fn kinds(listener: &Listener) -> (Vec<Kind>, Option<Fault>) {
    let possible = [Kind::HttpRoute, Kind::GrpcRoute];
    let named = listener.allowed_routes.as_ref().map(|allowed| allowed.kinds.as_slice()).unwrap_or_default();
    if named.is_empty() {
        return (possible.to_vec(), None);
    }
    let mut kinds = Vec::new();
    let mut wrong = Vec::new();
    for kind in named {
        match possible.into_iter().find(|known| kind.group() == GROUP && known.as_str() == kind.kind) {
            Some(known) if !kinds.contains(&known) => kinds.push(known),
            Some(_) => {}
            None => wrong.push(format!("{}/{}", kind.group(), kind.kind)),
        }
    }
    let fault = (!wrong.is_empty()).then(|| {
        let what = format!("allowedRoutes.kinds: {} cannot be served by this listener", wrong.join(", "));
        (reasons::INVALID_ROUTE_KINDS, what)
    });
    (kinds, fault)
}

/// Two listeners on one port must differ in hostname and agree in protocol. None of two that conflict is used.
fn conflict(all: &[Listener], index: usize) -> Option<Fault> {
    let listener = all.get(index)?;
    let others = || all.iter().enumerate().filter(|(i, other)| *i != index && other.port == listener.port);
    if let Some((_, other)) = others().find(|(_, other)| family(&other.protocol) != family(&listener.protocol)) {
        let what = format!(
            "listener {:?} has the same port {} with protocol {}, which does not go with {}",
            other.name, listener.port, other.protocol, listener.protocol
        );
        return Some((reasons::PROTOCOL_CONFLICT, what));
    }
    let hostname = |listener: &Listener| listener.hostname.clone().unwrap_or_default().to_ascii_lowercase();
    let (_, other) = others().find(|(_, other)| hostname(other) == hostname(listener))?;
    let what = format!("listener {:?} has the same port {} and hostname", other.name, listener.port);
    Some((reasons::HOSTNAME_CONFLICT, what))
}

/// Protocols of one family can share a port, told apart by hostname.
fn family(protocol: &Protocol) -> &str {
    match protocol {
        Protocol::Https | Protocol::Tls => "TLS",
        other => other.as_str(),
    }
}

/// What is wrong with a listener's certificates.
fn certificates(view: &View, key: &Key, listener: &Listener) -> Option<Fault> {
    let terminates = match (&listener.protocol, &listener.tls) {
        (Protocol::Https, None) => {
            return Some((reasons::INVALID_CERTIFICATE_REF, "HTTPS needs tls.certificateRefs".into()));
        }
        (Protocol::Https | Protocol::Tls, Some(tls)) => (tls.mode() == TlsMode::Terminate).then_some(tls),
        _ => None,
    }?;
    if terminates.certificate_refs.is_empty() {
        return Some((reasons::INVALID_CERTIFICATE_REF, "tls.certificateRefs is empty".into()));
    }
    terminates.certificate_refs.iter().find_map(|reference| certificate(view, key, reference).err())
}

/// The Secret that a certificateRef of a Gateway means, if it may be used and holds a certificate with its key.
pub fn certificate<'a>(view: &'a View, gateway: &Key, reference: &SecretObjectReference) -> Result<&'a Secret, Fault> {
    let invalid = |what: String| (reasons::INVALID_CERTIFICATE_REF, what);
    if (reference.group(), reference.kind()) != ("", "Secret") {
        return Err(invalid(format!("{} {:?} is not a Secret", reference.kind(), reference.name)));
    }
    let namespace = reference.namespace_or(&gateway.namespace);
    let from = End { group: GROUP, kind: "Gateway", namespace: &gateway.namespace };
    if !view.may_refer(from, End { group: "", kind: "Secret", namespace }, &reference.name) {
        let what = format!(
            "Secret {namespace}/{} needs a ReferenceGrant in namespace {namespace} for Gateways of namespace {}",
            reference.name, gateway.namespace
        );
        return Err((reasons::REF_NOT_PERMITTED, what));
    }
    let secret = view.secrets.named(namespace, &reference.name);
    let secret = secret.ok_or_else(|| invalid(format!("there is no Secret {namespace}/{}", reference.name)))?;
    let certificate = value(secret, "tls.crt").is_some_and(|pem| CertificateDer::from_pem_slice(&pem).is_ok());
    let key = value(secret, "tls.key").is_some_and(|pem| PrivateKeyDer::from_pem_slice(&pem).is_ok());
    if !certificate || !key {
        let what =
            if certificate { "tls.key is not a private key in PEM" } else { "tls.crt is not a certificate in PEM" };
        return Err(invalid(format!("Secret {namespace}/{}: {what}", reference.name)));
    }
    Ok(secret)
}

/// One value of a Secret, from `data` or `stringData`.
pub fn value(secret: &Secret, key: &str) -> Option<Vec<u8>> {
    let data = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone());
    data.or_else(|| secret.string_data.as_ref()?.get(key).map(|text| text.clone().into_bytes()))
}
