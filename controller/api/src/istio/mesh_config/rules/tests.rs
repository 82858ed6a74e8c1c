//! Each thing that MeshConfig cannot say, and what it can.

use super::*;
use serde_json::json;

fn whats(mesh: &Value) -> Vec<String> {
    let mesh: MeshConfig = serde_json::from_value(mesh.clone()).expect("it reads");
    wrong(&mesh).into_iter().map(|wrong| wrong.what).collect()
}

#[test]
fn what_mesh_config_can_say_is_let_through() {
    for good in [
        json!({}),
        json!({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}, "inboundTrafficPolicy": {"mode": "LOCALHOST"}}),
        json!({"accessLogEncoding": "JSON", "accessLogFormat": "{\"a\": \"%REQ(X?Y):10% 5%%\", \"b\": {\"c\": [1, \"%DURATION%\"]}}"}),
        json!({"accessLogFormat": "%START_TIME(%s)% %RESP(A)%\n"}),
        json!({"trustDomain": "a.b-c_d", "trustDomainAliases": ["e"], "rootNamespace": "istio-system"}),
        json!({"defaultConfig": {"gatewayTopology": {"forwardClientCertDetails": "SANITIZE"}}}),
    ] {
        assert_eq!(whats(&good), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn a_word_that_is_not_known_or_cannot_be_is_named_with_its_field() {
    for (bad, field) in [
        (json!({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLYY"}}), "outboundTrafficPolicy.mode \"REGISTRY_ONLYY\""),
        (json!({"inboundTrafficPolicy": {"mode": "LOCALHOSTT"}}), "inboundTrafficPolicy.mode \"LOCALHOSTT\""),
        (json!({"accessLogEncoding": "JSONN"}), "accessLogEncoding \"JSONN\""),
        (json!({"pathNormalization": {"normalization": "BOGUS"}}), "pathNormalization.normalization \"BOGUS\""),
        (
            json!({"defaultConfig": {"gatewayTopology": {"forwardClientCertDetails": "ODD"}}}),
            "defaultConfig.gatewayTopology.forwardClientCertDetails \"ODD\"",
        ),
        (json!({"trustDomain": "A B"}), "trustDomain \"A B\""),
        (json!({"trustDomainAliases": ["ok", ""]}), "trustDomainAliases \"\""),
        (json!({"rootNamespace": "Istio"}), "rootNamespace \"Istio\""),
        (json!({"connectTimeout": "0s"}), "connectTimeout"),
        (json!({"accessLogFormat": "%NOPE%"}), "accessLogFormat: %NOPE% is not an operator"),
        (json!({"accessLogFormat": "%DURATION"}), "accessLogFormat: %DURATION is not ended"),
        (json!({"accessLogFormat": "%REQ(A"}), "accessLogFormat: %REQ is not ended"),
        (json!({"accessLogFormat": "%REQ(A):x%"}), "accessLogFormat: %REQ is not ended"),
        (json!({"accessLogFormat": "100%"}), "accessLogFormat: % is not ended"),
        (
            json!({"accessLogEncoding": "JSON", "accessLogFormat": "{\"a\": {\"b\": \"%NOPE%\"}}"}),
            "accessLogFormat.a: %NOPE%",
        ),
        (json!({"accessLogEncoding": "JSON", "accessLogFormat": "%DURATION%"}), "accessLogFormat is not a JSON object"),
    ] {
        let found = whats(&bad);
        assert!(found.len() == 1 && found[0].starts_with(field), "{bad}: {found:?}");
    }
}
