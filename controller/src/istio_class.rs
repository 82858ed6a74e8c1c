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
    use axum::Router;
    use axum::extract::Request;
    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Json};
    use serde_json::json;

    /// An API server that has these lists; none is forbidden.
    async fn cluster(istiods: Option<Value>, deployments: Option<Value>) -> (Cluster, tempfile::TempDir) {
        let answer = move |request: Request| {
            let uri = request.uri().to_string();
            let list = if uri == ISTIOD { istiods.clone() } else { deployments.clone().filter(|_| uri == DEPLOYMENTS) };
            async move {
                match list {
                    Some(items) => Json(json!({"items": items})).into_response(),
                    None => {
                        let status = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"});
                        (StatusCode::FORBIDDEN, Json(status)).into_response()
                    }
                }
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}],
        });
        let file = folder.path().join("config");
        std::fs::write(&file, config.to_string()).unwrap();
        (Cluster::connect(Some(&file)).await.unwrap(), folder)
    }

    #[tokio::test]
    async fn the_class_is_left_to_a_real_istio_unless_gateways_of_it_are_ours_or_the_flag_says_otherwise() {
        let pod = json!([{"status": {"phase": "Running"}}]);
        let made = |manager: &str| json!([{"metadata": {"managedFields": [{"manager": manager}]}}]);
        let (none, theirs, mine) = (json!([]), made("istio"), made(MANAGER));
        let cases = [
            (IstioClass::Auto, Some(&none), None, Some(false)),
            (IstioClass::Auto, Some(&pod), Some(&none), Some(true)),
            (IstioClass::Auto, Some(&pod), Some(&theirs), Some(true)),
            (IstioClass::Auto, Some(&pod), Some(&mine), Some(false)),
            (IstioClass::Auto, Some(&pod), None, None),
            (IstioClass::Auto, None, Some(&none), None),
            (IstioClass::Always, None, None, Some(false)),
            (IstioClass::Never, None, None, Some(true)),
        ];
        for (flag, istiods, deployments, expected) in cases {
            let (cluster, _folder) = cluster(istiods.cloned(), deployments.cloned()).await;
            match (flag.leaves(&cluster).await, expected) {
                (Ok(leaves), Some(expected)) => assert_eq!(leaves, expected, "{flag:?} {istiods:?} {deployments:?}"),
                (Err(error), None) => assert!(format!("{error:#}").contains("--istio-gateway-class"), "{error:#}"),
                (found, _) => panic!("{flag:?} {istiods:?} {deployments:?}: {found:?}"),
            }
        }
    }

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
