//! A service account token, pure: what it says of itself, and whether a known key of the API server signed it.

use ferromesh_core::{SpiffeId, TrustDomain};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde::Deserialize;

/// Seconds by which clocks may differ.
const LEEWAY: u64 = 10;

/// What stands in a bound service account token (Kubernetes, "service account token claims").
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Kubernetes {
    namespace: String,
    pod: Option<Reference>,
    serviceaccount: Reference,
}

/// An object that the token is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Claims {
    /// What a token says, believed by nobody yet; `None` if it is not a service account's.
    pub(crate) fn unverified(token: &str) -> Option<Self> {
        let claims: Self = jsonwebtoken::dangerous::insecure_decode(token).ok()?.claims;
        let account = format!("system:serviceaccount:{}:{}", claims.kubernetes.namespace, claims.account());
        (claims.sub == account).then_some(claims)
    }

    /// Namespace of the account, and of the pod.
    pub(crate) fn namespace(&self) -> &str {
        &self.kubernetes.namespace
    }

    /// The service account.
    pub(crate) fn account(&self) -> &str {
        &self.kubernetes.serviceaccount.name
    }

    /// The pod that the token was made for.
    pub(crate) fn pod(&self) -> Option<&Reference> {
        self.kubernetes.pod.as_ref()
    }

    /// The user that the API server says this is.
    pub(crate) fn user(&self) -> &str {
        &self.sub
    }

    /// The identity in the mesh.
    pub(crate) fn id(&self, domain: &TrustDomain) -> Option<SpiffeId> {
        SpiffeId::workload(domain, self.namespace(), self.account()).ok()
    }
}

/// The keys that the API server signs tokens with, and what it calls itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Keys {
    pub(crate) issuer: String,
    pub(crate) set: JwkSet,
}

impl Keys {
    /// Checks signature, issuer, audience and time of a token.
    pub(crate) fn verify(&self, token: &str, audience: &str) -> Result<Claims, String> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
        let key = match &header.kid {
            Some(id) => self.set.find(id).ok_or("it is signed with a key that is not known")?,
            None => return Err("it does not say which key signed it".into()),
        };
        let algorithm = key.common.key_algorithm.and_then(|named| named.to_string().parse().ok());
        // An algorithm that the key does not name is what its type allows; never a secret shared with us.
        let algorithms = match algorithm {
            Some(algorithm) => vec![algorithm],
            None => vec![jsonwebtoken::Algorithm::RS256, jsonwebtoken::Algorithm::ES256],
        };
        if !algorithms.contains(&header.alg) {
            return Err(format!("it is signed by {:?}, which is not its key's", header.alg));
        }
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY;
        let key = DecodingKey::from_jwk(key).map_err(|error| error.to_string())?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|error| error.to_string())?;
        Ok(claims.claims)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        }

        fn keys(&self) -> Keys {
            let point = self.0.public_key().as_ref();
            let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
            let key = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "k", "use": "sig", "x": x, "y": y});
            Keys { issuer: "https://api".into(), set: serde_json::from_value(json!({"keys": [key]})).unwrap() }
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let message = format!("{}.{}", encode(header), encode(claims));
            let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://api", "aud": ["istio-ca"], "exp": 4_000_000_000u64, "nbf": 1,
            "sub": "system:serviceaccount:demo:web",
            "kubernetes.io": {"namespace": "demo", "pod": {"name": "web-0", "uid": "1"}, "serviceaccount": {"name": "web", "uid": "2"}},
        })
    }

    #[test]
    fn a_token_is_good_only_with_its_key_audience_issuer_and_time() {
        let signer = Signer::new();
        let header = json!({"alg": "ES256", "kid": "k"});
        let good = signer.sign(&header, &claims());
        let found = signer.keys().verify(&good, "istio-ca").unwrap();
        assert_eq!(
            (found.namespace(), found.account(), found.user()),
            ("demo", "web", "system:serviceaccount:demo:web")
        );
        let with = |path: &str, value: Value| {
            let mut changed = claims();
            changed[path] = value;
            signer.sign(&header, &changed)
        };
        let bad = [
            with("aud", json!(["api"])),
            with("exp", json!(1000)),
            with("nbf", json!(3_999_999_999u64)),
            with("iss", json!("https://other")),
            Signer::new().sign(&header, &claims()),
            signer.sign(&json!({"alg": "ES256", "kid": "other"}), &claims()),
            signer.sign(&json!({"alg": "HS256", "kid": "k"}), &claims()),
            signer.sign(&json!({"alg": "none", "kid": "k"}), &claims()),
            good.rsplit_once('.').unwrap().0.to_owned() + ".",
        ];
        for token in bad {
            assert!(signer.keys().verify(&token, "istio-ca").is_err(), "{token}");
        }
    }

    #[test]
    fn what_is_no_service_account_token_is_nobodys() {
        let signer = Signer::new();
        let header = json!({"alg": "ES256", "kid": "k"});
        let mut other = claims();
        other["sub"] = json!("system:serviceaccount:demo:admin");
        assert!(Claims::unverified(&signer.sign(&header, &claims())).is_some());
        for token in
            ["", "a.b.c", "opaque", &signer.sign(&header, &other), &signer.sign(&header, &json!({"sub": "me"}))]
        {
            assert_eq!(Claims::unverified(token), None, "{token}");
        }
    }
}
