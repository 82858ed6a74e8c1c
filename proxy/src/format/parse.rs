//! From text to parts.

use super::{Operator, Part};
use crate::config::ConfigError;

/// Splits a text into literals and operators.
pub(super) fn parse(text: &str) -> Result<Vec<Part>, ConfigError> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let (command, after) = command(rest)?;
        rest = after;
        match Operator::compile(&command)? {
            Compiled::Literal(text) => literal.push_str(&text),
            Compiled::Operator(operator) => {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal).into()));
                }
                parts.push(Part::Operator(operator, command.limit));
            }
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.into()));
    }
    Ok(parts)
}

/// What an operator's name and arguments come to.
pub(super) enum Compiled {
    /// A text that never changes.
    Literal(String),
    /// A value of each request.
    Operator(Operator),
}

/// `NAME(arguments):limit`.
pub(super) struct Command<'a> {
    pub name: &'a str,
    pub arguments: Option<&'a str>,
    pub limit: Option<usize>,
}

/// Reads `NAME(arguments):limit%`; the first `%` is already taken.
fn command(text: &str) -> Result<(Command<'_>, &str), ConfigError> {
    let malformed = || {
        let shown: String = text.chars().take(40).collect();
        ConfigError::new(
            "",
            format!(
                "malformed operator \"%{shown}\": want %NAME%, %NAME(arguments)% or %NAME(arguments):length%; a percent sign itself is %%"
            ),
        )
    };
    let end = text
        .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .filter(|end| *end > 0)
        .ok_or_else(malformed)?;
    let (name, mut rest) = text.split_at(end);
    let mut arguments = None;
    if let Some(inner) = rest.strip_prefix('(') {
        let (found, after) = inner.split_once(')').ok_or_else(malformed)?;
        arguments = Some(found);
        rest = after;
    }
    let mut limit = None;
    if let Some(number) = rest.strip_prefix(':') {
        let (digits, _) = number.split_once('%').ok_or_else(malformed)?;
        limit = Some(digits.parse().map_err(|_| malformed())?);
        rest = &number[digits.len()..];
    }
    let rest = rest.strip_prefix('%').ok_or_else(malformed)?;
    Ok((Command { name, arguments, limit }, rest))
}
