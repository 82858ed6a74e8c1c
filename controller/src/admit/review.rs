//! One AdmissionReview (admission.k8s.io/v1), pure: refused only where the controller could not read the object, or its
//! schema is broken (IST0106); everything else that analysis has to say is a warning, since objects come in any order.

use serde_json::{Value, json};

use crate::analyze::{self, Finding};
use crate::envoyfilter::Facts;
use crate::index::{Kind, Object, ObjectRef, View};
use crate::source::kubernetes::read_object;

/// Warnings of an answer, at most; the API server cuts at 4 KB in all.
const WARNINGS: usize = 12;
/// Bytes of a warning: kubectl shows 256 and cuts the rest.
const WARNING: usize = 400;

/// Answers a review; `facts` says what became of the patches of EnvoyFilters in a view.
///
/// # Errors
/// If it is no AdmissionReview.
pub fn answer(review: &Value, view: &View, facts: impl Fn(&View, Kind) -> Facts) -> Result<Value, String> {
    let request = review.get("request").filter(|request| request.is_object()).ok_or("no request in it")?;
    let uid = request["uid"].as_str().ok_or("request.uid is missing")?;
    let verdict = if request["operation"] == "DELETE" { Verdict::default() } else { verdict(request, view, facts) };
    let mut response = json!({"uid": uid, "allowed": verdict.refused.is_none()});
    if let Some(reason) = verdict.refused {
        response["status"] = json!({"code": 422, "reason": "Invalid", "message": reason});
    }
    if !verdict.warnings.is_empty() {
        response["warnings"] = json!(verdict.warnings);
    }
    Ok(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

#[derive(Default)]
struct Verdict {
    refused: Option<String>,
    warnings: Vec<String>,
}

fn verdict(request: &Value, view: &View, facts: impl Fn(&View, Kind) -> Facts) -> Verdict {
    let text = |path: &str| request.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let Some(kind) = Kind::named(text("/kind/group"), text("/kind/kind")) else {
        // Not ours to judge; the API server has its schema.
        return Verdict::default();
    };
    let object = &request["object"];
    let mut read = match read_object(kind, &object.to_string()) {
        Ok(read) => read,
        Err(error) => return Verdict { refused: Some(format!("{kind}: {error}")), warnings: Vec::new() },
    };
    let metadata = read.object.metadata_mut();
    if metadata.name.is_none() {
        metadata.name = Some(text("/name").to_owned());
    }
    if kind.namespaced() && metadata.namespace.is_none() {
        metadata.namespace = Some(text("/namespace").to_owned());
    }
    let mut warnings = Vec::new();
    if !read.unknown.is_empty() {
        warnings.push(format!("not known to Ferromesh, passed over: {}", read.unknown.join(", ")));
    }
    let found = findings(read.object, view, facts);
    let refused = found.iter().find(|finding| finding.code == analyze::INVALID);
    let refused = refused.map(|finding| format!("{} [{}]. {}", finding.message, finding.code, finding.remedy));
    warnings.extend(found.iter().map(|finding| format!("[{}] {}. {}", finding.code, finding.message, finding.remedy)));
    warnings.truncate(WARNINGS);
    Verdict { refused, warnings: warnings.iter().map(|warning| cut(warning)).collect() }
}

/// What analysis says of the object, in the view with it.
fn findings(object: Object, view: &View, facts: impl Fn(&View, Kind) -> Facts) -> Vec<Finding> {
    let reference: ObjectRef = object.reference();
    let with = view.with(object);
    let mut found = analyze::analyze(&with, &facts(&with, reference.kind));
    found.retain(|finding| finding.object == reference);
    found
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WARNING) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(kind: (&str, &str, &str), object: &Value) -> Value {
        let (group, version, name) = kind;
        let review = json!({"request": {
            "uid": "u", "operation": "CREATE", "namespace": "demo", "name": "x",
            "kind": {"group": group, "version": version, "kind": name}, "object": object,
        }});
        answer(&review, &View::default(), |_, _| Facts::default()).unwrap()["response"].clone()
    }

    const FILTER: (&str, &str, &str) = ("networking.istio.io", "v1alpha3", "EnvoyFilter");

    #[test]
    fn an_object_that_cannot_be_read_is_refused_with_the_reason() {
        let object = json!({"metadata": {"name": "x"}, "spec": {"configPatches": "many"}});
        let response = ask(FILTER, &object);
        assert_eq!((&response["allowed"], &response["uid"]), (&json!(false), &json!("u")));
        assert!(response["status"]["message"].as_str().unwrap().contains("EnvoyFilter"), "{response}");
    }

    #[test]
    fn what_applies_but_does_nothing_is_a_warning() {
        let object = json!({"metadata": {"name": "x"}, "spec": {"workloadSelector": {"labels": {"app": "nobody"}},
            "configPatches": [], "odd": 1}});
        let response = ask(FILTER, &object);
        assert_eq!(response["allowed"], true, "{response}");
        let warnings = response["warnings"].to_string();
        assert!(warnings.contains("spec.odd") && warnings.contains("IST0127"), "{warnings}");
    }

    #[test]
    fn a_broken_schema_is_refused_and_other_kinds_are_let_through() {
        let policy = json!({"metadata": {"name": "x"}, "spec": {"mtls": {"mode": "ODD"}}});
        assert_eq!(ask(("security.istio.io", "v1", "PeerAuthentication"), &policy)["allowed"], false);
        assert_eq!(ask(("example.com", "v1", "Odd"), &json!({}))["allowed"], true);
        assert!(answer(&json!({}), &View::default(), |_, _| Facts::default()).is_err());
    }

    #[test]
    fn what_breaks_a_rule_of_gateway_api_is_refused_by_name_whatever_crds_are_installed() {
        let gateway_api = |kind| ("gateway.networking.k8s.io", "v1", kind);
        let slow = json!({"rules": [{"timeouts": {"request": "1s", "backendRequest": "2s"}}]});
        let cases = [
            ("HTTPRoute", slow, "spec.rules[0].timeouts.backendRequest"),
            ("HTTPRoute", json!({"hostnames": ["a b"], "rules": [{}]}), "spec.hostnames[0]"),
            ("GRPCRoute", json!({"rules": [{"name": "a"}, {"name": "a"}]}), "spec.rules: name"),
            ("Gateway", json!({"gatewayClassName": "a", "listeners": []}), "spec.listeners"),
            ("ReferenceGrant", json!({"from": [], "to": [{"group": "", "kind": "Secret"}]}), "spec.from"),
            ("GatewayClass", json!({"controllerName": "odd"}), "spec.controllerName"),
        ];
        for (kind, spec, path) in cases {
            let response = ask(gateway_api(kind), &json!({"metadata": {"name": "x"}, "spec": spec}));
            assert_eq!(response["allowed"], false, "{kind} {spec}: {response}");
            let message = response["status"]["message"].as_str().unwrap();
            assert!(message.contains(path), "{message}");
        }
        let good = json!({"metadata": {"name": "x"}, "spec": {"rules": [{}]}});
        assert_eq!(ask(gateway_api("HTTPRoute"), &good)["allowed"], true);
    }
}
