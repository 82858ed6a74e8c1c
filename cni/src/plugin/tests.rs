use std::os::unix::net::UnixListener;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::conflist::ANNOTATIONS;
use crate::wire::{self, Answer, Question};

const RESULT: &str =
    r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"}],"ips":[{"address":"10.1.0.5/16"}],"exact":1.10}"#;
/// As the injector writes it.
const PROMISED: &str = r#"{"initContainers":["istio-validation","istio-proxy"],"containers":null}"#;

/// What a runtime tells of a pod's annotations.
enum Told {
    Nothing,
    NoSidecar,
    Sidecar(&'static str),
}

fn config(socket: &str, told: Told) -> Value {
    let annotations = match told {
        Told::Nothing => json!({}),
        Told::NoSidecar => json!({ANNOTATIONS: {"a": "b"}}),
        Told::Sidecar(status) => json!({ANNOTATIONS: {"sidecar.istio.io/status": status}}),
    };
    json!({
        "cniVersion": "1.0.0", "name": "pods", "type": "ferromesh-cni", "socket": socket, "excludeNamespaces": ["kube-system"],
        "prevResult": serde_json::value::RawValue::from_string(RESULT.into()).unwrap(), "runtimeConfig": annotations,
    })
}

fn call(command: &str, namespace: &str, config: &str) -> (String, bool) {
    let arguments = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=cart;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u"
    );
    let variable = |name: &str| match name {
        COMMAND => Some(command.to_owned()),
        "CNI_NETNS" => Some("/proc/self/ns/net".to_owned()),
        "CNI_ARGS" => Some(arguments.clone()),
        _ => None,
    };
    run(&variable, config.as_bytes(), &Agent { patience: Duration::from_millis(500) })
}

/// `ADD`, where an agent (if there is to be one) gives this answer; and whether it was asked.
fn add(namespace: &str, told: Told, answer: Option<Answer>) -> (String, bool, Option<Question>) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let config = config(socket.to_str().unwrap(), told);
    // As text, so that the result's number keeps its digits.
    let text = config.to_string().replace(&serde_json::from_str::<Value>(RESULT).unwrap().to_string(), RESULT);
    let Some(answer) = answer else {
        let (text, done) = call("ADD", namespace, &text);
        return (text, done, None);
    };
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::scope(|scope| {
        let agent = scope.spawn(|| {
            let (stream, _) = listener.accept().unwrap();
            // Nobody asked: the test's own end of the wait.
            let (question, _) = wire::question(&stream).ok()?;
            wire::reply(&stream, &answer).unwrap();
            Some(question)
        });
        let (text, done) = call("ADD", namespace, &text);
        drop(std::os::unix::net::UnixStream::connect(&socket));
        (text, done, agent.join().unwrap())
    })
}

fn error(text: &str) -> (u64, String) {
    let value: Value = serde_json::from_str(text).unwrap();
    assert_eq!(value["cniVersion"], "1.0.0", "{text}");
    (value["code"].as_u64().unwrap(), value["msg"].as_str().unwrap().to_owned())
}

#[test]
fn a_pod_with_a_sidecar_is_asked_about_and_the_result_goes_on_to_the_letter() {
    for told in [Told::Nothing, Told::Sidecar(PROMISED), Told::Sidecar("not what the injector writes")] {
        let (text, done, asked) = add("shop", told, Some(Answer::Redirected));
        assert!(done, "{text}");
        assert_eq!(text, RESULT);
        let asked = asked.unwrap();
        assert_eq!((asked.namespace.as_str(), asked.name.as_str(), asked.uid.as_deref()), ("shop", "cart", Some("u")));
    }
}

#[test]
fn pods_of_excluded_namespaces_and_without_a_sidecar_go_on_without_a_question() {
    let own_init = r#"{"initContainers":["istio-init","istio-proxy"]}"#;
    let gateway = r#"{"initContainers":null,"containers":["istio-proxy"]}"#;
    for (namespace, told) in [
        ("kube-system", Told::Sidecar(PROMISED)),
        ("kube-system", Told::Nothing),
        ("shop", Told::NoSidecar),
        ("shop", Told::Sidecar(own_init)),
        ("shop", Told::Sidecar(gateway)),
    ] {
        let (text, done, asked) = add(namespace, told, Some(Answer::Failed("asked".into())));
        assert_eq!((text.as_str(), done, asked), (RESULT, true, None));
    }
}

#[test]
fn without_an_agent_a_pod_with_a_sidecar_is_refused_with_what_to_do_and_others_go_on() {
    for told in [Told::NoSidecar, Told::Nothing] {
        let (text, done, _) = add("shop", told, None);
        assert_eq!((text.as_str(), done), (RESULT, true));
    }
    let (text, done, _) = add("shop", Told::Sidecar(PROMISED), None);
    assert!(!done);
    let (code, message) = error(&text);
    assert_eq!(code, u64::from(CniError::LATER));
    for needle in ["pod shop/cart has a sidecar", "does not answer at", "tries again", "-l app=ferromesh-cni"] {
        assert!(message.contains(needle), "{message}");
    }
}

#[test]
fn the_agents_answer_decides() {
    let failed = || Answer::Failed("the kernel refuses".into());
    let unknown = || Answer::Unknown("the API server cannot be reached".into());
    for told in [Told::Nothing, Told::Sidecar(PROMISED)] {
        let (text, done, _) = add("shop", told, Some(failed()));
        let (code, message) = error(&text);
        assert_eq!((done, code), (false, u64::from(CniError::NOT_REDIRECTED)));
        assert!(message.contains("pod shop/cart") && message.contains("the kernel refuses"), "{message}");
    }
    let (text, done, _) = add("shop", Told::Sidecar(PROMISED), Some(unknown()));
    assert_eq!((done, error(&text).0), (false, u64::from(CniError::LATER)));
    let (text, done, _) = add("shop", Told::Nothing, Some(unknown()));
    assert_eq!((text.as_str(), done), (RESULT, true), "not known to have a sidecar");
    let (text, done, _) = add("shop", Told::Sidecar(PROMISED), Some(Answer::Left("another mesh's".into())));
    assert_eq!((text.as_str(), done), (RESULT, true));
}

#[test]
fn an_agent_that_says_nothing_costs_no_more_than_the_patience() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let _silent = UnixListener::bind(&socket).unwrap();
    let config = config(socket.to_str().unwrap(), Told::Sidecar(PROMISED)).to_string();
    let begin = std::time::Instant::now();
    let (text, done) = call("ADD", "shop", &config);
    assert!(!done && error(&text).0 == u64::from(CniError::LATER), "{text}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn every_version_that_is_spoken_is_answered_in_and_others_are_refused() {
    let none = |_: &str| Some("VERSION".to_owned());
    let (text, done) = run(&none, br#"{"cniVersion":"0.4.0"}"#, &Agent::default());
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(done);
    assert_eq!(
        value,
        json!({"cniVersion": "0.4.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]})
    );
    for version in VERSIONS {
        let mut config = config("/nowhere", Told::NoSidecar);
        config["cniVersion"] = version.into();
        assert!(call("ADD", "shop", &config.to_string()).1, "{version}");
    }
    let (text, done) = call("ADD", "shop", r#"{"cniVersion":"2.0.0","prevResult":{}}"#);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((done, &value["code"], &value["cniVersion"]), (false, &json!(CniError::VERSION), &json!("2.0.0")));
}

#[test]
fn deletion_collection_and_status_need_no_agent() {
    for command in ["DEL", "GC", "STATUS"] {
        let config = config("/nowhere", Told::Sidecar(PROMISED)).to_string();
        assert_eq!(call(command, "shop", &config), (String::new(), true), "{command}");
    }
}

#[test]
fn what_a_runtime_does_wrong_is_said_with_the_specifications_code() {
    let good = config("/nowhere", Told::NoSidecar);
    let mut alone = good.clone();
    alone.as_object_mut().unwrap().remove("prevResult");
    for (command, text, code, needle) in [
        ("ADD", "{".to_owned(), CniError::INPUT, "configuration"),
        ("ADD", alone.to_string(), CniError::CONFIG, "prevResult"),
        ("FROB", good.to_string(), CniError::ENVIRONMENT, "FROB"),
    ] {
        let (answer, done) = call(command, "shop", &text);
        let value: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((done, &value["code"]), (false, &json!(code)), "{answer}");
        assert!(answer.contains(needle), "{answer}");
    }
}
