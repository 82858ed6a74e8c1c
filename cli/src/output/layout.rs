//! Rows of text laid out in columns, and prose in lines: pure; words stay whole, colour takes no room.

/// Room between columns.
const GAP: usize = 2;

/// A table like kubectl's, without borders, as wide as the terminal at most; only a word can make it wider.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    laid_out(header, rows, super::width())
}

/// Prose in lines of the terminal's width; lines after the first begin with `indent`.
pub fn wrapped(text: &str, indent: &str) -> String {
    let lines = wrap(text, super::width().saturating_sub(indent.len()));
    lines.join(&format!("\n{indent}"))
}

fn laid_out(header: &[&str], rows: &[Vec<String>], room: usize) -> String {
    let header = header.iter().map(|name| (*name).to_owned()).collect();
    let rows: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let widths = widths(&rows, header.len(), room);
    let mut shown = String::new();
    for row in rows {
        let cells: Vec<Vec<String>> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| cell.lines().flat_map(|line| wrap(line, *width)).collect())
            .collect();
        for line in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let mut text = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                let part = cell.get(line).map_or("", String::as_str);
                text.push_str(part);
                text.push_str(&" ".repeat(width.saturating_sub(seen(part)) + GAP));
            }
            shown.push_str(text.trim_end());
            shown.push('\n');
        }
    }
    shown
}

/// Columns as wide as their text; where that is too much, the widest give way, down to their longest word.
fn widths(rows: &[&Vec<String>], columns: usize, room: usize) -> Vec<usize> {
    let widest = |column: usize, parts: fn(&str) -> Vec<&str>| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.flat_map(|cell| parts(cell)).map(seen).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..columns).map(|column| widest(column, |cell| cell.lines().collect())).collect();
    let least: Vec<usize> =
        (0..columns).map(|column| widest(column, |cell| cell.split_whitespace().collect())).collect();
    let room = room.saturating_sub(GAP * columns.saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        let can = widths.iter_mut().zip(&least).filter(|(width, least)| **width > **least);
        let Some((width, _)) = can.max_by_key(|(width, _)| **width) else { break };
        *width -= 1;
    }
    widths
}

/// Text in lines of a width, broken between words; a text that fits is left as it is.
fn wrap(text: &str, width: usize) -> Vec<String> {
    if seen(text) <= width {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| seen(line));
        match lines.last_mut() {
            Some(last) if line > 0 && line + 1 + seen(word) <= width => last.extend([" ", word]),
            Some(last) if line == 0 => last.push_str(word),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Characters that are seen: all but the escape sequences of colour.
fn seen(text: &str) -> usize {
    let mut escaped = false;
    let visible = text.chars().filter(|c| {
        let hidden = escaped || *c == '\x1b';
        escaped = hidden && *c != 'm';
        !hidden
    });
    visible.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn prose_is_wrapped_between_words_and_names_stay_whole() {
        let rows = rows(&[&["outbound|80||a.b", "a sentence that is longer than the room for it"]]);
        let shown = laid_out(&["NAME", "WHY"], &rows, 40);
        let lines = [
            "NAME              WHY",
            "outbound|80||a.b  a sentence that is",
            "                  longer than the room",
            "                  for it",
        ];
        assert_eq!(shown.lines().collect::<Vec<_>>(), lines);
        assert!(laid_out(&["NAME", "WHY"], &rows, 5).contains("outbound|80||a.b"));
    }

    #[test]
    fn colour_takes_no_room() {
        let shown = laid_out(&["", "B"], &rows(&[&["\x1b[32mok\x1b[0m", "x"], &["bad", "y"]]), 40);
        assert_eq!(shown.lines().map(seen).collect::<Vec<_>>(), [6, 6, 6]);
    }

    #[test]
    fn a_cell_of_lines_keeps_them() {
        assert_eq!(laid_out(&["A", "B"], &rows(&[&["1\n2", "x"], &["", "y"]]), 40), "A  B\n1  x\n2\n   y\n");
    }
}
