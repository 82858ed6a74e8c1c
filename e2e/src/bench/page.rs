//! The page of documentation that holds the figures: what stands between two marks is written anew.

use std::path::Path;

use anyhow::Context;

const END: &str = "<!-- end of figures -->\n";

/// Puts the figures of a command of `ferromesh-e2e` into a page.
///
/// # Errors
/// If the page cannot be read or written, or has no marks for that command.
pub fn write(page: &Path, command: &str, figures: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let text = with_figures(&text, command, figures)
        .with_context(|| format!("{} has no marks for the figures of {command}", page.display()))?;
    Ok(std::fs::write(page, text)?)
}

fn begin(command: &str) -> String {
    format!("<!-- figures: written by `ferromesh-e2e {command} --page` -->\n")
}

fn with_figures(text: &str, command: &str, figures: &str) -> Option<String> {
    let begin = begin(command);
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}{}\n\n{END}{after}", figures.trim_end()))
}

/// On what was measured: processors, kernel, and what else the machine did.
pub fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{count} x {}, Linux {}", model.unwrap_or("unknown processor"), kernel.trim())
}

/// Tasks that wait for a processor, mean of the last minute.
pub fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_commands_marks_changes() {
        let page = |one: &str, other: &str| {
            format!("# Title\n\n{}{one}\n\n{END}\nMore.\n{}{other}\n\n{END}", begin("one"), begin("other"))
        };
        assert_eq!(with_figures(&page("old", "old"), "one", "\nnew\n\n"), Some(page("\nnew", "old")));
        assert_eq!(with_figures(&page("old", "old"), "other", "new"), Some(page("old", "new")));
        assert_eq!(with_figures(&page("old", "old"), "none", "new"), None);
    }
}
