//! What a configuration changes in the standard metrics: `metrics` of Istio's `stats.PluginConfig`, which its Telemetry
//! API's `overrides` become.
//!
//! Rules apply in their order: a metric may be dropped, labels removed, labels set to the values of expressions.

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::stats as proto;

use super::definitions::{Definitions, STANDARD, is_label};
use super::labels::KEY;
use crate::config::{At, ConfigError};
use crate::expression::Expressions;
use crate::format::Info;

/// Rules of one filter.
const MAX_RULES: usize = 100;

/// Labels that one rule sets.
const MAX_DIMENSIONS: usize = 50;

/// Stands for what an expression has no value for.
const UNKNOWN: &str = "unknown";

/// Changes to the standard metrics.
pub(super) struct Overrides {
    rules: Vec<Rule>,
    /// `None` without rules, as most filters are: what expressions need is not small.
    expressions: Option<Expressions>,
}

struct Rule {
    /// The metric's name; empty for all.
    metric: String,
    /// The expression that must be true.
    condition: Option<usize>,
    drop: bool,
    remove: Vec<String>,
    /// Labels and the expressions of their values.
    set: Vec<(String, usize)>,
}

/// The values of all expressions for one request or connection.
pub(super) struct Values(Vec<Option<String>>);

impl Values {
    /// Tells sets of values apart.
    pub(super) fn put(&self, key: &mut smallvec::SmallVec<[u8; KEY]>) {
        for value in &self.0 {
            key.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
            key.extend_from_slice(&[0xff, u8::from(value.is_some())]);
        }
    }

    fn text(&self, expression: usize) -> Option<&str> {
        self.0.get(expression)?.as_deref()
    }
}

impl Overrides {
    /// Decodes the rules.
    ///
    /// # Errors
    /// Names the rule and what of it is wrong, or cannot be evaluated.
    pub(super) fn decode(
        rules: &[proto::MetricConfig],
        definitions: &Definitions,
        node: &core::Node,
    ) -> Result<Self, ConfigError> {
        if rules.len() > MAX_RULES {
            return Err(ConfigError::new("metrics", format!("must have at most {MAX_RULES} entries")));
        }
        if rules.is_empty() {
            return Ok(Self { rules: Vec::new(), expressions: None });
        }
        let mut expressions = Expressions::new(node);
        let rules = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| Rule::decode(rule, definitions, &mut expressions).at(format!("metrics[{index}]")))
            .collect::<Result<_, _>>()?;
        Ok(Self { rules, expressions: Some(expressions) })
    }

    /// The values of a request or connection.
    pub(super) fn values(&self, info: &Info<'_>) -> Values {
        Values(self.expressions.as_ref().map(|all| all.values(info)).unwrap_or_default())
    }

    /// The labels of a metric, named with its `istio_`, as the rules leave them; `None` if it is dropped.
    pub(super) fn apply(
        &self,
        metric: &str,
        labels: &[(String, String)],
        values: &Values,
    ) -> Option<Vec<(String, String)>> {
        let name = metric.strip_prefix("istio_").unwrap_or(metric);
        let mut labels = labels.to_vec();
        for rule in self.rules.iter().filter(|rule| rule.is_for(name, values)) {
            if rule.drop {
                return None;
            }
            labels.retain(|(label, _)| !rule.remove.contains(label));
            for (label, expression) in &rule.set {
                let value = values.text(*expression).unwrap_or(UNKNOWN).to_owned();
                match labels.iter_mut().find(|(known, _)| known == label) {
                    Some((_, old)) => *old = value,
                    None => labels.push((label.clone(), value)),
                }
            }
        }
        Some(labels)
    }
}

impl Rule {
    fn decode(
        message: &proto::MetricConfig,
        definitions: &Definitions,
        expressions: &mut Expressions,
    ) -> Result<Self, ConfigError> {
        let name = message.name.as_str();
        if !name.is_empty() && !STANDARD.contains(&name) && !definitions.has(name) {
            let reason = format!("{name:?} is none of the standard metrics, and none that `definitions` has");
            return Err(ConfigError::new("name", reason));
        }
        if message.dimensions.len() > MAX_DIMENSIONS {
            return Err(ConfigError::new("dimensions", format!("must have at most {MAX_DIMENSIONS} entries")));
        }
        let condition = match message.r#match.as_str() {
            "" => None,
            text => Some(expressions.add(text).at("match")?),
        };
        let mut set = Vec::with_capacity(message.dimensions.len());
        for (label, text) in &message.dimensions {
            let at = || format!("dimensions[{label:?}]");
            if !is_label(label) {
                return Err(ConfigError::new(at(), "is not the name of a label"));
            }
            set.push((label.clone(), expressions.add(text).at(at())?));
        }
        let (metric, remove) = (message.name.clone(), message.tags_to_remove.clone());
        Ok(Self { metric, condition, drop: message.drop, remove, set })
    }

    fn is_for(&self, metric: &str, values: &Values) -> bool {
        let holds = |condition| values.text(condition) == Some("true");
        (self.metric.is_empty() || self.metric == metric) && self.condition.is_none_or(holds)
    }
}
