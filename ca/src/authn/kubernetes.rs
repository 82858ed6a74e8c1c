//! Bound service account tokens: the API server is asked (TokenReview); while it is away, its keys and the pods that
//! were known answer for a while.
//!
//! ```text
//! token ──> TokenReview ── no ──> refused
//!              │ └─ yes ──────────────────────────────┐
//!              └─ away (10 minutes at most): JWKS ────┴──> its pod is known, and calls from its own address ──> identity
//! ```

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ferromesh_api::cluster::{Cluster, ClusterError, Resource};
use ferromesh_core::{SpiffeId, TrustDomain};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use super::jwt::{Claims, Keys};
use super::pods::Pods;
use super::{Authenticator, AuthnError};

/// The audience that tokens for the CA have (Istio's).
pub const AUDIENCE: &str = "istio-ca";
/// How long tokens are believed by their signature alone.
const OFFLINE: Duration = Duration::from_secs(600);
/// How often the API server's keys are asked for.
const KEYS_EVERY: Duration = Duration::from_secs(60);
/// How long a TokenReview may take, before the keys answer.
const REVIEW: Duration = Duration::from_secs(5);
const REVIEWS: Resource = Resource::cluster_wide("authentication.k8s.io", "v1", "tokenreviews");
const NAME: &str = "the API server";

/// Tells whose a token is.
pub struct KubernetesTokens {
    cluster: Cluster,
    domain: TrustDomain,
    pods: Pods,
    keys: Arc<RwLock<Option<Keys>>>,
    /// When the API server answered last.
    heard: Arc<Mutex<Instant>>,
    tasks: tokio::task::JoinSet<()>,
    synced: watch::Receiver<bool>,
}

impl KubernetesTokens {
    /// Begins to follow pods and keys, on the caller's runtime.
    pub fn start(cluster: Cluster, domain: TrustDomain) -> Self {
        let (sender, synced) = watch::channel(false);
        let mut tokens = Self {
            cluster: cluster.clone(),
            domain,
            pods: Pods::default(),
            keys: Arc::default(),
            heard: Arc::new(Mutex::new(Instant::now())),
            tasks: tokio::task::JoinSet::new(),
            synced,
        };
        tokens.tasks.spawn(tokens.pods.clone().follow(cluster.clone(), sender));
        tokens.tasks.spawn(follow_keys(cluster, Arc::clone(&tokens.keys), Arc::clone(&tokens.heard)));
        tokens
    }

    /// Waits until the pods are known.
    pub async fn ready(&self) {
        // An error means that the task has ended, with the program.
        let _ = self.synced.clone().wait_for(|synced| *synced).await;
    }

    /// What the API server says. An error is that it could not be asked.
    async fn review(&self, token: &str, claims: &Claims) -> Result<Result<(), String>, ClusterError> {
        #[derive(Deserialize)]
        struct Review {
            #[serde(default)]
            status: Status,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Status {
            authenticated: bool,
            error: String,
            audiences: Vec<String>,
            user: User,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct User {
            username: String,
        }
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        });
        let place = REVIEWS.all(None);
        let asked = tokio::time::timeout(REVIEW, self.cluster.create::<Review>(&place, &body)).await;
        let Review { status } =
            asked.unwrap_or_else(|_| Err(ClusterError::Unreachable(format!("no answer in {REVIEW:?}"))))?;
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(if !status.authenticated {
            Err(if status.error.is_empty() { "it is not valid".into() } else { status.error })
        } else if !status.audiences.iter().any(|audience| audience == AUDIENCE) {
            Err(format!("it is not for the audience {AUDIENCE}"))
        } else if status.user.username != claims.user() {
            Err("it names another account than the API server".into())
        } else {
            Ok(())
        })
    }

    /// What the keys say that the API server had.
    fn offline(&self, token: &str, error: &ClusterError) -> Result<(), AuthnError> {
        let unavailable = |reason: String| AuthnError::Unavailable { name: NAME, reason };
        let silent = self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if silent > OFFLINE {
            return Err(unavailable(format!("{error}; it has been away for {} s", silent.as_secs())));
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let keys = keys.ok_or_else(|| unavailable(error.to_string()))?;
        keys.verify(token, AUDIENCE).map_err(|reason| AuthnError::Refused { name: NAME, reason })?;
        tracing::info!(%error, "a token was checked with the keys that are known");
        Ok(())
    }

    /// Whether the token's pod is there, and calls itself. `online`: the API server has just said that it is there.
    fn check_pod(&self, claims: &Claims, peer: Option<IpAddr>, online: bool) -> Result<(), AuthnError> {
        let refused = |reason: String| Err(AuthnError::Refused { name: NAME, reason });
        let Some(bound) = claims.pod() else {
            return refused("the token is not bound to a pod; mount a projected token (audience istio-ca)".into());
        };
        let what = format!("pod {}/{}", claims.namespace(), bound.name);
        let Some(peer) = peer else { return refused(format!("{what}: the caller has no address")) };
        let pod = self.pods.get(claims.namespace(), &bound.name).filter(|pod| pod.uid == bound.uid);
        let Some(pod) = pod else {
            // A pod's proxy may be faster than the news of the pod.
            return match online {
                true => Err(AuthnError::Unavailable { name: NAME, reason: format!("{what} is not known yet") }),
                false => refused(format!("{what} is not known")),
            };
        };
        if pod.account != claims.account() {
            return refused(format!("{what} runs as {:?}, not as {:?}", pod.account, claims.account()));
        }
        let peer = peer.to_canonical();
        if pod.ips.is_empty() {
            let reason = format!("the address of {what} is not known yet");
            return Err(AuthnError::Unavailable { name: NAME, reason });
        }
        if !pod.ips.iter().any(|ip| ip.to_canonical() == peer) {
            return refused(format!("the caller's address {peer} is not one of {what}"));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Authenticator for KubernetesTokens {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn authenticate(&self, token: &str, peer: Option<IpAddr>) -> Result<Option<SpiffeId>, AuthnError> {
        let Some(claims) = Claims::unverified(token) else { return Ok(None) };
        let online = match self.review(token, &claims).await {
            Ok(Ok(())) => true,
            Ok(Err(reason)) => return Err(AuthnError::Refused { name: NAME, reason }),
            Err(error) => {
                self.offline(token, &error)?;
                false
            }
        };
        self.check_pod(&claims, peer, online)?;
        let id = claims.id(&self.domain);
        id.map(Some).ok_or_else(|| AuthnError::Refused { name: NAME, reason: "its account has no valid name".into() })
    }
}

/// Keeps the API server's keys.
async fn follow_keys(cluster: Cluster, keys: Arc<RwLock<Option<Keys>>>, heard: Arc<Mutex<Instant>>) {
    loop {
        match fetch_keys(&cluster).await {
            Ok(fresh) => {
                *keys.write().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
                *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            }
            Err(error) => tracing::warn!(%error, "the API server's token keys"),
        }
        tokio::time::sleep(KEYS_EVERY).await;
    }
}

async fn fetch_keys(cluster: &Cluster) -> Result<Keys, ClusterError> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
    }
    let Discovery { issuer } = cluster.get_path("/.well-known/openid-configuration").await?;
    Ok(Keys { issuer, set: cluster.get_path("/openid/v1/jwks").await? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::pods::Pod;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIiwic3ViIjoic3lzdGVtOnNlcnZpY2VhY2NvdW50OmRlbW86d2ViIiwia3ViZXJuZXRlcy5pbyI6eyJuYW1lc3BhY2UiOiJkZW1vIiwicG9kIjp7Im5hbWUiOiJ3ZWItMCIsInVpZCI6IjEifSwic2VydmljZWFjY291bnQiOnsibmFtZSI6IndlYiIsInVpZCI6IjIifX19.AA";

    async fn tokens() -> KubernetesTokens {
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = json!({
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}], "current-context": "c",
        });
        std::fs::write(file.path(), config.to_string()).unwrap();
        let cluster = Cluster::connect(Some(file.path())).await.unwrap();
        KubernetesTokens::start(cluster, TrustDomain::default())
    }

    fn pod(uid: &str, account: &str, ips: &[&str]) -> Pod {
        Pod { uid: uid.into(), account: account.into(), ips: ips.iter().map(|ip| ip.parse().unwrap()).collect() }
    }

    #[tokio::test]
    async fn a_token_is_good_only_for_its_own_pod_from_its_own_address() {
        let tokens = tokens().await;
        let Some(claims) = Claims::unverified(TOKEN) else { panic!("the test's token cannot be read") };
        let peer: Option<IpAddr> = Some("10.0.0.1".parse().unwrap());
        let cases = [
            (pod("1", "web", &["10.0.0.1"]), peer, "ok"),
            (pod("1", "web", &["fd00::1", "10.0.0.1"]), Some("::ffff:10.0.0.1".parse().unwrap()), "ok"),
            (pod("1", "web", &["10.0.0.2"]), peer, "address"),
            (pod("1", "web", &[]), peer, "not known yet"),
            (pod("0", "web", &["10.0.0.1"]), peer, "is not known"),
            (pod("1", "admin", &["10.0.0.1"]), peer, "runs as"),
            (pod("1", "web", &["10.0.0.1"]), None, "no address"),
        ];
        for (pod, peer, expected) in cases {
            tokens.pods.put(("demo".into(), "web-0".into()), pod.clone());
            let found = match tokens.check_pod(&claims, peer, false) {
                Ok(()) => "ok".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expected), "{pod:?} {peer:?}: {found}");
        }
    }
}
