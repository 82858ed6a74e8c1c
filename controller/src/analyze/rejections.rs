//! What proxies rejected of their configuration: said of the Gateway that they serve, or of their pod, with the
//! EnvoyFilters that may be the cause.

use super::{Finding, REJECTED};
use crate::envoyfilter::Facts;
use crate::index::envoy_filters::may_cause;
use crate::index::{Kind, ObjectRef, Rejection, Severity, View};

pub(super) fn analyze(view: &View, facts: &Facts, findings: &mut Vec<Finding>) {
    for rejection in &facts.rejections {
        let gateway = rejection.gateway().filter(|gateway| view.gateways.contains_key(gateway));
        let object = match gateway {
            Some(key) => ObjectRef { kind: Kind::Gateway, key },
            None => ObjectRef::new(Kind::Pod, rejection.namespace.as_str(), rejection.pod.as_str()),
        };
        findings.push(Finding {
            severity: Severity::Error,
            code: REJECTED,
            object,
            message: rejection.to_string(),
            remedy: remedy(view, rejection),
        });
    }
}

fn remedy(view: &View, rejection: &Rejection) -> String {
    let filters = view.envoy_filters.iter().filter(|(key, filter)| may_cause(view, key, filter, rejection));
    let names: Vec<_> = filters.map(|(key, _)| key.to_string()).collect();
    if names.is_empty() {
        return "Take back what changed last; `ferromesh config` shows what the proxy is sent".to_owned();
    }
    format!("Look at EnvoyFilter {}, which patches it", names.join(" and "))
}
