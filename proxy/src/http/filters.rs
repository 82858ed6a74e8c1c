//! The HTTP filters: one file each, all listed in [`FILTERS`].
//!
//! A filter sees the request's head in the order of the configuration and the response's head in the reverse order.
//! To add one: write its file, name it in `FILTERS`, add its messages to its own `SUPPORTED` rows below.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ferromesh_proto::Any;

use super::{LocalReply, ResponseHead};
use crate::body::Body;
use crate::config::ConfigError;
use crate::config::supported::Table;
use crate::context::Context;
use crate::stream::Stream;

pub mod peer_metadata;

/// Fields of the filters' messages that are implemented.
pub const SUPPORTED: Table = &[];

/// What a filter wants to happen next.
pub enum Flow {
    /// The next filter.
    Next,
    /// No further filter; this answer goes back through the filters that the request has passed.
    Respond(Box<LocalReply>),
    /// First this; it decides then.
    Wait(Pin<Box<dyn Future<Output = Flow>>>),
}

/// A configured filter; shared by all workers.
pub trait HttpFilter: Send + Sync {
    /// Sees (and may change) the request's head and body before they go on.
    fn on_request(&self, _stream: &mut Stream, _body: &mut Body) -> Flow {
        Flow::Next
    }

    /// Sees (and may change) the response's head and body before they go on to the client.
    fn on_response(&self, _stream: &mut Stream, _head: &mut ResponseHead, _body: &mut Body) {}

    /// The exchange is over: every byte is sent, or it broke off.
    fn on_complete(&self, _stream: &Stream) {}
}

/// A filter in a connection manager's list.
pub struct Entry {
    /// Its name in the configuration; the key of `typed_per_filter_config`.
    pub name: String,
    /// Off unless a route turns it on.
    pub disabled: bool,
    /// The filter.
    pub filter: Arc<dyn HttpFilter>,
}

/// A kind of filter.
pub struct FilterType {
    /// Full name of its configuration message.
    pub message: &'static str,
    /// Makes a filter of its configuration.
    pub build: fn(&Any, &Context) -> Result<Arc<dyn HttpFilter>, ConfigError>,
    /// Full name of its per-route configuration, if it has one.
    pub route_message: Option<&'static str>,
    /// Makes a per-route configuration; the filter finds it by `Stream::route` and its entry's name.
    pub build_route: Option<fn(&Any, &Context) -> Result<RouteConfig, ConfigError>>,
}

/// A filter's configuration on a route, virtual host or route table.
pub type RouteConfig = Arc<dyn std::any::Any + Send + Sync>;

/// Every kind of filter; the router is the end of each list and is not among them.
pub static FILTERS: &[FilterType] = &[];
