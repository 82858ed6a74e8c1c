//! The body of this crate's fuzz target (`fuzz/` runs it under libFuzzer, the test below over the same corpus).

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

use crate::identity::spiffe_id_of_der;
use crate::{SpiffeId, TrustDomain};

/// A SPIFFE ID as text; or a certificate that holds one.
pub fn spiffe(data: &[u8]) {
    let _ = spiffe_id_of_der(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(id) = SpiffeId::parse(text) else { return };
    assert_eq!(id.as_str(), text);
    assert_eq!(SpiffeId::parse(id.as_str()).as_ref(), Ok(&id));
    assert!(!id.path().split('/').skip(1).any(|segment| segment.is_empty() || segment == "." || segment == ".."));
    let Ok(domain) = TrustDomain::new(id.trust_domain()) else { panic!("{id} is of no trust domain") };
    if let (Some(namespace), Some(account)) = (id.namespace(), id.service_account()) {
        assert_eq!(SpiffeId::workload(&domain, namespace, account).as_ref(), Ok(&id));
    }
}

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn spiffe() {
        replay("spiffe", super::spiffe);
    }
}
