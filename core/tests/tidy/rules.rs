//! The rules, one function each: sources in, findings out.

use std::collections::{BTreeMap, BTreeSet};

use crate::Finding;
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

/// Rooms that still use each other, and why they may for now. An entry that is no cycle any more is a finding.
const KNOWN_CYCLES: &[(&str, &str, &str)] = &[
    // Decoding hands `Context` down to rooms whose stores it holds.
    ("proxy", "access_log", "context"),
    ("proxy", "cluster", "context"),
    ("proxy", "context", "route"),
    ("proxy", "context", "http"),
    // The connection manager stands in `http`.
    ("proxy", "http", "route"),
    ("proxy", "http", "stream"),
    // A request's record names the cluster and route that it took; their rules read the record.
    ("proxy", "format", "route"),
    ("proxy", "route", "stream"),
];

/// Two top-level modules of a crate that use each other, but for the known ones.
pub fn room_cycles(sources: &[Source]) -> Vec<Finding> {
    let all = mutual_uses(sources);
    let known = |of_crate: &str, a: &str, b: &str| {
        KNOWN_CYCLES.iter().any(|known| *known == (of_crate, a, b) || *known == (of_crate, b, a))
    };
    let mut findings: Vec<Finding> =
        all.iter().filter(|((of_crate, a, b), _)| !known(of_crate, a, b)).map(|(_, finding)| finding.clone()).collect();
    let is_here = |of_crate: &str| sources.iter().any(|source| source.path == format!("{of_crate}/src/lib.rs"));
    for (of_crate, a, b) in KNOWN_CYCLES.iter().filter(|(of_crate, ..)| is_here(of_crate)) {
        if !all.contains_key(&((*of_crate).into(), (*a).into(), (*b).into())) {
            let message = format!("{of_crate}: {a} and {b} no longer use each other: take them off KNOWN_CYCLES");
            findings.push(Finding { path: "core/tests/tidy/rules.rs".into(), line: 1, message });
        }
    }
    findings
}

/// Each use of one room by another that is answered by a use the other way: (crate, room, used room).
fn mutual_uses(sources: &[Source]) -> BTreeMap<(String, String, String), Finding> {
    let mut uses: BTreeMap<(String, String, String), Finding> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let Some((of_crate, room)) = room(&source.path) else { continue };
        for (at, tree) in crate_uses(&source.production_code()) {
            for used in first_segments(&tree) {
                if used != room {
                    let line = source.line_of(at);
                    let message = format!("{room} and {used} use each other: move what both need below both");
                    uses.entry((of_crate.clone(), room.clone(), used)).or_insert(finding(source, line, message));
                }
            }
        }
    }
    let edges: BTreeSet<_> = uses.keys().cloned().collect();
    let mutual =
        |(of_crate, a, b): &(String, String, String)| edges.contains(&(of_crate.clone(), b.clone(), a.clone()));
    uses.into_iter().filter(|(edge, _)| mutual(edge)).collect()
}

/// The crate's folder and the top-level module of a source file; `lib.rs` and `main.rs` belong to none.
fn room(path: &str) -> Option<(String, String)> {
    let (of_crate, inside) = path.split_once("/src/")?;
    let first = inside.split('/').next()?;
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(room, "lib" | "main" | "bin")).then(|| (of_crate.to_owned(), room.to_owned()))
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

/// `a::b` -> a; `{a, b::{c, d}}` -> a, b.
fn first_segments(tree: &str) -> Vec<String> {
    let items = if tree.starts_with('{') { top_level_items(tree) } else { vec![tree.to_owned()] };
    let segment = |item: &String| item.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    items.iter().map(segment).filter(|segment| !segment.is_empty()).collect()
}

fn top_level_items(tree: &str) -> Vec<String> {
    let (mut depth, mut items) = (0usize, vec![String::new()]);
    for c in tree.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 1 => {
                items.push(String::new());
                continue;
            }
            _ => {}
        }
        if !(depth == 1 && c == '{')
            && depth > 0
            && let Some(item) = items.last_mut()
        {
            item.push(c);
        }
    }
    items
}
