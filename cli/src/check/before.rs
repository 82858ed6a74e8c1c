//! What a cluster must have. Pure.

use super::Check;
use super::look::Seen;

/// The first Kubernetes with native sidecars switched on.
const OLDEST: (u32, u32) = (1, 29);
/// The oldest release of Gateway API whose kinds are read.
const OLDEST_GATEWAY_API: (u32, u32) = (1, 1);
/// What installs Gateway API.
const GATEWAY_API: &str = "kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.1.0/standard-install.yaml";
/// Its webhook says that a real Istio is there.
const ISTIO: &str = "istio-sidecar-injector";

/// Of the cluster, whoever installs.
pub(super) fn cluster(seen: &Seen) -> Vec<Check> {
    vec![version(&seen.version), nodes(seen), gateway_api(seen), istio(seen)]
}

/// Of who installs, and from where.
pub(super) fn installer(seen: &Seen) -> Vec<Check> {
    let what = "rights to install";
    let rights = if seen.forbidden.is_empty() {
        Check::good(what, "all that the chart makes may be made")
    } else {
        let seen_words = format!("may not create {}", seen.forbidden.join(", "));
        Check::error(what, seen_words, "let somebody with the ClusterRole cluster-admin install it")
    };
    let what = "Helm";
    let helm = match &seen.helm {
        Some(path) => Check::good(what, path.clone()),
        None => Check::error(what, "no helm in PATH", "install Helm 3.14 or later: https://helm.sh/docs/intro/install"),
    };
    vec![rights, helm]
}

/// The first two numbers of `v1.35.4-eks-1`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn version(version: &str) -> Check {
    let what = "Kubernetes";
    match numbers(version) {
        Some(found) if found >= OLDEST => Check::good(what, version),
        _ => Check::error(what, version, "upgrade the cluster to 1.29 or later: sidecars are native from there on"),
    }
}

fn nodes(seen: &Seen) -> Check {
    let what = "nodes";
    let good = |node: &&k8s_openapi::api::core::v1::Node| {
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        info.is_some_and(|info| {
            info.operating_system == "linux" && ["amd64", "arm64"].contains(&info.architecture.as_str())
        })
    };
    let usable = seen.nodes.iter().filter(good).count();
    let text = format!("{usable} of {} are Linux on amd64 or arm64", seen.nodes.len());
    match usable {
        0 => Check::error(what, text, "add a node: the images are for Linux on amd64 or arm64"),
        some if some < seen.nodes.len() => Check::warning(
            what,
            text,
            "keep meshed pods on those nodes (nodeSelector kubernetes.io/os, kubernetes.io/arch)",
        ),
        _ => Check::good(what, text),
    }
}

fn gateway_api(seen: &Seen) -> Check {
    let what = "Gateway API";
    match &seen.gateway_api {
        None => Check::warning(what, "not installed: there can be no Gateways and HTTPRoutes", GATEWAY_API),
        Some(release) => match numbers(release) {
            Some(found) if found < OLDEST_GATEWAY_API => {
                Check::warning(what, format!("{release} is older than v1.1.0"), GATEWAY_API)
            }
            _ => Check::good(what, if release.is_empty() { "of an unknown release" } else { release.as_str() }),
        },
    }
}

fn istio(seen: &Seen) -> Check {
    let what = "other meshes";
    let istio =
        seen.webhooks.iter().filter_map(|one| one.metadata.name.as_deref()).find(|name| name.starts_with(ISTIO));
    match istio {
        Some(name) => Check::warning(
            what,
            format!("Istio's injector is here ({name})"),
            "let each namespace ask for one of the two: install with a revision (--set revision=NAME) and label namespaces istio.io/rev=NAME",
        ),
        None => Check::good(what, "none"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Level;
    use super::*;

    fn level(checks: &[Check], what: &str) -> Level {
        checks.iter().find(|check| check.what == what).unwrap().level
    }

    #[test]
    fn a_cluster_is_judged_by_version_nodes_and_who_else_is_there() {
        let node = |os: &str| {
            let info = json!({
                "operatingSystem": os, "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "",
                "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "osImage": "", "systemUUID": "",
            });
            serde_json::from_value(json!({"metadata": {}, "status": {"nodeInfo": info}})).unwrap()
        };
        let mut seen = Seen { version: "v1.35.4".into(), nodes: vec![node("linux")], ..Seen::default() };
        seen.gateway_api = Some("v1.1.0".into());
        assert!(cluster(&seen).iter().all(|check| check.level == Level::Good), "{:?}", cluster(&seen));
        seen.nodes.push(node("windows"));
        seen.gateway_api = None;
        seen.webhooks = vec![serde_json::from_value(json!({"metadata": {"name": "istio-sidecar-injector"}})).unwrap()];
        let checks = cluster(&seen);
        for what in ["nodes", "Gateway API", "other meshes"] {
            assert_eq!(level(&checks, what), Level::Warning, "{what}");
        }
        seen.version = "v1.28.9-eks-1".into();
        seen.nodes.remove(0);
        assert_eq!(level(&cluster(&seen), "Kubernetes"), Level::Error);
        assert_eq!(level(&cluster(&seen), "nodes"), Level::Error);
    }

    #[test]
    fn whatever_does_not_hold_has_a_remedy() {
        let seen = Seen { forbidden: vec!["clusterroles"], ..Seen::default() };
        for check in cluster(&seen).into_iter().chain(installer(&seen)) {
            assert_eq!(check.level == Level::Good, check.remedy.is_empty(), "{check:?}");
        }
        assert_eq!(level(&installer(&seen), "rights to install"), Level::Error);
        assert_eq!(level(&installer(&seen), "Helm"), Level::Error);
    }
}
