//! The only place that prints: tables, JSON, YAML; colour on a terminal only.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::args::Output;

/// Whether standard output is a terminal that wants colour.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Whether standard error is a terminal (progress goes there).
pub fn is_progress_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Prints text; a closed pipe ends it silently.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints text and a line end.
pub fn line(text: &str) {
    print(&format!("{text}\n"));
}

/// Prints a message for people beside the result.
pub fn note(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "{text}");
}

/// Replaces the status line on a terminal; nothing elsewhere.
pub fn status(text: &str) {
    if is_progress_terminal() {
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "\r\x1b[2K{text}");
        let _ = err.flush();
    }
}

/// A colour.
#[derive(Debug, Clone, Copy)]
pub enum Colour {
    /// Good.
    Green,
    /// Wrong.
    Red,
    /// Look at it.
    Yellow,
    /// Less important.
    Grey,
}

/// Text in a colour, if standard output is a terminal.
pub fn paint(text: &str, colour: Colour) -> String {
    if !is_terminal() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Green => 32,
        Colour::Red => 31,
        Colour::Yellow => 33,
        Colour::Grey => 90,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// A table like kubectl's: no borders, columns as wide as needed, wrapped to the terminal.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let text = table.to_string();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Prints a value as JSON or YAML, or as the table that `rows` makes.
pub fn value(output: Output, value: &Value, rows: impl FnOnce(bool) -> String) -> anyhow::Result<()> {
    match output {
        Output::Table => print(&rows(false)),
        Output::Wide => print(&rows(true)),
        Output::Json => line(&serde_json::to_string_pretty(value)?),
        Output::Yaml => print(&serde_saphyr::to_string(value).map_err(|error| anyhow::anyhow!("{error}"))?),
    }
    Ok(())
}
