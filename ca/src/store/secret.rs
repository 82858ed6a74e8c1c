//! Where the CA's state outlives it in a cluster: one Secret that only the CA may read. Replicas share it; whoever
//! writes it first wins, by `resourceVersion`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferromesh_api::cluster::{Cluster, ClusterError, Resource};
use serde_json::{Value, json};

use crate::roots::State;

/// Core Secrets.
pub const SECRETS: Resource = Resource::namespaced("", "v1", "secrets");
/// The key with the state.
const KEY: &str = "state.json";
/// The key with the roots, for people.
const ROOT_KEY: &str = "root-cert.pem";

/// Why the Secret is not usable.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The API server refuses, or is away.
    #[error("the CA's Secret {name}: {source}")]
    Cluster {
        /// Namespace and name.
        name: String,
        /// What the API server says.
        source: ClusterError,
    },
    /// What it holds cannot be read.
    #[error("the CA's Secret {0} is damaged; restore it from a backup, or remove its data to begin with a new root")]
    Damaged(String),
}

/// The Secret.
#[derive(Clone, Debug)]
pub struct SecretStore {
    cluster: Cluster,
    namespace: String,
    name: String,
}

/// The state with the version of the Secret that it stands in.
pub type Versioned = (String, Option<State>);

impl SecretStore {
    /// The Secret of this name.
    pub fn new(cluster: Cluster, namespace: &str, name: &str) -> Self {
        Self { cluster, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The state, or `None` where the Secret holds none yet.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn load(&self) -> Result<Versioned, SecretError> {
        let place = SECRETS.named(&self.namespace, &self.name);
        match self.cluster.get::<Value>(&place).await {
            Ok(secret) => self.read(&secret),
            Err(error) if error.is_not_found() => Ok((String::new(), None)),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Reads the state of a Secret's JSON.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn read(&self, secret: &Value) -> Result<Versioned, SecretError> {
        let version =
            secret.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(text) = secret["data"][KEY].as_str() else { return Ok((version, None)) };
        // What is wrong is not said: it could show a piece of the key.
        let state = STANDARD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        state.map(|state| (version, Some(state))).ok_or_else(|| SecretError::Damaged(self.shown()))
    }

    /// Writes the state in place of `version` (empty: of none). `None` if another replica was first: load again.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn save(&self, state: &State, version: &str) -> Result<Option<String>, SecretError> {
        let json = serde_json::to_vec(state).map_err(|_| SecretError::Damaged(self.shown()))?;
        let mut body = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "data": {KEY: STANDARD.encode(json), ROOT_KEY: STANDARD.encode(state.bundle_pem())},
        });
        let written = if version.is_empty() {
            self.cluster.create::<Value>(&SECRETS.all(Some(&self.namespace)), &body).await
        } else {
            // A merge, so that what the chart wrote beside the data stays.
            body["metadata"]["resourceVersion"] = json!(version);
            self.cluster.merge::<Value>(&SECRETS.named(&self.namespace, &self.name), &body).await
        };
        match written {
            Ok(secret) => Ok(self.read(&secret).ok().map(|(version, _)| version)),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The namespace that it is in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn shown(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn failed(&self, source: ClusterError) -> SecretError {
        SecretError::Cluster { name: self.shown(), source }
    }
}
