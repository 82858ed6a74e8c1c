//! The only place that prints: tables, JSON, YAML; colour on a terminal only.

use std::io::{IsTerminal, Write};

use serde_json::Value;

use crate::args::Output;

mod layout;

pub use layout::{table, wrapped};

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

/// Columns to print to: the terminal's, else those of COLUMNS, else 100.
pub fn width() -> usize {
    let terminal = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let said = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    terminal.filter(|width| *width > 0).or_else(said).unwrap_or(100).max(40)
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
