//! The volumes of the proxy: its token, the mesh's roots, and what the pod says of itself.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource, LocalObjectReference, ObjectFieldSelector,
    PodSpec, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};

use super::{Context, Parts};

/// Whom the token is for.
pub(super) const TOKEN_AUDIENCE: &str = "istio-ca";
/// Lifetime of a token; the kubelet renews it at 80 %.
const TOKEN_SECONDS: i64 = 43_200;

pub(super) fn volumes(context: &Context<'_>) -> Vec<Volume> {
    let file = |path: &str, field: &str| DownwardAPIVolumeFile {
        path: path.into(),
        field_ref: Some(ObjectFieldSelector { field_path: field.into(), api_version: None }),
        ..Default::default()
    };
    let token = ServiceAccountTokenProjection {
        audience: Some(TOKEN_AUDIENCE.into()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "istio-token".into(),
        user: None,
    };
    let token = VolumeProjection { service_account_token: Some(token), ..Default::default() };
    let mut volumes = vec![
        Volume {
            name: "istio-podinfo".into(),
            downward_api: Some(DownwardAPIVolumeSource {
                items: Some(vec![file("labels", "metadata.labels"), file("annotations", "metadata.annotations")]),
                ..Default::default()
            }),
            ..Default::default()
        },
        Volume {
            name: "istio-token".into(),
            projected: Some(ProjectedVolumeSource { sources: Some(vec![token]), ..Default::default() }),
            ..Default::default()
        },
        Volume {
            name: "istiod-ca-cert".into(),
            config_map: Some(ConfigMapVolumeSource {
                name: context.mesh.settings.trust_bundle.clone(),
                ..Default::default()
            }),
            ..Default::default()
        },
    ];
    volumes.extend(context.pod.volumes.iter().cloned());
    volumes
}

pub(super) fn mounts(context: &Context<'_>) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: Some(true),
        ..Default::default()
    };
    let mut mounts = vec![
        mount("istiod-ca-cert", "/var/run/secrets/istio"),
        mount("istio-token", "/var/run/secrets/tokens"),
        mount("istio-podinfo", "/etc/istio/pod"),
    ];
    mounts.extend(context.pod.volume_mounts.iter().cloned());
    mounts
}

/// Puts volumes and pull secrets into the pod; what has the same name is replaced.
pub(super) fn merge(spec: &mut PodSpec, parts: &Parts) {
    let volumes = spec.volumes.get_or_insert_default();
    for volume in &parts.volumes {
        match volumes.iter_mut().find(|known| known.name == volume.name) {
            Some(known) => known.clone_from(volume),
            None => volumes.push(volume.clone()),
        }
    }
    for name in &parts.image_pull_secrets {
        let secrets = spec.image_pull_secrets.get_or_insert_default();
        if !secrets.iter().any(|secret| secret.name == *name) {
            secrets.push(LocalObjectReference { name: name.clone() });
        }
    }
}
