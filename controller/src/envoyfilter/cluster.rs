//! Clusters, extension configs and a bootstrap go in and come out patched: `CLUSTER`, `EXTENSION_CONFIG`, `BOOTSTRAP`.

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::bootstrap::v3::Bootstrap;
use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::config::core::v3::TypedExtensionConfig;

use super::listener::merge_socket;
use super::merge::{Lists, merge_into};
use super::outcome::{Numbered, Run, Stage};
use super::patch::{ApplyTo, Context, Operation, Patch};

/// Patches one cluster; `hosts` are the services of an inbound one. False if it is removed.
pub fn patch_cluster(run: &mut Run<'_>, context: Context, hosts: &[String], cluster: &mut Cluster) -> bool {
    if run.is_empty() {
        return true;
    }
    for Numbered { number, patch, .. } in run.patches(ApplyTo::Cluster, context) {
        let fits = patch.cluster.as_ref().is_none_or(|matching| matching.fits(cluster, hosts));
        if patch.operation == Operation::Add || !fits {
            continue;
        }
        run.reach(number, Stage::Resource);
        if patch.operation == Operation::Remove {
            run.applied(number, 1);
            return false;
        }
        run.result(number, merge_cluster(cluster, patch));
    }
    true
}

/// Merges a cluster; a transport socket goes into the one of its name, also if that is one of the matches.
fn merge_cluster(cluster: &mut Cluster, patch: &Patch) -> Result<usize, String> {
    let mut value: Cluster = patch.typed()?;
    let lists = Lists::from(patch.operation);
    let Some(socket) = value.transport_socket.take() else {
        return merge_into(cluster, patch.packed()?, lists).map(|()| 1);
    };
    let own = cluster.transport_socket.iter_mut();
    let sockets =
        own.chain(cluster.transport_socket_matches.iter_mut().filter_map(|found| found.transport_socket.as_mut()));
    let mut merged = false;
    for own in sockets {
        if let Some(socket) = merge_socket(own, &socket, lists)? {
            *own = socket;
            merged = true;
        }
    }
    // What is merged already stands no more in the typed value.
    let rest = if merged { Any::pack(&value) } else { patch.packed()?.clone() };
    merge_into(cluster, &rest, lists).map(|()| 1)
}

/// The clusters that patches add.
pub fn added_clusters(run: &mut Run<'_>, contexts: &[Context]) -> Vec<Cluster> {
    let mut added = Vec::new();
    for context in contexts {
        for Numbered { number, patch, .. } in run.patches(ApplyTo::Cluster, *context) {
            if patch.operation == Operation::Add && !run.has_applied(number) {
                let result = patch.typed().map(|cluster| {
                    added.push(cluster);
                    1
                });
                run.result(number, result);
            }
        }
    }
    added
}

/// The extension configs that patches add, of those that are asked for; `None` asks for all.
pub fn extension_configs(
    run: &mut Run<'_>,
    contexts: &[Context],
    names: Option<&[String]>,
) -> Vec<TypedExtensionConfig> {
    let mut added: Vec<TypedExtensionConfig> = Vec::new();
    for context in contexts {
        for Numbered { number, patch, .. } in run.patches(ApplyTo::ExtensionConfig, *context) {
            if run.has_applied(number) {
                continue;
            }
            match patch.typed::<TypedExtensionConfig>() {
                Ok(config) => {
                    if names.is_none_or(|names| names.contains(&config.name)) {
                        // The last one of a name wins, as later patches do elsewhere.
                        added.retain(|other| other.name != config.name);
                        added.push(config);
                        run.applied(number, 1);
                    }
                }
                Err(why) => run.result(number, Err(why)),
            }
        }
    }
    added
}

/// Patches a bootstrap, before the proxy starts with it.
pub fn patch_bootstrap(run: &mut Run<'_>, contexts: &[Context], bootstrap: &mut Bootstrap) {
    for context in contexts {
        for Numbered { number, patch, .. } in run.patches(ApplyTo::Bootstrap, *context) {
            if !run.has_applied(number) {
                let merged =
                    patch.packed().and_then(|value| merge_into(bootstrap, value, Lists::from(patch.operation)));
                run.result(number, merged.map(|()| 1));
            }
        }
    }
}
