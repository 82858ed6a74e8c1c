//! No field of Gateway API is known to the parser and then forgotten: each is read somewhere in the controller (to be
//! obeyed, or to be refused by name), or stands below with the reason. What the parser does not know it names itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Fields that nobody reads by themselves, by type.
const WHOLE: [(&str, &str, &str); 4] = [
    ("HttpRouteFilter", "external_auth", "a filter of type ExternalAuth is refused, whatever is in it"),
    ("SessionPersistence", "*", "a rule with sessionPersistence is refused, whatever is in it"),
    ("CookieConfig", "*", "the same"),
    ("GatewayClassSpec", "description", "for people"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|word| word == "rs") {
            found.push(path);
        }
    }
}

/// The text of a folder's sources, without tests.
fn text(folder: &str) -> String {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    let own = |path: &&PathBuf| !path.to_string_lossy().contains("tests");
    let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    let code = |text: String| text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
    files.iter().filter(own).map(|path| code(read(path))).collect()
}

/// Every field of every type that is read from a document: `(type, field)`.
fn fields(source: &str) -> Vec<(String, String)> {
    let (structure, field) =
        (regex::Regex::new(r"^pub struct (\w+)").unwrap(), regex::Regex::new(r"^    pub (\w+):").unwrap());
    let (mut inside, mut found) = (String::new(), Vec::new());
    for line in source.lines() {
        if let Some(name) = structure.captures(line) {
            inside = name[1].to_owned();
        } else if let Some(name) = field.captures(line) {
            found.push((inside.clone(), name[1].trim_start_matches("r#").to_owned()));
        }
    }
    found
}

#[test]
fn every_field_of_gateway_api_is_read_or_refused_by_name() {
    let code = text("src") + &text("api/src");
    let types = text("api/src/gateway_api");
    let all = fields(&types);
    assert!(all.len() > 90, "the fields are found: {}", all.len());
    let mut forgotten = BTreeSet::new();
    for (structure, field) in all {
        // What we write, and do not read.
        let ours = structure.ends_with("Status") || structure == "SupportedFeature";
        let excused = WHOLE.iter().any(|(name, what, _)| *name == structure && (*what == "*" || *what == field));
        let read = regex::Regex::new(&format!(r"\.{field}\b|[{{,]\s*{field}\s*[,}}]")).unwrap();
        if !ours && !excused && !read.is_match(&code) {
            forgotten.insert(format!("{structure}.{field}"));
        }
    }
    assert_eq!(forgotten, BTreeSet::new(), "read them, refuse them by name, or say why not in WHOLE");
}
