//! Files of a folder: YAML or JSON of any objects.

use super::parse::documents;

/// A file's text.
pub fn objects(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines = text.lines().count() as u64 + 1;
    let parsed = documents(text);
    for problem in &parsed.problems {
        assert!(problem.line <= lines + 1, "line {} of {lines}: {}", problem.line, problem.message);
    }
    for found in &parsed.objects {
        assert!(found.line >= 1 && found.line <= lines, "line {} of {lines}", found.line);
    }
}
