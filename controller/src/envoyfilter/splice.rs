//! A list of filters (or routes), an operation and where it applies go in; the changed list comes out.

use super::patch::Operation;

/// Where in a list an operation applies.
pub(super) enum Place<'a, T> {
    /// The patch names an item.
    Item(&'a dyn Fn(&T) -> bool),
    /// The patch names none.
    Anywhere,
}

/// Adds, inserts, replaces or removes; gives the number of changes.
///
/// Without an item to go by, `INSERT_BEFORE` puts first and `INSERT_AFTER` and `ADD` put last, as Istio does;
/// `REPLACE` and `REMOVE` need one.
pub(super) fn splice<T: Clone>(
    list: &mut Vec<T>,
    operation: Operation,
    place: &Place<'_, T>,
    value: Option<T>,
) -> usize {
    let position = match place {
        Place::Item(matches) => list.iter().position(matches),
        Place::Anywhere => None,
    };
    let anywhere = matches!(place, Place::Anywhere);
    let at = match (operation, position) {
        (Operation::Remove, _) => {
            let Place::Item(matches) = place else { return 0 };
            let before = list.len();
            list.retain(|item| !matches(item));
            return before - list.len();
        }
        (Operation::Replace, Some(position)) => {
            let (Some(item), Some(value)) = (list.get_mut(position), value) else { return 0 };
            *item = value;
            return 1;
        }
        (Operation::Add, _) => list.len(),
        (Operation::InsertFirst, _) => 0,
        (Operation::InsertBefore, Some(position)) => position,
        (Operation::InsertBefore, None) if anywhere => 0,
        (Operation::InsertAfter, Some(position)) => position + 1,
        (Operation::InsertAfter, None) if anywhere => list.len(),
        _ => return 0,
    };
    match value {
        Some(value) => {
            list.insert(at, value);
            1
        }
        None => 0,
    }
}
