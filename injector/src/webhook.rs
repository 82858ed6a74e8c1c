//! The admission webhook: HTTPS from the API server in; allowed with a patch, or refused with the reason, out.
//!
//! ```text
//! AdmissionReview --server--> review --decide, inject--> patch | refusal
//! own CA, made here --certificate--> server;  --trust--> MutatingWebhookConfiguration's caBundle
//! ```
//!
//! Source: Kubernetes' "Dynamic Admission Control", `admission.k8s.io/v1`.

mod certificate;
mod metrics;
mod review;
mod server;
mod trust;

pub use certificate::{Certificate, CertificateError};
pub use metrics::InjectorMetrics;
pub use review::answer;
pub use server::Server;
pub use trust::{Trust, keep_trusted};
