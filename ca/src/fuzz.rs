//! The bodies of this crate's fuzz targets (`fuzz/` runs them under libFuzzer, the test below over the same corpus).

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

use base64::Engine;
use ferromesh_core::SpiffeId;

pub use crate::authn::fuzz::bearer_token;
use crate::csr;

/// A certificate signing request: PEM, or its DER bytes.
pub fn csr(data: &[u8]) {
    let Ok(id) = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/web") else { return };
    let der = base64::engine::general_purpose::STANDARD.encode(data);
    let wrapped = format!("-----BEGIN CERTIFICATE REQUEST-----\n{der}\n-----END CERTIFICATE REQUEST-----\n");
    for pem in [std::str::from_utf8(data).unwrap_or_default(), &wrapped] {
        let checked = csr::check(pem, &id);
        // The answer says why; it never repeats the request at length.
        if let Err(error) = checked {
            assert!(error.to_string().len() < 64 * 1024);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn bearer_token() {
        replay("bearer_token", super::bearer_token);
    }

    #[test]
    fn csr() {
        replay("csr", super::csr);
    }
}
