//! A view in, findings out: what is written but does not do what it seems to, and what to write instead. Where Istio has
//! the same message, its code (`IST…`); otherwise ours (`FM…`).

pub mod envoy_filter;
pub mod gateways;
pub mod mesh;
mod rejections;
pub mod routes;
pub mod security;
pub mod services;
#[cfg(test)]
mod tests;

use crate::envoyfilter::Facts;
use crate::index::{ObjectRef, Severity, View, labels, rules, workloads};
use ferromesh_api::annotations;
use std::fmt;

/// Something worth saying about an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// `IST0127`, `FM0001` and so on.
    pub code: &'static str,
    /// About what.
    pub object: ObjectRef,
    /// What is so.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}] ({}) {}. {}", self.severity, self.code, self.object, self.message, self.remedy)
    }
}

/// A patch that cannot have an effect, by selector and context.
pub const PATCHES_NOTHING: &str = "FM0001";
/// A reference between namespaces without a ReferenceGrant.
pub const NOT_GRANTED: &str = "FM0002";
/// A route that is attached to no parent.
pub const NOT_ATTACHED: &str = "FM0003";
/// A port whose protocol lets the server speak first, and that does not say so.
pub const SERVER_FIRST: &str = "FM0004";
/// The same object in both root namespaces.
pub const BOTH_ROOTS: &str = "FM0005";
/// STRICT where callers have no proxy.
pub const STRICT_UNMESHED: &str = "FM0006";
/// A field of MeshConfig that is not honoured.
pub const NOT_HONOURED: &str = "FM0007";
/// Something that a rule asks for and that is not supported.
pub const NOT_SUPPORTED: &str = "FM0008";
/// A listener that cannot be used.
pub const BAD_LISTENER: &str = "FM0009";
/// A patch that could not be applied.
pub const PATCH_FAILED: &str = "FM0010";
/// A proxy rejected what it was sent.
pub const REJECTED: &str = "FM0011";
/// A rule that no request comes to, since another takes them all before it.
pub const NEVER_REACHED: &str = "FM0012";
/// Istio: a referenced object is not there.
pub const NOT_FOUND: &str = "IST0101";
/// Istio: an object does not follow its schema.
pub const INVALID: &str = "IST0106";
/// Istio: a port's name does not tell its protocol.
pub const PORT_NAME: &str = "IST0118";
/// Istio: a selector selects no workload.
pub const NO_WORKLOAD: &str = "IST0127";

/// Everything worth saying, the most serious first; `facts` are what translation knows of patches.
pub fn analyze(view: &View, facts: &Facts) -> Vec<Finding> {
    let workloads = workloads::all(view);
    let mut findings = Vec::new();
    envoy_filter::analyze(view, facts, &workloads, &mut findings);
    schema(view, &mut findings);
    routes::analyze(view, &mut findings);
    services::analyze(view, &mut findings);
    security::analyze(view, &workloads, &mut findings);
    mesh::analyze(view, &mut findings);
    rejections::analyze(view, facts, &mut findings);
    findings.retain(|finding| !suppressed(view, finding));
    findings.sort();
    findings.dedup();
    findings
}

/// Objects that break a rule of their own API.
fn schema(view: &View, findings: &mut Vec<Finding>) {
    for (object, broken) in rules::broken_in(view) {
        findings.extend(broken.into_iter().map(|message| {
            Finding {
                severity: Severity::Error,
                code: INVALID,
                object: object.clone(),
                message,
                remedy:
                    "Mend the field by Gateway API's reference; an API server with its current CRDs refuses the object"
                        .to_owned(),
            }
        }));
    }
}

/// Istio's annotation on an object names the codes that are not reported for it, `*` all.
fn suppressed(view: &View, finding: &Finding) -> bool {
    let object = view.object(&finding.object);
    object.is_some_and(|object| {
        let codes = labels::annotation(object.metadata(), annotations::ANALYZE_SUPPRESS).unwrap_or_default();
        codes.split(',').any(|code| code.trim() == finding.code || code.trim() == "*")
    })
}
