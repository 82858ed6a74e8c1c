//! `local_reply_config`: other statuses, bodies and headers for the proxy's own answers.
//!
//! Rules: Envoy, "Local reply modification". The first mapper whose filter wants the reply changes it; then a format, the
//! mapper's or the one of all, makes the body.

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use super::{JSON, Shown, TEXT};
use crate::access_log::Filter;
use crate::config::supported::Table;
use crate::config::{At, ConfigError, data_source, required};
use crate::format::{Info, Substitution};
use crate::http::stream::Stream;
use crate::message::ResponseHead;
use crate::route::header_rules::Mutations;
use crate::text::Text;

/// Fields of these messages that are implemented.
pub const SUPPORTED: Table = &[
    ("envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig", "*"),
    ("envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper", "*"),
];

/// A compiled `local_reply_config`.
#[derive(Debug)]
pub struct Rewrite {
    mappers: Vec<Mapper>,
    format: Option<Format>,
}

#[derive(Debug)]
struct Mapper {
    filter: Filter,
    status: Option<StatusCode>,
    body: Option<Text>,
    format: Option<Format>,
    headers: Mutations,
}

#[derive(Debug)]
struct Format {
    text: Substitution,
    content_type: HeaderValue,
}

impl Rewrite {
    /// Decodes the configuration; `None` if it changes nothing.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or not implemented.
    pub fn decode(message: hcm::LocalReplyConfig) -> Result<Option<Self>, ConfigError> {
        let mappers = message.mappers.into_iter().enumerate();
        let mappers = mappers
            .map(|(index, mapper)| Mapper::decode(mapper).at(format!("mappers[{index}]")))
            .collect::<Result<Vec<_>, _>>()?;
        let format = message.body_format.map(Format::decode).transpose().at("body_format")?;
        Ok((!mappers.is_empty() || format.is_some()).then_some(Self { mappers, format }))
    }

    /// Changes a reply.
    pub(super) fn apply(&self, stream: &mut Stream, head: &mut ResponseHead, shown: &mut Shown) {
        let typed = head.headers.get(CONTENT_TYPE).cloned();
        let original = shown.body.clone();
        let mapper = self.mappers.iter().find(|mapper| {
            let info = Info { response: Some(head), ..stream.info() };
            mapper.filter.wants(&info, fastrand::u64(..))
        });
        let mut format = self.format.as_ref();
        if let Some(mapper) = mapper {
            if let Some(body) = &mapper.body {
                shown.body = body.clone();
            }
            mapper.headers.apply_response(stream, head);
            if let Some(status) = mapper.status {
                head.status = status;
                stream.status = Some(status.as_u16());
            }
            format = mapper.format.as_ref().or(format);
        }
        if let Some(format) = format {
            shown.body = format.render(stream, head, &shown.body);
        }
        let own_type = head.headers.get(CONTENT_TYPE) != typed.as_ref();
        shown.keeps_type = own_type || shown.body == original;
        if let Some(format) = format {
            shown.made_as = format.content_type.clone();
        }
    }
}

impl Mapper {
    fn decode(message: hcm::ResponseMapper) -> Result<Self, ConfigError> {
        let status = |code: u32| match u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok()) {
            Some(status) if (200..600).contains(&code) => Ok(status),
            _ => Err(ConfigError::new("status_code", "must be from 200 to 599")),
        };
        let filter = required(message.filter.as_ref(), "filter")?;
        Ok(Self {
            filter: Filter::decode(filter).at("filter")?,
            status: message.status_code.map(status).transpose()?,
            body: message.body.map(data_source).transpose().at("body")?,
            format: message.body_format_override.map(Format::decode).transpose().at("body_format_override")?,
            headers: Mutations::decode(&message.headers_to_add, &[], "headers")?,
        })
    }
}

impl Format {
    fn decode(message: core::SubstitutionFormatString) -> Result<Self, ConfigError> {
        let given = message.content_type.clone();
        let text = Substitution::decode(message)?;
        let content_type = match given.as_str() {
            "" if text.is_json() => JSON,
            "" => TEXT,
            given => HeaderValue::from_str(given)
                .map_err(|_| ConfigError::new("content_type", "has characters that headers must not have"))?,
        };
        Ok(Self { text, content_type })
    }

    fn render(&self, stream: &Stream, head: &ResponseHead, body: &str) -> Text {
        let info = Info { response: Some(head), local_reply: body, ..stream.info() };
        let mut text = Vec::with_capacity(256);
        self.text.render(&info, &mut text);
        // Values of headers need not be UTF-8; a body that is shown as text is.
        Text::from(
            String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        )
    }
}
