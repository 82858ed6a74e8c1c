//! `/logging`: what is logged, by Envoy's names of loggers or by our modules.
//!
//! Source: Envoy, "Administration interface", `/logging`.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::{Admin, decoded, pairs, text};

/// Envoy's loggers whose matter one of our modules has.
const LOGGERS: &[(&str, &str)] = &[
    ("admin", "admin"),
    ("client", "upstream"),
    ("config", "xds"),
    ("connection", "connection"),
    ("conn_handler", "listener"),
    ("dns", "cluster::discovery"),
    ("filter", "http::filters"),
    ("grpc", "xds"),
    ("hc", "cluster::health"),
    ("http", "http"),
    ("http2", "codec"),
    ("pool", "upstream"),
    ("rbac", "policy"),
    ("router", "http::router"),
    ("runtime", "runtime"),
    ("secret", "tls"),
    ("stats", "stats"),
    ("tls", "tls"),
    ("upstream", "cluster"),
];

const USAGE: &str = "say ?level=debug for all, or ?paths=logger:level,logger:level; a logger is one of Envoy's or a module, \
    such as ferromesh_proxy::http\n";

/// Shows what is logged, after it was changed if the query says so.
pub(super) fn page(admin: &Admin, query: &str) -> Response<Full<Bytes>> {
    let Some(log) = &admin.set_log_level else {
        return text(StatusCode::BAD_REQUEST, "the log is not this proxy's to change\n");
    };
    let shown = log(None).and_then(|now| match asked(query, &now)? {
        Some(filter) => log(Some(&filter)),
        None => Ok(now),
    });
    match shown {
        Ok(filter) => text(StatusCode::OK, active(&filter)),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n{USAGE}")),
    }
}

/// The filter that a query makes of the one of now; `None` if it asks for no change.
fn asked(query: &str, now: &str) -> Result<Option<String>, String> {
    let mut pairs = pairs(query);
    let Some((name, value)) = pairs.next() else { return Ok(None) };
    if pairs.next().is_some() {
        return Err("one change at a time".into());
    }
    let value = decoded(value);
    match name {
        // All of them; a whole filter may stand here, too.
        "level" => Ok(Some(value.into_owned())),
        "paths" => {
            let mut filter = now.to_owned();
            for part in value.split(',') {
                let (logger, level) =
                    part.rsplit_once([':', '=']).ok_or_else(|| format!("{part:?} is not of the form logger:level"))?;
                filter = with(&filter, logger, level)?;
            }
            Ok(Some(filter))
        }
        logger => with(now, &decoded(logger), &value).map(Some),
    }
}

/// The filter with another level for one logger.
fn with(filter: &str, logger: &str, level: &str) -> Result<String, String> {
    let known =
        LOGGERS.iter().find(|(name, _)| *name == logger).map(|(_, module)| format!("ferromesh_proxy::{module}"));
    let target = match known {
        Some(target) => target,
        None if logger.contains("::") || logger.starts_with("ferromesh") => logger.to_owned(),
        None => return Err(format!("there is no logger {logger:?}")),
    };
    let is_other = |part: &&str| part.split_once('=').is_none_or(|(other, _)| other != target);
    let mut parts: Vec<&str> = filter.split(',').filter(is_other).collect();
    let part = format!("{target}={level}");
    parts.push(&part);
    Ok(parts.join(","))
}

/// A line for each part of a filter.
fn active(filter: &str) -> String {
    let mut lines = "active loggers:\n".to_owned();
    for part in filter.split(',') {
        let (logger, level) = part.split_once('=').unwrap_or(("all", part));
        lines.push_str(&format!("  {logger}: {level}\n"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logger_changes_alone_and_a_level_changes_all() {
        let now = "warning,ferromesh_proxy::http=info";
        for (query, filter) in [
            ("", Ok(None)),
            ("level=debug", Ok(Some("debug"))),
            (
                "paths=http:debug,hc:trace",
                Ok(Some("warning,ferromesh_proxy::http=debug,ferromesh_proxy::cluster::health=trace")),
            ),
            (
                "paths=ferromesh_proxy::xds:debug",
                Ok(Some("warning,ferromesh_proxy::http=info,ferromesh_proxy::xds=debug")),
            ),
            ("rbac=debug", Ok(Some("warning,ferromesh_proxy::http=info,ferromesh_proxy::policy=debug"))),
            ("nope=debug", Err("there is no logger \"nope\"")),
            ("paths=http", Err("\"http\" is not of the form logger:level")),
            ("level=info&paths=http:info", Err("one change at a time")),
        ] {
            let wanted = filter.map(|filter| filter.map(str::to_owned)).map_err(str::to_owned);
            assert_eq!(asked(query, now), wanted, "{query}");
        }
        assert_eq!(active(now), "active loggers:\n  all: warning\n  ferromesh_proxy::http: info\n");
    }

    #[test]
    fn every_logger_has_a_module() {
        let source = |path: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path);
        for (logger, module) in LOGGERS {
            let path = module.replace("::", "/");
            assert!(source(&format!("{path}.rs")).exists(), "{logger}: {module}");
        }
    }
}
