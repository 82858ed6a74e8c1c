use super::*;

fn one(name: &str, value: &str) -> Result<PodSettings, Vec<BadAnnotation>> {
    read(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
}

#[test]
fn good_values_are_read_into_types() {
    let settings = one("sidecar.istio.io/interceptionMode", "TPROXY").unwrap();
    assert_eq!(settings.traffic.mode, Some(InterceptionMode::Tproxy));
    let settings = one("traffic.sidecar.istio.io/excludeOutboundPorts", " 80, 443 ").unwrap();
    assert_eq!(settings.traffic.exclude_outbound_ports.as_deref(), Some("80,443"));
    let settings = one("sidecar.istio.io/userVolume", r#"{"a":{"configMap":{"name":"m"}}}"#).unwrap();
    assert_eq!(settings.volumes[0].name, "a");
    let settings = one("proxy.istio.io/config", "concurrency: 3\nholdApplicationUntilProxyStarts: true\n").unwrap();
    assert_eq!(settings.proxy_config.unwrap()["concurrency"], 3);
}

#[test]
fn a_wrong_value_is_refused_with_its_name_and_the_reason() {
    let table = [
        ("sidecar.istio.io/interceptionMode", "redirect", "REDIRECT, TPROXY or NONE"),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/8,*", "\"*\""),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "*", "not a range"),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.0.0.0/33", "not a range"),
        ("traffic.sidecar.istio.io/includeInboundPorts", "80,http", "\"http\""),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "*", "\"*\""),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "65536", "\"65536\""),
        ("traffic.sidecar.istio.io/includeOutboundPorts", "80;90", "\"80;90\""),
        ("traffic.sidecar.istio.io/excludeInterfaces", "eth0,averyveryverylongname", "averyveryverylongname"),
        ("istio.io/reroute-virtual-interfaces", "a/b", "\"a/b\""),
        ("sidecar.istio.io/proxyCPU", "100 m", "quantity"),
        ("sidecar.istio.io/proxyMemory", "1Go", "quantity"),
        ("sidecar.istio.io/proxyCPULimit", "", "quantity"),
        ("sidecar.istio.io/proxyMemoryLimit", "1.2.3", "quantity"),
        ("sidecar.istio.io/logLevel", "verbose", "trace"),
        ("sidecar.istio.io/componentLogLevel", "http", "http:debug"),
        ("sidecar.istio.io/agentLogLevel", "default:loud", "default:info"),
        ("sidecar.istio.io/userVolume", "{\"a\":{}}", "exactly one source"),
        ("sidecar.istio.io/userVolumeMount", "{\"a\":{\"mountPath\":\"x\"}}", "from /"),
        ("sidecar.istio.io/userVolume", "[]", "JSON object"),
        ("sidecar.istio.io/proxyImage", "a b", "image"),
        ("status.sidecar.istio.io/port", "-1", "not a port"),
        ("readiness.status.sidecar.istio.io/periodSeconds", "soon", "whole number"),
        ("readiness.status.sidecar.istio.io/failureThreshold", "4294967295", "whole number"),
        ("readiness.status.sidecar.istio.io/initialDelaySeconds", "-3", "whole number"),
        ("sidecar.istio.io/rewriteAppHTTPProbers", "yes", "neither true nor false"),
        ("prometheus.istio.io/merge-metrics", "on", "neither true nor false"),
        ("sidecar.istio.io/nativeSidecar", "maybe", "neither true nor false"),
        ("proxy.istio.io/config", "[1]", "not a ProxyConfig"),
        ("proxy.istio.io/config", "a: b: c", "not YAML"),
    ];
    for (name, value, needle) in table {
        let problems = one(name, value).expect_err(name);
        let text = problems[0].to_string();
        assert!(text.contains(name) && text.contains(needle), "{text}");
    }
}

#[test]
fn all_wrong_values_are_named_at_once() {
    let annotations = [("sidecar.istio.io/proxyCPU", "x"), ("sidecar.istio.io/interceptionMode", "x")];
    let annotations = annotations.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let problems = read(&BTreeMap::from(annotations)).unwrap_err();
    let names: Vec<&str> = problems.iter().map(|problem| problem.name.as_str()).collect();
    assert_eq!(names, ["sidecar.istio.io/interceptionMode", "sidecar.istio.io/proxyCPU"]);
}

#[test]
fn quantities_are_those_of_kubernetes() {
    for good in ["100m", "2", "1.5", "128Mi", "1e3", "1E-2", "0", "500k", "+5", ".5"] {
        assert!(parse::quantity(good).is_ok(), "{good}");
    }
    for bad in ["", "m", "1mm", "1K", "1e", "1 ", "--1", "1\n"] {
        assert!(parse::quantity(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_not_honoured_is_said() {
    let settings = one("sidecar.istio.io/bootstrapOverride", "my-map").unwrap();
    assert!(settings.warnings[0].contains("EnvoyFilter"), "{:?}", settings.warnings);
}
