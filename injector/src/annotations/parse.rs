//! The values of annotations: text in; a value, or what is wrong with it and what would be right.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value};

use super::{InterceptionMode, Template};

/// Longest name of a network interface (Linux, IFNAMSIZ without its end).
const INTERFACE_NAME: usize = 15;
/// Envoy's names of log levels.
const LOG_LEVELS: [&str; 7] = ["trace", "debug", "info", "warning", "error", "critical", "off"];
/// Istio's names of log levels.
const AGENT_LEVELS: [&str; 6] = ["debug", "info", "warn", "error", "fatal", "none"];

pub(super) fn template(text: &str) -> Result<Template, String> {
    let mut names: Vec<&str> = text.split(',').map(str::trim).collect();
    // The same twice is the same.
    names.dedup();
    match names.as_slice() {
        [""] | ["sidecar"] => Ok(Template::Sidecar),
        ["gateway"] => Ok(Template::Gateway),
        _ => Err("names a template that is not here; write sidecar or gateway".into()),
    }
}

pub(super) fn interception_mode(text: &str) -> Result<InterceptionMode, String> {
    match text {
        "REDIRECT" => Ok(InterceptionMode::Redirect),
        "TPROXY" => Ok(InterceptionMode::Tproxy),
        "NONE" => Ok(InterceptionMode::None),
        _ => Err("is not a mode; write REDIRECT, TPROXY or NONE".into()),
    }
}

/// Go's `strconv.ParseBool`.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("is neither true nor false".into()),
    }
}

pub(super) fn count(text: &str) -> Result<i32, String> {
    text.parse::<u32>()
        .ok()
        .and_then(|count| i32::try_from(count).ok())
        .ok_or_else(|| "is not a whole number from 0 to 2147483647".into())
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| "is not a port, a whole number from 0 to 65535".into())
}

/// Ports with commas between; nothing is no port.
pub(super) fn ports(text: &str) -> Result<String, String> {
    list(text, |part| {
        part.parse::<u16>().map(drop).map_err(|_| format!("has {part:?}, which is not a port; write 80,8080"))
    })
}

pub(super) fn ports_or_all(text: &str) -> Result<String, String> {
    if text.trim() == "*" { Ok("*".into()) } else { ports(text) }
}

/// Ranges with commas between; nothing is no range.
pub(super) fn ranges(text: &str) -> Result<String, String> {
    list(text, |part| {
        part.parse::<IpNet>()
            .map(drop)
            .map_err(|_| format!("has {part:?}, which is not a range of addresses; write 10.0.0.0/8,fd00::/8"))
    })
}

pub(super) fn ranges_or_all(text: &str) -> Result<String, String> {
    if text.trim() == "*" { Ok("*".into()) } else { ranges(text) }
}

pub(super) fn interfaces(text: &str) -> Result<String, String> {
    list(text, |part| {
        let good = part.len() <= INTERFACE_NAME
            && !matches!(part, "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:,".contains(&byte));
        if good { Ok(()) } else { Err(format!("has {part:?}, which is not the name of a network interface")) }
    })
}

fn list(text: &str, check: impl Fn(&str) -> Result<(), String>) -> Result<String, String> {
    if text.trim().is_empty() {
        return Ok(String::new());
    }
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    parts.iter().try_for_each(|part| check(part))?;
    Ok(parts.join(","))
}

/// A Kubernetes quantity: `100m`, `1.5`, `128Mi`, `1e3`.
pub(super) fn quantity(text: &str) -> Result<Quantity, String> {
    let wrong = || "is not a quantity; write 100m, 2, 128Mi or 1Gi".to_owned();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(digits);
    let one_point = number.matches('.').count() <= 1 && number.bytes().any(|byte| byte.is_ascii_digit());
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|power| {
        let power = power.strip_prefix(['+', '-']).unwrap_or(power);
        !power.is_empty() && power.len() <= 3 && power.bytes().all(|byte| byte.is_ascii_digit())
    });
    let known = matches!(suffix, "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E")
        || matches!(suffix, "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei");
    if one_point && (known || exponent) && text.len() <= 64 { Ok(Quantity(text.to_owned())) } else { Err(wrong()) }
}

/// An image reference, without blanks or control characters.
pub(super) fn image(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(text.to_owned()) } else { Err("is not an image, such as registry/name:tag".into()) }
}

pub(super) fn word(text: &str) -> Result<String, String> {
    let good = text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if good { Ok(text.to_owned()) } else { Err("may have letters, digits, '-', '_' and '.' only".into()) }
}

pub(super) fn log_level(text: &str) -> Result<String, String> {
    if LOG_LEVELS.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("is not a log level; write one of {}", LOG_LEVELS.join(", ")))
    }
}

/// `part:level` with commas between.
pub(super) fn component_log_level(text: &str) -> Result<String, String> {
    list(text, |pair| match pair.split_once(':') {
        Some((part, level)) if word(part).is_ok() && !part.is_empty() => log_level(level).map(drop),
        _ => Err(format!("has {pair:?}; write parts with their levels, http:debug,tls:info")),
    })
}

/// `scope:level` with commas between; a level alone is for all.
pub(super) fn agent_log_level(text: &str) -> Result<String, String> {
    list(text, |pair| {
        let level = pair.split_once(':').map_or(pair, |(_, level)| level);
        if AGENT_LEVELS.contains(&level) {
            Ok(())
        } else {
            Err(format!("has {pair:?}; write default:info, with one of {}", AGENT_LEVELS.join(", ")))
        }
    })
}

/// ProxyConfig as YAML or JSON. Its fields are checked where it is laid over the mesh's.
pub(super) fn proxy_config(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    match serde_saphyr::from_str::<Value>(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(Value::Null) => Ok(Value::Object(Map::new())),
        Ok(_) => Err("is not a ProxyConfig; write fields, such as concurrency: 2".into()),
        Err(error) => Err(format!("is not YAML: {error}")),
    }
}

/// `{"<name>": {<source>}}`.
pub(super) fn volumes(text: &str) -> Result<Vec<Volume>, String> {
    named(text, "volume", |volume: &Volume| {
        let sources = serde_json::to_value(volume).map_or(0, |value| value.as_object().map_or(0, Map::len));
        // Its name, and one source.
        if sources == 2 { Ok(()) } else { Err("needs exactly one source, such as configMap".into()) }
    })
}

/// `{"<name>": {"mountPath": ...}}`.
pub(super) fn volume_mounts(text: &str) -> Result<Vec<VolumeMount>, String> {
    named(
        text,
        "mount",
        |mount: &VolumeMount| {
            if mount.mount_path.starts_with('/') { Ok(()) } else { Err("needs mountPath, from /".into()) }
        },
    )
}

/// An object of names, each with the rest of a `T`.
fn named<T: serde::de::DeserializeOwned>(
    text: &str,
    what: &str,
    check: impl Fn(&T) -> Result<(), String>,
) -> Result<Vec<T>, String> {
    let objects: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("is not a JSON object of {what}s by name: {error}"))?;
    let mut all = Vec::with_capacity(objects.len());
    for (name, mut value) in objects {
        let Value::Object(fields) = &mut value else { return Err(format!("has {what} {name:?}, which is no object")) };
        fields.insert("name".into(), Value::String(name.clone()));
        let one: T = serde_json::from_value(value).map_err(|error| format!("has {what} {name:?}: {error}"))?;
        check(&one).map_err(|reason| format!("has {what} {name:?}, which {reason}"))?;
        all.push(one);
    }
    Ok(all)
}
