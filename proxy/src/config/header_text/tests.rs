//! The rows against Envoy's own protos, as they lie in the `envoy-types` package, and the rules by themselves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ROWS, Rule, rules};
use crate::supported;

/// (message, field, rule) of each field that a `.proto` file marks.
type Marked = BTreeSet<(String, String, String)>;

fn protos() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--offline"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = cargo.output().expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|package| package["name"] == "envoy-types").expect("envoy-types");
    let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
    manifest.with_file_name("proto").join("data-plane-api/envoy")
}

fn each_proto(folder: &Path, read: &mut impl FnMut(&str)) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            each_proto(&path, read);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            read(&std::fs::read_to_string(&path).expect("text"));
        }
    }
}

/// What the innermost open brace or bracket belongs to.
#[derive(PartialEq)]
enum Open {
    Message,
    Block,
    Option,
}

/// Walks one file: enough of the grammar to know which message a field stands in.
fn marked(source: &str, found: &mut Marked) {
    let text: String =
        source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    let (mut open, mut names, mut statement) = (Vec::new(), Vec::new(), String::new());
    for character in text.chars() {
        let in_option = open.last() == Some(&Open::Option);
        match character {
            '[' | '{' if character == '[' || in_option => {
                open.push(Open::Option);
                statement.push(character);
            }
            '{' => {
                let words: Vec<&str> = statement.split_whitespace().collect();
                let (kind, name) = (words.iter().rev().nth(1), words.last());
                if kind == Some(&"message") {
                    names.push((*name.expect("a name")).to_owned());
                }
                open.push(if kind == Some(&"message") { Open::Message } else { Open::Block });
                statement.clear();
            }
            ']' | '}' => match open.pop() {
                Some(Open::Option) => statement.push(character),
                closed => {
                    if closed == Some(Open::Message) {
                        names.pop();
                    }
                    statement.clear();
                }
            },
            ';' if !in_option => {
                if let Some(package) = statement.trim().strip_prefix("package ") {
                    names = vec![package.to_owned()];
                }
                note(&statement, &names, found);
                statement.clear();
            }
            other => statement.push(other),
        }
    }
}

fn note(statement: &str, names: &[String], found: &mut Marked) {
    let Some((declaration, options)) = statement.split_once('[') else { return };
    let Some((_, regex)) = options.split_once("well_known_regex:") else { return };
    let field = declaration.split('=').next().and_then(|left| left.split_whitespace().last()).expect("a field's name");
    let loose = options.contains("strict: false");
    let rule = match (regex.trim_start().starts_with("HTTP_HEADER_NAME"), loose) {
        (true, true) => Rule::Name,
        (true, false) => Rule::StrictName,
        (false, true) => Rule::Value,
        (false, false) => Rule::StrictValue,
    };
    found.insert((names.join("."), field.to_owned(), format!("{rule:?}")));
}

#[test]
fn every_field_that_envoys_protos_mark_as_a_headers_text_is_checked_by_the_same_rule() {
    let mut found = Marked::new();
    each_proto(&protos(), &mut |source| marked(source, &mut found));
    assert!(
        found.len() > 90,
        "only {} marked fields are found: is the protos' text read as it should be?",
        found.len()
    );
    let implemented = |message: &str, field: &str| supported::is_field_supported(message, field);
    let missing: Vec<_> = found
        .iter()
        .filter(|(message, field, _)| implemented(message, field))
        .filter(|(message, field, rule)| {
            !rules(message).iter().any(|(known, of)| known == field && format!("{of:?}") == *rule)
        })
        .collect();
    assert!(missing.is_empty(), "not in ROWS: {missing:#?}");
}

#[test]
fn every_row_names_a_field_that_there_is() {
    for (rule, table) in ROWS {
        for (message, fields) in *table {
            let known = ferromesh_proto::fields::message(message).unwrap_or_else(|| panic!("{message}"));
            for field in fields.split_whitespace() {
                assert!(known.named(field).is_some(), "{rule:?}: {message} has no {field}");
            }
        }
    }
}

#[test]
fn a_rule_takes_what_its_expression_takes() {
    let takes = |rule: Rule, text: &str| rule.broken(text.as_bytes()).is_none();
    for (text, name, strict_name, value, strict_value) in [
        ("", false, true, true, true),
        ("x-a", true, true, true, true),
        (":path", true, true, true, true),
        ("a:b", true, false, true, true),
        ("a b", true, false, true, true),
        ("a\tb", true, false, true, true),
        ("\u{e9}", true, false, true, true),
        ("a\u{1}", true, false, true, false),
        ("a\u{7f}", true, false, true, false),
        ("a\0", false, false, false, false),
        ("a\r", false, false, false, false),
        ("a\nb: c", false, false, false, false),
    ] {
        let taken = [Rule::Name, Rule::StrictName, Rule::Value, Rule::StrictValue].map(|rule| takes(rule, text));
        assert_eq!(taken, [name, strict_name, value, strict_value], "{text:?}");
    }
}
