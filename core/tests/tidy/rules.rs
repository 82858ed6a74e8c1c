//! The rules, one function each: sources in, findings out.

use crate::Finding;
use crate::rooms::{room_cycles, top_level_items};
use crate::source::{Source, matching_brace};

const MAX_FILE_LINES: usize = 800;
const MAX_FN_LINES: usize = 100;
const MAX_TEST_MODULE_LINES: usize = 100;

/// Written in two pieces, so that this file does not break its own rule.
const FORBIDDEN_WORDS: [&str; 4] =
    [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("/wo", "rk/"), concat!("sub", "agent")];

/// Which crate's manifest may not name which dependency, and why. A `-` at the end stands for every name that begins so.
const FORBIDDEN_DEPENDENCIES: [(&str, &str, &str); 9] = [
    ("proxy", "kube", "the proxy knows only xDS"),
    ("proxy", "kube-", "the proxy knows only xDS"),
    ("proxy", "ferromesh-api", "the proxy knows only xDS"),
    ("proxy", "ferromesh-controller", "the proxy and the controller share only the contract"),
    ("ca", "ferromesh-controller", "the CA stands alone"),
    ("core", "ferromesh-proto", "core knows no mesh message"),
    ("proto", "ferromesh-core", "proto holds messages only"),
    ("injector", "ferromesh-controller", "the injector stands alone"),
    ("redirect", "ferromesh-core", "the init program is small and starts at once"),
];

/// Every rule on every source, in the order of the files.
pub fn all(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        findings.extend(forbidden_words(source));
        if source.path.ends_with(".rs") {
            findings.extend(file_name(source));
            findings.extend(file_length(source));
            findings.extend(function_length(source));
            findings.extend(test_module_length(source));
            findings.extend(glob_of_crate(source));
        }
        if source.path.ends_with("Cargo.toml") {
            findings.extend(dependencies(source));
        }
    }
    findings.extend(room_cycles(sources));
    findings.sort();
    findings
}

fn finding(source: &Source, line: usize, message: String) -> Finding {
    Finding { path: source.path.clone(), line, message }
}

pub fn file_name(source: &Source) -> Option<Finding> {
    let named_mod = source.path.rsplit('/').next() == Some("mod.rs");
    named_mod.then(|| finding(source, 1, "no mod.rs: write foo.rs beside the folder foo/".into()))
}

pub fn file_length(source: &Source) -> Option<Finding> {
    let end = source.test_modules().first().map_or(source.text.len(), |(begin, _)| *begin);
    let lines = source.text.get(..end).unwrap_or(&source.text).lines().count();
    let message = format!("{lines} lines, at most {MAX_FILE_LINES}: split the file by what changes together");
    (lines > MAX_FILE_LINES).then(|| finding(source, MAX_FILE_LINES + 1, message))
}

pub fn function_length(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, name) in functions(&source.code) {
        let Some(open) = body_of(&source.code, at) else { continue };
        let end = matching_brace(&source.code, open);
        let lines = source.line_of(end) - source.line_of(at) + 1;
        if lines > MAX_FN_LINES {
            let message = format!("fn {name} has {lines} lines, at most {MAX_FN_LINES}: name its steps");
            findings.push(finding(source, source.line_of(at), message));
        }
    }
    findings
}

/// Each `fn name` of the code; types such as `fn(u8)` have no name.
fn functions(code: &str) -> Vec<(usize, String)> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts = code.match_indices("fn ").map(|(at, _)| at).filter(|at| *at == 0 || !is_word(code.as_bytes()[at - 1]));
    let named = |at: usize| {
        let name: String =
            code[at + 3..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        (!name.is_empty()).then_some((at, name))
    };
    starts.filter_map(named).collect()
}

/// Where the body of the function at `at` opens; `None` if it has none. `[u8; 4]` in its head ends nothing.
fn body_of(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

pub fn test_module_length(source: &Source) -> Vec<Finding> {
    let too_long = |(begin, end): (usize, usize)| {
        let lines = source.line_of(end) - source.line_of(begin) + 1;
        let message = format!("test module of {lines} lines, at most {MAX_TEST_MODULE_LINES}: move it to tests.rs");
        (lines > MAX_TEST_MODULE_LINES).then(|| finding(source, source.line_of(begin), message))
    };
    source.test_modules().into_iter().filter_map(too_long).collect()
}

pub fn glob_of_crate(source: &Source) -> Vec<Finding> {
    let glob = |(at, tree): (usize, String)| {
        let everything =
            tree == "*" || (tree.starts_with('{') && top_level_items(&tree).iter().any(|item| item == "*"));
        everything.then(|| finding(source, source.line_of(at), "name what is used, not everything of the crate".into()))
    };
    crate_uses(&source.code).into_iter().filter_map(glob).collect()
}

pub fn forbidden_words(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        for word in FORBIDDEN_WORDS {
            if line.contains(word) {
                findings.push(finding(source, number + 1, format!("{word:?} does not belong in the repository")));
            }
        }
    }
    findings
}

pub fn dependencies(source: &Source) -> Vec<Finding> {
    let folder = source.path.strip_suffix("/Cargo.toml").unwrap_or_default();
    let mut section = String::new();
    let mut findings = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let name = if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            // `[dependencies.kube]` names one too.
            section.rsplit_once("dependencies.").map(|(_, name)| name)
        } else if section.ends_with("dependencies") {
            line.split(['=', '.', ' ']).next()
        } else {
            None
        };
        let Some(name) = name.map(|name| name.trim_matches('"')).filter(|name| !name.is_empty()) else { continue };
        for (whose, banned, why) in FORBIDDEN_DEPENDENCIES {
            if folder == whose && (name == banned || (banned.ends_with('-') && name.starts_with(banned))) {
                findings.push(finding(source, number + 1, format!("{whose} may not depend on {name}: {why}")));
            }
        }
    }
    findings
}

/// What stands behind each `use crate::`, up to the `;`, without white space.
fn crate_uses(code: &str) -> Vec<(usize, String)> {
    let tree = |(at, found): (usize, &str)| {
        let rest = &code[at + found.len()..];
        let end = rest.find(';').unwrap_or(rest.len());
        (at, rest[..end].split_whitespace().collect())
    };
    code.match_indices("use crate::").map(tree).collect()
}
