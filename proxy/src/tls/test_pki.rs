//! A small PKI made in the process, for tests.

use std::sync::Arc;

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3 as tls;
use ferromesh_proto::envoy::r#type::matcher::v3 as matcher;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls_pki_types::PrivateKeyDer;

use super::{Certificate, Secret, SecretKey, Validation};

/// A root that signs leaves.
pub(crate) struct Pki {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) root: rcgen::Certificate,
}

impl Pki {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), root }
    }

    pub(crate) fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// The secret with this root's trust.
    pub(crate) fn trust(&self) -> Secret {
        Secret::Validation(Arc::new(Validation::of_roots(vec![self.root.der().clone()]).unwrap()))
    }

    pub(crate) fn issue(&self, params: &CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        Leaf { cert: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// A well-formed X509-SVID.
    pub(crate) fn svid(&self, uri: &str) -> Leaf {
        self.issue(&svid_params(&[uri]))
    }

    /// A web server's certificate.
    pub(crate) fn web(&self, names: &[&str]) -> Leaf {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "web");
        params.distinguished_name.push(DnType::OrganizationName, "Acme, Inc");
        self.issue(&params)
    }
}

pub(crate) fn svid_params(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "test");
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params
}

pub(crate) struct Leaf {
    pub(crate) cert: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Leaf {
    pub(crate) fn secret(&self) -> Secret {
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        Secret::Certificate(Arc::new(Certificate::new(vec![self.cert.der().clone()], SecretKey::new(key)).unwrap()))
    }

    pub(crate) fn proto(&self) -> tls::TlsCertificate {
        tls::TlsCertificate {
            certificate_chain: inline(&self.cert.pem()),
            private_key: inline(&self.key.serialize_pem()),
            ..Default::default()
        }
    }
}

pub(crate) fn inline(text: &str) -> Option<core::DataSource> {
    let specifier = Some(core::data_source::Specifier::InlineString(text.to_owned()));
    Some(core::DataSource { specifier, ..Default::default() })
}

pub(crate) fn named(name: &str) -> tls::SdsSecretConfig {
    tls::SdsSecretConfig { name: name.to_owned(), ..Default::default() }
}

pub(crate) fn uri_matcher(pattern: matcher::string_matcher::MatchPattern) -> tls::SubjectAltNameMatcher {
    tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::Uri.into(),
        matcher: Some(matcher::StringMatcher { match_pattern: Some(pattern), ..Default::default() }),
        ..Default::default()
    }
}

/// Istio's form: own certificate `default`, roots `ROOTCA`, and these names.
pub(crate) fn mesh_context(sans: Vec<tls::SubjectAltNameMatcher>) -> tls::CommonTlsContext {
    let default = tls::CertificateValidationContext { match_typed_subject_alt_names: sans, ..Default::default() };
    tls::CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![named("default")],
        validation_context_type: Some(tls::common_tls_context::ValidationContextType::CombinedValidationContext(
            tls::common_tls_context::CombinedCertificateValidationContext {
                default_validation_context: Some(default),
                validation_context_sds_secret_config: Some(named("ROOTCA")),
                ..Default::default()
            },
        )),
        alpn_protocols: vec!["h2".into(), "http/1.1".into()],
        ..Default::default()
    }
}
