//! GRPCRoutes, Services as parents, grants.
use super::*;

const GAMMA: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: mesh, namespace: n}\nspec:\n  \
                     parentRefs: [{group: '', kind: Service, name: s, port: 80}, {group: '', kind: Service, name: none}]\n  rules: \
                     [{backendRefs: [{name: s, port: 80}]}]\n";

fn grpc(rules: &str) -> String {
    route(rules).replace("kind: HTTPRoute", "kind: GRPCRoute")
}

#[test]
fn a_grpc_route_is_accepted_resolved_and_told_what_it_asks_for_in_vain() {
    let parent = |yaml: &str| short(&of(yaml).grpc_routes[&Key::new("n", "r")].parents[0].conditions);
    let good = "[{matches: [{method: {service: a.B}}], backendRefs: [{name: s, port: 80}]}]";
    assert_eq!(parent(&grpc(good)), ["Accepted=True:Accepted", "ResolvedRefs=True:ResolvedRefs"]);
    let lost = "[{backendRefs: [{name: none, port: 80}]}]";
    assert_eq!(parent(&grpc(lost)), ["Accepted=True:Accepted", "ResolvedRefs=False:BackendNotFound"]);
    let odd = "[{filters: [{type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}]}]";
    assert_eq!(parent(&grpc(odd)), ["Accepted=False:UnsupportedValue", "ResolvedRefs=True:ResolvedRefs"]);
}

#[test]
fn a_route_with_services_as_parents_has_a_status_for_each() {
    let statuses = of(&format!("{BASE}{GAMMA}"));
    let parents = &statuses.http_routes[&Key::new("n", "mesh")].parents;
    let all: Vec<_> = parents.iter().map(|parent| short(&parent.conditions)[0].clone()).collect();
    assert_eq!(all, ["Accepted=True:Accepted", "Accepted=False:NoMatchingParent"]);
    assert_eq!(parents[0].controller_name, "istio.io/gateway-controller");
}

#[test]
fn a_backend_of_another_namespace_is_resolved_once_it_is_granted() {
    let yaml = route("[{backendRefs: [{name: far, namespace: m, port: 80}]}]");
    let grant = "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: m}\nspec:\n  \
                 from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: n}]\n  to: [{group: '', kind: Service}]\n";
    let resolved = |yaml: &str| short(&of(yaml).http_routes[&Key::new("n", "r")].parents[0].conditions)[1].clone();
    assert_eq!(resolved(&yaml), "ResolvedRefs=False:RefNotPermitted");
    assert_eq!(resolved(&(yaml + grant)), "ResolvedRefs=True:ResolvedRefs");
}

#[test]
fn a_route_inside_the_mesh_needs_no_grant_for_a_service_that_its_callers_may_call_anyway() {
    let yaml = route("[{backendRefs: [{name: far, namespace: m, port: 80}]}]").replace(
        "parentRefs: [{name: g}]",
        "parentRefs: [{name: g}, {group: '', kind: Service, name: far, namespace: m}, {group: '', kind: Service, name: s}]",
    );
    let parents = &of(&yaml).http_routes[&Key::new("n", "r")].parents;
    let resolved: Vec<_> = parents.iter().map(|parent| short(&parent.conditions)[1].clone()).collect();
    let good = "ResolvedRefs=True:ResolvedRefs";
    assert_eq!(resolved, ["ResolvedRefs=False:RefNotPermitted", good, good]);
}

#[test]
fn a_class_that_is_built_in_need_not_be_written() {
    let yaml = route("[{backendRefs: [{name: s, port: 80}]}]");
    let start = yaml.find("apiVersion: v1\nkind: Service").expect("the fixture has Services");
    for (class, controller) in
        [("istio", "istio.io/gateway-controller"), ("ferromesh", "ferromesh.io/gateway-controller")]
    {
        let yaml = yaml[start..].replace("gatewayClassName: istio", &format!("gatewayClassName: {class}"));
        let statuses = of(&yaml);
        assert!(statuses.gateway_classes.is_empty());
        assert_eq!(statuses.http_routes[&Key::new("n", "r")].parents[0].controller_name, controller);
        let other = of(&yaml.replace(&format!("gatewayClassName: {class}"), "gatewayClassName: other"));
        assert!(other.gateways.is_empty());
    }
}

#[test]
fn nothing_is_said_of_gateway_class_istio_where_a_real_istio_looks_after_it() {
    let yaml = route("[{}]")
        + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: mesh, namespace: n}\nspec: {parentRefs: [{group: '', kind: Service, name: s}]}\n";
    let mut view = view(&yaml);
    let controllers = |view: &View, route: &str| {
        let statuses = compute(view, &Facts::default(), &at(1), &Statuses::default());
        let parents = &statuses.http_routes[&Key::new("n", route)].parents;
        let said: Vec<_> = parents.iter().map(|parent| parent.controller_name.clone()).collect();
        (statuses.gateways.len() + statuses.gateway_classes.len(), said)
    };
    let istio = || vec!["istio.io/gateway-controller".to_owned()];
    assert_eq!(controllers(&view, "r"), (2, istio()));
    assert_eq!(controllers(&view, "mesh"), (2, istio()));
    view.leaves_istio = true;
    assert_eq!(controllers(&view, "r"), (0, Vec::new()));
    assert_eq!(controllers(&view, "mesh"), (0, vec!["ferromesh.io/gateway-controller".to_owned()]));
}
