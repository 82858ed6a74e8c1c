//! The state of each listener of a Gateway: can it be used, does it conflict with another, do its certificates resolve
//! (Gateway API v1, Listener conditions).

use super::references::End;
use super::{Key, Kind, View, client_certificates};
use ferromesh_api::conditions::reasons;
use ferromesh_api::gateway_api::gateway::{FromNamespaces, GatewayAddress, Listener, Protocol, TlsMode};
use ferromesh_api::gateway_api::{GROUP, Gateway, SecretObjectReference, rules};
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
    /// The Gateway as a whole is refused, and all of its listeners with it.
    pub withheld: bool,
    /// Roots in PEM by which clients are checked; nothing if no certificate is asked for.
    pub roots: Option<Vec<u8>>,
}

impl ListenerState {
    /// True if the listener can be given to a proxy. An unresolved kind of route does not stop it; a certificate that is
    /// not there does.
    pub fn usable(&self) -> bool {
        let unresolved = self.unresolved.as_ref().is_some_and(|(reason, _)| *reason != reasons::INVALID_ROUTE_KINDS);
        self.unaccepted.is_none() && self.conflict.is_none() && !unresolved && !self.withheld
    }
}

/// The state of every listener, in order.
pub fn states(view: &View, key: &Key, gateway: &Gateway) -> Vec<ListenerState> {
    let withheld = refusal(gateway).is_some();
    (0..gateway.spec.listeners.len()).filter_map(|index| state(view, key, gateway, index, withheld)).collect()
}

fn state(view: &View, key: &Key, gateway: &Gateway, index: usize, withheld: bool) -> Option<ListenerState> {
    let listener = gateway.spec.listeners.get(index)?;
    let (kinds, wrong_kinds) = kinds(listener);
    let clients = client_certificates::check(view, key, gateway, listener);
    let unaccepted = unaccepted(listener);
    // Which kinds a listener could take does not hang on how it checks its clients.
    let kinds = if unaccepted.is_some() { Vec::new() } else { kinds };
    let unaccepted = unaccepted.or(clients.unaccepted);
    let unresolved = certificates(view, key, listener).or(clients.unresolved).or(wrong_kinds);
    let conflict = conflict(&gateway.spec.listeners, index);
    Some(ListenerState {
        name: listener.name.clone(),
        kinds,
        unaccepted,
        conflict,
        unresolved,
        withheld,
        roots: clients.roots,
    })
}

/// Why a Gateway is not accepted as a whole. None of its listeners is served then.
pub fn refusal(gateway: &Gateway) -> Option<Fault> {
    let spec = &gateway.spec;
    let known = |address: &&GatewayAddress| matches!(address.type_.as_deref(), None | Some("IPAddress" | "Hostname"));
    if let Some(address) = spec.addresses.iter().find(|address| !known(address)) {
        let type_ = address.type_.as_deref().unwrap_or_default();
        let what = format!("spec.addresses: type {type_} is not supported; IPAddress and Hostname are");
        return Some((reasons::UNSUPPORTED_ADDRESS, what));
    }
    let parameters = spec.infrastructure.as_ref().and_then(|infrastructure| infrastructure.parameters_ref.as_ref());
    if let Some(other) = parameters.filter(|found| (found.group.as_str(), found.kind.as_str()) != ("", "ConfigMap")) {
        let what = format!(
            "spec.infrastructure.parametersRef: a {} {:?} is not supported; a ConfigMap is",
            other.kind, other.group
        );
        return Some((reasons::INVALID_PARAMETERS, what));
    }
    client_certificate(gateway).map(|_| {
        let what = "spec.tls.backend.clientCertificateRef is not supported: no certificate would be shown to backends; \
                    leave it out";
        (reasons::INVALID, what.to_owned())
    })
}

/// The certificate that backends are to be shown.
pub fn client_certificate(gateway: &Gateway) -> Option<&SecretObjectReference> {
    gateway.spec.tls.as_ref()?.backend.as_ref()?.client_certificate_ref.as_ref()
}

/// Fields of a Gateway that are not supported and take nothing away from what is served, by path.
pub fn passed_over(gateway: &Gateway) -> Vec<String> {
    let mut found = Vec::new();
    let from = |value: &serde_json::Value| value.pointer("/namespaces/from").cloned();
    let allowed = gateway.spec.allowed_listeners.as_ref();
    if allowed.and_then(from).is_some_and(|from| from != "None") {
        found.push("spec.allowedListeners: ListenerSets are not supported, so none is attached".to_owned());
    }
    if gateway.spec.default_scope.as_deref().is_some_and(|scope| scope != "None") {
        found.push("spec.defaultScope: routes attach to a Gateway only if they name it in parentRefs".to_owned());
    }
    found
}

/// Whether a text can be a hostname of a listener or route: a name of DNS, one with `*.` before it, or `*`.
pub fn is_hostname(text: &str) -> bool {
    text == "*" || rules::text::is_hostname(&text.to_ascii_lowercase())
}

fn unaccepted(listener: &Listener) -> Option<Fault> {
    if let Some(name) = listener.hostname.as_deref().filter(|name| !name.is_empty() && !is_hostname(name)) {
        return Some((reasons::UNSUPPORTED_VALUE, format!("hostname {name:?} is not a hostname, nor *. before one")));
    }
    if listener.port == 0 {
        return Some((reasons::PORT_UNAVAILABLE, "0 is not a port".to_owned()));
    }
    let namespaces = listener.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    if let Some(FromNamespaces::Unknown(word)) = namespaces.and_then(|namespaces| namespaces.from.as_ref()) {
        return Some((reasons::UNSUPPORTED_VALUE, format!("allowedRoutes.namespaces.from {word:?} is not known")));
    }
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
