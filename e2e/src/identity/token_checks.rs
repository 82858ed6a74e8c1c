//! Who gets a certificate: whose token, for whom, from where, and when.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::certify::{self, Authority};
use super::{NAMESPACE, Pod, Run};
use crate::mesh;

/// The audience of tokens for the CA.
const AUDIENCE: &str = "istio-ca";

impl Run {
    pub(super) fn tokens(&mut self) -> anyhow::Result<()> {
        let authority = self.authority()?;
        let (client, server) = (self.client.clone(), self.server.clone());
        let own = self.token("client", "client", AUDIENCE)?;
        let mine = format!("spiffe://cluster.local/ns/{NAMESPACE}/sa/client");
        let others = format!("spiffe://cluster.local/ns/{NAMESPACE}/sa/server");
        let ask = |from: &Pod, token: Option<&str>, wish: Option<&str>| certify::ask(&authority, from, token, wish);

        let seen = ask(&client, Some(&own), None)?;
        self.row("a token gives its own identity", seen.as_ref() == Ok(&mine), told(&seen));
        let seen = ask(&client, Some(&own), Some(&others))?;
        self.refused("it gives no other identity, asked for in the CSR", &seen, "asks for");
        let wrong = self.token("client", "client", "somebody-else")?;
        let seen = ask(&client, Some(&wrong), None)?;
        self.refused("a token of another audience gives none", &seen, "audience");
        let seen = ask(&server, Some(&own), None)?;
        self.refused("a token from another pod's address gives none", &seen, "address");
        let seen = ask(&client, None, None)?;
        self.refused("no token gives none", &seen, "neither a bearer token");

        let (still_good, expired) = self.forged(&own)?;
        let seen = ask(&client, Some(&still_good), None)?;
        self.row(
            "a token with the cluster's own signature and an hour left gives one",
            seen.as_ref() == Ok(&mine),
            told(&seen),
        );
        let seen = ask(&client, Some(&expired), None)?;
        self.refused("the same token, expired, gives none", &seen, "expired");
        self.deleted(&authority)
    }

    /// The token of a pod that is deleted, which gave a certificate before.
    fn deleted(&mut self, authority: &Authority) -> anyhow::Result<()> {
        let leaver = Pod::of(&self.mesh, "leaver")?;
        let token = self.token("client", "leaver", AUDIENCE)?;
        let before = certify::ask(authority, &leaver, Some(&token), None)?;
        // Its network stays for as long as its namespace is held; the API server forgets it at once.
        self.mesh.kubectl(&[
            "delete",
            "pod",
            "-n",
            NAMESPACE,
            "leaver",
            "--wait=false",
            "--grace-period=0",
            "--force",
        ])?;
        let first = certify::ask(authority, &leaver, Some(&token), None);
        let from_elsewhere = certify::ask(authority, &self.client.clone(), Some(&token), None)?;
        let seen = first.unwrap_or(from_elsewhere);
        self.row("the token of a pod gives a certificate as long as it is there", before.is_ok(), told(&before));
        let holds = seen.as_ref().is_err_and(|why| !why.contains("address"));
        self.row("the token of a deleted pod gives none", holds, told(&seen));
        Ok(())
    }

    fn refused(&mut self, what: &str, seen: &Result<String, String>, because: &str) {
        let holds = seen.as_ref().is_err_and(|why| why.contains(because));
        self.row(what, holds, told(seen));
    }

    fn authority(&self) -> anyhow::Result<Authority> {
        let service =
            ["get", "service", "-n", mesh::NAMESPACE, "ferromesh-ca", "-o", "jsonpath={.spec.clusterIP}:15012"];
        let roots =
            ["get", "configmap", "-n", NAMESPACE, "istio-ca-root-cert", "-o", r"jsonpath={.data.root-cert\.pem}"];
        Ok(Authority {
            address: self.mesh.kubectl(&service)?.parse().context("the CA's address")?,
            name: format!("ferromesh-ca.{}.svc", mesh::NAMESPACE),
            roots: self.mesh.kubectl(&roots)?,
        })
    }

    /// A token as the kubelet gets it for a pod.
    fn token(&self, account: &str, pod: &str, audience: &str) -> anyhow::Result<String> {
        let audience = format!("--audience={audience}");
        let name = format!("--bound-object-name={pod}");
        let bound = ["--bound-object-kind=Pod", &name, &audience];
        let token = self.mesh.kubectl(&[&["create", "token", "-n", NAMESPACE, account], bound.as_slice()].concat())?;
        Ok(token.trim().to_owned())
    }

    /// The same claims with an hour left, and with an hour gone by, signed with the cluster's key. The first is the control of
    /// the second.
    fn forged(&self, token: &str) -> anyhow::Result<(String, String)> {
        let header = token.split('.').next().context("a token has three parts")?;
        let claims = token.split('.').nth(1).context("a token has three parts")?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
        let key = PrivatePkcs8KeyDer::from_pem_file(self.mesh.cluster.service_account_key());
        let key = key.map_err(|error| anyhow::anyhow!("the cluster's key of tokens: {error}"))?;
        let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|error| anyhow::anyhow!("{error}"))?;
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let sign = |from: i64, to: i64| -> anyhow::Result<String> {
            let mut claims = claims.clone();
            claims["iat"] = (now + from).into();
            claims["nbf"] = (now + from).into();
            claims["exp"] = (now + to).into();
            let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims)?));
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
                .map_err(|_| anyhow::anyhow!("signing a token"))?;
            Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
        };
        Ok((sign(-60, 3600)?, sign(-7200, -3600)?))
    }
}

fn told(seen: &Result<String, String>) -> String {
    match seen {
        Ok(identity) => identity.clone(),
        Err(why) => format!("refused, {why}"),
    }
}
