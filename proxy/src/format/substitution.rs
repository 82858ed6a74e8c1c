//! Envoy's `SubstitutionFormatString`: a text or a JSON object, in access logs and local replies.

use ferromesh_proto::envoy::config::core::v3 as core;

use super::{Escape, Formatter, Info, JsonFormatter};
use crate::config::{At, ConfigError, data_source};

/// A compiled format.
#[derive(Debug)]
pub enum Substitution {
    /// A text, with what stands for missing values.
    Text(Formatter, &'static str),
    /// A JSON object, with the end of its line.
    Json(JsonFormatter),
}

impl Substitution {
    /// Compiles a format.
    ///
    /// # Errors
    /// Names the field that is missing, or whose text is malformed.
    pub fn decode(message: core::SubstitutionFormatString) -> Result<Self, ConfigError> {
        use core::substitution_format_string::Format as Kind;
        let missing = if message.omit_empty_values { "" } else { "-" };
        match message.format {
            None => Err(ConfigError::new("format", "must be set")),
            #[allow(deprecated)]
            Some(Kind::TextFormat(text)) => {
                Formatter::parse(&text).map(|text| Self::Text(text, missing)).at("text_format")
            }
            Some(Kind::TextFormatSource(source)) => {
                let text = data_source(source).at("text_format_source")?;
                Formatter::parse(&text).map(|text| Self::Text(text, missing)).at("text_format_source")
            }
            Some(Kind::JsonFormat(object)) => {
                JsonFormatter::decode(object, message.omit_empty_values).map(Self::Json).at("json_format")
            }
        }
    }

    /// Whether it makes JSON.
    pub fn is_json(&self) -> bool {
        matches!(self, Self::Json(_))
    }

    /// Appends the line of an access log, in which nobody can forge another line.
    pub fn log(&self, info: &Info<'_>, out: &mut Vec<u8>) {
        self.write(info, Escape::Control, out);
    }

    /// Appends what a client gets to see: values as they are.
    pub fn render(&self, info: &Info<'_>, out: &mut Vec<u8>) {
        self.write(info, Escape::None, out);
    }

    fn write(&self, info: &Info<'_>, escape: Escape, out: &mut Vec<u8>) {
        match self {
            Self::Text(formatter, missing) => formatter.render(info, missing, escape, out),
            Self::Json(formatter) => formatter.format(info, out),
        }
    }
}
