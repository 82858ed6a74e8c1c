//! What the bootstrap's `stats_config` asks for: which metrics there are, how names become tags, bounds of histograms.
//!
//! Rules: Envoy, StatsConfig, StatsMatcher, TagSpecifier and HistogramBucketSettings.

use std::sync::Arc;

use ferromesh_proto::envoy::config::metrics::v3 as proto;
use ferromesh_proto::envoy::r#type::matcher::v3::ListStringMatcher;

use super::tags::Tags;
use super::{BUCKETS, Key};
use crate::config::{At, ConfigError, required};
use crate::matcher::StringMatcher;

/// The settings of all metrics of one proxy.
#[derive(Debug)]
pub struct Settings {
    matcher: Matcher,
    pub(super) tags: Tags,
    /// The first that matches counts.
    buckets: Vec<(StringMatcher, Arc<[f64]>)>,
    default_buckets: Arc<[f64]>,
}

/// Which metrics there are.
#[derive(Debug, Default)]
enum Matcher {
    #[default]
    All,
    Nothing,
    Except(Vec<StringMatcher>),
    Only(Vec<StringMatcher>),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            matcher: Matcher::All,
            tags: Tags::default(),
            buckets: Vec::new(),
            default_buckets: Arc::from(BUCKETS.as_slice()),
        }
    }
}

impl Settings {
    /// From the bootstrap's `stats_config`.
    ///
    /// # Errors
    /// Names the field that cannot be used.
    pub fn decode(config: Option<&proto::StatsConfig>) -> Result<Self, ConfigError> {
        let Some(config) = config else { return Ok(Self::default()) };
        let buckets = config.histogram_bucket_settings.iter().enumerate();
        let buckets = buckets.map(|(place, one)| bounds(one).at(format!("histogram_bucket_settings[{place}]")));
        Ok(Self {
            matcher: config.stats_matcher.as_ref().map_or(Ok(Matcher::All), matcher).at("stats_matcher")?,
            tags: Tags::decode(config)?,
            buckets: buckets.collect::<Result<_, _>>()?,
            ..Self::default()
        })
    }

    /// Whether no metric at all is wanted.
    pub(super) fn is_off(&self) -> bool {
        matches!(self.matcher, Matcher::Nothing)
    }

    /// Whether the metric is wanted.
    pub(super) fn takes(&self, key: &Key) -> bool {
        match &self.matcher {
            Matcher::All => true,
            Matcher::Nothing => false,
            Matcher::Except(patterns) => !any(patterns, &key.original()),
            Matcher::Only(patterns) => any(patterns, &key.original()),
        }
    }

    /// Whether there are others than the default bounds.
    pub(super) fn has_bounds(&self) -> bool {
        !self.buckets.is_empty()
    }

    /// The upper bounds of a histogram's buckets.
    pub(super) fn bounds(&self, key: &Key) -> Arc<[f64]> {
        if self.buckets.is_empty() {
            return self.default_buckets.clone();
        }
        let original = key.original();
        let found = self.buckets.iter().find(|(pattern, _)| pattern.matches(&original));
        found.map_or(&self.default_buckets, |(_, bounds)| bounds).clone()
    }
}

fn any(patterns: &[StringMatcher], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

fn matcher(config: &proto::StatsMatcher) -> Result<Matcher, ConfigError> {
    use proto::stats_matcher::StatsMatcher;
    let list = |list: &ListStringMatcher| {
        let patterns = list.patterns.iter().enumerate();
        patterns
            .map(|(place, one)| StringMatcher::decode(one).at(format!("patterns[{place}]")))
            .collect::<Result<_, ConfigError>>()
    };
    Ok(match required(config.stats_matcher.as_ref(), "stats_matcher")? {
        StatsMatcher::RejectAll(true) => Matcher::Nothing,
        StatsMatcher::RejectAll(false) => Matcher::All,
        StatsMatcher::ExclusionList(patterns) => Matcher::Except(list(patterns).at("exclusion_list")?),
        StatsMatcher::InclusionList(patterns) => Matcher::Only(list(patterns).at("inclusion_list")?),
    })
}

fn bounds(config: &proto::HistogramBucketSettings) -> Result<(StringMatcher, Arc<[f64]>), ConfigError> {
    let pattern = StringMatcher::decode(required(config.r#match.as_ref(), "match")?).at("match")?;
    let mut bounds = config.buckets.clone();
    bounds.sort_by(f64::total_cmp);
    Ok((pattern, bounds.into()))
}
