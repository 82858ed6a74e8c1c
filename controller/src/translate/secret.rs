//! A Gateway's certificate references go in; TLS secrets come out.

use ferromesh_api::gateway_api::SecretObjectReference;
use ferromesh_proto::envoy::config::core::v3::{DataSource, data_source::Specifier};
use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret::Type};

use crate::index::listeners::{certificate, value};
use crate::index::{Key, View};

/// The secret for a certificate reference of a Gateway, if it may be used and is there.
pub fn secret(view: &View, gateway: &Key, reference: &SecretObjectReference, name: &str) -> Option<Secret> {
    let found = certificate(view, gateway, reference).ok()?;
    let source = |key: &str| {
        let bytes = value(found, key)?;
        Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes.into())), ..DataSource::default() })
    };
    let certificate = TlsCertificate {
        certificate_chain: Some(source("tls.crt")?),
        private_key: Some(source("tls.key")?),
        ..TlsCertificate::default()
    };
    Some(Secret { name: name.to_owned(), r#type: Some(Type::TlsCertificate(certificate)) })
}
