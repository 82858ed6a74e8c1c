//! One review, pure: the request's bytes in, the answer out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::{Value, json};

use super::metrics::{InjectorMetrics, Why};
use crate::decide::{self, Decision, Namespace, Reason};
use crate::inject::{self, Refused};
use crate::settings::Mesh;

/// Status of a pod that is refused: the request is well-formed and cannot be honoured.
const UNPROCESSABLE: u16 = 422;

#[derive(Deserialize)]
struct Review {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
}

/// Answers an AdmissionReview.
///
/// # Errors
/// If the bytes are no review: there is nobody to answer to but the caller.
pub fn answer(body: &[u8], mesh: &Mesh, metrics: &InjectorMetrics) -> Result<Value, String> {
    metrics.requests.inc();
    let failed = |reason: &'static str| metrics.failures.get_or_create(&Why { reason }).inc();
    let review: Review = serde_json::from_slice(body).map_err(|error| {
        failed("bad_review");
        format!("this is no AdmissionReview: {error}")
    })?;
    let Some(request) = review.request else {
        failed("bad_review");
        return Err("this AdmissionReview has no request".into());
    };
    let version = if review.api_version.is_empty() { "admission.k8s.io/v1" } else { &review.api_version };
    let response = match respond(&request, mesh) {
        Ok((Verdict::Left(reason), warnings)) => {
            metrics.skipped.get_or_create(&Why { reason: reason.word() }).inc();
            tracing::debug!(namespace = %request.namespace, %reason, "not injected");
            json!({ "uid": request.uid, "allowed": true, "warnings": warnings })
        }
        Ok((Verdict::Patched(patch), warnings)) => {
            metrics.success.inc();
            json!({ "uid": request.uid, "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch), "warnings": warnings })
        }
        Err(refusal) => {
            failed(refusal.word);
            tracing::info!(namespace = %request.namespace, reason = %refusal.message, "pod refused");
            let status = json!({ "code": UNPROCESSABLE, "reason": "Invalid", "message": refusal.message });
            json!({ "uid": request.uid, "allowed": false, "status": status })
        }
    };
    Ok(json!({ "apiVersion": version, "kind": "AdmissionReview", "response": response }))
}

enum Verdict {
    Left(Reason),
    Patched(Vec<u8>),
}

struct Refusal {
    word: &'static str,
    message: String,
}

fn respond(request: &Request, mesh: &Mesh) -> Result<(Verdict, Vec<String>), Refusal> {
    let bad = |word, message: String| Refusal { word, message };
    let pod: Pod = serde_json::from_value(request.object.clone())
        .map_err(|error| bad("bad_pod", format!("the object of this request is no Pod: {error}")))?;
    match decide::of_pod(&pod, Namespace::unlabelled(&request.namespace), mesh) {
        // Neither yes nor no: nobody would know which was meant.
        Decision::Skip(reason @ Reason::BadValue(_)) => return Err(bad(reason.word(), reason.to_string())),
        Decision::Skip(reason) => return Ok((Verdict::Left(reason), Vec::new())),
        Decision::Inject => {}
    }
    let injected = inject::inject(&pod, &request.namespace, mesh).map_err(|refused| {
        let word = match &refused {
            Refused::Annotations(_) => "bad_annotation",
            Refused::ProxyConfig(_) => "bad_proxy_config",
            Refused::Prometheus { .. } => "bad_prometheus_annotation",
            Refused::Override { .. } => "bad_override",
            Refused::Pod(_) => "bad_pod",
        };
        bad(word, refused.to_string())
    })?;
    let patch = inject::patch(&pod, &injected.pod)
        .and_then(|patch| serde_json::to_vec(&patch))
        .map_err(|error| bad("bad_pod", error.to_string()))?;
    Ok((Verdict::Patched(patch), injected.warnings))
}
