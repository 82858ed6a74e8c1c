//! The roots by which the API server knows the webhook, kept in the ValidatingWebhookConfiguration by the replica that
//! leads.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferromesh_api::cluster::{Cluster, ClusterError, Resource};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::identity::Identity;

/// The configuration that the chart makes.
pub const NAME: &str = "ferromesh-validator";
const CONFIGURATIONS: Resource =
    Resource::cluster_wide("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations");
/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(30);

/// Writes while `leading`, until the controller ends.
pub async fn keep(cluster: Cluster, identity: Identity, mut leading: watch::Receiver<bool>) {
    let mut changes = identity.changes();
    loop {
        changes.borrow_and_update();
        if *leading.borrow_and_update()
            && let Some(roots) = identity.roots_pem()
        {
            match write(&cluster, &roots).await {
                Ok(true) => tracing::info!(configuration = NAME, "the webhook's roots were written"),
                Ok(false) => {}
                // Without the chart's configuration there is no webhook.
                Err(error) if error.is_not_found() => {}
                Err(error) => tracing::warn!(%error, configuration = NAME, "the webhook's roots were not written"),
            }
        }
        tokio::select! {
            changed = leading.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn write(cluster: &Cluster, roots: &str) -> Result<bool, ClusterError> {
    let place = CONFIGURATIONS.named("", NAME);
    let configuration: Value = cluster.get(&place).await?;
    let Some(patch) = patch(&configuration, roots) else { return Ok(false) };
    cluster.merge::<Value>(&place, &patch).await.map(|_| true)
}

/// What makes every webhook of a configuration trust `roots`; nothing if all do.
fn patch(configuration: &Value, roots: &str) -> Option<Value> {
    let bundle = json!(STANDARD.encode(roots));
    let mut webhooks = configuration["webhooks"].as_array()?.clone();
    if webhooks.iter().all(|webhook| webhook["clientConfig"]["caBundle"] == bundle) {
        return None;
    }
    for webhook in &mut webhooks {
        webhook["clientConfig"]["caBundle"] = bundle.clone();
    }
    let version = configuration["metadata"]["resourceVersion"].clone();
    Some(json!({"metadata": {"resourceVersion": version}, "webhooks": webhooks}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_configuration_with_other_roots_is_written_and_keeps_all_else() {
        let before =
            json!({"metadata": {"resourceVersion": "3"}, "webhooks": [{"name": "a", "clientConfig": {"service": {}}}]});
        let patch_ = patch(&before, "roots").unwrap();
        assert_eq!(patch_["webhooks"][0]["name"], "a");
        assert_eq!(patch_["metadata"]["resourceVersion"], "3");
        assert_eq!(patch(&json!({"webhooks": patch_["webhooks"]}), "roots"), None);
    }
}
