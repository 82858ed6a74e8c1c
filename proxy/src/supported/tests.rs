//! Fields that are said to be implemented against the code, and rooms against each other.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use ferromesh_proto::prost::{Message, Name};
use ferromesh_proto::{Any, fields, json};

use super::idle::IDLE;
use super::{ROOMS, Table, check, supported};

/// Rooms that read messages for others.
const SHARED: &[&str] = &["config", "codec", "matcher", "format", "policy", "runtime", "text"];

/// (message, fields, the room that reads them in place of the one that lists them).
const READ_BY: &[(&str, &str, &str)] = &[
    ("envoy.config.route.v3.FilterConfig", "disabled", "http"),
    ("envoy.config.core.v3.SubstitutionFormatString", "content_type", "http"),
    ("envoy.config.endpoint.v3.ClusterLoadAssignment", "cluster_name", "xds"),
];

/// The words of each room's code, without texts and comments.
fn words() -> BTreeMap<String, HashSet<String>> {
    let mut found = BTreeMap::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut found);
    found
}

fn read(folder: &Path, room: Option<&str>, found: &mut BTreeMap<String, HashSet<String>>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let room = room.unwrap_or(&name);
        if path.is_dir() {
            read(&path, Some(room), found);
        } else if name != "tests" && name != "fuzz" && name != "idle" && !folder.ends_with("tests") {
            let source = std::fs::read_to_string(&path).expect("text");
            let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            // The rules of runtime keys name fields in texts.
            let code = if room == "runtime" { code.to_owned() } else { without_texts(code) };
            let words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            found.entry(room.to_owned()).or_default().extend(words.map(str::to_owned));
        }
    }
}

/// Code without line comments and string literals.
fn without_texts(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(place) = rest.find(['"', '/', '\'']) {
        kept.push_str(&rest[..place]);
        rest = &rest[place..];
        rest = if rest.starts_with("//") {
            rest.find('\n').map_or("", |end| &rest[end..])
        } else if let Some(after) = rest.strip_prefix("'\"'") {
            after
        } else if let Some(text) = rest.strip_prefix('"') {
            let raw = kept.chars().rev().take_while(|letter| *letter == '#').count();
            if raw > 0 || kept.ends_with('r') {
                let end = format!("\"{}", "#".repeat(raw));
                text.find(&end).map_or("", |place| &text[place + end.len()..])
            } else {
                after_text(text)
            }
        } else {
            kept.push(' ');
            &rest[1..]
        };
    }
    kept.push_str(rest);
    kept
}

/// What follows the end of a string literal.
fn after_text(text: &str) -> &str {
    let mut escaped = false;
    for (place, letter) in text.char_indices() {
        match letter {
            '"' if !escaped => return &text[place + 1..],
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    ""
}

fn listed(message: &str, names: &str) -> Vec<&'static str> {
    let known = fields::message(message).unwrap_or_else(|| panic!("there is no message {message}"));
    let all = || known.fields().map(fields::Field::name).collect();
    let named = |name| known.named(name).unwrap_or_else(|| panic!("{message} has no field {name}")).name();
    if names == "*" { all() } else { names.split_whitespace().map(named).collect() }
}

/// Whether `table` has a row for (message, field).
fn has(table: &[(&str, &str, &str)], message: &str, field: &str) -> bool {
    table.iter().any(|(of, names, _)| *of == message && listed(message, names).contains(&field))
}

/// The name of a field's variant, where it is one of several.
fn variant(field: &str) -> String {
    let capital = |word: &str| word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect();
    field.split('_').map(capital).collect::<Vec<String>>().concat()
}

/// Fields of each room's table, by whether the room (or one that reads for it) has the field's name in its code.
fn fields_by(is_read: bool) -> Vec<(&'static str, &'static str, &'static str)> {
    let words = words();
    let tables: Vec<(&str, Table)> = ROOMS.iter().copied().chain([("", supported::COMMON)]).collect();
    let mut found = Vec::new();
    for (room, table) in tables {
        let own = room.split('/').next().unwrap_or_default();
        // The bootstrap, and what all rooms share, is read in many places.
        let everywhere = own.is_empty() || own == "bootstrap";
        for (message, names) in table {
            for field in listed(message, names) {
                let read = words.iter().any(|(place, words)| {
                    (everywhere || place == own || SHARED.contains(&place.as_str()))
                        && (words.contains(field) || words.contains(&variant(field)))
                });
                if read == is_read {
                    found.push((room, *message, field));
                }
            }
        }
    }
    found
}

#[test]
fn every_field_that_is_accepted_is_read_or_stands_in_the_list_of_idle_ones() {
    let missing: Vec<_> = fields_by(false)
        .into_iter()
        .filter(|(_, message, field)| !has(IDLE, message, field) && !has(READ_BY, message, field))
        .collect();
    assert!(missing.is_empty(), "accepted, and never read: honour, refuse, or say why not: {missing:#?}");
}

#[test]
fn the_list_of_idle_fields_has_none_that_is_read_or_refused() {
    let idle = fields_by(false);
    for (message, names, why) in IDLE.iter().chain(READ_BY) {
        assert!(!why.is_empty());
        for field in listed(message, names) {
            let is_idle = idle.iter().any(|(_, of, name)| of == message && *name == field);
            assert!(is_idle, "{message}.{field} is read, or refused: it does not belong here");
        }
    }
}

fn refused<M: Message + Name>(message: &M) -> String {
    check(&Any::pack(message)).expect_err("it is refused").to_string()
}

#[test]
fn what_one_room_implements_of_a_shared_message_is_not_opened_for_another() {
    let manager = |options: &str| -> HttpConnectionManager { json::from_yaml(options).unwrap() };
    let jitter = "connection_keepalive: {interval: 1s, timeout: 1s, interval_jitter: {value: 5}}";
    let said = refused(&manager(&format!("http2_protocol_options: {{{jitter}}}")));
    assert!(said.contains("http2_protocol_options.connection_keepalive.interval_jitter: is not implemented"), "{said}");
    let cluster: Cluster = json::from_yaml(&format!("name: c\nhttp2_protocol_options: {{{jitter}}}")).unwrap();
    check(&Any::pack(&cluster)).unwrap();
    let old: Cluster = json::from_yaml("http_protocol_options: {accept_http_10: true}").unwrap();
    assert!(refused(&old).contains("http_protocol_options.accept_http_10: is not implemented"));
    let whole = "{stat_prefix: s, route_config: {}, http_protocol_options: {accept_http_10: true}}";
    check(&Any::pack(&manager(whole))).unwrap();
}

#[test]
fn messages_that_stand_in_each_other_without_end_are_refused() {
    use ferromesh_proto::wire;
    let (rules, set) =
        (fields::message("envoy.config.rbac.v3.Permission").unwrap(), "envoy.config.rbac.v3.Permission.Set");
    let numbers =
        [rules.named("and_rules").unwrap().number(), fields::message(set).unwrap().named("rules").unwrap().number()];
    let mut bytes = Vec::new();
    for depth in 0..10_000 {
        let mut outer = Vec::new();
        wire::bytes(numbers[(depth + 1) % 2], &bytes, &mut outer);
        bytes = outer;
    }
    let any = Any { type_url: "type.googleapis.com/envoy.config.rbac.v3.Permission".into(), value: bytes.into() };
    let said = check(&any).unwrap_err().to_string();
    assert!(said.contains("nested too deeply"), "{}", &said[said.len().saturating_sub(200)..]);
}
