//! From `InternalRedirectPolicy` to [`InternalRedirect`].

use extension::allow_listed_routes::v3::AllowListedRoutesConfig;
use extension::previous_routes::v3::PreviousRoutesConfig;
use extension::safe_cross_scheme::v3::SafeCrossSchemeConfig;
use ferromesh_proto::envoy::config::core::v3::TypedExtensionConfig;
use ferromesh_proto::envoy::config::route::v3::InternalRedirectPolicy;
use ferromesh_proto::envoy::extensions::internal_redirect as extension;

use super::header_name;
use crate::config::{At, ConfigError, required, unpack};
use crate::route::internal_redirect::{InternalRedirect, Predicate};
use crate::text::Text;

/// Statuses that may be followed; Envoy passes others over.
const STATUSES: [u32; 5] = [301, 302, 303, 307, 308];

pub(super) fn decode(message: &InternalRedirectPolicy) -> Result<InternalRedirect, ConfigError> {
    if message.redirect_response_codes.len() > STATUSES.len() {
        return Err(ConfigError::new("redirect_response_codes", "must have at most 5 entries"));
    }
    let known = message.redirect_response_codes.iter().filter(|code| STATUSES.contains(code));
    let statuses = match message.redirect_response_codes.as_slice() {
        [] => vec![302],
        _ => known.filter_map(|code| u16::try_from(*code).ok()).collect(),
    };
    let mut copied = Vec::with_capacity(message.response_headers_to_copy.len());
    for (index, name) in message.response_headers_to_copy.iter().enumerate() {
        let name = header_name(name).at(format!("response_headers_to_copy[{index}]"))?;
        if name == http::header::HOST {
            return Err(ConfigError::new(format!("response_headers_to_copy[{index}]"), "must not be host"));
        }
        if copied.contains(&name) {
            return Err(ConfigError::new(format!("response_headers_to_copy[{index}]"), "is there twice"));
        }
        copied.push(name);
    }
    Ok(InternalRedirect {
        max: message.max_internal_redirects.unwrap_or(1),
        statuses,
        cross_scheme: message.allow_cross_scheme_redirect,
        copied,
        predicates: message
            .predicates
            .iter()
            .enumerate()
            .map(|(index, extension)| predicate(extension).at(format!("predicates[{index}]")))
            .collect::<Result<_, _>>()?,
    })
}

fn predicate(extension: &TypedExtensionConfig) -> Result<Predicate, ConfigError> {
    let any = required(extension.typed_config.as_ref(), "typed_config")?;
    if any.is::<PreviousRoutesConfig>() {
        Ok(Predicate::PreviousRoutes)
    } else if any.is::<SafeCrossSchemeConfig>() {
        Ok(Predicate::SafeCrossScheme)
    } else if any.is::<AllowListedRoutesConfig>() {
        let config: AllowListedRoutesConfig = unpack(any).at("typed_config")?;
        let names: Vec<Text> = config.allowed_route_names.into_iter().map(Text::from).collect();
        if names.iter().any(|name| name.is_empty()) {
            return Err(ConfigError::new("typed_config.allowed_route_names", "must not be empty names"));
        }
        Ok(Predicate::AllowListedRoutes(names))
    } else {
        Err(ConfigError::new("typed_config", format!("extension type {:?} is not implemented", any.type_url)))
    }
}
