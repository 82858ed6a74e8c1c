//! The life of a process: signals in, an orderly end out; and the small server that tells how it is doing.

pub mod admin;
pub mod build_info;
pub mod drain;
pub mod health;
pub mod memory;
pub mod signals;

pub use admin::{AdminServer, Page};
pub use build_info::{BUILD, BuildInfo};
pub use health::{Check, Health};
