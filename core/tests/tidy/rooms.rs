//! The rooms of a crate (its top-level modules), who of them uses whom, and where such uses come back to their beginning.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::Finding;
use crate::source::{Source, matching_brace};

/// Of one crate: each use of a room by another, with the first place where it stands.
type Uses = BTreeMap<String, BTreeMap<String, (String, usize)>>;

/// Each use between rooms that comes back to its room, directly or over others.
pub fn room_cycles(sources: &[Source]) -> Vec<Finding> {
    uses(sources).values().flat_map(cycles).collect()
}

fn cycles(uses: &Uses) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (room, used) in uses {
        for (to, (path, line)) in used {
            if let Some(way) = way(uses, to, room) {
                let message = format!("{room} uses {}: move what both need below both", way.join(", which uses "));
                findings.push(Finding { path: path.clone(), line: *line, message });
            }
        }
    }
    findings
}

/// The shortest way of uses from one room to another, both ends named.
fn way(uses: &Uses, from: &str, to: &str) -> Option<Vec<String>> {
    let mut seen = BTreeSet::from([from]);
    let mut ways = VecDeque::from([vec![from]]);
    while let Some(way) = ways.pop_front() {
        let last = way.last()?;
        if *last == to {
            return Some(way.into_iter().map(str::to_owned).collect());
        }
        for next in uses.get(*last).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(next) {
                ways.push_back(way.iter().copied().chain([next.as_str()]).collect());
            }
        }
    }
    None
}

/// By crate. Tests may use what they like.
fn uses(sources: &[Source]) -> BTreeMap<String, Uses> {
    let exported = exported(sources);
    let mut all: BTreeMap<String, Uses> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let Some(place) = Place::of(&source.path) else { continue };
        let by_export = exported.get(place.of_crate);
        for (at, name) in names(&source.production_code(), place.depth) {
            let used = by_export.and_then(|names| names.get(&name)).unwrap_or(&name);
            if used != place.room {
                let uses = all.entry(place.of_crate.to_owned()).or_default();
                let found = uses.entry(place.room.to_owned()).or_default().entry(used.clone());
                found.or_insert_with(|| (source.path.clone(), source.line_of(at)));
            }
        }
    }
    all
}

/// Where a file stands in its crate.
struct Place<'a> {
    of_crate: &'a str,
    room: &'a str,
    /// How many `super` lead out of the crate's rooms.
    depth: usize,
}

impl<'a> Place<'a> {
    /// `None` for what belongs to no room: `lib.rs`, `main.rs`, programs.
    fn of(path: &'a str) -> Option<Self> {
        let (of_crate, inside) = path.split_once("/src/")?;
        let inside = inside.strip_suffix(".rs")?;
        let room = inside.split('/').next()?;
        (!matches!(room, "lib" | "main" | "bin")).then(|| Self { of_crate, room, depth: inside.split('/').count() })
    }
}

/// What `lib.rs` of each crate shows at its root of its rooms: the room by the name that is shown.
fn exported(sources: &[Source]) -> BTreeMap<&str, BTreeMap<String, String>> {
    let mut all: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for source in sources {
        let Some(of_crate) = source.path.strip_suffix("/src/lib.rs") else { continue };
        for (at, found) in source.code.match_indices("pub use ") {
            let rest = &source.code[at + found.len()..];
            let tree: String = rest[..rest.find(';').unwrap_or(rest.len())].replace("crate::", "");
            for path in expanded(tree.trim()) {
                if let Some((room, _)) = path.split_once("::") {
                    let name = path.rsplit([' ', ':']).next().unwrap_or_default();
                    all.entry(of_crate).or_default().insert(name.to_owned(), room.to_owned());
                }
            }
        }
    }
    all
}

/// `a::{b, c::d}` -> `a::b`, `a::c::d`.
fn expanded(tree: &str) -> Vec<String> {
    let Some((before, _)) = tree.split_once('{') else { return vec![tree.to_owned()] };
    let items = top_level_items(&tree[before.len()..]);
    items.iter().flat_map(|item| expanded(&format!("{before}{}", item.trim()))).collect()
}

/// Names at the crate's root that the code of a file uses, by `crate::` or by enough `super::`, and where.
fn names(code: &str, depth: usize) -> Vec<(usize, String)> {
    let inner = inline_modules(code);
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    let mut found = Vec::new();
    for word in ["crate::", "super::"] {
        for (at, _) in code.match_indices(word).filter(|(at, _)| *at == 0 || !is_word(code.as_bytes()[at - 1])) {
            let mut rest = &code[at + word.len()..];
            if word == "super::" {
                let mut count = 1;
                while let Some(after) = rest.strip_prefix(word) {
                    (rest, count) = (after, count + 1);
                }
                let within = inner.iter().filter(|(begin, end)| (*begin..*end).contains(&at)).count();
                if count != depth + within {
                    continue;
                }
            }
            found.extend(first_segments(rest).into_iter().map(|name| (at, name)));
        }
    }
    found
}

/// Where the inline modules of a file begin and end.
fn inline_modules(code: &str) -> Vec<(usize, usize)> {
    let heads = code.match_indices("mod ").filter(|(at, _)| *at == 0 || code.as_bytes()[at - 1].is_ascii_whitespace());
    let block = |(at, _): (usize, &str)| {
        let open = at + code[at..].find(['{', ';'])?;
        code[open..].starts_with('{').then(|| (open, matching_brace(code, open)))
    };
    heads.filter_map(block).collect()
}

/// `a::b` -> a; `{a, b::{c, d}}` -> a, b.
fn first_segments(tree: &str) -> Vec<String> {
    let items = if tree.starts_with('{') {
        top_level_items(&tree[..matching_brace(tree, 0)])
    } else {
        vec![tree.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()]
    };
    let segment = |item: &String| item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    items.iter().map(segment).filter(|segment: &String| !segment.is_empty()).collect()
}

/// What stands between the commas of a tree in braces.
pub fn top_level_items(tree: &str) -> Vec<String> {
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
