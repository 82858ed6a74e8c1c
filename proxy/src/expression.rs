//! Expressions in CEL over the attributes of an exchange (Envoy, "Attributes").
//!
//! What an expression may name is checked when it is compiled: an attribute or function that is not implemented is refused
//! by its name, so that no expression is silently without value.

use std::sync::Arc;

use cel::common::types::{CelBool, CelDouble, CelInt, CelString, CelUInt};
use cel::common::value::Val;
use cel::{Context, Env, Program, Value};
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::json;

use crate::config::ConfigError;
use crate::format::Info;

mod attributes;
mod check;
mod node;

use attributes::Facts;
use check::Attribute;
use node::Node;

/// Longest expression, in bytes.
const MAX_LENGTH: usize = 1024;

/// Longest value that is kept, in bytes; clients decide what is in it.
const MAX_VALUE: usize = 256;

/// Room for the parser, which recurses with the nesting of an expression; only what is used of it is ever resident.
const PARSER_STACK: usize = 64 * 1024 * 1024;

/// Expressions that are evaluated together.
pub struct Expressions {
    programs: Vec<(String, Program)>,
    /// Attributes that they name, those of a root together.
    named: Vec<Attribute>,
    env: Arc<Env>,
    node: serde_json::Value,
}

impl Expressions {
    /// None yet. `node` is the proxy's own, for `xds.node`.
    pub fn new(node: &core::Node) -> Self {
        let metadata = node.metadata.as_ref().map(json::struct_to_json).unwrap_or_default();
        let locality = node.locality.clone().unwrap_or_default();
        let node = serde_json::json!({
            "id": node.id, "cluster": node.cluster, "metadata": metadata,
            "locality": {"region": locality.region, "zone": locality.zone, "sub_zone": locality.sub_zone},
        });
        Self { programs: Vec::new(), named: Vec::new(), env: Arc::new(Env::stdlib()), node }
    }

    /// Compiles an expression; gives its place, which is an earlier one's if the texts are equal.
    ///
    /// # Errors
    /// If it is no CEL, or names what is not implemented.
    pub fn add(&mut self, text: &str) -> Result<usize, ConfigError> {
        if let Some(place) = self.programs.iter().position(|(known, _)| known == text) {
            return Ok(place);
        }
        let (program, named) = self.compile(text)?;
        self.named.extend(named);
        self.named.sort_by_key(|attribute| (attribute.root, attribute.field));
        self.named.dedup_by_key(|attribute| (attribute.root, attribute.field));
        self.programs.push((text.to_owned(), program));
        Ok(self.programs.len() - 1)
    }

    fn compile(&self, text: &str) -> Result<(Program, Vec<Attribute>), ConfigError> {
        let wrong = |reason: String| ConfigError::new("", format!("expression {text:?}: {reason}"));
        if text.len() > MAX_LENGTH {
            return Err(ConfigError::new("", format!("an expression may have {MAX_LENGTH} bytes at most")));
        }
        let parse = || {
            let program = self.env.compile(text).map_err(|error| error.to_string())?;
            let named = check::names(program.expression())?;
            Ok((program, named))
        };
        std::thread::scope(|scope| {
            let parser = std::thread::Builder::new().stack_size(PARSER_STACK).spawn_scoped(scope, parse);
            let parser = parser.map_err(|error| wrong(format!("no thread to read it: {error}")))?;
            // A parser that gives up with a panic has not understood the text either.
            parser.join().unwrap_or_else(|_| Err("it cannot be read".to_owned())).map_err(wrong)
        })
    }

    /// The values of all, each at its place, as Envoy writes them into metrics; `None` where an expression has none,
    /// since an attribute is absent or operands do not fit.
    pub fn values(&self, info: &Info<'_>) -> Vec<Option<String>> {
        if self.programs.is_empty() {
            return Vec::new();
        }
        let facts = Facts { info, node: &self.node };
        let mut context = Context::with_env(self.env.clone());
        for group in self.named.chunk_by(|one, other| one.root == other.root) {
            let Some(first) = group.first() else { continue };
            let value = if first.field.is_empty() {
                (first.read)(&facts)
            } else {
                let fields = group.iter().filter_map(|named| (named.read)(&facts).map(|value| (named.field, value)));
                Some(Node::Group(fields.collect()))
            };
            if let Some(value) = value {
                context.add_variable_as_val(first.root, Box::new(value));
            }
        }
        let value = |program: &Program| text(&*Value::resolve_val(program.expression(), &context).ok()?);
        self.programs.iter().map(|(_, program)| value(program)).collect()
    }
}

/// A value as text; at most [`MAX_VALUE`] bytes of it.
fn text(value: &(dyn Val + '_)) -> Option<String> {
    let text = if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        text.inner().to_owned()
    } else if let Some(number) = value.downcast_ref::<CelInt>() {
        number.inner().to_string()
    } else if let Some(number) = value.downcast_ref::<CelUInt>() {
        number.inner().to_string()
    } else if let Some(number) = value.downcast_ref::<CelDouble>() {
        number.inner().to_string()
    } else if let Some(truth) = value.downcast_ref::<CelBool>() {
        truth.inner().to_string()
    } else {
        // A list or a map is no value of a label.
        return None;
    };
    let end = (0..=MAX_VALUE.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    Some(text.get(..end).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests;
