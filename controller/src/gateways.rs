//! What Gateways run on: the replica that leads makes a ServiceAccount, a Deployment and a Service for each Gateway of
//! ours, by server-side apply, and the GatewayClasses. What belongs to a Gateway goes with it (owner references).
//!
//! ```text
//! views ──> wanted (pure: render, parameters) ──> what differs from what was applied last ──> apply
//! ```

mod overlay;
pub mod render;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ferromesh_api::cluster::{Cluster, ClusterError, Resource};
use ferromesh_api::labels;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::app::Published;
use crate::index::view::BUILT_IN_CLASSES;
use crate::index::{Key, View, attachment};
use render::{Made, Settings};

/// The name under which fields are owned.
pub(crate) const MANAGER: &str = "ferromesh-gateways";
/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(200);
/// How often everything is looked at again: parameters may have changed, and what was made, too.
const RESYNC: Duration = Duration::from_secs(30);
/// Applied again after so many looks, whatever changed.
const REAPPLY: u32 = 10;
const AGAIN: Duration = Duration::from_secs(2);
const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps");
const CLASSES: Resource = Resource::cluster_wide("gateway.networking.k8s.io", "v1", "gatewayclasses");
/// Kinds that are made only if parameters ask for them, so that they are deleted when these do no longer.
const OPTIONAL: [&str; 2] = ["HorizontalPodAutoscaler", "PodDisruptionBudget"];

fn resource(kind: &str) -> Resource {
    match kind {
        "Deployment" => Resource::namespaced("apps", "v1", "deployments"),
        "Service" => Resource::namespaced("", "v1", "services"),
        "HorizontalPodAutoscaler" => Resource::namespaced("autoscaling", "v2", "horizontalpodautoscalers"),
        "PodDisruptionBudget" => Resource::namespaced("policy", "v1", "poddisruptionbudgets"),
        _ => Resource::namespaced("", "v1", "serviceaccounts"),
    }
}

/// Makes and keeps it all while `leading`, until the controller ends.
pub async fn keep(
    cluster: Cluster,
    settings: Settings,
    mut views: watch::Receiver<Published>,
    mut leading: watch::Receiver<bool>,
) {
    let mut deployer = Deployer { cluster, settings, applied: BTreeMap::new(), cleaned: BTreeSet::new(), looks: 0 };
    loop {
        let leads = *leading.borrow_and_update();
        let published = views.borrow_and_update().clone();
        let done = if leads && published.synced { deployer.reconcile(&published.view).await } else { true };
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            changed = leading.changed() => {
                if changed.is_err() { return }
                // Another replica may have led meanwhile.
                deployer.applied.clear();
                deployer.cleaned.clear();
            }
            () = tokio::time::sleep(if done { RESYNC } else { AGAIN }) => deployer.looks += 1,
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Kind, namespace and name.
type Place = (&'static str, Key);

struct Deployer {
    cluster: Cluster,
    settings: Settings,
    /// What was applied last.
    applied: BTreeMap<Place, Value>,
    /// Names of Deployments that have nothing of an earlier leader's beside them.
    cleaned: BTreeSet<Key>,
    looks: u32,
}

impl Deployer {
    /// Applies what differs. False if something failed.
    async fn reconcile(&mut self, view: &View) -> bool {
        if self.looks >= REAPPLY {
            self.looks = 0;
            self.applied.clear();
        }
        let mut done = self.classes(view).await;
        let mut kept = BTreeSet::new();
        for (key, gateway) in view.gateways.iter() {
            let Some(controller) = attachment::our_controller(view, gateway) else { continue };
            if !render::wants_deployment(gateway) {
                continue;
            }
            let made = match self.parameters(key, gateway).await {
                Ok(parameters) => render::render(gateway, controller, &self.settings, &parameters),
                Err(error) => Err(error),
            };
            match made {
                Ok(made) => {
                    for one in made {
                        kept.insert((one.kind, Key::new(key.namespace.clone(), one.name.as_str())));
                        done &= self.apply(key, one).await;
                    }
                }
                Err(reason) => {
                    tracing::warn!(gateway = %key, reason, "what it runs on is left as it is");
                    // What is there goes on.
                    kept.extend(self.applied.keys().filter(|(_, at)| at.namespace == key.namespace).cloned());
                    done = false;
                }
            }
        }
        done & self.remove(&kept).await
    }

    /// Makes the GatewayClasses that are not there. One that is there is its author's.
    async fn classes(&self, view: &View) -> bool {
        let mut done = true;
        for (name, controller) in BUILT_IN_CLASSES {
            if view.gateway_classes.named("", name).is_some() || !view.controllers().contains(&controller) {
                continue;
            }
            let body = json!({
                "apiVersion": CLASSES.api_version(), "kind": "GatewayClass", "metadata": {"name": name},
                "spec": {"controllerName": controller, "description": "Gateways that Ferromesh deploys and looks after"},
            });
            match self.cluster.create::<Value>(&CLASSES.all(None), &body).await {
                Ok(_) => tracing::info!(name, "GatewayClass made"),
                // Not installed, or there already.
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => {
                    tracing::warn!(name, %error, "GatewayClass not made");
                    done = false;
                }
            }
        }
        done
    }

    /// The data of the ConfigMap that a Gateway's `infrastructure.parametersRef` names.
    async fn parameters(
        &self,
        key: &Key,
        gateway: &ferromesh_api::gateway_api::Gateway,
    ) -> Result<BTreeMap<String, String>, String> {
        #[derive(Default, Deserialize)]
        struct Map {
            #[serde(default)]
            data: BTreeMap<String, String>,
        }
        let infrastructure = gateway.spec.infrastructure.as_ref();
        let Some(reference) = infrastructure.and_then(|infrastructure| infrastructure.parameters_ref.as_ref()) else {
            return Ok(BTreeMap::new());
        };
        if (reference.group.as_str(), reference.kind.as_str()) != ("", "ConfigMap") {
            return Err(format!(
                "infrastructure.parametersRef: {} {} is no ConfigMap",
                reference.group, reference.kind
            ));
        }
        let place = CONFIG_MAPS.named(&key.namespace, &reference.name);
        let map = self.cluster.get::<Map>(&place).await;
        map.map(|map| map.data).map_err(|error| format!("infrastructure.parametersRef: {error}"))
    }

    async fn apply(&mut self, gateway: &Key, made: Made) -> bool {
        let place = (made.kind, Key::new(gateway.namespace.clone(), made.name.as_str()));
        if self.applied.get(&place) == Some(&made.object) {
            return true;
        }
        match self.apply_ours(gateway, &made).await {
            Ok(()) => {
                self.applied.insert(place, made.object);
                true
            }
            Err(error) => {
                tracing::warn!(%gateway, kind = made.kind, name = made.name, error, "not applied");
                false
            }
        }
    }

    /// Applies an object unless one of that name is there which was made for something else.
    async fn apply_ours(&self, gateway: &Key, made: &Made) -> Result<(), String> {
        let place = resource(made.kind).named(&gateway.namespace, &made.name);
        // A ServiceAccount may be shared; what runs may not.
        if made.kind != "ServiceAccount" {
            match self.cluster.get::<Value>(&place).await {
                Ok(there) => {
                    let owner = there["metadata"]["labels"][labels::GATEWAY_NAME].as_str();
                    if owner != Some(&*gateway.name) {
                        return Err(
                            "one of this name is there that was not made for this Gateway; rename one of them".into()
                        );
                    }
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let applied: Result<Value, ClusterError> = self.cluster.apply(&place, &made.object, MANAGER).await;
        applied.map(drop).map_err(|error| error.to_string())
    }

    /// Deletes what was made and is no longer wanted, though its Gateway may still be there.
    async fn remove(&mut self, kept: &BTreeSet<Place>) -> bool {
        let mut done = true;
        let mut gone: BTreeSet<Place> = self.applied.keys().filter(|place| !kept.contains(*place)).cloned().collect();
        // Made by an earlier leader, perhaps.
        let unknown = kept.iter().filter(|(kind, key)| *kind == "Deployment" && !self.cleaned.contains(key));
        let optional = unknown.flat_map(|(_, key)| OPTIONAL.map(|kind| (kind, key.clone())));
        gone.extend(optional.filter(|place| !kept.contains(place)));
        for place in gone {
            let (kind, key) = &place;
            match self.delete_ours(kind, key).await {
                Ok(()) => {
                    self.applied.remove(&place);
                }
                Err(error) => {
                    tracing::warn!(kind, %key, %error, "not deleted");
                    done = false;
                }
            }
        }
        if done {
            self.cleaned = kept.iter().map(|(_, key)| key.clone()).collect();
        }
        done
    }

    async fn delete_ours(&self, kind: &str, key: &Key) -> Result<(), ClusterError> {
        let place = resource(kind).named(&key.namespace, &key.name);
        let there = match self.cluster.get::<Value>(&place).await {
            Ok(there) => there,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        if there["metadata"]["labels"][labels::GATEWAY_MANAGED].is_null() {
            return Ok(());
        }
        match self.cluster.delete(&place).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}
