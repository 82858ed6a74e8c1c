//! The validating webhook: an object that the controller could not read is refused before it is stored, and what
//! applies but does nothing is said in a warning. The parsers and the analysis are the controller's own.
//!
//! ```text
//! AdmissionReview ──> review (pure: object + view -> answer) ──> AdmissionReview
//! ```

pub mod ca_bundle;
pub mod review;
mod server;

pub use server::serve;
