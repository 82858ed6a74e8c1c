//! Gateway.

use super::{Broken, text};
use crate::gateway_api::Gateway;
use crate::gateway_api::gateway::{FrontendTls, Infrastructure, Listener, ListenerTls, Protocol, TlsMode};

/// What in a Gateway breaks a rule.
pub fn gateway(gateway: &Gateway) -> Vec<String> {
    let (mut broken, spec) = (Broken::default(), &gateway.spec);
    broken.check(!spec.gateway_class_name.is_empty(), "spec.gatewayClassName", "is empty");
    broken.check(!spec.listeners.is_empty(), "spec.listeners", "is empty");
    broken.most(spec.listeners.len(), 64, "spec.listeners");
    broken.unique(spec.listeners.iter().map(|listener| listener.name.as_str()), "spec.listeners: name");
    for (index, one) in spec.listeners.iter().enumerate() {
        listener(&mut broken, one, &format!("spec.listeners[{index}]"));
    }
    addresses(&mut broken, gateway);
    if let Some(found) = &spec.infrastructure {
        infrastructure(&mut broken, found);
    }
    if let Some(frontend) = spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) {
        validation(&mut broken, &frontend.default, "spec.tls.frontend.default");
        broken.most(frontend.per_port.len(), 64, "spec.tls.frontend.perPort");
        let ports: Vec<String> = frontend.per_port.iter().map(|one| one.port.to_string()).collect();
        broken.unique(ports.iter().map(String::as_str), "spec.tls.frontend.perPort: port");
        for (index, one) in frontend.per_port.iter().enumerate() {
            let path = format!("spec.tls.frontend.perPort[{index}]");
            broken.check(one.port != 0, &format!("{path}.port"), "0 is not a port");
            validation(&mut broken, &one.tls, &format!("{path}.tls"));
        }
    }
    broken.0
}

fn listener(broken: &mut Broken, listener: &Listener, path: &str) {
    broken.subdomain(&listener.name, &format!("{path}.name"));
    broken.check(listener.port != 0, &format!("{path}.port"), "0 is not a port");
    if let Some(hostname) = &listener.hostname {
        broken.hostname(hostname, &format!("{path}.hostname"));
    }
    let bare = matches!(listener.protocol, Protocol::Tcp | Protocol::Udp);
    let what = format!("does not go with protocol {}", listener.protocol);
    broken.check(!bare || listener.hostname.is_none(), &format!("{path}.hostname"), &what);
    let plain = bare || listener.protocol == Protocol::Http;
    broken.check(!plain || listener.tls.is_none(), &format!("{path}.tls"), &what);
    let told = listener.tls.as_ref().is_some_and(|tls| tls.mode.is_some());
    let good = listener.protocol != Protocol::Tls || told;
    broken.check(good, &format!("{path}.tls.mode"), "must be written for protocol TLS");
    if let Some(tls) = &listener.tls {
        certificates(broken, tls, &format!("{path}.tls"));
    }
    let kinds = listener.allowed_routes.as_ref().map_or(0, |allowed| allowed.kinds.len());
    broken.most(kinds, 8, &format!("{path}.allowedRoutes.kinds"));
}

fn certificates(broken: &mut Broken, tls: &ListenerTls, path: &str) {
    let some = !tls.certificate_refs.is_empty() || !tls.options.is_empty();
    let good = tls.mode() != TlsMode::Terminate || some;
    broken.check(good, path, "certificateRefs or options must be written where TLS ends");
    broken.most(tls.certificate_refs.len(), 64, &format!("{path}.certificateRefs"));
    broken.most(tls.options.len(), 16, &format!("{path}.options"));
    for (index, reference) in tls.certificate_refs.iter().enumerate() {
        broken.check(!reference.name.is_empty(), &format!("{path}.certificateRefs[{index}].name"), "is empty");
    }
}

fn validation(broken: &mut Broken, tls: &FrontendTls, path: &str) {
    let Some(validation) = &tls.validation else { return };
    let path = format!("{path}.validation.caCertificateRefs");
    broken.check(!validation.ca_certificate_refs.is_empty(), &path, "is empty");
    broken.most(validation.ca_certificate_refs.len(), 16, &path);
    for (index, reference) in validation.ca_certificate_refs.iter().enumerate() {
        broken.check(!reference.kind.is_empty(), &format!("{path}[{index}].kind"), "is empty");
        broken.check(!reference.name.is_empty(), &format!("{path}[{index}].name"), "is empty");
    }
}

fn addresses(broken: &mut Broken, gateway: &Gateway) {
    let addresses = &gateway.spec.addresses;
    broken.most(addresses.len(), 16, "spec.addresses");
    let mut known = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let (type_, path) = (address.type_.as_deref().unwrap_or("IPAddress"), format!("spec.addresses[{index}].value"));
        let Some(value) = address.value.as_deref().filter(|value| !value.is_empty()) else { continue };
        if !matches!(type_, "Hostname" | "IPAddress") {
            continue;
        }
        if type_ == "Hostname" {
            broken.hostname(value, &path);
        }
        broken.check(!known.contains(&(type_, value)), &path, &format!("{value:?} is there twice"));
        known.push((type_, value));
    }
}

fn infrastructure(broken: &mut Broken, infrastructure: &Infrastructure) {
    for (field, map, most) in [("labels", &infrastructure.labels, 8), ("annotations", &infrastructure.annotations, 16)]
    {
        let path = format!("spec.infrastructure.{field}");
        broken.most(map.len(), most, &path);
        for key in map.keys().filter(|key| !is_key(key)) {
            broken.check(false, &path, &format!("{key:?} cannot be a key"));
        }
    }
    for value in infrastructure.labels.values().filter(|value| !value.is_empty() && !is_name(value)) {
        broken.check(false, "spec.infrastructure.labels", &format!("{value:?} cannot be a value"));
    }
}

/// A key of a label or annotation: a name, which may have a domain before it.
fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => text::is_subdomain(domain) && is_name(name),
        None => is_name(key),
    }
}

/// Letters, digits and `-_.`, 63 at most, a letter or digit at both ends.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    let inner = |c: char| plain(c) || "-_.".contains(c);
    name.len() <= 63 && name.starts_with(plain) && name.ends_with(plain) && name.chars().all(inner)
}
