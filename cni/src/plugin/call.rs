//! What a runtime says about a pod.

use std::collections::BTreeMap;

use ferromesh_api::annotations::SIDECAR_STATUS;
use serde::Deserialize;

use super::CniError;
use crate::conflist::{ANNOTATIONS, PluginConfig};
use crate::decide::VALIDATION_CONTAINER;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The pod; none where it is not Kubernetes that runs it.
    pub pod: Option<Pod>,
    /// Where its network namespace is.
    pub namespace: String,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: Option<String>,
    /// Whether the injector has left its redirection to the agent; none where the runtime does not tell annotations.
    pub promised: Option<bool>,
}

impl Call {
    /// From the environment (`CNI_NETNS`, and `CNI_ARGS` as containerd and CRI-O fill it) and the configuration.
    pub(super) fn of(variable: &dyn Fn(&str) -> Option<String>, config: &PluginConfig) -> Result<Self, CniError> {
        let namespace = variable("CNI_NETNS").filter(|path| !path.is_empty());
        let namespace = namespace.ok_or_else(|| CniError::new(CniError::ENVIRONMENT, "CNI_NETNS is not set"))?;
        let arguments = variable("CNI_ARGS").unwrap_or_default();
        let arguments: BTreeMap<&str, &str> = arguments.split(';').filter_map(|pair| pair.split_once('=')).collect();
        let argument =
            |name: &str| arguments.get(name).filter(|value| !value.is_empty()).map(|value| (*value).to_owned());
        let pod = argument("K8S_POD_NAMESPACE").zip(argument("K8S_POD_NAME")).map(|(namespace, name)| Pod {
            namespace,
            name,
            uid: argument("K8S_POD_UID"),
            promised: promised(config),
        });
        Ok(Self { pod, namespace })
    }
}

/// What the injector says it did.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    init_containers: Option<Vec<String>>,
}

fn promised(config: &PluginConfig) -> Option<bool> {
    let annotations = config.runtime_config.get(ANNOTATIONS)?;
    let annotations: BTreeMap<String, String> = serde_json::from_str(annotations.get()).ok()?;
    let Some(status) = annotations.get(SIDECAR_STATUS) else { return Some(false) };
    let status: Status = serde_json::from_str(status).ok()?;
    Some(status.init_containers.unwrap_or_default().iter().any(|name| name == VALIDATION_CONTAINER))
}
