use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Eku, IsCa, KeyPair, KeyUsagePurpose as Ku, SanType,
};

use super::*;

const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

#[test]
fn a_workload_id_is_istios_form_and_can_be_taken_apart() {
    let id = SpiffeId::workload(&TrustDomain::default(), "default", "web").unwrap();
    assert_eq!(id.as_str(), WEB);
    assert_eq!((id.namespace(), id.service_account()), (Some("default"), Some("web")));
    assert_eq!((id.trust_domain(), id.path()), ("cluster.local", "/ns/default/sa/web"));
    assert!(id.is_member_of(&TrustDomain::default()));
}

#[test]
fn every_rule_of_the_specification_refuses_what_breaks_it() {
    use IdentityError as E;
    let long_domain = format!("spiffe://{}/a", "a".repeat(256));
    let long_id = format!("spiffe://a/{}", "a".repeat(2038));
    let table = [
        ("http://cluster.local/a", E::Scheme),
        ("SPIFFE://cluster.local/a", E::Scheme),
        ("", E::Scheme),
        ("spiffe://", E::EmptyTrustDomain),
        ("spiffe:///a", E::EmptyTrustDomain),
        ("spiffe://Cluster.local/a", E::TrustDomainChar('C')),
        ("spiffe://user@host/a", E::TrustDomainChar('@')),
        ("spiffe://host:80/a", E::TrustDomainChar(':')),
        ("spiffe://ho%20st/a", E::TrustDomainChar('%')),
        ("spiffe://host?x", E::TrustDomainChar('?')),
        ("spiffe://hôst/a", E::TrustDomainChar('ô')),
        ("spiffe://host/a?b", E::PathChar('?')),
        ("spiffe://host/a#b", E::PathChar('#')),
        ("spiffe://host/a%41", E::PathChar('%')),
        ("spiffe://host/a\0", E::PathChar('\0')),
        ("spiffe://host/", E::EmptySegment),
        ("spiffe://host/a/", E::EmptySegment),
        ("spiffe://host/a//b", E::EmptySegment),
        ("spiffe://host/a/../b", E::DotSegment("..".into())),
        ("spiffe://host/.", E::DotSegment(".".into())),
        (&long_domain, E::TrustDomainTooLong(256)),
        (&long_id, E::TooLong(2049)),
    ];
    for (text, error) in table {
        assert_eq!(SpiffeId::parse(text), Err(error), "{text}");
    }
    let longest = format!("spiffe://a/{}", "a".repeat(2037));
    assert_eq!(longest.len(), MAX_ID_LEN);
    assert!(SpiffeId::parse(&longest).is_ok());
}

#[test]
fn a_namespace_cannot_smuggle_in_a_path() {
    let domain = TrustDomain::default();
    assert_eq!(SpiffeId::workload(&domain, "a/sa/admin", "b"), Err(IdentityError::PathChar('/')));
    assert_eq!(SpiffeId::workload(&domain, "a", ""), Err(IdentityError::EmptySegment));
    assert_eq!(SpiffeId::parse("spiffe://a/ns/x/y/sa/b").unwrap().namespace(), None);
    assert_eq!(SpiffeId::parse("spiffe://a/ns/x/sa/b/c").unwrap().service_account(), None);
}

fn leaf(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(WEB.try_into().unwrap())];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![Ku::DigitalSignature];
    params.extended_key_usages = vec![Eku::ServerAuth, Eku::ClientAuth];
    change(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[test]
fn a_leaf_gives_its_one_identity() {
    assert_eq!(spiffe_id_of_der(&leaf(|_| {})).unwrap().as_str(), WEB);
    let with_dns = leaf(|p| p.subject_alt_names.push(SanType::DnsName("web.default".try_into().unwrap())));
    assert_eq!(spiffe_id_of_der(&with_dns).unwrap().as_str(), WEB);
    assert_eq!(spiffe_id_of_der(&leaf(|p| p.extended_key_usages.clear())).unwrap().as_str(), WEB);
}

#[test]
fn a_certificate_that_breaks_a_rule_of_the_svid_specification_proves_nothing() {
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let table = [
        (leaf(|p| p.subject_alt_names.push(uri("spiffe://cluster.local/b"))), SvidError::UriCount(2)),
        (leaf(|p| p.subject_alt_names.clear()), SvidError::UriCount(0)),
        (leaf(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), SvidError::IsCa),
        (leaf(|p| p.key_usages.clear()), SvidError::KeyUsage("is missing")),
        (leaf(|p| p.key_usages.push(Ku::KeyCertSign)), SvidError::KeyUsage("keyCertSign and cRLSign are for CAs")),
        (leaf(|p| p.key_usages.push(Ku::CrlSign)), SvidError::KeyUsage("keyCertSign and cRLSign are for CAs")),
        (leaf(|p| p.key_usages = vec![Ku::KeyEncipherment]), SvidError::KeyUsage("digitalSignature must be set")),
        (leaf(|p| p.extended_key_usages = vec![Eku::ServerAuth]), SvidError::ExtendedKeyUsage),
        (leaf(|p| p.extended_key_usages = vec![Eku::ClientAuth]), SvidError::ExtendedKeyUsage),
        (
            leaf(|p| p.subject_alt_names = vec![uri("spiffe://a")]),
            SvidError::NoPath(SpiffeId::parse("spiffe://a").unwrap()),
        ),
        (
            leaf(|p| p.subject_alt_names = vec![uri("https://a/b")]),
            SvidError::Identity { uri: "https://a/b".into(), reason: IdentityError::Scheme },
        ),
    ];
    for (i, (cert, error)) in table.into_iter().enumerate() {
        assert_eq!(spiffe_id_of_der(&cert), Err(error), "case {i}");
    }
    let mut trailing = leaf(|_| {});
    trailing.push(0);
    assert!(matches!(spiffe_id_of_der(&trailing), Err(SvidError::Parse(_))));
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same_id(
        domain in "[a-z0-9._-]{1,40}", namespace in "[a-zA-Z0-9_-]{1,20}", account in "[a-zA-Z0-9_-]{1,20}",
    ) {
        let id = SpiffeId::workload(&TrustDomain::new(&domain).unwrap(), &namespace, &account).unwrap();
        prop_assert_eq!(&SpiffeId::parse(id.as_str()).unwrap(), &id);
        prop_assert_eq!(id.namespace(), Some(namespace.as_str()));
        prop_assert_eq!(id.service_account(), Some(account.as_str()));
        prop_assert_eq!(format!("{SCHEME}{}{}", id.trust_domain(), id.path()), id.as_str());
    }

    #[test]
    fn no_text_panics_and_what_parses_has_only_legal_bytes(text in "(spiffe://)?[ -~é/.%]{0,60}") {
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert_eq!(id.as_str(), &text);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/:.-_".contains(&b)));
        }
    }

    #[test]
    fn no_bytes_panic_the_certificate_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(spiffe_id_of_der(&bytes).is_err());
    }

    #[test]
    fn a_flipped_byte_never_panics_the_certificate_reader(at in 0usize..300, with in any::<u8>()) {
        let mut cert = leaf(|_| {});
        let at = at % cert.len();
        cert[at] ^= with;
        let _ = spiffe_id_of_der(&cert);
    }
}
