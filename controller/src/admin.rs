//! What operators and the CLI read over HTTP: health, metrics, Istio's debug pages, and the objects with their status.
//!
//! Read only; private keys and the values of Secrets are left out.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use ferromesh_core::runtime::{BUILD, drain};
use ferromesh_proto::json::any_to_json;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::analyze::analyze;
use crate::index::{self, Key, View};
use crate::metrics::Metrics;
use crate::serve::hub::ProxySync;
use crate::serve::{Hub, Kind, ResourceSet};
use crate::status::{Facts, Statuses};

/// Names that `adsz` shows for each type.
const ADSZ_NAMES: usize = 1000;

/// The newest view, and whether it is complete.
#[derive(Clone)]
pub struct Published {
    /// The view.
    pub view: Arc<View>,
    /// Every source has reported all that it began with; proxies are served from then on.
    pub synced: bool,
    /// The number under which proxies were given it; 0 before the first.
    pub generation: u64,
    /// The status of every object that has one.
    pub statuses: Arc<Statuses>,
    /// What became of the patches of EnvoyFilters.
    pub facts: Arc<Facts>,
}

/// What the pages are made of.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) hub: Hub,
    pub(crate) metrics: Metrics,
    pub(crate) views: watch::Receiver<Published>,
}

impl Admin {
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.views.borrow().view)
    }
}

/// Serves until the drain begins.
pub(crate) async fn serve(listener: TcpListener, router: Router, drain: drain::Watch) {
    let ended = async move { drain.signaled().await };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(ended).await {
        tracing::error!(%error, "the admin server has ended");
    }
}

/// What may be seen from other machines.
pub(crate) fn health_router(admin: Admin) -> Router {
    Router::new()
        .route("/ready", get(ready))
        .route("/healthz", get(async || "live\n"))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

/// Every page.
pub(crate) fn router(admin: Admin) -> Router {
    Router::new()
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/version", get(async || Json(json!(BUILD))))
        .route("/debug/syncz", get(syncz))
        .route("/debug/adsz", get(adsz))
        .route("/debug/config_dump", get(config_dump))
        .route("/debug/registryz", get(registryz))
        .route("/debug/mesh", get(mesh))
        .route("/api/sync", get(sync))
        .route("/api/problems", get(problems))
        .route("/api/statuses", get(statuses))
        .route("/api/findings", get(findings))
        .route("/api/objects/{kind}", get(objects))
        .with_state(admin)
}

async fn ready(State(admin): State<Admin>) -> Response {
    if admin.views.borrow().synced {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not every source has reported all of its objects yet\n").into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.encode(admin.hub.len()) {
        Ok(text) => {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn syncz(State(admin): State<Admin>) -> Json<Value> {
    Json(admin.hub.sync().iter().map(sync_status).collect())
}

/// One proxy in the shape that `istioctl proxy-status` reads.
fn sync_status(proxy: &ProxySync) -> Value {
    let mut status = json!({
        "cluster_id": "Kubernetes",
        "proxy": proxy.proxy,
        "proxy_type": proxy.node.split('~').next().unwrap_or_default(),
        "proxy_version": proxy.user_agent,
        "istio_version": BUILD.version,
    });
    for sync in &proxy.types {
        let name = match sync.kind {
            Kind::Cluster => "cluster",
            Kind::Endpoint => "endpoint",
            Kind::Listener => "listener",
            Kind::Route => "route",
            Kind::ExtensionConfig => "extensionconfig",
            Kind::Secret | Kind::NameTable => continue,
        };
        status[format!("{name}_sent")] = json!(sync.sent);
        status[format!("{name}_acked")] = json!(sync.acked);
    }
    status
}

async fn adsz(State(admin): State<Admin>) -> Json<Value> {
    let proxies = admin.hub.sync();
    let client = |proxy: &ProxySync| {
        let watched = admin.hub.watched(proxy.connection, ADSZ_NAMES).into_iter();
        let watches: serde_json::Map<_, _> = watched
            .filter(|(kind, _)| proxy.of(*kind).is_some())
            .map(|(kind, names)| (kind.type_url().to_owned(), names.iter().map(|name| json!(**name)).collect()))
            .collect();
        json!({
            "connectionId": format!("{}-{}", proxy.proxy, proxy.connection),
            "node": proxy.node,
            "connectedAt": proxy.connected,
            "address": proxy.address,
            "identity": proxy.identity,
            "watches": watches,
        })
    };
    Json(json!({"totalClients": proxies.len(), "clients": proxies.iter().map(client).collect::<Value>()}))
}

async fn sync(State(admin): State<Admin>) -> Json<Value> {
    Json(json!(admin.hub.sync()))
}

#[derive(Deserialize)]
struct DumpQuery {
    #[serde(rename = "proxyID")]
    proxy: Option<String>,
}

async fn config_dump(State(admin): State<Admin>, Query(query): Query<DumpQuery>) -> Response {
    let Some(name) = query.proxy else {
        return (StatusCode::BAD_REQUEST, "give ?proxyID=<pod>.<namespace>; /debug/syncz lists them\n").into_response();
    };
    let hub = admin.hub.clone();
    // Translation may take a while.
    let found = name.clone();
    match tokio::task::spawn_blocking(move || hub.dump(&found)).await {
        Ok(Some(sets)) => {
            let configs: Vec<Value> = sets.iter().map(|(kind, set)| dump(*kind, set)).collect();
            Json(json!({"configs": configs})).into_response()
        }
        Ok(None) => {
            let text = format!("no proxy {name:?} is connected; /debug/syncz lists those that are\n");
            (StatusCode::NOT_FOUND, text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// One section of Envoy's config dump.
fn dump(kind: Kind, set: &ResourceSet) -> Value {
    let (message, list, item) = match kind {
        Kind::Cluster => ("ClustersConfigDump", "dynamic_active_clusters", "cluster"),
        Kind::Endpoint => ("EndpointsConfigDump", "dynamic_endpoint_configs", "endpoint_config"),
        Kind::Listener => ("ListenersConfigDump", "dynamic_listeners", "listener"),
        Kind::Route => ("RoutesConfigDump", "dynamic_route_configs", "route_config"),
        Kind::Secret => ("SecretsConfigDump", "dynamic_active_secrets", "secret"),
        Kind::ExtensionConfig => ("EcdsConfigDump", "ecds_filters", "ecds_filter"),
        // Envoy has none of this kind.
        Kind::NameTable => ("NdsConfigDump", "name_tables", "name_table"),
    };
    let one = |resource: &crate::serve::Resource| {
        let mut value = any_to_json(&resource.any, true);
        redact(&mut value);
        let version = format!("{:016x}", resource.version);
        match kind {
            Kind::Listener => json!({
                "name": *resource.name, "active_state": {"version_info": version, item: value},
            }),
            Kind::Secret => json!({"name": *resource.name, "version_info": version, item: value}),
            _ => json!({"version_info": version, item: value}),
        }
    };
    let resources: Vec<Value> = set.iter().map(one).collect();
    json!({"@type": format!("type.googleapis.com/envoy.admin.v3.{message}"), list: resources})
}

/// Takes out what must stay secret, wherever it is.
fn redact(value: &mut Value) {
    const SECRET: [&str; 9] = [
        "private_key",
        "privateKey",
        "private_key_provider",
        "privateKeyProvider",
        "password",
        "generic_secret",
        "genericSecret",
        "session_ticket_keys",
        "sessionTicketKeys",
    ];
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if SECRET.contains(&name.as_str()) {
                    *field = json!("[redacted]");
                } else {
                    redact(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

async fn registryz(State(admin): State<Admin>) -> Response {
    list(&admin, index::Kind::Service)
}

async fn mesh(State(admin): State<Admin>) -> Json<Value> {
    Json(json!(*admin.view().mesh))
}

async fn problems(State(admin): State<Admin>) -> Json<Value> {
    Json(json!(*admin.view().problems))
}

async fn statuses(State(admin): State<Admin>) -> Json<Value> {
    let statuses = Arc::clone(&admin.views.borrow().statuses);
    Json(json!(*statuses))
}

async fn findings(State(admin): State<Admin>) -> Response {
    let published = admin.views.borrow().clone();
    match tokio::task::spawn_blocking(move || analyze(&published.view, &published.facts)).await {
        Ok(findings) => Json(json!(findings)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Puts the status that was computed into an object.
fn merge_status(object: &mut Value, kind: index::Kind, key: &Key, statuses: &Statuses) {
    let status = match kind {
        index::Kind::GatewayClass => statuses.gateway_classes.get(key).map(|status| json!(status)),
        index::Kind::Gateway => statuses.gateways.get(key).map(|status| json!(status)),
        index::Kind::HttpRoute => statuses.http_routes.get(key).map(|status| json!(status)),
        index::Kind::GrpcRoute => statuses.grpc_routes.get(key).map(|status| json!(status)),
        index::Kind::EnvoyFilter => statuses.envoy_filters.get(key).map(|status| json!(status)),
        _ => None,
    };
    if let Some(status) = status {
        object["status"] = status;
    }
}

async fn objects(State(admin): State<Admin>, Path(kind): Path<String>) -> Response {
    match index::Kind::loosely(&kind) {
        Some(kind) => list(&admin, kind),
        None => {
            let known: Vec<&str> = index::Kind::ALL.iter().map(|kind| kind.as_str()).collect();
            let text = format!("no kind {kind:?}; known are {}\n", known.join(", "));
            (StatusCode::NOT_FOUND, text).into_response()
        }
    }
}

fn list(admin: &Admin, kind: index::Kind) -> Response {
    let published = admin.views.borrow().clone();
    let one = |object: &index::Object| {
        let mut json = object.to_json()?;
        merge_status(&mut json, kind, &object.key(), &published.statuses);
        Ok(json)
    };
    let objects: serde_json::Result<Vec<Value>> = published.view.objects(kind).iter().map(one).collect();
    match objects {
        Ok(mut items) => {
            if kind == index::Kind::Secret {
                items.iter_mut().for_each(hide_values);
            }
            Json(json!({"kind": format!("{kind}List"), "items": items})).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Of a Secret only the names of its values are shown.
fn hide_values(secret: &mut Value) {
    for part in ["data", "stringData"] {
        for value in secret[part].as_object_mut().into_iter().flat_map(|fields| fields.values_mut()) {
            *value = json!("[redacted]");
        }
    }
    if let Some(meta) = secret["metadata"].as_object_mut() {
        // `kubectl apply` keeps the whole object in an annotation.
        meta.remove("annotations");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_keys_are_never_shown() {
        let mut value =
            json!({"tls_certificate": {"private_key": {"inline_string": "s3cret"}, "certificate_chain": 1}});
        redact(&mut value);
        assert_eq!(value, json!({"tls_certificate": {"private_key": "[redacted]", "certificate_chain": 1}}));
        let mut secret = json!({"data": {"tls.key": "czNjcmV0"}, "metadata": {"name": "a", "annotations": {"x": "y"}}});
        hide_values(&mut secret);
        assert_eq!(secret["data"]["tls.key"], "[redacted]");
        assert!(!secret.to_string().contains("czNjcmV0") && !secret.to_string().contains("\"y\""));
    }
}
