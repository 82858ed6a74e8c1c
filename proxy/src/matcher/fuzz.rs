//! Regular expressions of routes: RE2's syntax, rewritten for the engine.

use super::re2;

/// Pattern, text and substitution, a line each.
pub fn regex(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let (pattern, text) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let substitution = lines.next().unwrap_or_default();
    let (Ok(full), Ok(search)) = (re2::full(pattern), re2::search(pattern)) else { return };
    // What matches whole is found; a pattern cannot break out of its anchors.
    if full.is_match(text) {
        assert!(search.is_match(text), "{pattern:?} matches {text:?} whole and is not found in it");
    }
    if let Ok(substitution) = re2::substitution(substitution, &search) {
        let _ = search.replace_all(text, substitution.as_str());
    }
}
