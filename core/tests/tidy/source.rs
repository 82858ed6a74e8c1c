//! A file as the rules see it: its text, and for Rust its code with comments, strings and characters blanked.

use std::path::Path;

/// One file of the workspace.
pub struct Source {
    /// From the workspace's root, with `/`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// For Rust: as long as `text`, line for line, but without comments, strings and characters. Else empty.
    pub code: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { blank(text) } else { String::new() };
        Self { path: path.into(), text: text.into(), code }
    }

    /// Reads a file; `None` if it is not text (or not there any more).
    pub fn read(root: &Path, path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(root.join(path)).ok()?;
        Some(Self::new(&path.to_string_lossy().replace('\\', "/"), &text))
    }

    /// The line of a byte of the text, from 1.
    pub fn line_of(&self, at: usize) -> usize {
        self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Inline `#[cfg(test)] mod name { .. }`: where each begins and ends.
    pub fn test_modules(&self) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(at) = self.code[from..].find("#[cfg(test)]").map(|at| from + at) {
            from = at + "#[cfg(test)]".len();
            let rest = self.code[from..].trim_start();
            if !(rest.starts_with("mod ") || rest.starts_with("pub mod ") || rest.starts_with("pub(crate) mod ")) {
                continue;
            }
            let open = from + self.code[from..].find(['{', ';']).unwrap_or(self.code.len() - from);
            if self.code[open..].starts_with('{') {
                let end = matching_brace(&self.code, open);
                found.push((at, end));
                from = end;
            }
        }
        found
    }

    /// The code with inline test modules blanked too.
    pub fn production_code(&self) -> String {
        let mut code = self.code.clone();
        for (begin, end) in self.test_modules() {
            let lines: String = code[begin..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
            code.replace_range(begin..end, &lines);
        }
        code
    }

    /// Whether the whole file is tests.
    pub fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/benches/")
    }
}

/// Where the block that opens at `open` ends (after its brace); the end of the code if it never does.
pub fn matching_brace(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Replaces what is not code by spaces, byte for byte; line ends stay.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = not_code(bytes, at);
        if end > at {
            code.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        } else {
            // Outside strings and comments, only identifiers can be other than ASCII.
            code.push(if bytes[at].is_ascii() { bytes[at] } else { b'_' });
            at += 1;
        }
    }
    String::from_utf8(code).expect("only ASCII was written")
}

/// If a comment, string or character begins at `at`: its end. Else `at`.
fn not_code(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return at + block_comment(rest);
    }
    let prefix = if in_word { 0 } else { rest.iter().take(2).take_while(|byte| b"bcr".contains(byte)).count() };
    for skip in [prefix, 0] {
        let raw = skip > 0 && rest[skip - 1] == b'r';
        let hashes = if raw { rest[skip..].iter().take_while(|byte| **byte == b'#').count() } else { 0 };
        if rest.get(skip + hashes) == Some(&b'"') {
            let body = skip + hashes + 1;
            return at + if raw { raw_string(rest, body, hashes) } else { quoted(rest, body, b'"') };
        }
    }
    let quote = usize::from(rest.starts_with(b"b'") && !in_word);
    if rest.get(quote) == Some(&b'\'') && is_character(&rest[quote..]) {
        return at + quoted(rest, quote + 1, b'\'');
    }
    at
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8], body: usize, hashes: usize) -> usize {
    let mut end = vec![b'"'];
    end.extend(std::iter::repeat_n(b'#', hashes));
    (body..rest.len()).find(|at| rest[*at..].starts_with(&end)).map_or(rest.len(), |at| at + end.len())
}

fn quoted(rest: &[u8], body: usize, quote: u8) -> usize {
    let mut at = body;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// `'a'` and `'\n'` are characters, `'a` and `'static` are lifetimes.
fn is_character(rest: &[u8]) -> bool {
    match rest.get(1) {
        None | Some(b'\'') => false,
        Some(b'\\') => true,
        Some(first) => {
            let len = match first {
                0..=0x7f => 1,
                0x80..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            rest.get(1 + len) == Some(&b'\'')
        }
    }
}
