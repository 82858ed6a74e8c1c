//! What a case shows, as facts that can be compared: (what, value).

use std::io::Read;

use crate::upstream::Received;
use crate::wire::Message;

/// What it is that was seen, and what it was.
pub type Fact = (String, String);

/// Headers whose values differ from one run to the next.
const VOLATILE: &[&str] = &["x-envoy-upstream-service-time", "x-ratelimit-reset", "retry-after"];

/// Facts of an answer; `None` is a connection closed without one.
pub fn answer(message: Option<&Message>) -> Vec<Fact> {
    let Some(message) = message else { return vec![("status".into(), "connection closed".into())] };
    let status = message.start.split(' ').nth(1).unwrap_or_default();
    let mut facts = vec![("status".into(), status.to_owned())];
    facts.push(("answer reason".into(), message.start.splitn(3, ' ').nth(2).unwrap_or_default().to_owned()));
    facts.push(("answer version".into(), message.start.split(' ').next().unwrap_or_default().to_owned()));
    content("answer", message, &mut facts);
    facts
}

/// Facts of the requests that the upstream has got.
pub fn received(list: &[Received]) -> Vec<Fact> {
    let mut facts = Vec::new();
    let first = list.first().map(expected).unwrap_or_default();
    for (index, received) in list.iter().enumerate() {
        let earlier = list[..index].iter().filter(|other| other.server == received.server).count();
        let what = format!("{}[{earlier}]", received.server);
        facts.push((format!("{what} line"), received.message.start.clone()));
        let from = facts.len();
        content(&what, &received.message, &mut facts);
        // What is left of the time for a further try depends on how fast things went.
        if let Some((_, value)) = facts[from..].iter_mut().find(|(name, _)| name.ends_with(EXPECTED))
            && earlier > 0
            && expected(received) <= first
        {
            *value = "(no more than before)".into();
        } else if let Some((_, value)) = facts[from..].iter_mut().find(|(name, _)| name.ends_with(EXPECTED)) {
            // A retry that lands on another server is the first there; tenths of a second are what matters.
            // The wait before a retry is of chance, and longer on a busy machine.
            let (rest, step) = (expected(received), if expected(received) > 1000 { 1000 } else { 100 });
            *value = (rest.div_ceil(step) * step).to_string();
        }
    }
    facts
}

/// Facts of an access log line, whose fields are `name=value` with `|` between, and the port of its client.
pub fn log(line: &str) -> (Vec<Fact>, Option<u16>) {
    let (mut facts, mut client) = (Vec::new(), None);
    for field in line.split('|') {
        match field.split_once('=').unwrap_or((field, "")) {
            ("client", address) => client = address.rsplit(':').next().and_then(|port| port.parse().ok()),
            (name, value) if is_number(name) => facts.push((format!("log {name}"), without_numbers(&uuid(value)))),
            (name, value) => facts.push((format!("log {name}"), uuid(value))),
        }
    }
    (facts, client)
}

/// A line of a log of objects, and its case.
pub fn object(line: &str) -> (Fact, String) {
    let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    (("object".into(), line.replace(&text("client"), "(client)")), text("case"))
}

/// Names of fields whose numbers differ from one run to the next.
fn is_number(name: &str) -> bool {
    name.strip_prefix('n').is_some_and(|rest| rest.len() == 3 && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Every run of digits is as good as any other.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for part in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() < part.len() {
            out.push('#');
        }
        out.push_str(rest);
    }
    out
}

const EXPECTED: &str = "x-envoy-expected-rq-timeout-ms";

fn expected(received: &Received) -> u64 {
    received.message.header(EXPECTED).and_then(|value| value.parse().ok()).unwrap_or_default()
}

fn content(what: &str, message: &Message, facts: &mut Vec<Fact>) {
    for (name, value) in &message.headers {
        if name.eq_ignore_ascii_case("date") {
            continue;
        }
        let volatile = VOLATILE.iter().any(|volatile| name.eq_ignore_ascii_case(volatile));
        let value = match value.split('"').collect::<Vec<_>>().as_slice() {
            // A cookie that the proxy makes has a value of chance.
            [before, _, after] if name.eq_ignore_ascii_case("set-cookie") => format!("{before}\"(some)\"{after}"),
            _ if volatile => "(some)".to_owned(),
            _ => uuid(value),
        };
        facts.push((format!("{what} header {name}"), value));
    }
    for (name, value) in &message.trailers {
        facts.push((format!("{what} trailer {name}"), value.clone()));
    }
    let body = String::from_utf8_lossy(&decoded(message)).into_owned();
    let body = if body.len() > 400 { format!("{} bytes", body.len()) } else { body };
    facts.push((format!("{what} body"), body));
    if message.broken {
        facts.push((format!("{what} body end"), "broken off".into()));
    }
}

/// The body as it was before it was compressed, if that is what it is.
fn decoded(message: &Message) -> Vec<u8> {
    let (mut out, bytes) = (Vec::new(), message.body.as_slice());
    let read = match message.header("content-encoding") {
        Some("gzip") => flate2::bufread::GzDecoder::new(bytes).read_to_end(&mut out),
        Some("br") => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
        Some("zstd") => match ruzstd::decoding::StreamingDecoder::new(bytes) {
            Ok(mut decoder) => decoder.read_to_end(&mut out),
            Err(error) => Err(std::io::Error::other(error)),
        },
        _ => return message.body.clone(),
    };
    if read.is_ok() { out } else { message.body.clone() }
}

/// A UUID of version 4 that stands alone is made equal to every other.
fn uuid(value: &str) -> String {
    let bytes = value.as_bytes();
    let shape = bytes.len() == 36
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    let given = value.starts_with("11111111");
    if shape && !given { "(uuid)".into() } else { value.to_owned() }
}

/// Facts that only one side shows: (what, values of Envoy, values of ours).
pub fn compare(envoy: &[Fact], ours: &[Fact]) -> Vec<(String, Vec<String>, Vec<String>)> {
    let mut names: Vec<&String> = envoy.iter().chain(ours).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    let values = |facts: &[Fact], name: &String| -> Vec<String> {
        facts.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    };
    let pairs = names.into_iter().map(|name| (name.clone(), values(envoy, name), values(ours, name)));
    pairs.filter(|(_, envoy, ours)| envoy != ours).collect()
}
