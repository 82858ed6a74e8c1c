//! Every key, certificate and kubeconfig of a cluster, made anew for it: what `kubeadm init phase certs` makes, in milliseconds.
//!
//! Names and groups are those that Kubernetes' own RBAC rules expect
//! (<https://kubernetes.io/docs/setup/best-practices/certificates/>).

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RsaKeySize, SanType,
};

use super::layout::{API_PORT, API_SERVICE, HUB, Layout, Spec, node_address};

/// A certificate authority that signs while a cluster is made.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// Where this authority's files go.
    folder: PathBuf,
}

/// Who a client is.
struct Client<'a> {
    file: &'a str,
    user: &'a str,
    group: Option<&'a str>,
}

/// Writes everything below `pki/`, and the host's kubeconfig for the API server at `api_port` of the loopback.
///
/// # Errors
/// If a file cannot be written.
pub fn write(layout: &Layout, spec: &Spec, api_port: u16) -> anyhow::Result<()> {
    let folder = layout.pki("");
    fs::create_dir_all(&folder)?;
    let ca = Authority::new("kubernetes", "ca", &folder)?;
    let front_proxy = Authority::new("front-proxy-ca", "front-proxy-ca", &folder)?;
    front_proxy.client(&Client { file: "front-proxy-client", user: "front-proxy-client", group: None })?;
    ca.client(&Client {
        file: "apiserver-kubelet-client",
        user: "kube-apiserver-kubelet-client",
        group: Some("system:masters"),
    })?;
    let cluster_names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    ca.server("apiserver", "kube-apiserver", &cluster_names, &[HUB.into(), API_SERVICE.into(), [127, 0, 0, 1].into()])?;

    // RSA as in most clusters: who verifies tokens by the API server's published keys meets RS256.
    let service_accounts = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    private(&folder.join("sa.key"), &service_accounts.serialize_pem())?;
    fs::write(folder.join("sa.pub"), service_accounts.public_key_pem())?;

    let inside = format!("https://{HUB}:{API_PORT}");
    let admin = Client { file: "admin", user: "kubernetes-admin", group: Some("system:masters") };
    ca.kubeconfig(&admin, &inside)?;
    for component in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        let user = format!("system:{component}");
        ca.kubeconfig(&Client { file: component, user: &user, group: None }, &inside)?;
    }
    for daemon in ["coredns", "agent"] {
        let user = format!("ferromesh-e2e:{daemon}");
        ca.kubeconfig(&Client { file: daemon, user: &user, group: None }, &inside)?;
    }
    for (number, node) in spec.node_names() {
        let user = format!("system:node:{node}");
        ca.kubeconfig(&Client { file: &node, user: &user, group: Some("system:nodes") }, &inside)?;
        ca.server(&format!("{node}-serving"), &user, &[&node], &[node_address(number).into()])?;
    }
    let outside = ca.kubeconfig_text(&admin, &format!("https://127.0.0.1:{api_port}"), &spec.name)?;
    private(&layout.kubeconfig(), &outside)
}

impl Authority {
    /// A new root; `NAME.crt` and `NAME.key` are written.
    fn new(common_name: &str, file: &str, folder: &Path) -> anyhow::Result<Self> {
        let mut root = CertificateParams::new(Vec::new())?;
        root.distinguished_name = rcgen::DistinguishedName::new();
        root.distinguished_name.push(DnType::CommonName, common_name);
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = root.self_signed(&key)?.pem();
        private(&folder.join(format!("{file}.key")), &key.serialize_pem())?;
        fs::write(folder.join(format!("{file}.crt")), &pem)?;
        Ok(Self { issuer: Issuer::new(root, key), pem, folder: folder.to_owned() })
    }

    /// Certificate and key of a client.
    fn issue_client(&self, client: &Client<'_>) -> anyhow::Result<(String, String)> {
        let mut leaf = leaf(client.user, ExtendedKeyUsagePurpose::ClientAuth)?;
        if let Some(group) = client.group {
            leaf.distinguished_name.push(DnType::OrganizationName, group);
        }
        let key = KeyPair::generate()?;
        Ok((leaf.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// `FILE.crt` and `FILE.key` of a client.
    fn client(&self, client: &Client<'_>) -> anyhow::Result<()> {
        let (certificate, key) = self.issue_client(client)?;
        self.pair(client.file, &certificate, &key)
    }

    /// `FILE.crt` and `FILE.key` of a server.
    fn server(&self, file: &str, common_name: &str, names: &[&str], addresses: &[IpAddr]) -> anyhow::Result<()> {
        let mut leaf = leaf(common_name, ExtendedKeyUsagePurpose::ServerAuth)?;
        for name in names {
            leaf.subject_alt_names.push(SanType::DnsName((*name).try_into()?));
        }
        leaf.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &self.issuer)?.pem();
        self.pair(file, &certificate, &key.serialize_pem())
    }

    fn pair(&self, file: &str, certificate: &str, key: &str) -> anyhow::Result<()> {
        private(&self.folder.join(format!("{file}.key")), key)?;
        fs::write(self.folder.join(format!("{file}.crt")), certificate)?;
        Ok(())
    }

    /// `FILE.kubeconfig` of a client, and its certificate and key beside it.
    fn kubeconfig(&self, client: &Client<'_>, server: &str) -> anyhow::Result<()> {
        self.client(client)?;
        let text = self.kubeconfig_text(client, server, "cluster")?;
        private(&self.folder.join(format!("{}.kubeconfig", client.file)), &text)
    }

    fn kubeconfig_text(&self, client: &Client<'_>, server: &str, name: &str) -> anyhow::Result<String> {
        let (certificate, key) = self.issue_client(client)?;
        let [ca, certificate, key] = [&self.pem, &certificate, &key].map(|pem| STANDARD.encode(pem));
        let user = client.user;
        // JSON is YAML, and nothing has to be quoted by hand.
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": ca}}],
            "users": [{"name": user, "user": {"client-certificate-data": certificate, "client-key-data": key}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
            "current-context": name,
        });
        serde_json::to_string_pretty(&config).context("kubeconfig")
    }
}

/// What all leaves have.
fn leaf(common_name: &str, purpose: ExtendedKeyUsagePurpose) -> anyhow::Result<CertificateParams> {
    let mut leaf = CertificateParams::new(Vec::new())?;
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    leaf.distinguished_name.push(DnType::CommonName, common_name);
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![purpose];
    Ok(leaf)
}

/// Writes a file that only its owner reads.
fn private(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("writing {}", file.display()))?;
    out.write_all(text.as_bytes())?;
    Ok(())
}
