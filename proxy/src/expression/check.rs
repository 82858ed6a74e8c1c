//! What an expression names: attributes that are implemented, functions that are known, and nothing that loops.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

use super::attributes::{self, Inner, Read};
use crate::matcher::re2;

/// Functions that expressions may call.
const FUNCTIONS: &[&str] = &[
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "type",
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
];

/// Deepest nesting; evaluation recurses with it.
const MAX_DEPTH: usize = 64;

/// An attribute that an expression names.
#[derive(Clone, Copy)]
pub(super) struct Attribute {
    /// Its first name.
    pub(super) root: &'static str,
    /// Its second; empty if the first is all.
    pub(super) field: &'static str,
    /// Reads it.
    pub(super) read: Read,
}

/// The attributes of an expression.
///
/// # Errors
/// Names the attribute, the function or the construct that is not implemented.
pub(super) fn names(expression: &IdedExpr) -> Result<Vec<Attribute>, String> {
    let mut named = Vec::new();
    walk(expression, 0, &mut named)?;
    Ok(named)
}

fn walk(expression: &IdedExpr, depth: usize, named: &mut Vec<Attribute>) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    if let Some(path) = path(expression) {
        if depth + path.len() > MAX_DEPTH {
            return Err(too_deep());
        }
        named.push(attribute(&path)?);
        return Ok(());
    }
    match &expression.expr {
        Expr::Literal(_) => Ok(()),
        Expr::Select(select) => walk(&select.operand, depth + 1, named),
        Expr::List(list) => list.elements.iter().try_for_each(|element| walk(element, depth + 1, named)),
        Expr::Call(call) if !FUNCTIONS.contains(&call.func_name.as_str()) => {
            Err(format!("function {:?} is not implemented", call.func_name))
        }
        Expr::Call(call) => {
            check_pattern(call)?;
            call.target.iter().try_for_each(|target| walk(target, depth + 1, named))?;
            call.args.iter().try_for_each(|argument| walk(argument, depth + 1, named))
        }
        Expr::Comprehension(_) => Err("a macro over the elements of a list or map is not implemented".to_owned()),
        Expr::Map(_) | Expr::Struct(_) => Err("a map or message is not implemented".to_owned()),
        // `path` takes identifiers.
        Expr::Ident(_) | Expr::Unspecified => Err("it cannot be read".to_owned()),
    }
}

fn too_deep() -> String {
    format!("it nests deeper than {MAX_DEPTH}")
}

/// A pattern is compiled whenever it is asked for, so that clients must not choose it.
fn check_pattern(call: &CallExpr) -> Result<(), String> {
    if call.func_name != "matches" {
        return Ok(());
    }
    match call.args.last().map(|pattern| &pattern.expr) {
        Some(Expr::Literal(LiteralValue::String(pattern))) => {
            re2::search(pattern.inner()).map(|_| ()).map_err(|error| format!("pattern {:?} {error}", pattern.inner()))
        }
        _ => Err("the pattern of \"matches\" must be a constant text".to_owned()),
    }
}

/// The names of `a.b["c"]`, of which the last ones may be missing: those before the first that is not constant.
fn path(expression: &IdedExpr) -> Option<Vec<&str>> {
    match &expression.expr {
        Expr::Ident(name) => Some(vec![name]),
        Expr::Select(select) => {
            let mut names = path(&select.operand)?;
            names.push(&select.field);
            Some(names)
        }
        Expr::Call(call) if call.func_name == operators::INDEX => {
            let [operand, index] = call.args.as_slice() else { return None };
            let Expr::Literal(index) = &index.expr else { return None };
            let mut names = path(operand)?;
            names.push(match index {
                LiteralValue::String(name) => name.inner(),
                // An element of a list; no attribute has this name.
                _ => "[]",
            });
            Some(names)
        }
        _ => None,
    }
}

fn attribute(path: &[&str]) -> Result<Attribute, String> {
    let unknown = || format!("attribute {:?} is not implemented", path.join("."));
    let (name, mut rest) = path.split_first().ok_or_else(unknown)?;
    let (root, fields) = attributes::ROOTS.iter().find(|(known, _)| known == name).ok_or_else(unknown)?;
    let found = match fields {
        [("", inner, read)] => ("", *inner, *read),
        fields => {
            let Some((name, after)) = rest.split_first() else {
                return Err(format!("attribute {root:?} has no value by itself; name one of its fields"));
            };
            rest = after;
            *fields.iter().find(|(known, ..)| known == name).ok_or_else(unknown)?
        }
    };
    let (field, inner, read) = found;
    let is_there = match (inner, rest.first()) {
        (_, None) | (Inner::Any, _) => true,
        (Inner::Nothing, Some(_)) => false,
        (Inner::Names(names), Some(name)) => names.contains(name),
    };
    if is_there { Ok(Attribute { root, field, read }) } else { Err(unknown()) }
}
