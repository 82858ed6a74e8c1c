//! Who a workload is: SPIFFE IDs in and out of text and certificates (SPIFFE-ID and X509-SVID specifications).

mod svid;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use svid::{SvidError, spiffe_id_of_der};

/// Longest SPIFFE ID that is accepted, in bytes.
pub const MAX_ID_LEN: usize = 2048;
/// Longest trust domain, in bytes.
pub const MAX_TRUST_DOMAIN_LEN: usize = 255;
/// Istio's trust domain when nobody chose one.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

const SCHEME: &str = "spiffe://";

/// The authority part of a SPIFFE ID, such as `cluster.local`. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// A SPIFFE ID with or without a path, such as `spiffe://cluster.local/ns/default/sa/web`. Cloning is cheap.
///
/// Only the normal form is accepted (lower-case scheme and trust domain), so that equal identities are equal texts.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the path begins in `text`; its length if there is no path.
    path_at: usize,
}

/// Why a text is not a SPIFFE ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The text does not begin with `spiffe://`.
    #[error("a SPIFFE ID begins with `spiffe://` (in lower case)")]
    Scheme,
    /// The whole ID is too long.
    #[error("a SPIFFE ID has at most {MAX_ID_LEN} bytes, this one has {0}")]
    TooLong(usize),
    /// There is no trust domain.
    #[error("the trust domain is empty")]
    EmptyTrustDomain,
    /// The trust domain is too long.
    #[error("a trust domain has at most {MAX_TRUST_DOMAIN_LEN} bytes, this one has {0}")]
    TrustDomainTooLong(usize),
    /// The trust domain has a character that it may not have (ports, user info and capitals are such).
    #[error("a trust domain has only a-z, 0-9, `.`, `-` and `_`, not {0:?}")]
    TrustDomainChar(char),
    /// A path segment has a character that it may not have (queries, fragments and percent codes are such).
    #[error("a path segment has only a-z, A-Z, 0-9, `.`, `-` and `_`, not {0:?}")]
    PathChar(char),
    /// A path segment is empty; a `/` at the end makes one too.
    #[error("a path has no empty segment and no `/` at its end")]
    EmptySegment,
    /// A path segment is `.` or `..`.
    #[error("a path has no segment {0:?}")]
    DotSegment(String),
}

impl TrustDomain {
    /// Checks a trust domain's name.
    ///
    /// # Errors
    /// If it is empty, too long, or has a character outside `a-z0-9.-_`.
    pub fn new(name: &str) -> Result<Self, IdentityError> {
        if name.is_empty() {
            return Err(IdentityError::EmptyTrustDomain);
        }
        if name.len() > MAX_TRUST_DOMAIN_LEN {
            return Err(IdentityError::TrustDomainTooLong(name.len()));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        match name.chars().find(|c| !allowed(*c)) {
            Some(c) => Err(IdentityError::TrustDomainChar(c)),
            None => Ok(Self(name.into())),
        }
    }

    /// The name, such as `cluster.local`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID of the trust domain itself: what a CA certificate carries.
    pub fn id(&self) -> SpiffeId {
        let text = format!("{SCHEME}{self}");
        SpiffeId { path_at: text.len(), text: text.into() }
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self(DEFAULT_TRUST_DOMAIN.into())
    }
}

impl SpiffeId {
    /// Parses an ID; [`FromStr`] does the same.
    ///
    /// # Errors
    /// Names the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let rest = text.strip_prefix(SCHEME).ok_or(IdentityError::Scheme)?;
        if text.len() > MAX_ID_LEN {
            return Err(IdentityError::TooLong(text.len()));
        }
        let domain_len = rest.find('/').unwrap_or(rest.len());
        let (domain, path) = rest.split_at(domain_len);
        TrustDomain::new(domain)?;
        if let Some(path) = path.strip_prefix('/') {
            path.split('/').try_for_each(check_segment)?;
        }
        Ok(Self { text: text.into(), path_at: SCHEME.len() + domain_len })
    }

    /// The ID of a workload in Istio's form: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    ///
    /// # Errors
    /// If a name cannot be a path segment, or the whole is too long.
    pub fn workload(domain: &TrustDomain, namespace: &str, service_account: &str) -> Result<Self, IdentityError> {
        check_segment(namespace)?;
        check_segment(service_account)?;
        Self::parse(&format!("{SCHEME}{domain}/ns/{namespace}/sa/{service_account}"))
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain's name.
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..self.path_at).unwrap_or_default()
    }

    /// The path with its leading `/`, or nothing for the ID of a trust domain.
    pub fn path(&self) -> &str {
        self.text.get(self.path_at..).unwrap_or_default()
    }

    /// The namespace, if the ID has Istio's form.
    pub fn namespace(&self) -> Option<&str> {
        self.workload_parts().map(|(namespace, _)| namespace)
    }

    /// The service account, if the ID has Istio's form.
    pub fn service_account(&self) -> Option<&str> {
        self.workload_parts().map(|(_, account)| account)
    }

    /// Whether the ID belongs to `domain`.
    pub fn is_member_of(&self, domain: &TrustDomain) -> bool {
        self.trust_domain() == domain.as_str()
    }

    fn workload_parts(&self) -> Option<(&str, &str)> {
        let (namespace, account) = self.path().strip_prefix("/ns/")?.split_once("/sa/")?;
        (!namespace.contains('/') && !account.contains('/')).then_some((namespace, account))
    }
}

fn check_segment(segment: &str) -> Result<(), IdentityError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match segment {
        "" => Err(IdentityError::EmptySegment),
        "." | ".." => Err(IdentityError::DotSegment(segment.into())),
        _ => match segment.chars().find(|c| !allowed(*c)) {
            Some(c) => Err(IdentityError::PathChar(c)),
            None => Ok(()),
        },
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl serde::Serialize for SpiffeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for SpiffeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
