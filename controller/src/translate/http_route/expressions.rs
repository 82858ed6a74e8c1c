//! Which regular expressions a proxy takes: those of RE2, compiled within bounds. What it would reject, it would reject
//! with every other route of the port.

use ferromesh_core::re2;

/// The longest expression that is sent, as in Istio.
const LONGEST: usize = 1024;
/// The largest compiled form, half of what our proxy allows: it compiles a little more around it.
const LARGEST: usize = 1 << 19;
/// The most that RE2 repeats anything.
const MOST_REPEATS: u32 = 1000;

/// Why an expression would be refused by the proxy.
pub fn refusal(expression: &str) -> Option<String> {
    if expression.len() > LONGEST {
        return Some(format!("an expression of {} bytes is too long; {LONGEST} is the most", expression.len()));
    }
    if expression.is_empty() {
        return Some("an expression is empty".to_owned());
    }
    let built = re2::search_within(expression, LARGEST);
    built.err().map(|why| format!("not a regular expression: it {why}")).or_else(|| not_of_re2(expression))
}

/// What the engine here reads and RE2 does not.
fn not_of_re2(expression: &str) -> Option<String> {
    let mut rest = expression;
    let (mut class, mut repeated) = (false, false);
    // How often something is repeated at most: what stands before, anything of this group, of those around it.
    let (mut atom, mut most, mut around) = (1_u32, 1_u32, Vec::new());
    while let Some(sign) = rest.chars().next() {
        if !class && !matches!(sign, '*' | '+' | '?' | '{' | ')') {
            atom = 1;
        }
        let after = rest.get(sign.len_utf8()..).unwrap_or_default();
        let (next, repeats) = match sign {
            // `\Q…\E`: what is between stands for itself.
            '\\' if !class && after.starts_with('Q') => {
                (after.split_once("\\E").map_or("", |(_, behind)| behind), false)
            }
            '\\' => {
                let escaped = after.chars().next().unwrap_or_default();
                let behind = after.get(escaped.len_utf8()..).unwrap_or_default();
                if matches!(escaped, 'u' | 'U') || (matches!(escaped, 'b' | 'B') && behind.starts_with('{')) {
                    return Some(format!("\\{escaped} is not written so in RE2's expressions"));
                }
                // `\p{…}`, `\x{…}`: the braces are part of it.
                let braces = matches!(escaped, 'p' | 'P' | 'x') && behind.starts_with('{');
                (if braces { behind.split_once('}').map_or("", |(_, behind)| behind) } else { behind }, false)
            }
            ']' => {
                class = false;
                (after, false)
            }
            // A bracket in a class stands for itself, or begins `[:alpha:]`.
            '[' if class => (
                after.strip_prefix(':').and_then(|rest| rest.split_once(":]")).map_or(after, |(_, behind)| behind),
                false,
            ),
            '[' => {
                class = true;
                // A `]` that comes first stands for itself.
                let inside = after.strip_prefix('^').unwrap_or(after);
                (inside.strip_prefix(']').unwrap_or(inside), false)
            }
            _ if class => (after, false),
            '(' => {
                if let Some(flag) = flags(after).chars().find(|flag| !"imsU-".contains(*flag)) {
                    return Some(format!("RE2's expressions have no flag {flag:?}"));
                }
                around.push(std::mem::replace(&mut most, 1));
                // The question mark of a group repeats nothing.
                (after.strip_prefix('?').unwrap_or(after), false)
            }
            // A brace that begins no repetition stands for itself.
            '{' if repetitions(after).is_none() => {
                atom = 1;
                (after, false)
            }
            '*' | '+' | '?' | '{' => {
                if repeated {
                    return Some("RE2's expressions do not repeat what is repeated already without a group".to_owned());
                }
                let (times, behind) = repetitions(after).filter(|_| sign == '{').unwrap_or((1, after));
                atom = atom.saturating_mul(times);
                if atom > MOST_REPEATS {
                    return Some(format!("{atom} repetitions are too many; {MOST_REPEATS} is the most"));
                }
                most = most.max(atom);
                (behind.strip_prefix('?').unwrap_or(behind), true)
            }
            ')' => {
                atom = most;
                let Some(outside) = around.pop() else { return Some("a group ends that did not begin".to_owned()) };
                most = atom.max(outside);
                (after, false)
            }
            _ => (after, false),
        };
        (rest, repeated) = (next, repeats);
    }
    // A class within a class, as the engine reads it, leaves RE2 at another place.
    (class || !around.is_empty()).then(|| "a class or a group does not end".to_owned())
}

/// The flags of a group: those of `(?i)` and `(?i:…)`; none of `(?:…)`, `(?P<name>…)` and `(?<name>…)`.
fn flags(group: &str) -> &str {
    let Some(rest) = group.strip_prefix('?').filter(|rest| !rest.starts_with(['P', '<'])) else { return "" };
    rest.split([':', ')']).next().unwrap_or_default()
}

/// The larger number of `n}`, `n,}` or `n,m}`, and what comes behind.
fn repetitions(text: &str) -> Option<(u32, &str)> {
    let (numbers, behind) = text.split_once('}')?;
    let (least, most) = numbers.split_once(',').unwrap_or((numbers, ""));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(least) || !(most.is_empty() || is_number(most)) {
        return None;
    }
    // A number that is too large for us is too large for RE2, too.
    let number = |text: &str| if text.is_empty() { 0 } else { text.parse::<u32>().unwrap_or(u32::MAX) };
    Some((number(least).max(number(most)).max(1), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_re2_are_taken_and_others_are_refused_before_a_proxy_does() {
        for good in [
            "/a.*",
            "[a-z]+?",
            "(?i)x",
            "(?i:x)(?P<n>y)(?:z)?",
            r"\x{41}\p{Greek}*",
            "a{2,5}?",
            "[]x{*+]+",
            r"\bfoo\b",
            r"a\{b\}",
            "(a*)*",
            "a{1000}",
            r"\d{3}",
            r"\x{2028}",
            "[{1001}]",
            "[[:alpha:]*+]",
            "(a{10}b{20}){50}",
            "[[<]",
            "[a&&b]+",
            r"\Q.*(\E",
            "/{id}",
            "a{,2}",
            "/{id}*",
        ] {
            assert_eq!(refusal(good), None, "{good}");
        }
        for bad in [
            "",
            "(",
            "(?=x)",
            "(?x)a b",
            "(?u:a)",
            r"\u0041",
            r"\b{start}a",
            "a**",
            "a+*",
            "a{2}{3}",
            "a?+",
            r"\p{L}{900}\p{L}{900}",
            "a{1001}",
            r"(a{500}){500}",
            "(a{500}){3}",
            "((a{20}){20}b){3}",
            "[x[]*+]y",
            "[[<](]",
            "[[)]a])",
            "a{2 b**",
        ] {
            assert!(refusal(bad).is_some(), "{bad}");
        }
    }
}
