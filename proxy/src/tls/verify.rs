//! Checks of a peer's certificate: chain, pins, X509-SVID form, names (X509-SVID specification; RFC 5280).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::Rejection;
use super::material::{Validation, sans_of};
use super::san::{San, dns_matches};

/// Names of a refused certificate that an error shows at most.
const SHOWN_NAMES: usize = 8;

/// The effective rules of one context.
#[derive(Debug)]
pub(super) struct Rules {
    validation: Validation,
    /// The certificate must be an X509-SVID.
    spiffe: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Which side of the handshake the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Server,
    Client,
}

impl Rules {
    /// `mesh` says that the roots are the mesh's own, so that only X509-SVIDs are good.
    pub(super) fn new(validation: Validation, mesh: bool) -> Result<Self, String> {
        if validation.anchors.is_empty() && !validation.sans.is_empty() && !validation.accept_untrusted {
            return Err(
                "names are matched but there is no trusted_ca: names that nobody vouches for prove nothing".into()
            );
        }
        let spiffe = mesh || validation.sans.iter().any(super::san::SanMatcher::is_spiffe);
        let algorithms = ferromesh_core::tls::provider().signature_verification_algorithms;
        Ok(Self { validation, spiffe, algorithms })
    }

    /// Whether a peer that passes has proved something.
    pub(super) fn verifies(&self) -> bool {
        let pinned = !(self.validation.hashes.is_empty() && self.validation.spkis.is_empty());
        (!self.validation.anchors.is_empty() && !self.validation.accept_untrusted) || pinned
    }

    fn check(
        &self,
        role: Role,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        wanted_name: Option<&ServerName<'_>>,
    ) -> Result<(), Error> {
        let Ok((_, parsed)) = X509Certificate::from_der(leaf) else {
            return Err(self.reject("it is not an X.509 certificate", &[]));
        };
        let names = sans_of(&parsed);
        if role == Role::Server {
            check_usage(&parsed).map_err(|reason| self.reject(reason, &names))?;
        }
        if !self.validation.anchors.is_empty() && !self.validation.accept_untrusted {
            self.check_chain(role, leaf, intermediates, now).map_err(|reason| self.reject(reason, &names))?;
        }
        self.check_pins(leaf, &parsed).map_err(|reason| self.reject(reason, &names))?;
        if self.spiffe {
            check_svid(leaf, &parsed).map_err(|reason| self.reject(reason, &names))?;
        }
        if !self.validation.sans.is_empty()
            && !names.iter().any(|name| self.validation.sans.iter().any(|matcher| matcher.matches(name)))
        {
            return Err(self.reject("none of its names is among the accepted ones", &names));
        }
        if let Some(wanted) = wanted_name {
            let wanted = wanted.to_str();
            let covers = |name: &San| match name {
                San::Dns(shown) => dns_matches(shown, &wanted),
                San::Ip(address) => address.to_string() == wanted,
                _ => false,
            };
            if !names.iter().any(covers) {
                return Err(self.reject(format!("it is not for the server name {wanted:?}"), &names));
            }
        }
        Ok(())
    }

    fn check_chain(
        &self,
        role: Role,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), String> {
        let cert = webpki::EndEntityCert::try_from(leaf).map_err(|error| format!("it cannot be read: {error}"))?;
        let usage = match role {
            Role::Server => webpki::KeyUsage::server_auth(),
            Role::Client => webpki::KeyUsage::client_auth(),
        };
        let path = cert
            .verify_for_usage(self.algorithms.all, &self.validation.anchors, intermediates, now, usage, None, None)
            .map_err(|error| format!("its chain leads to no trusted CA: {error}"))?;
        let depth = path.intermediate_certificates().count();
        match self.validation.max_depth {
            Some(limit) if depth > limit as usize => {
                Err(format!("its chain has {depth} intermediates, max_verify_depth is {limit}"))
            }
            _ => Ok(()),
        }
    }

    fn check_pins(&self, leaf: &CertificateDer<'_>, parsed: &X509Certificate<'_>) -> Result<(), &'static str> {
        let Validation { hashes, spkis, .. } = &self.validation;
        if hashes.is_empty() && spkis.is_empty() {
            return Ok(());
        }
        let hash: [u8; 32] = Sha256::digest(leaf).into();
        let spki: [u8; 32] = Sha256::digest(parsed.tbs_certificate.subject_pki.raw).into();
        if hashes.contains(&hash) || spkis.contains(&spki) {
            return Ok(());
        }
        Err("it is none of the pinned certificates (verify_certificate_hash, verify_certificate_spki)")
    }

    fn reject(&self, reason: impl Into<String>, names: &[San]) -> Error {
        let mut presented: Vec<String> = names.iter().take(SHOWN_NAMES).map(ToString::to_string).collect();
        if names.len() > SHOWN_NAMES {
            presented.push(format!("and {} more", names.len() - SHOWN_NAMES));
        }
        let expected = self.validation.sans.iter().take(SHOWN_NAMES).map(ToString::to_string).collect();
        Rejection { reason: reason.into(), presented, expected }.into_rustls()
    }

    fn hints(&self) -> Vec<DistinguishedName> {
        if self.validation.suppress_ca_list {
            return Vec::new();
        }
        self.validation.anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect()
    }
}

/// A handshake with forward secrecy is signed by the server's key, which its certificate must allow (RFC 5280, 4.2.1.3). Envoy
/// checks it of servers, whatever else it checks of them, and not of clients.
fn check_usage(parsed: &X509Certificate<'_>) -> Result<(), &'static str> {
    match parsed.key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.digital_signature() => Ok(()),
        Ok(Some(_)) => Err("its keyUsage has no digitalSignature, so that its key may not sign a handshake"),
        Err(_) => Err("its keyUsage cannot be read"),
    }
}

fn check_svid(leaf: &CertificateDer<'_>, parsed: &X509Certificate<'_>) -> Result<(), String> {
    ferromesh_core::identity::spiffe_id_of_der(leaf).map_err(|error| error.to_string())?;
    let has_subject = parsed.subject().iter().next().is_some();
    let critical = matches!(parsed.subject_alternative_name(), Ok(Some(names)) if names.critical);
    if !has_subject && !critical {
        return Err("its subject is empty, so its subject alternative names must be marked critical".into());
    }
    Ok(())
}

/// The part of rustls's two verifier traits that is the same for servers and clients: the peer owns its key.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.rules.algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.rules.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.rules.algorithms.supported_schemes()
        }
    };
}

/// Checks servers that we connect to.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) rules: Arc<Rules>,
    /// The certificate must be for the SNI that was sent.
    pub(super) check_name: bool,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = self.check_name.then_some(server_name);
        self.rules.check(Role::Server, end_entity, intermediates, now, name)?;
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

/// Checks clients that connect to us.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    rules: Arc<Rules>,
    mandatory: bool,
    hints: Vec<DistinguishedName>,
}

impl ClientVerifier {
    pub(super) fn new(rules: Arc<Rules>, mandatory: bool) -> Self {
        Self { hints: rules.hints(), rules, mandatory }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.rules.check(Role::Client, end_entity, intermediates, now, None)?;
        Ok(ClientCertVerified::assertion())
    }

    handshake_signatures!();
}
