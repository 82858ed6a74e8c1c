//! Who calls whom in the mesh, and how well: the proxies' metrics in, a page and JSON out.
//!
//! ```text
//! proxies' /stats/prometheus --scrape--> text --model--> edges --server--> /api/edges, /
//! ```
//!
//! # Invariants
//! * Nothing is stored: each answer is made of what the proxies say now. Counts are totals since each proxy began.
//! * Loopback only, and only for pages of its own origin: the dashboard has no login.

pub mod model;
pub mod scrape;
mod server;

pub use model::Edge;
pub use server::{Config, Dashboard, DashboardError};
