//! JSON log lines: an object whose texts are compiled formats.

use ferromesh_proto::prost_types;
use serde_json::Value;

use super::{Escape, Formatter, Info, Part, Rendered, push};
use crate::config::{At, ConfigError};
use crate::matcher::metadata;

/// A compiled JSON object.
#[derive(Debug, Clone)]
pub struct JsonFormatter {
    root: Node,
    omit_empty: bool,
}

#[derive(Debug, Clone)]
enum Node {
    Object(Vec<(String, Node)>),
    List(Vec<Node>),
    Text(Formatter),
    /// A number, bool or null of the configuration.
    Constant(String),
}

impl JsonFormatter {
    /// Compiles an object.
    ///
    /// # Errors
    /// Names the key whose text is malformed.
    pub fn decode(message: prost_types::Struct, omit_empty: bool) -> Result<Self, ConfigError> {
        let root = Value::Object(metadata::struct_to_json(message));
        Ok(Self { root: Node::compile(&root)?, omit_empty })
    }

    /// Appends one line, with its end.
    pub fn format(&self, info: &Info<'_>, out: &mut Vec<u8>) {
        if !self.root.write(info, self.omit_empty, out) {
            out.extend_from_slice(b"{}");
        }
        out.push(b'\n');
    }
}

impl Node {
    fn compile(value: &Value) -> Result<Self, ConfigError> {
        Ok(match value {
            Value::Object(fields) => Self::Object(
                fields.iter().map(|(key, value)| Ok((key.clone(), Self::compile(value).at(key)?))).collect::<Result<
                    _,
                    ConfigError,
                >>(
                )?,
            ),
            Value::Array(values) => Self::List(values.iter().map(Self::compile).collect::<Result<_, _>>()?),
            Value::String(text) => Self::Text(Formatter::parse(text)?),
            other => Self::Constant(other.to_string()),
        })
    }

    /// Appends the value; false if it is empty and empty ones are left out.
    fn write(&self, info: &Info<'_>, omit_empty: bool, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Constant(text) if omit_empty && text == "null" => false,
            Self::Constant(text) => {
                out.extend_from_slice(text.as_bytes());
                true
            }
            Self::Object(fields) => Self::write_object(fields, info, omit_empty, out),
            Self::List(nodes) => {
                out.push(b'[');
                let mut any = false;
                for node in nodes {
                    let before = out.len();
                    if any {
                        out.push(b',');
                    }
                    if node.write(info, omit_empty, out) {
                        any = true;
                    } else {
                        out.truncate(before);
                    }
                }
                out.push(b']');
                true
            }
            Self::Text(formatter) => write_text(formatter, info, omit_empty, out),
        }
    }

    fn write_object(fields: &[(String, Self)], info: &Info<'_>, omit_empty: bool, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.push(b'{');
        let mut any = false;
        for (key, node) in fields {
            let before = out.len();
            if any {
                out.push(b',');
            }
            out.push(b'"');
            push(key, Escape::Json, None, out);
            out.extend_from_slice(b"\":");
            if node.write(info, omit_empty, out) {
                any = true;
            } else {
                out.truncate(before);
            }
        }
        out.push(b'}');
        if !any && omit_empty {
            out.truncate(start);
            return false;
        }
        true
    }
}

/// A single operator keeps its type; mixed texts are strings.
fn write_text(formatter: &Formatter, info: &Info<'_>, omit_empty: bool, out: &mut Vec<u8>) -> bool {
    if let [Part::Operator(operator, limit)] = formatter.parts.as_slice() {
        match operator.value(info) {
            Rendered::Missing if omit_empty => return false,
            Rendered::Missing => out.extend_from_slice(b"null"),
            Rendered::Number(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
            Rendered::Object(map) => out.extend_from_slice(super::object(map).as_bytes()),
            Rendered::Json(value) if !value.is_string() => out.extend_from_slice(value.to_string().as_bytes()),
            value => {
                out.push(b'"');
                super::write_value(&value, Escape::Json, *limit, out);
                out.push(b'"');
            }
        }
        return true;
    }
    out.push(b'"');
    formatter.render(info, if omit_empty { "" } else { "-" }, Escape::Json, out);
    out.push(b'"');
    true
}
