//! Routes: backends and parents that are not there, references that nobody granted, rules that are not supported.

use super::{Finding, NEVER_REACHED, NOT_ATTACHED, NOT_FOUND, NOT_GRANTED, NOT_SUPPORTED, gateways};
use crate::index::attachment::{self, Bound, Parent};
use crate::index::references::Callers;
use crate::index::{ObjectRef, Severity, View, references};
use crate::translate::{grpc_route, http_route};
use ferromesh_api::conditions::reasons;
use ferromesh_api::gateway_api::http_route::{PathMatch, PathMatchType};
use ferromesh_api::gateway_api::{BackendObjectReference, HttpRouteRule, ParentReference};

pub(super) fn analyze(view: &View, findings: &mut Vec<Finding>) {
    for bound in attachment::all_routes(view) {
        let object = bound.route().reference();
        parents(view, &bound, &object, findings);
        match &bound {
            Bound::Http(_, http) => {
                default_gateways(&object, http.spec.use_default_gateways.as_deref(), findings);
                backends(view, &object, callers(&bound), references::http_backends(http), findings);
                unsupported(&object, http.spec.rules.iter().map(http_route::unsupported), findings);
                never_reached(&object, &http.spec.rules, findings);
            }
            Bound::Grpc(_, grpc) => {
                default_gateways(&object, grpc.spec.use_default_gateways.as_deref(), findings);
                backends(view, &object, callers(&bound), references::grpc_backends(grpc), findings);
                unsupported(&object, grpc.spec.rules.iter().map(grpc_route::unsupported), findings);
            }
        }
    }
    for (key, gateway) in view.gateways.iter() {
        gateways::analyze(view, key, gateway, findings);
    }
}

/// Expressions come after every prefix (the API leaves that open; so does Istio): beside a rule that takes all, no request
/// is left for them.
fn never_reached(object: &ObjectRef, rules: &[HttpRouteRule], findings: &mut Vec<Finding>) {
    let takes_all = |rule: &HttpRouteRule| {
        rule.matches.is_empty()
            || rule.matches.iter().any(|one| {
                let rest = one.method.is_none() && one.headers.is_empty() && one.query_params.is_empty();
                let all = |path: &PathMatch| path.type_ == PathMatchType::PathPrefix && path.value == "/";
                rest && one.path.as_ref().is_none_or(all)
            })
    };
    let Some(first) = rules.iter().position(takes_all) else { return };
    for (index, rule) in rules.iter().enumerate() {
        let expression = |path: &PathMatch| path.type_ == PathMatchType::RegularExpression;
        if let Some(at) = rule.matches.iter().position(|one| one.path.as_ref().is_some_and(expression)) {
            findings.push(Finding {
                severity: Severity::Warning,
                code: NEVER_REACHED,
                object: object.clone(),
                message: format!(
                    "rules[{index}].matches[{at}] is a regular expression, and no request comes to it: rules[{first}] takes \
                     every path, and prefixes go before expressions"
                ),
                remedy: "Match what is left by an expression, too (/.*), or match these paths by prefixes".to_owned(),
            });
        }
    }
}

/// Who calls by a route: a grant is missed where one of its parents is no Service.
fn callers(bound: &Bound) -> Callers {
    let mesh = bound.route().parent_refs.iter().all(ParentReference::is_service);
    if mesh { Callers::Mesh } else { Callers::Gateway }
}

/// Default Gateways are an experiment of Gateway API that is not taken part in.
fn default_gateways(object: &ObjectRef, scope: Option<&str>, findings: &mut Vec<Finding>) {
    if scope.is_some_and(|scope| scope != "None") {
        findings.push(Finding {
            severity: Severity::Error,
            code: NOT_SUPPORTED,
            object: object.clone(),
            message: "spec.useDefaultGateways is not supported: a route attaches where its parentRefs say".to_owned(),
            remedy: "Name the Gateways in parentRefs".to_owned(),
        });
    }
}

/// A route without a parent that takes it serves nothing.
fn parents(view: &View, bound: &Bound, object: &ObjectRef, findings: &mut Vec<Finding>) {
    let mut why = Vec::new();
    for parent in attachment::parents(view, &bound.route()) {
        match parent {
            Parent::Gateway { outcome: Ok(_), .. } | Parent::Service { outcome: Ok(()), .. } => return,
            Parent::Gateway { outcome: Err(refusal), .. } | Parent::Service { outcome: Err(refusal), .. } => {
                why.push(format!("{}: {}", refusal.reason(), refusal.message()));
            }
            Parent::NotOurs { why: reason } => why.push(reason),
        }
    }
    let message = if why.is_empty() { "it has no parentRefs".to_owned() } else { why.join("; ") };
    findings.push(Finding {
        severity: Severity::Error,
        code: NOT_ATTACHED,
        object: object.clone(),
        message: format!("no parent takes this route, so it serves nothing: {message}"),
        remedy: "Mend parentRefs, or allowedRoutes and hostname of the listener".to_owned(),
    });
}

fn backends<'a>(
    view: &View,
    object: &ObjectRef,
    callers: Callers,
    backends: impl Iterator<Item = &'a BackendObjectReference>,
    findings: &mut Vec<Finding>,
) {
    for (reason, what) in backends.filter_map(|backend| references::backend(view, object, backend, callers).err()) {
        let (code, remedy) = match reason {
            reasons::REF_NOT_PERMITTED => (NOT_GRANTED, "Write that ReferenceGrant, or move one of the two"),
            _ => (NOT_FOUND, "Mend the backendRef, or add what it names; such requests get 500"),
        };
        let object = object.clone();
        findings.push(Finding { severity: Severity::Error, code, object, message: what, remedy: remedy.to_owned() });
    }
}

fn unsupported(object: &ObjectRef, rules: impl Iterator<Item = Vec<String>>, findings: &mut Vec<Finding>) {
    for (index, rule) in rules.enumerate().filter(|(_, rule)| !rule.is_empty()) {
        findings.push(Finding {
            severity: Severity::Error,
            code: NOT_SUPPORTED,
            object: object.clone(),
            message: format!("rules[{index}] is not served as written: {}", rule.join("; ")),
            remedy: "Leave it out, or write it in another way".to_owned(),
        });
    }
}
