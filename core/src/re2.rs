//! Regular expressions with RE2's meaning (ASCII `\d \w \s \b`, no class set operations) on a linear-time engine.
//!
//! Envoy takes RE2 patterns; the engine here is of the same family but reads a few signs otherwise, so that patterns
//! are rewritten first. Syntax: RE2, "Syntax" page.

use regex::{Regex, RegexBuilder};

/// Largest compiled form; beyond it a pattern is refused.
const SIZE_LIMIT: usize = 1 << 20;

/// A pattern that must match the whole text.
///
/// # Errors
/// Says what is wrong with the pattern.
pub fn full(pattern: &str) -> Result<Regex, String> {
    search(pattern)?;
    build(&format!(r"\A(?:{})\z", translate(pattern)), SIZE_LIMIT)
}

/// A pattern that may match anywhere (rewrites).
///
/// # Errors
/// Says what is wrong with the pattern.
pub fn search(pattern: &str) -> Result<Regex, String> {
    search_within(pattern, SIZE_LIMIT)
}

/// The same with a bound of one's own on the compiled form, for who checks what others will compile.
///
/// # Errors
/// Says what is wrong with the pattern.
pub fn search_within(pattern: &str, size: usize) -> Result<Regex, String> {
    build(&translate(pattern), size)
}

fn build(pattern: &str, size: usize) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(size)
        .dfa_size_limit(size)
        .build()
        .map_err(|error| format!("is not a valid regular expression: {error}"))
}

/// RE2's substitution (`\0` to `\9`, `\\`) as the engine's (`${0}`, `$$`).
///
/// # Errors
/// If a backslash is followed by anything else, or names a group that the pattern has not.
pub fn substitution(text: &str, pattern: &Regex) -> Result<String, String> {
    let mut out = String::with_capacity(text.len() + 4);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some('\\') => out.push('\\'),
                Some(digit @ '0'..='9') => {
                    if digit as usize - '0' as usize >= pattern.captures_len() {
                        return Err(format!("names group \\{digit}, which the pattern has not"));
                    }
                    out.push_str("${");
                    out.push(digit);
                    out.push('}');
                }
                _ => return Err("a backslash must be followed by a digit or a backslash".to_owned()),
            },
            c => out.push(c),
        }
    }
    Ok(out)
}

/// The pattern in the engine's syntax.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut class = false;
    // In a class, `]` directly after `[` or `[^` stands for itself.
    let mut class_start = false;
    // The brace of `\p{…}`, `\P{…}` and `\x{…}` belongs to the escape.
    let mut escapes = false;
    while let Some(c) = chars.next() {
        let first = std::mem::take(&mut class_start);
        let of_escape = std::mem::take(&mut escapes);
        match c {
            '\\' => match chars.next() {
                Some('Q') if !class => quote(&mut chars, &mut out),
                Some(escaped) => {
                    escapes = matches!(escaped, 'p' | 'P' | 'x');
                    escape(escaped, class, &mut out);
                }
                None => out.push('\\'),
            },
            '[' if class => {
                if chars.peek() == Some(&':') {
                    out.push('[');
                    for c in chars.by_ref() {
                        out.push(c);
                        if c == ']' {
                            break;
                        }
                    }
                } else {
                    out.push_str(r"\[");
                }
            }
            '[' => {
                class = true;
                class_start = true;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
            }
            ']' if class && first => out.push_str(r"\]"),
            ']' if class => {
                class = false;
                out.push(']');
            }
            '{' if !class && !of_escape && !repeats(chars.clone()) => out.push_str(r"\{"),
            '&' | '~' if class => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// Whether what follows a brace makes it a repetition: `n}`, `n,}` or `n,m}`. Any other brace stands for itself.
fn repeats(mut rest: impl Iterator<Item = char>) -> bool {
    let Some('0'..='9') = rest.next() else { return false };
    match rest.find(|c| !c.is_ascii_digit()) {
        Some(',') => rest.find(|c| !c.is_ascii_digit()) == Some('}'),
        end => end == Some('}'),
    }
}

fn quote(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut literal = String::new();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek() == Some(&'E') {
            chars.next();
            break;
        }
        literal.push(c);
    }
    out.push_str(&regex::escape(&literal));
}

fn escape(escaped: char, class: bool, out: &mut String) {
    let text = match (escaped, class) {
        ('d', false) => "[0-9]",
        ('d', true) => "0-9",
        ('D', _) => "[^0-9]",
        ('w', false) => "[0-9A-Za-z_]",
        ('w', true) => "0-9A-Za-z_",
        ('W', _) => "[^0-9A-Za-z_]",
        ('s', false) => r"[\t\n\f\r ]",
        ('s', true) => r"\t\n\f\r ",
        ('S', _) => r"[^\t\n\f\r ]",
        ('b', false) => r"(?-u:\b)",
        ('<' | '>', _) => {
            out.push(escaped);
            return;
        }
        _ => {
            out.push('\\');
            out.push(escaped);
            return;
        }
    };
    out.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ascii_and_the_whole_text_must_match() {
        let table = [
            (r"/v\d+", "/v12", true),
            (r"/v\d+", "/v12/x", false),
            (r"\d", "٣", false),
            (r"\w+", "é", false),
            (r"[^\w]", "é", true),
            (r"[\d-]+", "1-2", true),
            (r"a|ab", "ab", true),
            (r"[[]x", "[x", true),
            (r"[]x]+", "]x", true),
            (r"[a&&b]+", "a&b", true),
            (r"[[:alpha:]]+", "abc", true),
            (r"\Q.*\E", ".*", true),
            (r"\Q.*\E", "ab", false),
            (r"(?i)ABC", "abc", true),
            (r".", "é", true),
            (r"\bfoo\b.*", "foo bar", true),
            (r"\s", "\u{b}", false),
            (r"\<a\>", "<a>", true),
            (r"a{,2}", "aa", false),
            (r"a{,2}", "a{,2}", true),
            (r"/{id}", "/{id}", true),
            (r"a{2,3}b{2}c{1,}", "aaabbcc", true),
            (r"a{2,x}", "a{2,x}", true),
            (r"\p{Greek}\x{41}{2}", "\u{3b1}AA", true),
            (r"[{,2}]+", "2,{", true),
        ];
        for (pattern, text, want) in table {
            assert_eq!(full(pattern).expect(pattern).is_match(text), want, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_bad_or_huge_pattern_is_refused() {
        for pattern in ["(", "a{1000}{1000}", "(?=x)", r"\1", "a)(b"] {
            assert!(full(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_substitution_is_translated_and_its_groups_are_checked() {
        let regex = search("^/a/(.*)$").expect("valid");
        assert_eq!(substitution(r"/b/\1$x\\", &regex).expect("valid"), r"/b/${1}$$x\");
        assert!(substitution(r"\2", &regex).is_err());
        assert!(substitution(r"\x", &regex).is_err());
    }
}
