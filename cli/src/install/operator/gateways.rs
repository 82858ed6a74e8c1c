//! Gateways of an IstioOperator file: those of its profile, `components.ingressGateways` and `egressGateways`, and the
//! values that Istio's charts have for them.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::{BadOperator, Ignored};

/// The chart has defaults for this one.
const INGRESS: &str = "istio-ingressgateway";
const EGRESS: &str = "istio-egressgateway";

/// Istio's value of a gateway, and the chart's.
const VALUES: [(&str, &str); 8] = [
    ("enabled", "enabled"),
    ("namespace", "namespace"),
    ("labels", "labels"),
    ("replicaCount", "replicas"),
    ("resources", "resources"),
    ("serviceAnnotations", "service.annotations"),
    ("type", "service.type"),
    ("ports", "service.ports"),
];
/// A component's field, and the chart's value.
const COMPONENT: [(&str, &str); 8] = [
    ("enabled", "enabled"),
    ("namespace", "namespace"),
    ("label", "labels"),
    ("k8s.replicaCount", "replicas"),
    ("k8s.resources", "resources"),
    ("k8s.serviceAnnotations", "service.annotations"),
    ("k8s.service.type", "service.type"),
    ("k8s.service.ports", "service.ports"),
];

/// Takes the gateways out of a spec; gives the chart's `gateways`.
pub(super) fn take(
    spec: &mut Fields,
    profile: &[&str],
    ignored: &mut Ignored,
) -> Result<Map<String, Value>, BadOperator> {
    let mut gateways = Map::new();
    for (kind, list) in [(INGRESS, "components.ingressGateways"), (EGRESS, "components.egressGateways")] {
        let values = common(spec, kind, ignored)?;
        let mut found: Vec<(String, Fields)> = Vec::new();
        if profile.contains(&kind) || values.is_some() {
            found.push((kind.to_owned(), Fields::new(json!({"enabled": profile.contains(&kind)}))));
        }
        for (index, component) in components(spec, list)?.into_iter().enumerate() {
            let path = format!("{list}[{index}]");
            let (name, fields) = component_of(component, &path, ignored)?;
            match found.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => {
                    let mut laid = std::mem::take(known).into_value();
                    super::fields::over(&mut laid, fields.into_value());
                    *known = Fields::new(laid);
                }
                None => found.push((name, fields)),
            }
        }
        for (name, fields) in found {
            let mut gateway = defaults(&name, kind);
            super::fields::over(&mut gateway, fields.into_value());
            if let Some(values) = &values {
                // Values are laid over components by Istio, too.
                super::fields::over(&mut gateway, values.clone());
            }
            if gateway["enabled"] == true {
                gateways.insert(name, gateway);
            }
        }
    }
    Ok(gateways)
}

/// The values of Istio's charts for all gateways of a kind.
fn common(spec: &mut Fields, kind: &str, ignored: &mut Ignored) -> Result<Option<Value>, BadOperator> {
    let path = format!("values.gateways.{kind}");
    let Some(values) = spec.take(&path) else { return Ok(None) };
    let mut values = Fields::new(values);
    let name = Value::from(kind);
    values.take_if("name", &name);
    values.take_if("autoscaleEnabled", &Value::from(false));
    Ok(Some(renamed(values, &VALUES, &path, ignored)?.into_value()))
}

fn components(spec: &mut Fields, list: &str) -> Result<Vec<Value>, BadOperator> {
    match spec.take(list) {
        None => Ok(Vec::new()),
        Some(Value::Array(components)) => Ok(components),
        Some(_) => Err(BadOperator::Type { path: format!("spec.{list}"), wanted: "a list" }),
    }
}

fn component_of(component: Value, path: &str, ignored: &mut Ignored) -> Result<(String, Fields), BadOperator> {
    let mut component = Fields::new(component);
    let Some(Value::String(name)) = component.take("name") else {
        return Err(BadOperator::Type { path: format!("spec.{path}.name"), wanted: "a name" });
    };
    let fields = renamed(component, &COMPONENT, path, ignored)?;
    Ok((name, fields))
}

/// The fields under the chart's names.
fn renamed(mut from: Fields, names: &[(&str, &str)], path: &str, ignored: &mut Ignored) -> Result<Fields, BadOperator> {
    let mut fields = Fields::new(json!({}));
    for (theirs, ours) in names {
        if let Some(value) = from.take(theirs) {
            let at = format!("{path}.{theirs}");
            fields.put(ours, if *ours == "service.ports" { ports(value, &at, ignored)? } else { value });
        }
    }
    ignored.all(path, &from);
    Ok(fields)
}

/// Ports of a Service, without what all of them are.
fn ports(value: Value, path: &str, ignored: &mut Ignored) -> Result<Value, BadOperator> {
    let Value::Array(ports) = value else {
        return Err(BadOperator::Type { path: format!("spec.{path}"), wanted: "a list" });
    };
    let mut kept = Vec::new();
    for (index, port) in ports.into_iter().enumerate() {
        let mut port = Fields::new(port);
        port.take_if("protocol", &Value::from("TCP"));
        let mut one = Map::new();
        for name in ["name", "port", "targetPort", "nodePort"] {
            if let Some(value) = port.take(name) {
                one.insert(name.to_owned(), value);
            }
        }
        ignored.all(&format!("{path}[{index}]"), &port);
        kept.push(Value::Object(one));
    }
    Ok(Value::Array(kept))
}

/// What the chart must be told of a gateway for which it has no defaults.
fn defaults(name: &str, kind: &str) -> Value {
    if name == INGRESS {
        return json!({"enabled": true});
    }
    let (service, role) =
        if kind == INGRESS { ("LoadBalancer", "ingressgateway") } else { ("ClusterIP", "egressgateway") };
    let mut ports = vec![
        json!({"name": "http2", "port": 80, "targetPort": 8080}),
        json!({"name": "https", "port": 443, "targetPort": 8443}),
    ];
    if kind == INGRESS {
        ports.insert(0, json!({"name": "status-port", "port": 15021, "targetPort": 15021}));
    }
    json!({
        "enabled": true, "replicas": 1, "labels": {"app": name, "istio": role},
        "service": {"type": service, "ports": ports},
        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}},
    })
}
