//! What a caller shows: the `authorization` metadata, and the token in it.

use ferromesh_core::TrustDomain;
use tonic::metadata::{MetadataMap, MetadataValue};

use super::jwt::Claims;
use super::{MAX_TOKEN_LEN, bearer};

/// The metadata's value; or a token alone.
pub fn bearer_token(data: &[u8]) {
    let Ok(domain) = TrustDomain::new("cluster.local") else { return };
    let mut metadata = MetadataMap::new();
    // What no header can hold does not come.
    if let Ok(value) = MetadataValue::try_from(data) {
        metadata.insert("authorization", value);
    }
    let shown = bearer(&metadata).ok().flatten();
    if let Some(token) = shown {
        assert!(!token.is_empty() && token.len() <= MAX_TOKEN_LEN);
    }
    for token in shown.into_iter().chain(std::str::from_utf8(data)) {
        let Some(claims) = Claims::unverified(token) else { continue };
        assert_eq!(claims.user(), format!("system:serviceaccount:{}:{}", claims.namespace(), claims.account()));
        if let Some(id) = claims.id(&domain) {
            assert_eq!((id.namespace(), id.service_account()), (Some(claims.namespace()), Some(claims.account())));
        }
    }
}
