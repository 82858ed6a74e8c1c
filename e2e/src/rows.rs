//! What was to be seen, and what was: the table at the end of a run.

use serde::Serialize;

/// One thing that was to be seen.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What.
    pub what: String,
    /// Whether it was.
    pub holds: bool,
    /// What was seen.
    pub seen: String,
}

/// The table, and whether all holds.
pub fn table(rows: &[Row], colour: bool) -> (String, bool) {
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for row in rows {
        let (mark, code) = if row.holds { ("ok", "32") } else { ("NO", "31") };
        let mark = if colour { format!("\u{1b}[{code}m{mark}\u{1b}[0m") } else { mark.to_owned() };
        text.push_str(&format!("{mark}  {:<width$}  {}\n", row.what, row.seen));
    }
    let good = rows.iter().filter(|row| row.holds).count();
    text.push_str(&format!("{good} of {} hold\n", rows.len()));
    (text, good == rows.len() && !rows.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Row, table};

    #[test]
    fn nothing_seen_is_not_all_seen() {
        let row = |holds| Row { what: "it".into(), holds, seen: "this".into() };
        assert!(table(&[row(true)], false).1);
        assert!(!table(&[row(true), row(false)], false).1);
        assert!(!table(&[], false).1);
    }
}
