//! One form for a path, so that policy, routes and the upstream read the same (RFC 3986, 6.2.2).

/// What shall be done.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Resolve dot segments, decode what need not be encoded, turn backslashes.
    pub normalize: bool,
    /// Make several slashes one.
    pub merge_slashes: bool,
    /// `%2F` and `%5C`: 0 and 1 keep, 2 reject, 3 unescape and redirect, 4 unescape and go on.
    pub escaped_slashes: i32,
}

/// What became of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was in its form already.
    Same,
    /// Its form, with the query as it was.
    Changed(String),
    /// It must not go on.
    Reject,
    /// The client shall ask for this.
    Redirect(String),
}

/// Brings a path (with its query, which stays) into its form. Pure.
pub fn normalize(path: &str, rules: Rules) -> Outcome {
    let end = path.find('?').unwrap_or(path.len());
    let (only, query) = path.split_at(end);
    if is_in_form(only) {
        return Outcome::Same;
    }
    if rules.normalize && has_escaped_zero(only) {
        return Outcome::Reject;
    }
    let mut form = only.to_owned();
    let mut unescaped = false;
    if has_escaped_slash(only) {
        match rules.escaped_slashes {
            2 => return Outcome::Reject,
            3 | 4 => {
                form = unescape_slashes(&form);
                unescaped = true;
            }
            _ => {}
        }
    }
    if rules.normalize {
        form = remove_dot_segments(&decode_unreserved(&form.replace('\\', "/")));
    }
    if rules.merge_slashes {
        form = merge(&form);
    }
    if form == only {
        return Outcome::Same;
    }
    form.push_str(query);
    if unescaped && rules.escaped_slashes == 3 { Outcome::Redirect(form) } else { Outcome::Changed(form) }
}

/// Whether no rule can change a path: it starts with its only empty segment, and has no escape, backslash or segment
/// that begins with a dot. True of nearly all requests.
fn is_in_form(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.first() == Some(&b'/')
        && !bytes.windows(2).any(|pair| matches!(pair, b"//" | b"/."))
        && !bytes.iter().any(|byte| matches!(byte, b'%' | b'\\'))
}

fn escape_at(bytes: &[u8], at: usize) -> Option<u8> {
    let [b'%', high, low] = *bytes.get(at..at + 3)? else { return None };
    let digit = |byte: u8| (byte as char).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

fn has_escaped_slash(path: &str) -> bool {
    let bytes = path.as_bytes();
    memchr::memchr_iter(b'%', bytes).any(|at| matches!(escape_at(bytes, at), Some(b'/' | b'\\')))
}

/// A zero byte ends a path for some of its readers, and not for others.
fn has_escaped_zero(path: &str) -> bool {
    path.contains("%00")
}

/// Replaces escapes that `choose` gives a character for, unless that would complete another escape: `%%32F` must not become
/// the `%2F` that was looked for before.
fn unescape(path: &str, choose: impl Fn(u8) -> Option<char>) -> String {
    let mut form = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        form.push_str(&rest[..at]);
        match escape_at(rest.as_bytes(), at).and_then(&choose) {
            Some(char) if !completes_escape(&form, char) => {
                form.push(char);
                rest = &rest[at + 3..];
            }
            _ => {
                form.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    form.push_str(rest);
    form
}

/// Whether `form` ends in the begin of an escape that `next` goes on.
fn completes_escape(form: &str, next: char) -> bool {
    next.is_ascii_hexdigit()
        && match form.as_bytes() {
            [.., b'%'] => true,
            [.., b'%', digit] => digit.is_ascii_hexdigit(),
            _ => false,
        }
}

fn unescape_slashes(path: &str) -> String {
    unescape(path, |byte| matches!(byte, b'/' | b'\\').then_some(byte as char))
}

fn decode_unreserved(path: &str) -> String {
    unescape(path, |byte| {
        (byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')).then_some(byte as char)
    })
}

fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    let mut form = String::with_capacity(path.len());
    for segment in &kept {
        form.push('/');
        form.push_str(segment);
    }
    if form.is_empty() { "/".to_owned() } else { form }
}

fn merge(path: &str) -> String {
    let mut form = String::with_capacity(path.len());
    for char in path.chars() {
        if char != '/' || !form.ends_with('/') {
            form.push(char);
        }
    }
    form
}
