//! Certificates of Gateways go to the pods of that Gateway, and to nobody else.
use super::*;

const NAME: &str = "kubernetes-gateway://demo/cert";

/// The tutorial with an HTTPS listener whose certificate is in `namespace`, and the gateway's pod.
fn https(namespace: &str, more: &str) -> String {
    let pair = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).expect("a certificate");
    let indent = |pem: String| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let (certificate, key) = (indent(pair.cert.pem()), indent(pair.signing_key.serialize_pem()));
    let listener = format!(
        "  - {{name: https, protocol: HTTPS, port: 443, tls: {{certificateRefs: [{{name: cert, namespace: {namespace}}}]}}}}\n"
    );
    let http = "  - {name: http, protocol: HTTP, port: 80, allowedRoutes: {namespaces: {from: All}}}\n";
    format!(
        "{}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: cert, namespace: {namespace}}}\nstringData:\n  tls.crt: \
         |\n{certificate}  tls.key: |\n{key}\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: istio-gwapi-istio-0\n  labels: \
         {{gateway.networking.k8s.io/gateway-name: istio-gwapi}}\nspec: {{serviceAccountName: gw, containers: []}}\n{more}",
        tutorial().replace(http, &format!("{http}{listener}"))
    )
}

fn gateway() -> Node {
    Node { service_account: "gw".to_owned(), ..router() }
}

fn secrets(yaml: &str, node: &Node, name: &str) -> usize {
    Translator::new().secrets(&view(yaml), node, &strings(&[name])).len()
}

#[test]
fn an_https_listener_names_its_secret_and_the_gateway_gets_it() {
    let yaml = https("demo", "");
    let listener = json(&Translator::new().listeners(&view(&yaml), &gateway()), "0.0.0.0_443");
    let tls = &listener["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"];
    assert_eq!(tls["tls_certificate_sds_secret_configs"][0]["name"], NAME);
    assert_eq!(secrets(&yaml, &gateway(), NAME), 1);
}

#[test]
fn only_a_pod_that_is_there_with_that_account_and_the_gateway_s_labels_gets_secrets() {
    let yaml = https(
        "demo",
        "\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: thief-0}\nspec: {serviceAccountName: gw, containers: []}\n",
    );
    let cases = [
        ("another account", Node { service_account: "default".to_owned(), ..gateway() }),
        ("a pod that is not there", Node { pod: "istio-gwapi-istio-9".to_owned(), ..gateway() }),
        ("a pod with the account but without the labels", Node { pod: "thief-0".to_owned(), ..gateway() }),
        ("a sidecar", Node { kind: NodeKind::Sidecar, ..gateway() }),
    ];
    for (what, node) in cases {
        assert_eq!(secrets(&yaml, &node, NAME), 0, "{what}");
    }
}

#[test]
fn a_secret_of_another_namespace_needs_a_grant() {
    let name = "kubernetes-gateway://vault/cert";
    let grant = "\n---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: \
                 vault}\nspec:\n  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: demo}]\n  to: [{group: '', \
                 kind: Secret}]\n";
    assert_eq!(secrets(&https("vault", ""), &gateway(), name), 0);
    assert_eq!(secrets(&https("vault", grant), &gateway(), name), 1);
}
