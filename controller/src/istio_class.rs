//! Whose the GatewayClass `istio` is: ours, unless a real Istio runs in the cluster. Decided once, when the daemon
//! starts, so that what runs is never handed over under way.

use anyhow::Context;
use clap::ValueEnum;
use ferromesh_api::cluster::Cluster;
use serde_json::Value;

use crate::gateways::MANAGER;

/// Pods of a real Istio's control plane, wherever and of whatever revision.
const ISTIOD: &str = "/api/v1/pods?labelSelector=app%3Distiod";
/// What runs for Gateways of that class, whoever made it.
const DEPLOYMENTS: &str =
    "/apis/apps/v1/deployments?labelSelector=gateway.networking.k8s.io%2Fgateway-class-name%3Distio";

/// Whether Gateways of the class `istio` are looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IstioClass {
    /// Unless Istio's own control plane runs in the cluster; what Ferromesh runs for that class already, it keeps.
    Auto,
    /// Whatever else runs.
    Always,
    /// They are left to Istio.
    Never,
}

impl IstioClass {
    /// Whether the class is left to a real Istio.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub(crate) async fn leaves(self, cluster: &Cluster) -> anyhow::Result<bool> {
        match self {
            Self::Always => Ok(false),
            Self::Never => Ok(true),
            Self::Auto => {
                let advice = "set --istio-gateway-class to always or never";
                let pods: Value = cluster.get_path(ISTIOD).await.with_context(|| {
                    format!("cannot see whether Istio runs here, and so whose GatewayClass istio is; {advice}")
                })?;
                if !runs(&pods) {
                    return Ok(false);
                }
                let deployments: Value = cluster.get_path(DEPLOYMENTS).await.with_context(|| {
                    format!("Istio runs here, and Gateways of class istio may be Ferromesh's already; {advice}")
                })?;
                let ours = ours(&deployments);
                if ours.is_empty() {
                    tracing::info!("Istio runs here: GatewayClass istio is left to it");
                } else {
                    let gateways = ours.join(", ");
                    tracing::warn!(
                        gateways,
                        "Istio runs here, but these of GatewayClass istio are Ferromesh's and stay so; {advice}"
                    );
                }
                Ok(ours.is_empty())
            }
        }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// Whether one of the pods has not ended.
fn runs(pods: &Value) -> bool {
    items(pods).any(|pod| !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")))
}

/// The Deployments that Ferromesh made.
fn ours(deployments: &Value) -> Vec<String> {
    let made = |one: &&Value| {
        let managers = one["metadata"]["managedFields"].as_array().into_iter().flatten();
        managers.into_iter().any(|entry| entry["manager"] == MANAGER)
    };
    let text = |one: &Value, field: &str| one["metadata"][field].as_str().unwrap_or_default().to_owned();
    items(deployments).filter(made).map(|one| text(one, "namespace") + "/" + &text(one, "name")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_real_istio_is_known_by_its_control_plane_and_ours_by_who_made_it() {
        let pod = |phase: &str| json!({"metadata": {"name": "istiod-1"}, "status": {"phase": phase}});
        for (pods, expected) in [
            (json!({"items": []}), false),
            (json!({"items": [pod("Running")]}), true),
            (json!({"items": [pod("Pending")]}), true),
            (json!({"items": [pod("Succeeded"), pod("Failed")]}), false),
            (json!({}), false),
        ] {
            assert_eq!(runs(&pods), expected, "{pods}");
        }
        let deployment = |manager: &str| json!({"metadata": {"name": "g-istio", "namespace": "n", "managedFields": [{"manager": manager}]}});
        assert_eq!(ours(&json!({"items": [deployment("istio.io/gateway-controller")]})), Vec::<String>::new());
        assert_eq!(ours(&json!({"items": [deployment("x"), deployment(MANAGER)]})), ["n/g-istio"]);
    }
}
