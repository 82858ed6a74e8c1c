//! The data plane: one proxy, sidecar or gateway, that obeys Envoy's xDS v3.
//!
//! A byte's way through a worker thread:
//!
//! ```text
//! listener  accept, listener filters (original_dst, inspectors, PROXY protocol), filter chain match
//!    |
//!   tls      handshake, peer identity
//!    |
//! network   rbac, metadata exchange ... then one terminal filter:
//!    |-------------------------------------+
//!   http      codec (h1, h2)                tcp_proxy
//!    |        request head: ids, XFF, XFCC      |
//!    |        route match                       |
//!    |        http filters, in their order      |
//!    |        router: retry, timeout, mirror    |
//!    +----------------+-------------------------+
//!                  cluster    balance over hosts; breakers, outliers, health
//!                     |
//!                  upstream   pools, HTTP/1 and HTTP/2 towards hosts
//! ```
//!
//! The rooms in layers, lowest first; each uses only those that are named before it (`core/tests/tidy` checks that no
//! use comes back):
//!
//! ```text
//! text  cause  io  linux  timer  grpc  pages
//! config       errors of decoding, and the check of supported fields
//! body  connection  extension  hot_restart
//! message      heads of requests and responses, local replies
//! matcher      of headers, metadata, texts       codec   HTTP/1 and HTTP/2 on the wire       tls
//! stats  policy  overload  cluster
//! stream       what a request leaves behind      upstream
//! format       operators of logs and header rules
//! route  access_log
//! context      the stores that threads share     worker   a thread's own
//! http
//! network
//! listener
//! supported    the fields of all rooms           workers
//! bootstrap  identity  xds
//! admin  app  agent  args  daemon
//! ```
//!
//! Configuration: `bootstrap` and `xds` hand encoded resources to each room's `decode`, which makes the
//! small immutable form that workers read; `app` wires and publishes.
//!
//! # Invariants
//! * A worker is one thread; what it owns is `!Send` and needs no lock. Shared between workers are atomics and
//!   snapshots only ([`context::Context`]).
//! * There is no process-global mutable state: many proxies run in one process.
//! * A field or extension that is not implemented is refused with its type URL and path ([`config`]), the last
//!   good configuration goes on serving.
//! * Every response made here, and every connection closed here, has one [`cause::Cause`].
//! * Route match, policy decision, header rules and decoding have no clock, lock or I/O.

pub mod access_log;
pub mod admin;
pub mod agent;
pub mod app;
pub mod args;
pub mod body;
pub mod bootstrap;
pub mod cause;
pub mod cluster;
pub mod codec;
pub mod config;
pub mod connection;
pub mod context;
pub mod daemon;
pub mod extension;
pub mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod grpc;
pub mod hot_restart;
pub mod http;
pub mod identity;
pub mod io;
pub mod linux;
pub mod listener;
pub mod matcher;
pub mod message;
pub mod network;
pub mod overload;
mod pages;
pub mod policy;
pub mod route;
pub mod runtime;
pub mod stats;
pub mod stream;
pub mod supported;
pub mod text;
pub mod timer;
pub mod tls;
pub mod upstream;
pub mod worker;
pub mod workers;
pub mod xds;
