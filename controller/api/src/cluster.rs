//! The API server as our daemons speak to it: objects by path, server-side apply, list and watch, a Lease for one writer.
//!
//! kube carries the requests (credentials, TLS, kubeconfig). Bodies are read here and not by it, since it logs what it
//! cannot read, and Secrets are among that.
//!
//! # Invariants
//! * What an object holds is never in a log or an error.
//! * An object that cannot be read costs nothing but itself.

#[cfg(feature = "forward")]
mod forward;
pub mod lease;
mod resource;
pub mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use resource::{Place, Resource};

/// The largest answer that is read whole, in bytes.
const LARGEST: usize = 256 << 20;
/// Longest time of a call that is not a watch.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why the API server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no usable kubeconfig, and this is no pod.
    #[error("no cluster: {0}; run in a pod, set KUBECONFIG, or give --kubeconfig")]
    Config(String),
    /// The file is not a kubeconfig.
    #[error("kubeconfig {}: {reason}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be reached, or the connection broke.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// It refuses.
    #[error("the API server says {code} {reason} to {what}: {message}")]
    Status {
        /// HTTP status.
        code: u16,
        /// Its reason, such as `Forbidden`.
        reason: String,
        /// Its sentence.
        message: String,
        /// The verb and path.
        what: String,
    },
    /// Its answer is not what it should be. The answer itself is not shown.
    #[error("the API server's answer to {what} cannot be read (line {line}, column {column})")]
    Answer {
        /// The verb and path.
        what: String,
        /// Line of the answer.
        line: usize,
        /// Column of the answer.
        column: usize,
    },
    /// Its answer is larger than is read.
    #[error("the API server's answer to {0} is larger than {LARGEST} bytes")]
    TooLarge(String),
}

impl ClusterError {
    /// The HTTP status, if the API server answered with one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// No such object, or no such kind.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Somebody else was first, or changed it meanwhile.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The service account may not.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.code(), Some(401 | 403))
    }

    /// The word for it in a metric.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) | Self::Kubeconfig { .. } => "config",
            Self::Unreachable(_) => "unreachable",
            Self::Status { code: 401 | 403, .. } => "forbidden",
            Self::Status { code: 404, .. } => "not_found",
            Self::Status { code: 409, .. } => "conflict",
            Self::Status { code: 422, .. } => "invalid",
            Self::Status { .. } => "status",
            Self::Answer { .. } => "answer",
            Self::TooLarge(_) => "too_large",
        }
    }
}

/// What the API server answers where it refuses.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    message: String,
    reason: String,
}

/// A connection to one API server; clones share it.
#[derive(Clone)]
pub struct Cluster {
    client: kube::Client,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster")
    }
}

impl Cluster {
    /// With the kubeconfig at `path`; or else as kubectl and pods find theirs.
    ///
    /// # Errors
    /// If there is none, or it cannot be used. The API server itself is not asked yet.
    pub async fn connect(path: Option<&Path>) -> Result<Self, ClusterError> {
        Self::connect_as(path, None).await
    }

    /// The same, as a context of the kubeconfig says; its current one where none is given.
    ///
    /// # Errors
    /// The same, and if there is no such context.
    pub async fn connect_as(path: Option<&Path>, context: Option<&str>) -> Result<Self, ClusterError> {
        let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
        let bad = |error: &dyn std::error::Error| ClusterError::Config(chain(error));
        let config = match (path, context) {
            (Some(path), _) => {
                let wrong = |reason: String| ClusterError::Kubeconfig { path: path.into(), reason };
                let file = Kubeconfig::read_from(path).map_err(|error| wrong(error.to_string()))?;
                kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|error| wrong(error.to_string()))?
            }
            (None, Some(_)) => kube::Config::from_kubeconfig(&options).await.map_err(|error| bad(&error))?,
            (None, None) => kube::Config::infer().await.map_err(|error| bad(&error))?,
        };
        let client = kube::Client::try_from(config).map_err(|error| ClusterError::Config(error.to_string()))?;
        Ok(Self { client })
    }

    /// One object.
    ///
    /// # Errors
    /// If it is not there, may not be read, or is not a `T`.
    pub async fn get<T: DeserializeOwned>(&self, place: &Place<'_>) -> Result<T, ClusterError> {
        self.call("GET", &place.path(), None).await
    }

    /// All objects of a kind that have these labels (a selector as kubectl's `-l` takes it; empty is all).
    ///
    /// # Errors
    /// If they may not be read, or one is not a `T`.
    pub async fn list<T: DeserializeOwned>(&self, place: &Place<'_>, labels: &str) -> Result<Vec<T>, ClusterError> {
        #[derive(Deserialize)]
        #[serde(bound = "T: DeserializeOwned")]
        struct List<T> {
            items: Vec<T>,
        }
        let query =
            if labels.is_empty() { String::new() } else { format!("?labelSelector={}", resource::escape(labels)) };
        let list: List<T> = self.call("GET", &(place.path() + &query), None).await?;
        Ok(list.items)
    }

    /// The namespace that the kubeconfig's context is in.
    pub fn default_namespace(&self) -> &str {
        self.client.default_namespace()
    }

    /// What stands at a path that is no object's, such as `/openid/v1/jwks`.
    ///
    /// # Errors
    /// If it may not be read, or is not a `T`.
    pub async fn get_path<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClusterError> {
        // The token keys come as application/jwk-set+json and as nothing else.
        self.exchange("GET", path, "*/*", None).await
    }

    /// Makes an object; `place` has no name.
    ///
    /// # Errors
    /// If it is there already ([`ClusterError::is_conflict`]), or not accepted.
    pub async fn create<T: DeserializeOwned>(&self, place: &Place<'_>, body: &Value) -> Result<T, ClusterError> {
        self.call("POST", &place.path(), Some((body, "application/json"))).await
    }

    /// Puts an object in place of another; with `metadata.resourceVersion` only in place of that one.
    ///
    /// # Errors
    /// If it changed meanwhile ([`ClusterError::is_conflict`]), or is not accepted.
    pub async fn replace<T: DeserializeOwned>(&self, place: &Place<'_>, body: &Value) -> Result<T, ClusterError> {
        self.call("PUT", &place.path(), Some((body, "application/json"))).await
    }

    /// Merges a patch into an object (RFC 7386); with `metadata.resourceVersion` only into that version.
    ///
    /// # Errors
    /// If it changed meanwhile ([`ClusterError::is_conflict`]), or is not accepted.
    pub async fn merge<T: DeserializeOwned>(&self, place: &Place<'_>, patch: &Value) -> Result<T, ClusterError> {
        self.call("PATCH", &place.path(), Some((patch, "application/merge-patch+json"))).await
    }

    /// Server-side apply: `manager` owns what `body` says, and nothing else. Takes fields from other managers.
    ///
    /// # Errors
    /// If it is not accepted.
    pub async fn apply<T: DeserializeOwned>(
        &self,
        place: &Place<'_>,
        body: &Value,
        manager: &str,
    ) -> Result<T, ClusterError> {
        let path = format!("{}?fieldManager={manager}&force=true", place.path());
        // JSON is YAML.
        self.call("PATCH", &path, Some((body, "application/apply-patch+yaml"))).await
    }

    /// Deletes an object; what it owns goes after it.
    ///
    /// # Errors
    /// If it is not there, or may not be deleted.
    pub async fn delete(&self, place: &Place<'_>) -> Result<(), ClusterError> {
        let path = format!("{}?propagationPolicy=Background", place.path());
        self.call::<serde::de::IgnoredAny>("DELETE", &path, None).await.map(drop)
    }

    /// The same, if it is still the object with this UID.
    ///
    /// # Errors
    /// The same, and if it is another one ([`ClusterError::is_conflict`]).
    pub async fn delete_this(&self, place: &Place<'_>, uid: &str) -> Result<(), ClusterError> {
        let path = format!("{}?propagationPolicy=Background", place.path());
        let options = serde_json::json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
        let options = Some((&options, "application/json"));
        self.call::<serde::de::IgnoredAny>("DELETE", &path, options).await.map(drop)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        path: &str,
        body: Option<(&Value, &'static str)>,
    ) -> Result<T, ClusterError> {
        self.exchange(verb, path, "application/json", body).await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        path: &str,
        accept: &'static str,
        body: Option<(&Value, &'static str)>,
    ) -> Result<T, ClusterError> {
        let what = format!("{verb} {}", path.split('?').next().unwrap_or_default());
        let answer = async {
            let response = self.send(verb, path, accept, body).await?;
            read_whole(response, &what).await
        };
        let answer = tokio::time::timeout(TIMEOUT, answer)
            .await
            .unwrap_or_else(|_| Err(ClusterError::Unreachable(format!("no answer to {what} in {TIMEOUT:?}"))))?;
        serde_json::from_slice(&answer).map_err(|error| ClusterError::Answer {
            what,
            line: error.line(),
            column: error.column(),
        })
    }

    /// Sends a request; an answer that is not a success is an error.
    async fn send(
        &self,
        verb: &'static str,
        path: &str,
        accept: &'static str,
        body: Option<(&Value, &'static str)>,
    ) -> Result<http::Response<Body>, ClusterError> {
        let unreachable = |error: &dyn std::error::Error| ClusterError::Unreachable(chain(error));
        let mut request = http::Request::builder().method(verb).uri(path).header("accept", accept);
        let mut bytes = Vec::new();
        if let Some((value, kind)) = body {
            request = request.header("content-type", kind);
            bytes = serde_json::to_vec(value).map_err(|error| unreachable(&error))?;
        }
        let request = request.body(Body::from(bytes)).map_err(|error| unreachable(&error))?;
        let response = self.client.send(request).await.map_err(|error| unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let what = format!("{verb} {}", path.split('?').next().unwrap_or_default());
        let status = read_whole(response, &what).await.unwrap_or_default();
        let status: Status = serde_json::from_slice(&status).unwrap_or_default();
        Err(ClusterError::Status { code, reason: status.reason, message: status.message, what })
    }
}

async fn read_whole(response: http::Response<Body>, what: &str) -> Result<Vec<u8>, ClusterError> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ClusterError::Unreachable(chain(&error)))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > LARGEST {
                return Err(ClusterError::TooLarge(what.to_owned()));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}
