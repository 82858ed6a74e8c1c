//! A filter whose configuration comes by its name from the control plane (ECDS).
//!
//! Its place in the list stays; what fills it changes with each update, for exchanges that begin after it.
//! Without any configuration the default serves, and without a default the answer is 500 (Envoy,
//! "Extension configuration").

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::core::v3::ExtensionConfigSource;

use super::{Build, FILTERS, Flow, HttpFilter, resolve, unknown};
use crate::body::Body;
use crate::cause::Cause;
use crate::config::supported::Table;
use crate::config::{At, Awaited, ConfigError, FetchLimit, from_ads};
use crate::context::Context;
use crate::extension::{Commit, Place};
use crate::http::stream::Stream;
use crate::message::{LocalReply, ResponseHead};

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[(
    "envoy.config.core.v3.ExtensionConfigSource",
    "config_source default_config apply_default_config_without_warming type_urls",
)];

/// A filter that fills the place. `ArcSwap` needs a thin pointer, so it holds another `Arc` around it.
type Built = Arc<dyn HttpFilter>;

/// Decodes the filter's place; what the store already has fills it at once.
///
/// # Errors
/// Names the field that is wrong or not implemented.
pub fn decode(
    source: &ExtensionConfigSource,
    name: &str,
    stat_prefix: &str,
    context: &Context,
) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    let limit = from_ads(source.config_source.as_ref()).at("config_source")?;
    if source.type_urls.is_empty() {
        return Err(ConfigError::new("type_urls", "must name the types that may come"));
    }
    let mut types = Vec::new();
    for (index, url) in source.type_urls.iter().enumerate() {
        let any = Any { type_url: url.clone(), ..Any::default() };
        if !FILTERS.iter().any(|kind| kind.message == any.type_name()) {
            return Err(unknown(&any).at(format!("type_urls[{index}]")));
        }
        types.push(any.type_name().to_owned());
    }
    if source.apply_default_config_without_warming && source.default_config.is_none() {
        return Err(ConfigError::new("default_config", "must be set with apply_default_config_without_warming"));
    }
    let mut place = Discovered {
        name: name.to_owned(),
        stat_prefix: stat_prefix.to_owned(),
        types,
        default: None,
        waits: (!source.apply_default_config_without_warming).then_some(limit),
        current: ArcSwapOption::empty(),
    };
    if let Some(default) = &source.default_config {
        place.default = Some(place.build(default, context).at("default_config")?);
    }
    let place = Arc::new(place);
    context.extensions.subscribe(name, place.clone(), context)?;
    Ok(place)
}

/// The place of a filter in a connection manager's list.
struct Discovered {
    name: String,
    stat_prefix: String,
    types: Vec<String>,
    default: Option<Built>,
    /// The listener does not serve before the configuration has come, or this is over.
    waits: Option<FetchLimit>,
    current: ArcSwapOption<Built>,
}

/// The filters that serve an exchange, by the address of their place: an update does not change them midway.
struct Chosen(Vec<(usize, Built)>);

impl Discovered {
    fn build(&self, config: &Any, context: &Context) -> Result<Built, ConfigError> {
        let config = resolve(config)?;
        let kind = FILTERS
            .iter()
            .find(|kind| kind.message == config.type_name() && self.types.iter().any(|allowed| allowed == kind.message))
            .ok_or_else(|| {
                ConfigError::new("", format!("type {:?} is not among the filter's type_urls", config.type_url))
            })?;
        (kind.build)(&Build { config: &config, name: &self.name, stat_prefix: &self.stat_prefix, context })
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn choose(&self, stream: &mut Stream) -> Option<Built> {
        let current = self.current.load().as_deref().cloned();
        let filter = current.or_else(|| self.default.clone())?;
        let mut all = stream.state.get::<Chosen>().map(|chosen| chosen.0.clone()).unwrap_or_default();
        all.push((self.key(), filter.clone()));
        stream.state.set(Chosen(all));
        Some(filter)
    }

    fn chosen(&self, stream: &Stream) -> Option<Built> {
        let chosen = stream.state.get::<Chosen>()?;
        chosen.0.iter().find(|(key, _)| *key == self.key()).map(|(_, filter)| filter.clone())
    }
}

impl Place<Context> for Discovered {
    fn prepare(self: Arc<Self>, config: &Any, context: &Context) -> Result<Commit, ConfigError> {
        let filter = self.build(config, context)?;
        Ok(Box::new(move || self.current.store(Some(Arc::new(filter)))))
    }

    fn clear(&self) {
        self.current.store(None);
    }
}

impl HttpFilter for Discovered {
    fn on_request(&self, stream: &mut Stream, body: &mut Body) -> Flow {
        match self.choose(stream) {
            Some(filter) => filter.on_request(stream, body),
            None => Flow::Respond(Box::new(LocalReply::new(Cause::NoFilterConfig))),
        }
    }

    fn on_response(&self, stream: &mut Stream, head: &mut ResponseHead, body: &mut Body) {
        if let Some(filter) = self.chosen(stream) {
            filter.on_response(stream, head, body);
        }
    }

    fn on_complete(&self, stream: &Stream) {
        if let Some(filter) = self.chosen(stream) {
            filter.on_complete(stream);
        }
    }

    fn awaits(&self) -> Option<Awaited> {
        let limit = self.waits.filter(|_| self.current.load().is_none())?;
        Some(Awaited { what: "filter configuration", name: self.name.as_str().into(), limit })
    }
}
