//! The mesh's objects: Services with an EndpointSlice each, in twenty namespaces.

use std::ops::Range;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Namespaces that services are spread over.
const NAMESPACES: u32 = 20;
/// Requests to the API server at a time.
const AT_A_TIME: usize = 32;

/// Makes services; namespaces with the first.
pub(super) fn create(cluster: &Cluster, services: Range<u32>, endpoints: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = client(&cluster.kubeconfig()).await?;
        if services.start == 0 {
            let api: Api<Namespace> = Api::all(client.clone());
            for number in 0..NAMESPACES {
                post(&api, json!({ "metadata": { "name": format!("scale-{number}") } })).await?;
            }
        }
        let make = |number| {
            let client = client.clone();
            async move {
                let namespace = namespace(number);
                post(&Api::<Service>::namespaced(client.clone(), &namespace), service(number)).await?;
                post(&Api::<EndpointSlice>::namespaced(client, &namespace), slice(number, endpoints, 0)).await
            }
        };
        stream::iter(services.map(make)).buffer_unordered(AT_A_TIME).try_collect::<()>().await
    })
}

/// Changes the first endpoint of a service; [`marker`] says what it becomes.
pub(super) async fn change(client: &Client, number: u32, endpoints: u32, change: u32) -> anyhow::Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &namespace(number));
    let patch = json!({ "endpoints": slice(number, endpoints, change)["endpoints"] });
    api.patch(&name(number), &PatchParams::default(), &Patch::Merge(patch))
        .await
        .context("changing an EndpointSlice")?;
    Ok(())
}

/// The address that only this change has.
pub(super) fn marker(change: u32) -> String {
    format!("10.255.{}.{}", change / 250, change % 250 + 1)
}

/// A client of the API server.
pub(super) async fn client(kubeconfig: &std::path::Path) -> anyhow::Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn name(number: u32) -> String {
    format!("service-{number}")
}

fn namespace(number: u32) -> String {
    format!("scale-{}", number % NAMESPACES)
}

fn service(number: u32) -> Value {
    json!({
        "metadata": { "name": name(number) },
        "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] },
    })
}

fn slice(number: u32, endpoints: u32, change: u32) -> Value {
    let address = |endpoint: u32| {
        let place = number * endpoints + endpoint;
        match (change, endpoint) {
            (0, _) | (_, 1..) => format!("10.{}.{}.{}", 128 + place / 62_500, place / 250 % 250, place % 250 + 1),
            _ => marker(change),
        }
    };
    let endpoint = |endpoint| json!({ "addresses": [address(endpoint)], "conditions": { "ready": true } });
    json!({
        "metadata": { "name": name(number), "labels": { "kubernetes.io/service-name": name(number) } },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>(),
    })
}

async fn post<K>(api: &Api<K>, object: Value) -> anyhow::Result<()>
where
    K: Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await.map(drop).context("making an object")
}

#[cfg(test)]
mod tests {
    use super::{marker, slice};

    #[test]
    fn a_change_gives_one_endpoint_an_address_that_no_other_has() {
        let (before, after) = (slice(7, 10, 0), slice(7, 10, 3));
        let text = |value: &serde_json::Value| value["endpoints"].to_string();
        assert!(!text(&before).contains(&marker(3)));
        assert_eq!(text(&after).matches(&marker(3)).count(), 1);
        assert_eq!(before["endpoints"].as_array().map(Vec::len), Some(10));
        assert_eq!(before["endpoints"][9], after["endpoints"][9]);
    }

    #[test]
    fn a_hundred_thousand_endpoints_have_addresses_of_their_own() {
        let all: std::collections::BTreeSet<String> = (0..10_000)
            .flat_map(|number| {
                let slice = slice(number, 10, 0);
                slice["endpoints"].as_array().cloned().unwrap_or_default()
            })
            .map(|endpoint| endpoint["addresses"][0].to_string())
            .collect();
        assert_eq!(all.len(), 100_000);
        assert!(all.iter().all(|address| address.trim_matches('"').parse::<std::net::Ipv4Addr>().is_ok()));
    }
}
