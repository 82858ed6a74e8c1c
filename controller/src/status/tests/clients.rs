//! What a Gateway asks of its clients and shows to its backends: honoured, or refused by name.
use super::*;

/// The Gateway `g` with this `spec.tls`, and an HTTPS listener with these options.
fn asking(tls: &str, options: &str, more: &str) -> Statuses {
    let own = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).expect("a certificate");
    let json = |text: String| serde_json::to_string(&text).expect("a text");
    let (pem, key) = (json(own.cert.pem()), json(own.signing_key.serialize_pem()));
    let listener = format!("{{name: x, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: c}}]{options}}}}}");
    let more = more.replace("ROOTS", &pem);
    let gateway = gateway(&format!("[{listener}]\n  tls: {{{tls}}}"));
    of(&format!(
        "{gateway}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: c, namespace: n}}\nstringData: {{tls.crt: {pem}, tls.key: {key}}}\n\
         ---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: roots, namespace: n}}\ndata: {{ca.crt: {pem}}}\n\
         ---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: empty, namespace: n}}\ndata: {{ca.crt: nonsense}}\n\
         ---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: far, namespace: m}}\ndata: {{ca.crt: {pem}}}\n{more}"
    ))
}

fn validation(references: &str) -> String {
    format!("frontend: {{default: {{validation: {{caCertificateRefs: [{references}]}}}}}}")
}

#[test]
fn a_listener_is_served_only_if_its_clients_can_be_checked_as_it_asks() {
    let grant = "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: m}\nspec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: n}], to: [{group: \"\", kind: ConfigMap}]}\n";
    let secret_roots = ", options: {gateway.istio.io/tls-terminate-mode: MUTUAL}";
    let beside =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: c-cacert, namespace: n}\nstringData: {cacert: nonsense}\n";
    let good_beside =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: c-cacert, namespace: n}\nstringData: {cacert: ROOTS}\n";
    let no_roots = ("Accepted=False:NoValidCACertificate", "Programmed=False:Invalid");
    let served = ("Accepted=True:Accepted", "Programmed=True:Programmed", "ResolvedRefs=True:ResolvedRefs");
    let none = |reason: &'static str| (no_roots.0, no_roots.1, reason);
    let map = |name: &str| format!("{{group: \"\", kind: ConfigMap, name: {name}}}");
    let far = "{group: \"\", kind: ConfigMap, name: far, namespace: m}";
    let mode = validation(&map("roots")).replace("]}", "], mode: AllowInsecureFallback}");
    let port = format!(
        "frontend: {{default: {{}}, perPort: [{{port: 443, tls: {{validation: {{caCertificateRefs: [{}]}}}}}}]}}",
        map("none")
    );
    let other_port = port.replace("443", "444");
    let unsupported = ("Accepted=False:UnsupportedValue", "Programmed=False:Invalid", "ResolvedRefs=True:ResolvedRefs");
    let cases = [
        ("", "", "", served),
        (&*validation(&map("roots")), "", "", served),
        (&*validation(far), "", grant, served),
        (&*other_port, "", "", served),
        ("", ", options: {gateway.istio.io/tls-terminate-mode: SIMPLE}", "", served),
        ("", secret_roots, good_beside, served),
        (&*validation(&map("none")), "", "", none("ResolvedRefs=False:InvalidCACertificateRef")),
        (&*validation(&map("empty")), "", "", none("ResolvedRefs=False:InvalidCACertificateRef")),
        (
            &*validation("{group: a.b, kind: Odd, name: roots}"),
            "",
            "",
            none("ResolvedRefs=False:InvalidCACertificateKind"),
        ),
        (&*validation(far), "", "", none("ResolvedRefs=False:RefNotPermitted")),
        (&*port, "", "", none("ResolvedRefs=False:InvalidCACertificateRef")),
        // One reference of two is good: the listener is valid, and yet not served with half of what it asks for.
        (
            &*validation(&format!("{}, {}", map("roots"), map("none"))),
            "",
            "",
            ("Accepted=True:Accepted", "Programmed=False:Invalid", "ResolvedRefs=False:InvalidCACertificateRef"),
        ),
        (&*mode, "", "", unsupported),
        ("", ", options: {gateway.istio.io/tls-terminate-mode: ISTIO_MUTUAL}", "", unsupported),
        ("", ", options: {example.com/odd: \"1\"}", "", unsupported),
        (
            "",
            secret_roots,
            "",
            ("Accepted=True:Accepted", "Programmed=False:Invalid", "ResolvedRefs=False:InvalidCertificateRef"),
        ),
        (
            "",
            secret_roots,
            beside,
            ("Accepted=True:Accepted", "Programmed=False:Invalid", "ResolvedRefs=False:InvalidCertificateRef"),
        ),
    ];
    for (tls, options, more, (accepted, programmed, resolved)) in cases {
        let statuses = asking(tls, options, more);
        let listener = &statuses.gateways[&Key::new("n", "g")].listeners[0];
        let expected = [accepted, programmed, resolved, "Conflicted=False:NoConflicts"];
        assert_eq!(short(&listener.conditions), expected, "{tls} {options} {more}");
        assert_eq!(listener.supported_kinds.len(), 2, "{tls} {options} {more}");
    }
}

#[test]
fn a_gateway_that_asks_for_what_is_not_supported_is_refused_whole_or_says_what_it_passes_over() {
    let (ok, served) = ("Accepted=True:Accepted", "Programmed=True:Programmed");
    let (refused, resolved) = ("Accepted=False:Invalid", "ResolvedRefs=True:ResolvedRefs");
    let idle = "Programmed=False:Invalid";
    let cases = [
        (
            "tls: {backend: {clientCertificateRef: {name: c}}}",
            [refused, idle, "ResolvedRefs=False:InvalidClientCertificateRef"],
            "clientCertificateRef",
        ),
        (
            "tls: {backend: {clientCertificateRef: {name: c, namespace: m}}}",
            [refused, idle, "ResolvedRefs=False:RefNotPermitted"],
            "clientCertificateRef",
        ),
        (
            "addresses: [{type: example.com/odd, value: a}]",
            ["Accepted=False:UnsupportedAddress", idle, resolved],
            "example.com/odd",
        ),
        (
            "infrastructure: {parametersRef: {group: a.b, kind: Odd, name: c}}",
            ["Accepted=False:InvalidParameters", idle, resolved],
            "parametersRef",
        ),
        ("allowedListeners: {namespaces: {from: Same}}", [ok, served, resolved], "spec.allowedListeners"),
        ("allowedListeners: {namespaces: {from: None}}", [ok, served, resolved], "every listener is valid"),
        ("defaultScope: All", [ok, served, resolved], "spec.defaultScope"),
    ];
    for (field, conditions, says) in cases {
        let statuses = of(&gateway(&format!("[{{name: x, port: 80, protocol: HTTP}}]\n  {field}")));
        let gateway = &statuses.gateways[&Key::new("n", "g")];
        assert_eq!(short(&gateway.conditions), conditions, "{field}");
        assert!(gateway.conditions[0].message.contains(says), "{field}: {}", gateway.conditions[0].message);
        let programmed = &gateway.listeners[0].conditions[1];
        assert_eq!(programmed.status == "True", conditions[1] == served, "{field}: {}", programmed.message);
    }
}
