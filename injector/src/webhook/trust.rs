//! Which certificates the API server trusts: each replica's CA certificate in the webhook configuration's `caBundle`,
//! put there before it is used and taken out after its end.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferromesh_core::runtime::health::Check;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::Certificate;

/// How often it is looked whether the API server still trusts us.
const LOOK: Duration = Duration::from_secs(30);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(2);
/// Certificates in a bundle, at most; the newest stay. A replica that was pushed out puts itself back.
const MOST: usize = 16;

/// Why the API server does not trust us yet.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The API server.
    #[error("{0}; the injector's ServiceAccount needs get and patch on its MutatingWebhookConfiguration")]
    Api(#[from] kube::Error),
    /// The file.
    #[error("{path}: {source}")]
    File {
        /// Where.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Where the CA certificate is made known.
pub struct Trust {
    configuration: Option<(String, Api<DynamicObject>)>,
    file: Option<PathBuf>,
}

impl Trust {
    /// For a MutatingWebhookConfiguration of this name, and a file.
    ///
    /// # Errors
    /// If there is a name and no API server to be found.
    pub async fn new(configuration: Option<String>, file: Option<PathBuf>) -> Result<Self, TrustError> {
        let configuration = match configuration {
            None => None,
            Some(name) => {
                let client = Client::try_default().await?;
                let kind = ApiResource::erase::<MutatingWebhookConfiguration>(&());
                Some((name, Api::all_with(client, &kind)))
            }
        };
        Ok(Self { configuration, file })
    }

    /// Puts `ca_pem` where it is looked for, if it is not there.
    async fn publish(&self, ca_pem: &str) -> Result<(), TrustError> {
        if let Some(path) = &self.file {
            let error = |source| TrustError::File { path: path.display().to_string(), source };
            tokio::fs::write(path, ca_pem).await.map_err(error)?;
        }
        let Some((name, api)) = &self.configuration else { return Ok(()) };
        let object = api.get(name).await?;
        if let Some(patch) = patch(&object, ca_pem, SystemTime::now()) {
            // The version makes it fail if another replica was quicker; then it is looked at anew.
            api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            tracing::info!(configuration = %name, "the API server trusts this webhook");
        }
        Ok(())
    }
}

/// Keeps the certificate fresh and known, for ever. The next one is served only when the API server trusts it.
pub async fn keep_trusted(mut certificate: Certificate, trust: Trust, check: Check) {
    loop {
        let mut wait = LOOK;
        match trust.publish(certificate.ca_pem()).await {
            Ok(()) => check.ready(),
            Err(error) => {
                tracing::warn!(%error, "the API server cannot be told which certificate to trust");
                check.not_ready(error.to_string());
                wait = AGAIN;
            }
        }
        if certificate.is_due() {
            match certificate.next() {
                Ok(next) => match trust.publish(&next.ca_pem).await {
                    Ok(()) => certificate.serve(next),
                    Err(error) => tracing::warn!(%error, "the next certificate cannot be made known yet"),
                },
                Err(error) => tracing::warn!(%error, "no new certificate"),
            }
        }
        tokio::time::sleep(wait).await;
    }
}

/// The merge patch that adds `ca_pem` to every webhook's bundle and takes out what has ended; none if all is well.
fn patch(object: &DynamicObject, ca_pem: &str, now: SystemTime) -> Option<Value> {
    let mut webhooks = object.data.get("webhooks")?.as_array()?.clone();
    let mut changed = false;
    for webhook in &mut webhooks {
        let config = webhook.get_mut("clientConfig").and_then(Value::as_object_mut)?;
        let known = config.get("caBundle").and_then(Value::as_str).unwrap_or_default();
        let known = STANDARD.decode(known).ok().and_then(|pem| String::from_utf8(pem).ok()).unwrap_or_default();
        if known.contains(ca_pem.trim()) {
            continue;
        }
        let bundle = STANDARD.encode(bundle(&known, ca_pem, now));
        config.insert("caBundle".into(), Value::String(bundle));
        changed = true;
    }
    let version = object.metadata.resource_version.clone();
    changed.then(|| json!({ "metadata": { "resourceVersion": version }, "webhooks": webhooks }))
}

/// The certificates of `known` that have not ended, and ours as the last.
fn bundle(known: &str, ours: &str, now: SystemTime) -> String {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut all: Vec<String> = ::x509_parser::pem::Pem::iter_from_buffer(known.as_bytes())
        .filter_map(Result::ok)
        .filter(|pem| {
            X509Certificate::from_der(&pem.contents)
                .is_ok_and(|(_, cert)| u64::try_from(cert.validity().not_after.timestamp()).is_ok_and(|end| end > now))
        })
        .map(|pem| to_pem(&pem.contents))
        .collect();
    all.push(ours.trim().to_owned() + "\n");
    let from = all.len().saturating_sub(MOST);
    all[from..].concat()
}

fn to_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(minutes: u64) -> String {
        let names = ["a.b.svc".to_owned()];
        Certificate::make(&names, Duration::from_secs(minutes * 60)).unwrap().ca_pem().to_owned()
    }

    fn object(bundle: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": "x", "resourceVersion": "7" },
            "webhooks": [{ "name": "a", "failurePolicy": "Fail", "clientConfig": { "caBundle": STANDARD.encode(bundle) } }],
        }))
        .unwrap()
    }

    fn bundle_of(patch: &Value) -> String {
        let text = patch.pointer("/webhooks/0/clientConfig/caBundle").unwrap().as_str().unwrap();
        String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
    }

    #[test]
    fn another_replicas_certificate_stays_and_one_that_has_ended_goes() {
        let (other, ours) = (pem(60), pem(60));
        let patch = patch(&object(&other), &ours, SystemTime::now()).unwrap();
        let text = bundle_of(&patch).replace('\r', "");
        let others: Vec<_> =
            ::x509_parser::pem::Pem::iter_from_buffer(other.as_bytes()).map(|pem| pem.unwrap().contents).collect();
        let all: Vec<_> =
            ::x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()).map(|pem| pem.unwrap().contents).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0], others[0]);
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["webhooks"][0]["failurePolicy"], "Fail", "what is not ours stays");
        let later = SystemTime::now() + Duration::from_secs(2 * 3600);
        let text = bundle_of(&super::patch(&object(&text), &pem(600), later).unwrap());
        assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 1);
    }

    #[test]
    fn nothing_is_written_where_all_is_well_and_a_bundle_is_bounded() {
        let ours = pem(60);
        assert_eq!(patch(&object(&ours), &ours, SystemTime::now()), None);
        let many: String = (0..20).map(|_| pem(60)).collect();
        let text = bundle_of(&patch(&object(&many), &ours, SystemTime::now()).unwrap());
        assert_eq!(text.matches("BEGIN CERTIFICATE").count(), MOST);
        assert!(text.trim().ends_with(ours.trim().lines().last().unwrap()));
    }
}
