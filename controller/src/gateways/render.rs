//! What a Gateway is given, pure: the Gateway in; ServiceAccount, Deployment and Service (and what its parameters ask
//! for) out. Names, labels and the annotations that change them are Istio's ("Kubernetes Gateway API", automated
//! deployment).

use std::collections::{BTreeMap, BTreeSet};

use ferromesh_api::annotations::{GATEWAY_NAME_OVERRIDE, GATEWAY_SERVICE_ACCOUNT, SERVICE_TYPE};
use ferromesh_api::conditions::ISTIO_CONTROLLER;
use ferromesh_api::gateway_api::Gateway;
use ferromesh_api::labels;
use ferromesh_core::ports;
use serde_json::{Map, Value, json};

use super::overlay;

/// The longest name of a Service.
const LONGEST_NAME: usize = 63;

/// What the proxies are, in every Gateway of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Their image.
    pub image: String,
    /// `IfNotPresent` or such.
    pub pull_policy: Option<String>,
    /// Secret for the image's registry, in the Gateway's namespace.
    pub pull_secret: Option<String>,
    /// The controller, `<name>:<port>`.
    pub discovery_address: String,
    /// The CA, `<name>:<port>`.
    pub ca_address: String,
    /// Trust domain.
    pub trust_domain: String,
    /// Name of the cluster.
    pub cluster_id: String,
}

/// One object to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// `Deployment` or such.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The object.
    pub object: Value,
}

/// Whether a Gateway is given what it needs; one that names a Service (`Hostname`) has it already.
pub fn wants_deployment(gateway: &Gateway) -> bool {
    !gateway.spec.addresses.iter().any(|address| address.type_.as_deref() == Some("Hostname"))
}

/// Everything for one Gateway. `parameters` is the data of the ConfigMap that its `infrastructure.parametersRef` names.
///
/// # Errors
/// Names the key of the parameters that cannot be used.
pub fn render(
    gateway: &Gateway,
    controller: &str,
    settings: &Settings,
    parameters: &BTreeMap<String, String>,
) -> Result<Vec<Made>, String> {
    let context = Context::new(gateway, controller);
    let mut made = Vec::new();
    if context.annotation(GATEWAY_SERVICE_ACCOUNT).is_none() {
        made.push(context.made("ServiceAccount", "v1", json!({"automountServiceAccountToken": false})));
    }
    made.push(context.made("Deployment", "apps/v1", json!({"spec": context.deployment(settings)})));
    made.push(context.made("Service", "v1", json!({"spec": context.service()})));
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": context.name});
    if parameters.contains_key("horizontalPodAutoscaler") {
        let spec = json!({"scaleTargetRef": target, "maxReplicas": 1});
        made.push(context.made("HorizontalPodAutoscaler", "autoscaling/v2", json!({"spec": spec})));
    }
    if parameters.contains_key("podDisruptionBudget") {
        let spec = json!({"selector": {"matchLabels": context.selector()}});
        made.push(context.made("PodDisruptionBudget", "policy/v1", json!({"spec": spec})));
    }
    for (key, text) in parameters {
        let kind = match key.as_str() {
            "serviceAccount" => "ServiceAccount",
            "deployment" => "Deployment",
            "service" => "Service",
            "horizontalPodAutoscaler" => "HorizontalPodAutoscaler",
            "podDisruptionBudget" => "PodDisruptionBudget",
            other => {
                return Err(format!(
                    "{other}: no such key; use deployment, service, serviceAccount, horizontalPodAutoscaler or podDisruptionBudget"
                ));
            }
        };
        let patch: Value =
            serde_saphyr::from_str(text).map_err(|error| format!("{key}: {}", error.without_snippet()))?;
        if !patch.is_object() && !patch.is_null() {
            return Err(format!("{key}: must be a piece of a {kind}"));
        }
        for object in made.iter_mut().filter(|object| object.kind == kind) {
            overlay::merge(&mut object.object, &patch);
            // Where and what it is, and whose, is not for the parameters to say.
            context.identify(object);
        }
    }
    Ok(made)
}

struct Context<'a> {
    gateway: &'a Gateway,
    namespace: &'a str,
    gateway_name: &'a str,
    name: String,
    managed: String,
}

impl<'a> Context<'a> {
    fn new(gateway: &'a Gateway, controller: &str) -> Self {
        let metadata = &gateway.metadata;
        let gateway_name = metadata.name.as_deref().unwrap_or_default();
        let annotations = metadata.annotations.as_ref();
        let named = annotations.and_then(|all| all.get(GATEWAY_NAME_OVERRIDE)).cloned();
        let name = named.unwrap_or_else(|| format!("{gateway_name}-{}", gateway.spec.gateway_class_name));
        let managed = if controller == ISTIO_CONTROLLER {
            "istio.io-gateway-controller"
        } else {
            "ferromesh.io-gateway-controller"
        };
        Self {
            gateway,
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            gateway_name,
            name: short(&name),
            managed: managed.to_owned(),
        }
    }

    fn annotation(&self, name: &str) -> Option<&'a str> {
        self.gateway.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    fn service_account(&self) -> &str {
        self.annotation(GATEWAY_SERVICE_ACCOUNT).unwrap_or(&self.name)
    }

    fn selector(&self) -> Value {
        json!({ labels::GATEWAY_NAME: self.gateway_name })
    }

    /// Labels of everything that is made: the Gateway's infrastructure labels, and ours, which win.
    fn labels(&self) -> Map<String, Value> {
        let infrastructure = self.gateway.spec.infrastructure.as_ref();
        let asked = infrastructure.into_iter().flat_map(|infrastructure| &infrastructure.labels);
        let mut all: Map<String, Value> = asked.map(|(key, value)| (key.clone(), json!(value))).collect();
        all.insert(labels::GATEWAY_NAME.into(), json!(self.gateway_name));
        all.insert(labels::GATEWAY_CLASS_NAME.into(), json!(self.gateway.spec.gateway_class_name));
        all.insert(labels::GATEWAY_MANAGED.into(), json!(self.managed));
        all
    }

    fn annotations(&self) -> Map<String, Value> {
        let infrastructure = self.gateway.spec.infrastructure.as_ref();
        let asked = infrastructure.into_iter().flat_map(|infrastructure| &infrastructure.annotations);
        asked.map(|(key, value)| (key.clone(), json!(value))).collect()
    }

    fn made(&self, kind: &'static str, version: &str, rest: Value) -> Made {
        let mut object = json!({
            "apiVersion": version,
            "kind": kind,
            "metadata": {"annotations": self.annotations()},
        });
        if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
            object.extend(rest);
        }
        let mut made = Made { kind, name: self.name.clone(), object };
        self.identify(&mut made);
        made
    }

    /// Writes what must hold whatever the parameters say.
    fn identify(&self, made: &mut Made) {
        let metadata = &mut made.object["metadata"];
        metadata["name"] = json!(self.name);
        metadata["namespace"] = json!(self.namespace);
        for (key, value) in self.labels() {
            metadata["labels"][key] = value;
        }
        // Deleted with its Gateway.
        metadata["ownerReferences"] = json!([{
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": self.gateway_name,
            "uid": self.gateway.metadata.uid.as_deref().unwrap_or_default(),
        }]);
        if made.kind == "Deployment" {
            made.object["spec"]["selector"] = json!({"matchLabels": self.selector()});
            made.object["spec"]["template"]["metadata"]["labels"][labels::GATEWAY_NAME] = json!(self.gateway_name);
        }
    }

    fn service(&self) -> Value {
        let mut found =
            vec![json!({"name": "status-port", "port": ports::PROXY_HEALTH, "protocol": "TCP", "appProtocol": "tcp"})];
        let mut seen = BTreeSet::from([ports::PROXY_HEALTH]);
        for (index, listener) in self.gateway.spec.listeners.iter().enumerate() {
            if !seen.insert(listener.port) {
                continue;
            }
            let protocol = listener.protocol.as_str().to_ascii_lowercase();
            let name = if listener.name.is_empty() {
                format!("{protocol}-{index}")
            } else {
                short(&listener.name.replace('.', "-"))
            };
            let transport = if protocol == "udp" { "UDP" } else { "TCP" };
            found.push(json!({"name": name, "port": listener.port, "protocol": transport, "appProtocol": protocol}));
        }
        let mut spec = json!({
            "type": self.annotation(SERVICE_TYPE).unwrap_or("LoadBalancer"),
            "selector": self.selector(),
            "ports": found,
        });
        let address = self
            .gateway
            .spec
            .addresses
            .iter()
            .find(|address| matches!(address.type_.as_deref(), None | Some("IPAddress")));
        if let Some(ip) = address.and_then(|address| address.value.as_deref()) {
            spec["loadBalancerIP"] = json!(ip);
        }
        spec
    }

    fn deployment(&self, settings: &Settings) -> Value {
        let mut labels = self.labels();
        labels.insert(labels::SIDECAR_INJECT.into(), json!("false"));
        labels.entry(labels::CANONICAL_NAME.to_owned()).or_insert(json!(self.name));
        labels.entry(labels::CANONICAL_REVISION.to_owned()).or_insert(json!("latest"));
        let mut annotations = self.annotations();
        annotations.insert("prometheus.io/scrape".into(), json!("true"));
        annotations.insert("prometheus.io/port".into(), json!(ports::AGENT_STATUS.to_string()));
        annotations.insert("prometheus.io/path".into(), json!("/stats/prometheus"));
        let mut pod = json!({
            "serviceAccountName": self.service_account(),
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 60,
            // Listeners below 1024, without a capability.
            "securityContext": {
                "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
                "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
            },
            "containers": [self.container(settings)],
            "volumes": [
                {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}},
                {"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": {
                    "audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}}]}},
                {"name": "istio-podinfo", "downwardAPI": {"items": [
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                    {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
                ]}},
            ],
        });
        if let Some(secret) = &settings.pull_secret {
            pod["imagePullSecrets"] = json!([{"name": secret}]);
        }
        json!({
            "selector": {"matchLabels": self.selector()},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod},
        })
    }

    fn container(&self, settings: &Settings) -> Value {
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let text = |name: &str, value: &str| json!({"name": name, "value": value});
        let owner = format!("kubernetes://apis/apps/v1/namespaces/{}/deployments/{}", self.namespace, self.name);
        let config = json!({"discoveryAddress": settings.discovery_address}).to_string();
        let mut container = json!({
            "name": "istio-proxy",
            "image": settings.image,
            "args": ["proxy", "router", "--domain", "$(POD_NAMESPACE).svc.cluster.local"],
            "ports": [
                {"name": "metrics", "containerPort": ports::AGENT_STATUS, "protocol": "TCP"},
                {"name": "status-port", "containerPort": ports::PROXY_HEALTH, "protocol": "TCP"},
                {"name": "http-envoy-prom", "containerPort": ports::PROXY_METRICS, "protocol": "TCP"},
            ],
            "env": [
                field("POD_NAME", "metadata.name"),
                field("POD_NAMESPACE", "metadata.namespace"),
                field("INSTANCE_IP", "status.podIP"),
                field("HOST_IP", "status.hostIP"),
                field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
                field("ISTIO_META_NODE_NAME", "spec.nodeName"),
                text("CA_ADDR", &settings.ca_address),
                text("TRUST_DOMAIN", &settings.trust_domain),
                text("PROXY_CONFIG", &config),
                text("ISTIO_META_CLUSTER_ID", &settings.cluster_id),
                text("ISTIO_META_MESH_ID", &settings.trust_domain),
                text("ISTIO_META_WORKLOAD_NAME", &self.name),
                text("ISTIO_META_OWNER", &owner),
                text("ISTIO_META_UNPRIVILEGED_POD", "true"),
                text("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true"),
                // Endpoints of the old pod are still in use for so long.
                text("MINIMUM_DRAIN_DURATION", "5s"),
                text("TERMINATION_GRACE_PERIOD_SECONDS", "60"),
            ],
            // Istio's, for a gateway; set others by the parameters.
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "privileged": false,
                "readOnlyRootFilesystem": true, "runAsUser": 1337, "runAsGroup": 1337, "runAsNonRoot": true,
            },
            "startupProbe": probe(30, 1, 1),
            "readinessProbe": probe(4, 15, 3),
            "volumeMounts": [
                {"name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio", "readOnly": true},
                {"name": "istio-token", "mountPath": "/var/run/secrets/tokens", "readOnly": true},
                {"name": "istio-podinfo", "mountPath": "/etc/istio/pod", "readOnly": true},
            ],
        });
        if let Some(policy) = &settings.pull_policy {
            container["imagePullPolicy"] = json!(policy);
        }
        container
    }
}

fn probe(failures: u32, period: u32, timeout: u32) -> Value {
    json!({
        "httpGet": {"path": "/healthz/ready", "port": ports::PROXY_HEALTH},
        "failureThreshold": failures, "periodSeconds": period, "timeoutSeconds": timeout,
    })
}

/// A name that is short enough; a long one ends with its hash, so that two stay two.
fn short(name: &str) -> String {
    if name.len() <= LONGEST_NAME {
        return name.to_owned();
    }
    let hash = format!("{:08x}", xxhash_rust::xxh3::xxh3_64(name.as_bytes()) & 0xffff_ffff);
    let head: String = name.chars().take(LONGEST_NAME - hash.len() - 1).collect();
    format!("{}-{hash}", head.trim_end_matches(['-', '.']))
}
