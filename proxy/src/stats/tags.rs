//! Which parts of a metric's name become tags.
//!
//! Every extractor sees the original name; what they found is taken out of it at the end. Rules: Envoy, TagSpecifier.

use std::collections::BTreeSet;
use std::ops::Range;

use ferromesh_proto::envoy::config::metrics::v3 as proto;
use regex::{Captures, Regex};

use super::Key;
use crate::config::{At, ConfigError};
use crate::matcher::re2;

/// What Envoy finds in names without being told, by the names of its `well_known_names`.
const WELL_KNOWN: &[&str] = &[
    "envoy.cluster_name",
    "envoy.clientssl_prefix",
    "envoy.connection_limit_prefix",
    "envoy.dns_filter_prefix",
    "envoy.dynamo_operation",
    "envoy.dynamo_partition_id",
    "envoy.dynamo_table",
    "envoy.fault_downstream_cluster",
    "envoy.google_grpc_client_prefix",
    "envoy.grpc_bridge_method",
    "envoy.grpc_bridge_service",
    "envoy.http_conn_manager_prefix",
    "envoy.http_user_agent",
    "envoy.listener_address",
    "envoy.local_http_ratelimit_prefix",
    "envoy.local_listener_ratelimit_prefix",
    "envoy.local_network_ratelimit_prefix",
    "envoy.mongo_callsite",
    "envoy.mongo_cmd",
    "envoy.mongo_collection",
    "envoy.mongo_prefix",
    "envoy.ratelimit_prefix",
    "envoy.rbac_http_prefix",
    "envoy.rbac_policy_name",
    "envoy.rbac_prefix",
    "envoy.rds_route_config",
    "envoy.redis_prefix",
    "envoy.response_code",
    "envoy.response_code_class",
    "envoy.route",
    "envoy.scoped_rds_config",
    "envoy.ssl_cipher",
    "envoy.ssl_cipher_suite",
    "envoy.tcp_prefix",
    "envoy.thrift_prefix",
    "envoy.udp_prefix",
    "envoy.virtual_cluster",
    "envoy.virtual_host",
    "envoy.worker_id",
    "envoy.xds_resource_name",
];

/// The class of a status (`upstream_rq_2xx`), which is a tag without being told.
const CODE_CLASS: &str = "envoy_response_code_class";

/// A status (`upstream_rq_200`), which is one as well.
const CODE: &str = "envoy_response_code";

/// The marker of a place where the pattern looks ahead.
const AHEAD: &str = "ahead_";

/// How names become tags.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// Those that need not be told, by their names in Prometheus; `None` for all.
    defaults: Option<BTreeSet<String>>,
    extractors: Vec<Extractor>,
    /// A tag of a specifier's name is not looked for otherwise.
    overrides: bool,
}

#[derive(Debug)]
struct Extractor {
    /// Its name in Prometheus.
    name: String,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Fixed(String),
    Found(Pattern),
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// The groups that are cut out, and that are the value.
    groups: (usize, usize),
    /// Groups at which a `.` must follow.
    ahead: Vec<usize>,
}

/// A tag, and the part of the name that it was, if any.
type Found = (Option<Range<usize>>, (String, String));

impl Tags {
    pub(super) fn decode(config: &proto::StatsConfig) -> Result<Self, ConfigError> {
        let mut tags = Self {
            defaults: (config.use_all_default_tags == Some(false)).then(BTreeSet::new),
            extractors: Vec::new(),
            overrides: config.allow_default_tag_overrides == Some(true),
        };
        for (place, specifier) in config.stats_tags.iter().enumerate() {
            tags.add(specifier).at(format!("stats_tags[{place}]"))?;
        }
        Ok(tags)
    }

    fn add(&mut self, specifier: &proto::TagSpecifier) -> Result<(), ConfigError> {
        use proto::tag_specifier::TagValue;
        if specifier.tag_name.is_empty() {
            return Err(ConfigError::new("tag_name", "must be set"));
        }
        let name = sanitized(&specifier.tag_name);
        let rule = match &specifier.tag_value {
            Some(TagValue::FixedValue(value)) => Rule::Fixed(value.clone()),
            Some(TagValue::Regex(regex)) if !regex.is_empty() => Rule::Found(Pattern::decode(regex).at("regex")?),
            _ if WELL_KNOWN.contains(&specifier.tag_name.as_str()) => {
                if let Some(defaults) = &mut self.defaults {
                    defaults.insert(name);
                }
                return Ok(());
            }
            _ => {
                let reason = format!("must be set, since {:?} is none of Envoy's own tags", specifier.tag_name);
                return Err(ConfigError::new("regex", reason));
            }
        };
        self.extractors.push(Extractor { name, rule });
        Ok(())
    }

    /// The name without what became tags, and the tags.
    pub(super) fn of(&self, key: &Key) -> (String, Vec<(String, String)>) {
        // Labels that were given are not looked for in the name, as in Envoy.
        if key.is_series {
            return (key.name.clone(), key.tags.clone());
        }
        let mut found: Vec<Found> = key.own_tags().into_iter().filter(|(_, (name, _))| self.keeps(name)).collect();
        for extractor in &self.extractors {
            if found.iter().any(|(_, (name, _))| *name == extractor.name) {
                continue;
            }
            match &extractor.rule {
                Rule::Fixed(value) => found.push((None, (extractor.name.clone(), value.clone()))),
                Rule::Found(pattern) => found
                    .extend(pattern.find(&key.full).map(|(part, value)| (Some(part), (extractor.name.clone(), value)))),
            }
        }
        let name = without(&key.full, found.iter().filter_map(|(part, _)| part.clone()).collect());
        (name, found.into_iter().map(|(_, tag)| tag).collect())
    }

    /// Whether a tag that need not be told is looked for.
    fn keeps(&self, name: &str) -> bool {
        let is_default = self.defaults.as_ref().is_none_or(|defaults| defaults.contains(name));
        is_default && !(self.overrides && self.extractors.iter().any(|extractor| extractor.name == name))
    }
}

impl Key {
    /// The tags that are known, and where they are in the full name.
    fn own_tags(&self) -> Vec<Found> {
        let mut found = Vec::with_capacity(self.tags.len() + 1);
        let (full, name) = (self.full.as_bytes(), self.name.as_bytes());
        let (mut from, mut common) = (0, 0);
        for (tag, value) in &self.tags {
            let rest = full.get(from..).unwrap_or_default();
            let same =
                || name.get(common..).unwrap_or_default().iter().zip(rest).take_while(|(one, other)| one == other);
            let is_here = |at: &usize| {
                let after = rest.get(*at..).and_then(|rest| rest.strip_prefix(value.as_bytes()));
                after.is_some_and(|after| after.starts_with(b"."))
            };
            let Some(at) = (0..=same().count()).find(is_here) else { continue };
            let (begin, end) = (from + at, from + at + value.len() + 1);
            found.push((Some(begin..end), (tag.clone(), value.clone())));
            (from, common) = (end, common + at);
        }
        if let Some(digit) = code_class(&self.full) {
            let value = self.full.get(digit.clone()).unwrap_or_default().to_owned();
            found.push((Some(digit), (CODE_CLASS.to_owned(), value)));
        }
        if let Some(code) = code(&self.full) {
            let value = self.full.get(code.start + 1..code.end).unwrap_or_default().to_owned();
            found.push((Some(code), (CODE.to_owned(), value)));
        }
        found
    }
}

/// Where the `_200` of `..._rq_200` is.
fn code(full: &str) -> Option<Range<usize>> {
    let from = full.len().checked_sub(4)?;
    let (before, code) = (full.get(..from)?, full.get(from..)?.strip_prefix('_')?);
    let is_code = before.ends_with("_rq") && code.bytes().all(|byte| byte.is_ascii_digit());
    is_code.then_some(from..full.len())
}

/// Where the digit of `..._rq_2xx` is.
fn code_class(full: &str) -> Option<Range<usize>> {
    let before = full.strip_suffix("xx")?;
    let digit = before.as_bytes().last()?;
    let is_class = digit.is_ascii_digit() && before.get(..before.len() - 1)?.ends_with("_rq_");
    is_class.then(|| before.len() - 1..before.len())
}

impl Pattern {
    /// Envoy takes ECMAScript's patterns here. What its own and Istio's have of it beyond RE2's is `(?=\.)`, which is made
    /// an empty group after whose place is looked.
    fn decode(pattern: &str) -> Result<Self, ConfigError> {
        let mut parts = pattern.split(r"(?=\.)");
        let mut marked = parts.next().unwrap_or_default().to_owned();
        for (index, part) in parts.enumerate() {
            marked.push_str(&format!("(?P<{AHEAD}{index}>){part}"));
        }
        let regex = re2::search(&marked).map_err(|reason| ConfigError::new("", reason))?;
        let (ahead, own): (Vec<_>, Vec<_>) = regex
            .capture_names()
            .enumerate()
            .skip(1)
            .partition(|(_, name)| name.is_some_and(|name| name.starts_with(AHEAD)));
        let mut own = own.into_iter().map(|(group, _)| group);
        let first = own.next().unwrap_or_default();
        let groups = (first, own.next().unwrap_or(first));
        Ok(Self { groups, ahead: ahead.into_iter().map(|(group, _)| group).collect(), regex })
    }

    /// The part of the name that is cut out, and the tag's value.
    fn find(&self, full: &str) -> Option<(Range<usize>, String)> {
        let found: Captures<'_> = self.regex.captures(full)?;
        let follows = |group: &usize| {
            found.get(*group).is_none_or(|place| full.get(place.end()..).is_some_and(|rest| rest.starts_with('.')))
        };
        if self.groups.0 == 0 || !self.ahead.iter().all(follows) {
            return None;
        }
        let cut = found.get(self.groups.0)?;
        let value = found.get(self.groups.1).map(|value| value.as_str()).unwrap_or_default();
        Some((cut.range(), value.to_owned()))
    }
}

/// The text without these parts, which may overlap.
fn without(text: &str, mut parts: Vec<Range<usize>>) -> String {
    parts.sort_by_key(|part| part.start);
    let (mut kept, mut from) = (String::with_capacity(text.len()), 0);
    for part in parts {
        kept.push_str(text.get(from..part.start).unwrap_or_default());
        from = from.max(part.end);
    }
    kept.push_str(text.get(from..).unwrap_or_default());
    kept
}

/// A tag's name as Prometheus may have it.
pub(super) fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use ferromesh_proto::json;

    use super::*;

    fn tags(config: &str, full: &str, name: &str, own: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
        let config: proto::StatsConfig = json::from_yaml(config).unwrap();
        let own = own.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect();
        let key = Key { full: full.to_owned(), name: name.to_owned(), tags: own, is_series: false };
        Tags::decode(&config).unwrap().of(&key)
    }

    fn shown(tags: &(String, Vec<(String, String)>)) -> String {
        let labels: Vec<String> = tags.1.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{} {}", tags.0, labels.join(" "))
    }

    #[test]
    fn without_specifiers_the_own_tags_and_the_status_and_its_class_are_found() {
        let own = [("envoy_cluster_name", "up")];
        for (full, name, wanted) in [
            ("cluster.up.upstream_cx", "cluster.upstream_cx", "cluster.upstream_cx envoy_cluster_name=up"),
            (
                "cluster.up.upstream_rq_2xx",
                "cluster.upstream_rq_2xx",
                "cluster.upstream_rq_xx envoy_cluster_name=up envoy_response_code_class=2",
            ),
            (
                "cluster.up.internal.upstream_rq_503",
                "cluster.internal.upstream_rq_503",
                "cluster.internal.upstream_rq envoy_cluster_name=up envoy_response_code=503",
            ),
        ] {
            assert_eq!(shown(&tags("{}", full, name, &own)), wanted);
        }
    }

    #[test]
    fn istios_specifiers_take_the_place_of_the_own_tags() {
        let config = r#"
use_all_default_tags: false
stats_tags:
- {tag_name: cluster_name, regex: '^cluster(\.(.+);)'}
- {tag_name: response_code_class, regex: '_rq(_(\dxx))$'}
- {tag_name: http_conn_manager_listener_prefix, regex: '^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)'}
- {tag_name: mesh, fixed_value: one}
"#;
        let cluster = tags(
            config,
            "cluster.outbound|80||web;.upstream_rq_2xx",
            "cluster.upstream_rq_2xx",
            &[("envoy_cluster_name", "outbound|80||web;")],
        );
        assert_eq!(
            shown(&cluster),
            "cluster.upstream_rq cluster_name=outbound|80||web response_code_class=2xx mesh=one"
        );
        let listener = tags(config, "listener.a.http.1.2.3.4_80.x", "listener.http.x", &[]);
        assert_eq!(shown(&listener), "listener.a.http.x http_conn_manager_listener_prefix=1.2.3.4_80 mesh=one");
        let manager = tags(config, "listener_manager.http.1.x", "listener_manager.http.1.x", &[]);
        assert_eq!(shown(&manager), "listener_manager.http.1.x mesh=one");
    }

    #[test]
    fn a_tag_that_nobody_knows_needs_a_pattern() {
        let config = |text: &str| json::from_yaml::<proto::StatsConfig>(text).unwrap();
        let error = Tags::decode(&config("stats_tags: [{tag_name: mine}]")).unwrap_err();
        assert_eq!(error.path, "stats_tags[0].regex");
        Tags::decode(&config("stats_tags: [{tag_name: envoy.cluster_name}]")).unwrap();
        let error = Tags::decode(&config("stats_tags: [{tag_name: mine, regex: '('}]")).unwrap_err();
        assert_eq!(error.path, "stats_tags[0].regex");
    }
}
