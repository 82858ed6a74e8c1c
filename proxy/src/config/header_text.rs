//! Texts that become part of a message's head and that Envoy's protos do not mark as such: names that `auto_host_rewrite`
//! and health checks send, cookies that hash policies set, and others. A line break in one of them adds lines to somebody's
//! request. What the protos mark, [`ferromesh_proto::rules`] checks.

use super::ConfigError;
use super::supported::Table;

/// Fields whose texts must have no line break.
const ROWS: Table = &[
    ("envoy.config.endpoint.v3.Endpoint", "hostname"),
    ("envoy.config.endpoint.v3.Endpoint.HealthCheckConfig", "hostname"),
    ("envoy.config.core.v3.Http1ProtocolOptions", "default_host_for_http_10"),
    ("envoy.config.route.v3.RedirectAction", "scheme_redirect"),
    ("envoy.config.route.v3.RouteAction.HashPolicy.Cookie", "name path"),
    ("envoy.config.route.v3.CorsPolicy", "allow_methods allow_headers expose_headers max_age"),
    ("envoy.extensions.filters.http.cors.v3.CorsPolicy", "allow_methods allow_headers expose_headers max_age"),
    ("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni"),
];

/// The fields of a message whose texts are checked.
pub(super) fn fields(message: &str) -> &'static str {
    ROWS.iter().find(|(known, _)| *known == message).map(|(_, fields)| *fields).unwrap_or_default()
}

/// Checks a text, if it is of one of the `fields`.
///
/// # Errors
/// Says what is wrong with the text.
pub(super) fn check(fields: &str, field: &str, text: &[u8]) -> Result<(), ConfigError> {
    let breaks = |byte: &u8| matches!(byte, 0 | b'\r' | b'\n');
    if text.iter().any(breaks) && fields.split(' ').any(|known| known == field) {
        return Err(ConfigError::new("", "must not have NUL, CR or LF, which would begin another header line"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_names_fields_that_there_are() {
        for (message, fields) in ROWS {
            let known = ferromesh_proto::fields::message(message).unwrap_or_else(|| panic!("{message}"));
            for field in fields.split(' ') {
                assert!(known.named(field).is_some(), "{message} has no {field}");
            }
        }
    }

    #[test]
    fn only_line_breaks_and_nul_in_a_rows_field_are_refused() {
        let fields = fields("envoy.config.endpoint.v3.Endpoint");
        for (field, text, is_taken) in [
            ("hostname", "a\tb", true),
            ("hostname", "a\nb", false),
            ("hostname", "a\0", false),
            ("other", "a\nb", true),
        ] {
            assert_eq!(check(fields, field, text.as_bytes()).is_ok(), is_taken, "{field} {text:?}");
        }
    }
}
